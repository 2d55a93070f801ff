"""One registered node, with what the router knows of it: card, health, load."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final, TypeVar

from federated_dp_llm.config import NodeSpec
from federated_dp_llm.errors import NodeRefused, NodeUnavailable
from federated_dp_llm.federation.messages import (
    Commit,
    Committed,
    NodeCard,
    OpenSession,
    PublicAsk,
    PublicDraft,
    SessionOpened,
    Step,
    StepSums,
    VoteAsk,
    VoteCounts,
)
from federated_dp_llm.federation.port import Node
from federated_dp_llm.routing.load import Load
from privacy_runtime.resilience import BreakerPolicy, CircuitBreaker, CircuitOpen, CircuitState
from privacy_runtime.world import Clock, Entropy

T = TypeVar("T")

BREAKER: Final = BreakerPolicy(
    failure_rate=0.5, window=20, least_calls=4, break_s=5.0, break_most_s=15.0, trials=2
)
"""Four calls say something; the probes are the trials. They are cheap and off every request's way,
so a node that was away for long is in again within half a minute."""


class NodeState(StrEnum):
    """What the router may do with a node."""

    HEALTHY = "healthy"
    UNREACHABLE = "unreachable"  # it never answered, or its circuit is open
    EJECTED = "ejected"  # it broke the protocol; a person admits it again
    MISMATCH = "mismatch"  # another model or tokenizer than the federation's
    DRAINING = "draining"  # it gets nothing new


class Guarded:
    """A node whose calls are timed, counted, and held back while it fails. Implements `port.Node`.

    A refusal for what was asked (`stale`, `terms`) is no failure of the node; being late, being
    away and breaking the protocol are.
    """

    def __init__(
        self, node: Node, *, limit_s: float, clock: Clock, entropy: Entropy, load: Load
    ) -> None:
        self._node, self._limit_s, self.load = node, limit_s, load
        self.breaker = CircuitBreaker(
            f"node {node.node_id}", BREAKER, counts=_is_failure, clock=clock, entropy=entropy
        )

    @property
    def node_id(self) -> str:
        """Its name in the federation."""
        return self._node.node_id

    async def card(self) -> NodeCard:
        """What it says of itself; raises `NodeUnavailable` also while its circuit is open."""
        return await self._call(self._node.card)

    async def public(self, ask: PublicAsk) -> PublicDraft:
        """Continue a prompt."""
        return await self._call(lambda: self._node.public(ask))

    async def open(self, ask: OpenSession) -> SessionOpened:
        """Open a session."""
        return await self._call(lambda: self._node.open(ask))

    async def step(self, ask: Step) -> StepSums:
        """Score a draft."""
        return await self._call(lambda: self._node.step(ask))

    async def vote(self, ask: VoteAsk) -> VoteCounts:
        """Count votes."""
        return await self._call(lambda: self._node.vote(ask))

    async def commit(self, ask: Commit) -> Committed:
        """Settle a session: also while the circuit is open, for it gives budget back."""
        return await self._timed(lambda: self._node.commit(ask))

    async def aclose(self) -> None:
        """Let go of it."""
        await self._node.aclose()

    async def _call(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self.breaker.acall(self._timed, call)
        except CircuitOpen as error:
            wait_s = error.retry_after_s or BREAKER.break_s
            raise NodeUnavailable(self.node_id, "it failed too often of late", wait_s) from None

    async def _timed(self, call: Callable[[], Awaitable[T]]) -> T:
        with self.load.call():
            try:
                async with asyncio.timeout(self._limit_s):
                    return await call()
            except (TimeoutError, OSError) as error:
                raise NodeUnavailable(
                    self.node_id, f"{type(error).__name__} within {self._limit_s:g} s"
                ) from error


class Member:
    """A registered node.

    Attributes:
        spec: as it was registered.
        node: the way to it.
        reason: why it is not healthy, for operators; "".
    """

    def __init__(self, spec: NodeSpec, node: Guarded, *, draining: bool = False) -> None:
        self.spec, self.node, self.draining = spec, node, draining
        self.reason = ""
        self.mismatch = False
        self.misses = 0
        self._card: NodeCard | None = None

    @property
    def node_id(self) -> str:
        """Its name."""
        return self.spec.node_id

    @property
    def load(self) -> Load:
        """How busy it is."""
        return self.node.load

    @property
    def known(self) -> NodeCard | None:
        """Its card, if it ever answered."""
        return self._card

    @property
    def card(self) -> NodeCard:
        """Its card.

        Raises:
            NodeUnavailable: it never answered.
        """
        if self._card is None:
            raise NodeUnavailable(self.node_id, "it never answered")
        return self._card

    @card.setter
    def card(self, card: NodeCard) -> None:
        self._card, self.misses = card, 0

    @property
    def slots(self) -> int:
        """Its records in one answer: what was agreed at registration, never more than it offers."""
        offered = self._card.slots if self._card is not None else 0
        return min(self.spec.slots, offered) if self.spec.slots else offered

    @property
    def state(self) -> NodeState:
        """What may be done with it."""
        if self.draining:
            return NodeState.DRAINING
        circuit = self.node.breaker.state
        if circuit is CircuitState.ISOLATED:
            return NodeState.EJECTED
        if self.mismatch:
            return NodeState.MISMATCH
        if self._card is None or self.misses or circuit is not CircuitState.CLOSED:
            return NodeState.UNREACHABLE
        return NodeState.HEALTHY

    def eject(self, reason: str) -> None:
        """It broke the protocol: nothing is asked of it until a person admits it again."""
        self.reason = reason
        self.node.breaker.isolate(reason)

    def admit(self) -> None:
        """Begin anew with it."""
        self.reason, self.misses, self.draining = "", 0, False
        self.node.breaker.close()


def _is_failure(error: Exception) -> bool:
    if isinstance(error, NodeRefused):
        return error.reason.startswith("protocol")
    return True
