"""Attempts again, within a budget: for what is safe to do twice."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, ParamSpec, TypeVar

from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience.deadlines import remaining_s
from privacy_runtime.resilience.events import BUS, Body, Event, EventBus, Kind
from privacy_runtime.resilience.schedules import Backoff
from privacy_runtime.world import Entropy, SystemEntropy

P = ParamSpec("P")
R = TypeVar("R")

_DEFAULT_BACKOFF: Final = Backoff()


def is_transient(error: Exception) -> bool:
    """Whether the next attempt may fare better: connections, time limits, "come back later".

    What refuses by itself (`CircuitOpen`, `RateExceeded`, a 503 with `Retry-After`) says when in
    `retry_after_s`; without that it is no use to ask again.
    """
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    return getattr(error, "retry_after_s", None) is not None


class Pause(NamedTuple):
    """How to wait; a test waits by moving its clock."""

    thread: Callable[[float], None] = time.sleep
    task: Callable[[float], Awaitable[None]] = asyncio.sleep


_PAUSE: Final = Pause()


class RetryBudget:
    """Bounds the load that retries add, over all callers that share it.

    Guarantee: of n calls since the start at most `share` x n + `reserve` were followed by retries,
    however many of them failed: an outage is not made worse by its own callers. Every call adds
    `share` of a token, every retry takes one; more than `reserve` are never saved up.
    """

    __slots__ = ("_lock", "_reserve", "_share", "_tokens")

    def __init__(self, *, share: float = 0.1, reserve: float = 10.0) -> None:
        if not (0 <= share <= 1 and reserve >= 0):
            raise InvalidParameter(
                "share", found=(share, reserve), expected="a share in [0, 1], a reserve from 0"
            )
        self._share = share
        self._reserve = reserve
        self._tokens = reserve
        self._lock = threading.Lock()

    def earn(self) -> None:
        """Count a call."""
        with self._lock:
            tokens = self._tokens + self._share
            self._tokens = min(tokens, self._reserve)

    def spend(self) -> bool:
        """Take a token for a retry or a hedge; whether there was one."""
        with self._lock:
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


class Retry:
    """Calls again after failures that may pass.

    Use it only for what is safe to do twice: a read, a write with an idempotency key.

    Guarantee: at most `attempts` calls; waits as `backoff` says, never shorter than the callee
    asked for (`retry_after_s` of the error); no wait that outlasts the deadline or
    `backoff.most_s`: then the last error is raised at once, and it is always the callee's own.

    Args:
        name: for events.
        attempts: calls in all.
        backoff: the waits between them.
        when: whether an error may pass; the default is `is_transient`.
        budget: shared by callers of one callee; `None`: unbounded.
        bus, entropy, pause: whom to tell; the outside world.
    """

    order: Final = 10

    __slots__ = (
        "_backoff", "_budget", "_bus", "_entropy", "_pause", "_when", "attempts", "name",
    )  # fmt: skip

    def __init__(
        self,
        name: str = "retry",
        *,
        attempts: int = 3,
        backoff: Backoff = _DEFAULT_BACKOFF,
        when: Callable[[Exception], bool] = is_transient,
        budget: RetryBudget | None = None,
        bus: EventBus = BUS,
        entropy: Entropy | None = None,
        pause: Pause = _PAUSE,
    ) -> None:
        if attempts < 1:
            raise InvalidParameter("attempts", found=attempts, expected="at least one call")
        self.name = name
        self.attempts = attempts
        self._backoff = backoff
        self._when = when
        self._budget = budget
        self._bus = bus
        self._entropy = entropy or SystemEntropy()
        self._pause = pause

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `function`, again if it fails in passing."""
        if self._budget is not None:
            self._budget.earn()
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  raised again, unless it may pass
            wait_s = self._wait_s(error, 1, self._backoff.base_s)
        for attempt in range(2, self.attempts + 1):
            self._pause.thread(wait_s)
            try:
                return function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001  as above
                wait_s = self._wait_s(error, attempt, wait_s)
        raise AssertionError("the last attempt either returns or raises")

    async def acall(
        self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Await `function(...)`, again if it fails in passing."""
        if self._budget is not None:
            self._budget.earn()
        try:
            return await function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  raised again, unless it may pass
            wait_s = self._wait_s(error, 1, self._backoff.base_s)
        for attempt in range(2, self.attempts + 1):
            await self._pause.task(wait_s)
            try:
                return await function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001  as above
                wait_s = self._wait_s(error, attempt, wait_s)
        raise AssertionError("the last attempt either returns or raises")

    def _wait_s(self, error: Exception, attempt: int, before_s: float) -> float:
        """How long to wait after this failure; raises it where there is no next attempt."""
        if not self._when(error):
            raise error
        wait_s, reason = self._next(error, attempt, before_s)
        if reason is not None:
            body: Body = {"attempts": attempt, "reason": reason, "error": type(error).__name__}
            self._bus.emit(Event(self.name, Kind.GAVE_UP, body))
            raise error
        told: Body = {"attempt": attempt, "delay_s": wait_s, "error": type(error).__name__}
        self._bus.emit(Event(self.name, Kind.RETRIED, told))
        return wait_s

    def _next(self, error: Exception, attempt: int, before_s: float) -> tuple[float, str | None]:
        if attempt >= self.attempts:
            return 0.0, "no attempt is left"
        asked_s = getattr(error, "retry_after_s", None) or 0.0
        if asked_s > self._backoff.most_s:
            return 0.0, "the callee asked for a longer wait than agreed"
        wait_s = max(asked_s, self._backoff.wait_s(attempt, before_s, self._entropy))
        left_s = remaining_s()
        if left_s is not None and wait_s >= left_s:
            return 0.0, "the deadline comes first"
        if self._budget is not None and not self._budget.spend():
            return 0.0, "the retry budget is spent"
        return wait_s, None
