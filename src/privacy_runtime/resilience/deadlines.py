"""Until when: a deadline that every call below can read, and time limits that set one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Final, ParamSpec, TypeAlias, TypeVar

from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience.errors import DeadlineExceeded
from privacy_runtime.resilience.events import BUS, Event, EventBus, Kind
from privacy_runtime.world import Clock, SystemClock

P = ParamSpec("P")
R = TypeVar("R")

Seconds: TypeAlias = Callable[[], float]

_DEADLINE: ContextVar[tuple[float, Seconds] | None] = ContextVar("deadline", default=None)


def remaining_s() -> float | None:
    """What is left of the time of the call that runs now; `None` without a deadline."""
    held = _DEADLINE.get()
    return None if held is None else max(0.0, held[0] - held[1]())


@contextmanager
def deadline(seconds: float, clock: Clock) -> Iterator[float]:
    """Set the deadline of everything inside; an earlier one that is nearer stays in force.

    Yields:
        what is left, in seconds.
    """
    now = clock.monotonic_s
    end_s = _nearest(now() + seconds)
    token = _DEADLINE.set((end_s, now))
    try:
        yield max(0.0, end_s - now())
    finally:
        _DEADLINE.reset(token)


def _nearest(end_s: float) -> float:
    """This end, or that of the deadline around."""
    held = _DEADLINE.get()
    return end_s if held is None or held[0] >= end_s else held[0]


class TimeLimit:
    """Ends a call after some seconds, or after what is left of the deadline around it.

    ===========  =================================================================================
    a call       at the end of its time
    ===========  =================================================================================
    `acall`      is cancelled
    `call`       goes on, in its own thread of control: Python cannot stop it. It is told by
                 `remaining_s()`, which every policy below heeds; its late result is refused
    `call`,      is left behind in a thread of its own that nobody waits for; what it does
    `abandon`    afterwards happens unseen
    ===========  =================================================================================

    Raises:
        DeadlineExceeded: the time is over.
    """

    order: Final = 50

    __slots__ = ("_abandon", "_bus", "_clock", "limit_s", "name")

    def __init__(
        self,
        limit_s: float,
        name: str = "time",
        *,
        abandon: bool = False,
        bus: EventBus = BUS,
        clock: Clock | None = None,
    ) -> None:
        if not limit_s > 0:
            raise InvalidParameter("limit_s", found=limit_s, expected="a time above zero")
        self.name = name
        self.limit_s = limit_s
        self._abandon = abandon
        self._bus = bus
        self._clock = (clock or SystemClock()).monotonic_s

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `function` with a deadline."""
        clock = self._clock
        now_s = clock()
        end_s = _nearest(now_s + self.limit_s)
        if end_s <= now_s:
            raise self._over(has_run=False)
        token = _DEADLINE.set((end_s, clock))
        try:
            if self._abandon:
                return self._beside(end_s - now_s, function, *args, **kwargs)
            result = function(*args, **kwargs)
        finally:
            _DEADLINE.reset(token)
        if clock() >= end_s:
            raise self._over()
        return result

    async def acall(
        self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Await `function(...)`; cancel it when the time is over."""
        clock = self._clock
        now_s = clock()
        end_s = _nearest(now_s + self.limit_s)
        if end_s <= now_s:
            raise self._over(has_run=False)
        scope = asyncio.timeout(end_s - now_s)
        token = _DEADLINE.set((end_s, clock))
        try:
            async with scope:
                return await function(*args, **kwargs)
        except TimeoutError as error:
            if not scope.expired():
                raise  # the callee's own
            raise self._over() from error
        finally:
            _DEADLINE.reset(token)

    def _beside(
        self, left_s: float, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run in another thread and wait no longer than agreed."""
        results: list[R] = []
        errors: list[BaseException] = []
        context = copy_context()

        def run() -> None:
            try:
                results.append(context.run(function, *args, **kwargs))
            except BaseException as error:  # noqa: BLE001  handed to the caller below
                errors.append(error)

        thread = threading.Thread(target=run, name=f"time limit {self.name}", daemon=True)
        thread.start()
        thread.join(left_s)
        if errors:
            raise errors[0]
        if results:
            return results[0]
        raise self._over()

    def _over(self, *, has_run: bool = True) -> DeadlineExceeded:
        self._bus.emit(Event(self.name, Kind.TIMED_OUT, {"limit_s": self.limit_s}))
        return DeadlineExceeded(self.name, limit_s=self.limit_s, has_run=has_run)
