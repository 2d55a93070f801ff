"""How many nodes the router wants: decided from what is offered and what waits. Pure.

Wanted = (offered rate x service time) / target utilisation, plus what drains the backlog within
`drain_s`, over the concurrency of one node. The rate is the one that *comes*, not the one that is
served: a saturated router serves a constant rate whatever comes. Nodes that are starting count, so
a start that takes long is not ordered twice. Fewer nodes only after the need was lower for
`patience_s`: the largest need of that time is kept.

A spike is survived without a drop where node start time <= about half of the clients' patience; the
simulation in tests/federated_dp_llm/routing says so for the numbers of docs/routing.md.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from privacy_core.errors import InvalidParameter
from privacy_runtime.world import Clock, SystemClock


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What is seen at one moment.

    Attributes:
        offered_per_s: requests that came, a second, of late; refused ones too.
        service_s: mean time that a node works on one.
        waiting: requests in the router's queue.
        nodes: that work.
        starting: that were ordered and do not work yet.
    """

    offered_per_s: float
    service_s: float
    waiting: int
    nodes: int
    starting: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPolicy:
    """The operator's numbers.

    Attributes:
        concurrency: requests that one node works on at once.
        utilisation: of a node's concurrency that is aimed at.
        drain_s: in which a backlog shall be gone.
        least, most: nodes.
        patience_s: for which a lower need must last before nodes go.
    """

    concurrency: int = 16
    utilisation: float = 0.8
    drain_s: float = 10.0
    least: int = 1
    most: int = 60
    patience_s: float = 120.0

    def __post_init__(self) -> None:
        if not 0 < self.utilisation <= 1:
            raise InvalidParameter("utilisation", found=self.utilisation, expected="in (0, 1]")
        if not (self.concurrency >= 1 and 0 <= self.least <= self.most):
            raise InvalidParameter(
                "least",
                found=(self.concurrency, self.least, self.most),
                expected="concurrency from 1, 0 <= least <= most",
            )
        if not (self.drain_s > 0 and self.patience_s >= 0):
            raise InvalidParameter(
                "drain_s", found=(self.drain_s, self.patience_s), expected="above 0, and 0 or more"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How many nodes there should be, and why."""

    nodes: int
    reason: str


@dataclass(slots=True)
class Needs:
    """The needs of late: (when, how many nodes)."""

    seen: deque[tuple[float, int]] = field(default_factory=deque)

    def largest(self, now_s: float, need: int, patience_s: float) -> int:
        """Note a need; the largest of the last `patience_s` seconds."""
        while self.seen and (self.seen[0][0] < now_s - patience_s or self.seen[0][1] <= need):
            self.seen.popleft()
        while self.seen and self.seen[-1][1] <= need:
            self.seen.pop()
        self.seen.append((now_s, need))
        return self.seen[0][1]


def need(signals: Signals, policy: ScalingPolicy) -> int:
    """Nodes that these signals ask for, within the policy's bounds."""
    busy = signals.offered_per_s * signals.service_s
    backlog = signals.waiting * signals.service_s / policy.drain_s
    nodes = math.ceil((busy / policy.utilisation + backlog) / policy.concurrency - 1e-9)
    return min(policy.most, max(policy.least, nodes))


def decide(signals: Signals, policy: ScalingPolicy, needs: Needs, now_s: float) -> Wish:
    """How many nodes there should be now.

    Args:
        signals: of this moment.
        policy: bounds and aims.
        needs: of late; this one is noted in it.
        now_s: of any clock that does not go back.

    Raises:
        InvalidParameter: a signal is negative or not finite.
    """
    _require(signals)
    wanted = need(signals, policy)
    have = signals.nodes + signals.starting
    kept = needs.largest(now_s, wanted, policy.patience_s)
    if wanted > have:
        reason = (
            f"{signals.offered_per_s:.4g} requests a second and {signals.waiting} waiting "
            f"need {wanted} nodes"
        )
        return Wish(nodes=wanted, reason=reason)
    if kept < have:
        return Wish(nodes=kept, reason=f"no more than {kept} were needed for a while")
    return Wish(nodes=have, reason="enough")


class ScalingDecision(StrEnum):
    """The documented answers."""

    SCALE_OUT = "scale_out"
    SCALE_IN = "scale_in"
    MAINTAIN = "maintain"


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceMetrics:
    """The documented signals. Shares of CPU and memory are in [0, 1]."""

    requests_per_second: float
    avg_response_time: float
    queue_depth: int = 0
    cpu_usage: float = 0.0
    memory_usage: float = 0.0
    nodes: int = 1
    starting: int = 0


class AutoScaler:
    """The documented face of `decide`.

    The documents average four scores, so that a queue of any length is outvoted by an idle
    processor. Here the need is computed. Memory that is nearly full forbids fewer nodes; processor
    use says nothing that rate and service time do not.

    Args:
        policy: the operator's numbers.
        clock: measures.
    """

    def __init__(self, policy: ScalingPolicy | None = None, *, clock: Clock | None = None) -> None:
        self.policy = policy or ScalingPolicy()
        self._clock = clock or SystemClock()
        self._needs = Needs()
        self.wish: Wish | None = None

    def evaluate_scaling_need(self, metrics: PerformanceMetrics) -> ScalingDecision:
        """Whether there should be more nodes, fewer, or as many; `wish` says how many and why."""
        have = metrics.nodes + metrics.starting
        signals = Signals(
            offered_per_s=metrics.requests_per_second,
            service_s=metrics.avg_response_time,
            waiting=metrics.queue_depth,
            nodes=metrics.nodes,
            starting=metrics.starting,
        )
        wish = decide(signals, self.policy, self._needs, self._clock.monotonic_s())
        if wish.nodes < have and metrics.memory_usage > self.policy.utilisation:
            wish = Wish(nodes=have, reason="memory is nearly full")
        self.wish = wish
        if wish.nodes > have:
            return ScalingDecision.SCALE_OUT
        return ScalingDecision.SCALE_IN if wish.nodes < have else ScalingDecision.MAINTAIN


def _require(signals: Signals) -> None:
    for name in ("offered_per_s", "service_s", "waiting", "nodes", "starting"):
        value = getattr(signals, name)
        if not 0 <= value < math.inf:
            raise InvalidParameter(name, found=value, expected="a finite number >= 0")
