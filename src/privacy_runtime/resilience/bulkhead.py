"""How many calls may run at once: a fixed number, or one that follows the callee's latency."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, ParamSpec, TypeVar

from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience.deadlines import remaining_s
from privacy_runtime.resilience.errors import BulkheadFull
from privacy_runtime.resilience.events import BUS, Event, EventBus, Kind

P = ParamSpec("P")
R = TypeVar("R")


class _Waiter:
    """Somebody in the queue, in a thread or in a task."""

    __slots__ = ("_future", "_gate", "_loop", "has_permit")

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.has_permit = False
        self._loop = loop
        self._gate = threading.Event() if loop is None else None
        self._future = None if loop is None else loop.create_future()

    def wake(self) -> None:
        """Tell that there is a permit; from any thread."""
        if self._gate is not None:
            self._gate.set()
        elif self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._resolve)

    def wait(self, seconds: float | None) -> None:
        """Wait in this thread."""
        if self._gate is not None:
            self._gate.wait(seconds)

    async def await_(self, seconds: float | None) -> None:
        """Wait in this task."""
        if self._future is None:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._future
        except TimeoutError:
            return

    def _resolve(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class Bulkhead:
    """Lets so many calls run at once, and so many more wait their turn.

    Guarantee, for threads and tasks together: never more than `permits` calls run, never more than
    `queue` wait; first come, first served; a permit is given back however a call ends.

    Args:
        permits: calls at once.
        queue: how many more may wait; 0: none.
        wait_s: how long one waits at most; a deadline that is nearer counts.
        name, bus: for errors and events.
    """

    order: Final = 60

    __slots__ = ("_bus", "_lock", "_permits", "_queue", "_running", "_wait_s", "_waiting", "name")

    def __init__(
        self,
        permits: int = 25,
        *,
        queue: int = 0,
        wait_s: float | None = None,
        name: str = "bulkhead",
        bus: EventBus = BUS,
    ) -> None:
        if permits < 1 or queue < 0:
            raise InvalidParameter(
                "permits", found=(permits, queue), expected="permits from 1, a queue from 0"
            )
        self.name = name
        self._permits = permits
        self._queue = queue
        self._wait_s = wait_s
        self._bus = bus
        self._lock = threading.Lock()
        self._running = 0
        self._waiting: deque[_Waiter] = deque()

    @property
    def running(self) -> int:
        """Calls that run now."""
        return self._running

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `function` when it is its turn.

        Raises:
            BulkheadFull: the queue is full, or the wait was too long; it did not run.
        """
        with self._lock:
            free = self._running < self._permits
            if free:
                self._running += 1
            waiter = None if free else self._queued(_Waiter)
        if waiter is not None:
            try:
                waiter.wait(self._patience_s())
            except BaseException:
                self._leave(waiter)
                raise
            self._require_permit(waiter)
        elif not free:
            raise self._full()
        try:
            return function(*args, **kwargs)
        finally:
            self._release()

    async def acall(
        self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Await `function(...)` when it is its turn: as `call`."""
        with self._lock:
            free = self._running < self._permits
            if free:
                self._running += 1
            waiter = None if free else self._queued(lambda: _Waiter(asyncio.get_running_loop()))
        if waiter is not None:
            try:
                await waiter.await_(self._patience_s())
            except BaseException:
                self._leave(waiter)
                raise
            self._require_permit(waiter)
        elif not free:
            raise self._full()
        try:
            return await function(*args, **kwargs)
        finally:
            self._release()

    def _queued(self, make: Callable[[], _Waiter]) -> _Waiter | None:
        if len(self._waiting) >= self._queue:
            return None
        waiter = make()
        self._waiting.append(waiter)
        return waiter

    def _patience_s(self) -> float | None:
        limits = [s for s in (self._wait_s, remaining_s()) if s is not None]
        return min(limits) if limits else None

    def _require_permit(self, waiter: _Waiter) -> None:
        """What a wait led to."""
        with self._lock:
            if waiter.has_permit:
                return
            self._waiting.remove(waiter)
        raise self._full()

    def _leave(self, waiter: _Waiter) -> None:
        """Somebody was cancelled while waiting, perhaps just after a permit came."""
        with self._lock:
            had = waiter.has_permit
            if not had:
                self._waiting.remove(waiter)
        if had:
            self._release()

    def _release(self) -> None:
        with self._lock:
            if not self._waiting:
                self._running -= 1
                return
            waiter = self._waiting.popleft()
            waiter.has_permit = True
        waiter.wake()

    def _full(self) -> BulkheadFull:
        error = BulkheadFull(self.name, running=self._running, waiting=len(self._waiting))
        body = {"running": error.running, "waiting": error.waiting}
        self._bus.emit(Event(self.name, Kind.REJECTED, body))
        return error
