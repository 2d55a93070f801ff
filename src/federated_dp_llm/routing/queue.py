"""The queue of requests for nodes, for tasks: bounded, with deadlines and backpressure."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from types import TracebackType
from typing import Final

from federated_dp_llm.errors import Overloaded
from federated_dp_llm.routing.waiting import Ticket, Waiting
from privacy_core.errors import InvalidParameter
from privacy_runtime.world import Clock

_RATE_WEIGHT: Final = 0.05
_RETRY_LEAST_S: Final = 0.1
_RETRY_MOST_S: Final = 60.0


class Lease:
    """One credit of one node. A context: whoever leaves it gives the credit back, once."""

    __slots__ = ("_queue", "node_id")

    def __init__(self, queue: LateBindingQueue, node_id: str) -> None:
        self._queue: LateBindingQueue | None = queue
        self.node_id = node_id

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.give_back(self.node_id)


class LateBindingQueue:
    """Requests wait here, not at nodes, until a node has a free credit. One event loop's.

    ====================================  ====================================================
    when                                  then
    ====================================  ====================================================
    `most` requests wait already          `Overloaded` at once, with when to come back
    the wait would outlast the deadline   `Overloaded` at once, as far as the rate is known
    the deadline passes in the queue      `Overloaded`
    the asker is cancelled                its place, or its credit, is given back
    ====================================  ====================================================

    Args:
        most: requests that may wait.
        clock: deadlines are by its `monotonic_s`.
    """

    def __init__(self, *, most: int, clock: Clock) -> None:
        if most < 0:
            raise InvalidParameter("most", found=most, expected="0 or more")
        self._most, self._now_s = most, clock.monotonic_s
        self._waiting = Waiting()
        self._woken: dict[Ticket, asyncio.Future[str]] = {}
        self._gap_s: float | None = None
        self._ended_s: float | None = None
        self.refused = 0

    @property
    def length(self) -> int:
        """Requests that wait."""
        return self._waiting.length

    @property
    def retry_after_s(self) -> float:
        """When the queue, as long as it is now, will be served: by the rate of late."""
        if self._gap_s is None:
            return 1.0
        return min(_RETRY_MOST_S, max(_RETRY_LEAST_S, (self.length + 1) * self._gap_s))

    def set_credits(self, node_id: str, credits: int, *, speed: float | None = None) -> None:
        """What a node may work on at once; tells those who wait."""
        self._waiting.set_credits(node_id, credits, speed=speed)
        self._wake()

    def pause(self, node_id: str, *, paused: bool = True) -> None:
        """Give a node nothing new, or something again."""
        self._waiting.pause(node_id, paused=paused)
        self._wake()

    def drop(self, node_id: str) -> None:
        """Forget a node."""
        self._waiting.drop(node_id)

    async def acquire(
        self,
        nodes: Sequence[str] | None = None,
        *,
        priority: int = 3,
        deadline_s: float = float("inf"),
        tenant: Hashable = "",
    ) -> Lease:
        """Wait for a credit of one of these nodes.

        Args:
            nodes: that may serve; None: any.
            priority: smaller first.
            deadline_s: by the clock's `monotonic_s`.
            tenant: tenants take turns.

        Raises:
            Overloaded: the queue is full, or the deadline comes first.
        """
        ticket = Ticket(
            nodes=None if nodes is None else frozenset(nodes),
            priority=priority,
            deadline_s=deadline_s,
            tenant=tenant,
        )
        left_s = deadline_s - self._now_s()
        if left_s <= 0:
            raise self._refusal("the deadline has passed")
        self._waiting.submit(ticket)
        if ticket.node is not None:
            return Lease(self, ticket.node)
        if reason := self._hopeless(left_s):
            self._waiting.abandon(ticket)
            raise self._refusal(reason)
        return await self._wait(ticket, left_s)

    def give_back(self, node_id: str) -> None:
        """A lease ended; used by `Lease`."""
        now_s = self._now_s()
        if self._ended_s is not None and self.length:
            gap_s = now_s - self._ended_s
            before_s = gap_s if self._gap_s is None else self._gap_s
            self._gap_s = before_s + _RATE_WEIGHT * (gap_s - before_s)
        self._ended_s = now_s
        self._waiting.release(node_id)
        self._wake()

    async def _wait(self, ticket: Ticket, left_s: float) -> Lease:
        future = asyncio.get_running_loop().create_future()
        self._woken[ticket] = future
        try:
            async with asyncio.timeout(left_s if left_s < float("inf") else None):
                return Lease(self, await future)
        except BaseException as error:
            if ticket.node is not None:  # bound in the very moment in which it was given up
                self.give_back(ticket.node)
            else:
                self._waiting.abandon(ticket)
            if isinstance(error, TimeoutError):
                raise self._refusal("the deadline passed in the queue") from None
            raise
        finally:
            self._woken.pop(ticket, None)

    def _wake(self) -> None:
        for ticket in self._waiting.bind():
            future = self._woken.get(ticket)
            if ticket.node is None or future is None:
                continue
            if not future.done():
                future.set_result(ticket.node)

    def _hopeless(self, left_s: float) -> str | None:
        if self.length > self._most:
            return f"{self._most} requests are waiting"
        if self._gap_s is not None and self.length * self._gap_s > left_s:
            return "the queue is longer than the deadline allows"
        return None

    def _refusal(self, reason: str) -> Overloaded:
        self.refused += 1
        return Overloaded(reason, self.retry_after_s)
