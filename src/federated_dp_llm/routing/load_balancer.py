"""Which one node answers a request that needs one: public questions, never private ones.

A private answer asks *all* nodes of its cohort, so that no choice can depend on a record. What is
chosen here looks at load, latency, declared capacity and the request: nothing private.

=====================  =============================================================================
strategy               takes
=====================  =============================================================================
performance            of two nodes drawn at random, the one with the smaller expected wait (power
                       of two choices over peak EWMA x calls under way): no herd on the best one
privacy_aware          the one that declares most record slots a call under way: where a later
                       private question would find most patients. Never a balance: those are private
consensus              the one whose node answered most of late: for questions that several answer
prefix_aware           the one that saw this beginning before, while it is not much busier than the
                       least busy one: an affinity without such a window makes hot spots
round_robin            the next one
quantum_enhanced       a draw with probability falling exponentially in the expected wait, as
                       `QuantumLoadBalancer` says; batches go to `quantum_planning`
=====================  =============================================================================

Sources: Mitzenmacher 2001, "The power of two choices in randomized load balancing"; for the
exponential choice, Boltzmann (softmin) selection.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import OrderedDict
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, Protocol, TypeVar

from federated_dp_llm.errors import NodeUnavailable
from federated_dp_llm.routing.load import Load
from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience.schedules import uniform
from privacy_runtime.world import Entropy, SystemEntropy

_PREFIXES_MAX: Final = 100_000
_PREFIX_STEP: Final = 64
_WINDOW_CALLS: Final = 2
_WINDOW_SHARE: Final = 1.25


class Choice(Protocol):
    """A node that may be chosen."""

    @property
    def node_id(self) -> str:
        """Its name."""
        ...

    @property
    def load(self) -> Load:
        """How busy it is."""
        ...

    @property
    def slots(self) -> int:
        """The record slots that it declares."""
        ...


class Asked(Protocol):
    """What a strategy may look at in a request."""

    @property
    def prompt(self) -> str:
        """Its text."""
        ...


N = TypeVar("N", bound=Choice)


class Strategy(StrEnum):
    """How a node is chosen; see the module."""

    PERFORMANCE = "performance"
    PRIVACY_AWARE = "privacy_aware"
    CONSENSUS = "consensus"
    PREFIX_AWARE = "prefix_aware"
    ROUND_ROBIN = "round_robin"
    QUANTUM_ENHANCED = "quantum_enhanced"


class LoadBalancer:
    """Chooses one of several nodes. One event loop's.

    Args:
        strategy: how.
        entropy: of draws.
    """

    def __init__(
        self, strategy: Strategy | str = Strategy.PERFORMANCE, *, entropy: Entropy | None = None
    ) -> None:
        try:
            self.strategy = Strategy(strategy)
        except ValueError:
            raise InvalidParameter(
                "strategy", found=strategy, expected=f"one of {[s.value for s in Strategy]}"
            ) from None
        self._entropy = entropy or SystemEntropy()
        self._turn = itertools.count()
        self._prefixes = Prefixes()
        self._quantum = QuantumLoadBalancer(entropy=self._entropy)

    def choose(self, nodes: Sequence[N], request: Asked) -> N:
        """One of the nodes.

        Raises:
            NodeUnavailable: there is none.
        """
        if not nodes:
            raise NodeUnavailable("", "no node is well")
        match self.strategy:
            case Strategy.ROUND_ROBIN:
                return nodes[next(self._turn) % len(nodes)]
            case Strategy.PRIVACY_AWARE:
                return max(nodes, key=lambda n: (n.slots / (n.load.in_flight + 1), n.node_id))
            case Strategy.CONSENSUS:
                return max(nodes, key=lambda n: (_reliability(n), -n.load.cost, n.node_id))
            case Strategy.PREFIX_AWARE:
                return self._by_prefix(nodes, request.prompt)
            case Strategy.QUANTUM_ENHANCED:
                return self._quantum.quantum_route_selection(nodes, request)
            case Strategy.PERFORMANCE:
                return self._of_two(nodes)

    def _of_two(self, nodes: Sequence[N]) -> N:
        if len(nodes) == 1:
            return nodes[0]
        first = _drawn(len(nodes), self._entropy)
        second = _drawn(len(nodes) - 1, self._entropy)
        second += second >= first
        return min(nodes[first], nodes[second], key=lambda node: node.load.cost)

    def _by_prefix(self, nodes: Sequence[N], prompt: str) -> N:
        least = min(node.load.in_flight for node in nodes)
        window = max(least + _WINDOW_CALLS, math.floor(least * _WINDOW_SHARE))
        named = {node.node_id: node for node in nodes if node.load.in_flight <= window}
        seen = self._prefixes.longest(prompt, named)
        chosen = named[seen] if seen is not None else self._of_two(nodes)
        self._prefixes.note(prompt, chosen.node_id)
        return chosen


class Prefixes:
    """Which node saw which beginning of a prompt; hashes alone are kept, the oldest go."""

    def __init__(self, most: int = _PREFIXES_MAX) -> None:
        self._most = most
        self._seen: OrderedDict[bytes, str] = OrderedDict()

    def note(self, prompt: str, node_id: str) -> None:
        """A node saw this prompt."""
        for digest in _beginnings(prompt):
            self._seen[digest] = node_id
            self._seen.move_to_end(digest)
        while len(self._seen) > self._most:
            self._seen.popitem(last=False)

    def longest(self, prompt: str, among: object) -> str | None:
        """Of these nodes, the one that saw the longest beginning; None: none did."""
        for digest in reversed(_beginnings(prompt)):
            found = self._seen.get(digest)
            if found is not None and found in among:  # type: ignore[operator]  # names
                return found
        return None


class QuantumLoadBalancer:
    """The documented name of an ordinary randomised choice; no quantum hardware, no speed-up.

    Each node gets weight exp(-wait / mean wait), where wait is its peak EWMA times its calls under
    way, and one is drawn with these probabilities (Boltzmann selection). The documents' words:
    "superposition" is this distribution over nodes, "interference" the weights by load, and
    "measurement" the draw. Power of two choices (`performance`) waits less; see docs/routing.md.
    """

    def __init__(self, *, entropy: Entropy | None = None) -> None:
        self._entropy = entropy or SystemEntropy()

    def quantum_route_selection(self, nodes: Sequence[N], request: object) -> N:
        """Draw a node; `request` plays no part in it.

        Raises:
            NodeUnavailable: there is none.
        """
        del request
        if not nodes:
            raise NodeUnavailable("", "no node is well")
        point = uniform(self._entropy)
        for node, share in zip(nodes, self.probabilities(nodes), strict=True):
            point -= share
            if point < 0:
                return node
        return nodes[-1]

    def probabilities(self, nodes: Sequence[Choice]) -> list[float]:
        """With which each is drawn; they add up to 1."""
        waits = [node.load.cost for node in nodes]
        mean = sum(waits) / len(waits) or 1.0
        least = min(waits)
        weights = [math.exp(-(wait - least) / mean) for wait in waits]
        total = sum(weights)
        return [weight / total for weight in weights]


def _reliability(node: Choice) -> float:
    """Share of calls that went well; of a node without any, a half (Laplace's rule)."""
    load = node.load
    return (load.served + 1) / (load.served + load.errors + 2)


def _drawn(count: int, entropy: Entropy) -> int:
    return min(count - 1, int(uniform(entropy) * count))


def _beginnings(prompt: str) -> list[bytes]:
    """Digests of the prompt's beginnings, by steps of 64 characters, up to 4,096."""
    digest = hashlib.blake2b(digest_size=12)
    found: list[bytes] = []
    for start in range(0, min(len(prompt), 4096), _PREFIX_STEP):
        digest.update(prompt[start : start + _PREFIX_STEP].encode("utf-8", "surrogatepass"))
        found.append(digest.copy().digest())
    return found
