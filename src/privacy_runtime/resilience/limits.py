"""How many calls at once a callee bears, learnt from how long they take.

Sources: gradient2 is that of Netflix's concurrency-limits; additive increase and multiplicative
decrease: Chiu and Jain 1989, "Analysis of the increase and decrease algorithms for congestion
avoidance in computer networks".
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, ParamSpec, Protocol, TypeVar

from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience.errors import BulkheadFull
from privacy_runtime.resilience.events import BUS, Event, EventBus, Kind
from privacy_runtime.world import Clock, SystemClock

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Sample:
    """One call that ended.

    Attributes:
        took_s: how long it took.
        running: how many ran when it began, itself among them.
        dropped: whether it failed by overload: a time limit, a refusal.
    """

    took_s: float
    running: int
    dropped: bool


class Algorithm(Protocol):
    """From a limit and a sample to the next limit. Not safe to share: its owner holds a lock."""

    def next(self, limit: float, sample: Sample) -> float:
        """Return the next limit."""
        ...


class Gradient2:
    """Follows the ratio of the latency of long ago to that of now.

    limit' = (1 - s) limit + s (g limit + queue), g = max(1/2, min(1, tolerance x long / short)),
    where `long` is an exponential average over about `window` calls. A limit of which less than
    half is used says nothing about the callee and stays.

    Overload that lasts and drops nothing becomes the usual latency, and the limit grows to `most`:
    choose that, and a time limit below this policy, whose drops halve g.

    Args:
        least, most: bounds of the limit.
        queue: calls that may wait at the callee.
        tolerance: how much slower than usual is still usual.
        smoothing: s, in (0, 1].
        window: calls that the long average looks back.
    """

    __slots__ = (
        "_least",
        "_long_s",
        "_most",
        "_queue",
        "_seen",
        "_smoothing",
        "_tolerance",
        "_window",
    )

    def __init__(
        self,
        *,
        least: int = 20,
        most: int = 200,
        queue: int = 4,
        tolerance: float = 1.5,
        smoothing: float = 0.2,
        window: int = 600,
    ) -> None:
        if not (1 <= least <= most and tolerance >= 1 and 0 < smoothing <= 1 and window >= 1):
            raise InvalidParameter(
                "limit",
                found=(least, most, tolerance, smoothing, window),
                expected="1 <= least <= most, tolerance from 1, smoothing in (0, 1], window from 1",
            )
        self._least = least
        self._most = most
        self._queue = queue
        self._tolerance = tolerance
        self._smoothing = smoothing
        self._window = window
        self._long_s = 0.0
        self._seen = 0

    def next(self, limit: float, sample: Sample) -> float:
        """Return the next limit."""
        short_s = sample.took_s
        self._seen += 1
        weight = 2 / (min(self._seen, self._window) + 1)
        self._long_s += weight * (short_s - self._long_s)
        if self._long_s > 2 * short_s > 0:
            self._long_s *= 0.95  # it was slow for long, and is not any more
        if not sample.dropped and sample.running * 2 < limit:
            return limit
        gradient = 0.5
        if not sample.dropped and short_s > 0:
            gradient = max(0.5, min(1.0, self._tolerance * self._long_s / short_s))
        wanted = limit * gradient + self._queue * (not sample.dropped)
        moved = limit + self._smoothing * (wanted - limit)
        return min(float(self._most), max(float(self._least), moved))


class AdditiveIncrease:
    """One more call after each full round without a drop, `backoff` times as many after a drop.

    Args:
        least, most: bounds of the limit.
        backoff: in (0, 1).
        slow_s: from how long on a call counts as dropped; `None`: never.
    """

    __slots__ = ("_backoff", "_least", "_most", "_slow_s")

    def __init__(
        self, *, least: int = 1, most: int = 200, backoff: float = 0.9, slow_s: float | None = None
    ) -> None:
        if not (1 <= least <= most and 0 < backoff < 1):
            raise InvalidParameter(
                "limit",
                found=(least, most, backoff),
                expected="1 <= least <= most, backoff in (0, 1)",
            )
        self._least = least
        self._most = most
        self._backoff = backoff
        self._slow_s = slow_s

    def next(self, limit: float, sample: Sample) -> float:
        """Return the next limit."""
        slow = self._slow_s is not None and sample.took_s >= self._slow_s
        if sample.dropped or slow:
            return max(float(self._least), limit * self._backoff)
        if sample.running * 2 < limit:
            return limit
        return min(float(self._most), limit + 1 / limit)


class AdaptiveLimit:
    """A bulkhead without a queue whose width follows the callee.

    Guarantee: never more calls run than the limit was when they began; a class with a share below
    one leaves the rest of the limit to others: batch work cannot crowd out live calls.

    Args:
        algorithm: how the limit moves; the default is `Gradient2()`.
        first: the limit at the start.
        shares: of the limit, by class of calls; a class that is not named has all of it.
        name, bus, clock: for errors and events; the outside world.
    """

    order: Final = 60

    __slots__ = ("_algorithm", "_bus", "_clock", "_limit", "_lock", "_running", "_shares", "name")

    def __init__(
        self,
        algorithm: Algorithm | None = None,
        *,
        first: int = 20,
        shares: Mapping[str, float] = MappingProxyType({}),
        name: str = "limit",
        bus: EventBus = BUS,
        clock: Clock | None = None,
    ) -> None:
        if first < 1 or not all(0 < share <= 1 for share in shares.values()):
            raise InvalidParameter(
                "first", found=first, expected="a limit from one, shares in (0, 1]"
            )
        self.name = name
        self._algorithm = algorithm or Gradient2()
        self._limit = float(first)
        self._shares = dict(shares)
        self._bus = bus
        self._clock = (clock or SystemClock()).monotonic_s
        self._lock = threading.Lock()
        self._running = 0

    @property
    def limit(self) -> int:
        """How many calls may run now."""
        return int(self._limit)

    @property
    def running(self) -> int:
        """Calls that run now."""
        return self._running

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `function`, unless as many calls run as the callee bears.

        Raises:
            BulkheadFull: it did not run.
        """
        return self.call_as("", function, *args, **kwargs)

    async def acall(
        self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Await `function(...)`: as `call`."""
        return await self.acall_as("", function, *args, **kwargs)

    def call_as(
        self, kind: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """As `call`, within the share of a class of calls."""
        running, began_s = self._enter(kind)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            self._leave(running, began_s, error)
            raise
        self._leave(running, began_s, None)
        return result

    async def acall_as(
        self, kind: str, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """As `acall`, within the share of a class of calls."""
        running, began_s = self._enter(kind)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            self._leave(running, began_s, error)
            raise
        self._leave(running, began_s, None)
        return result

    def _enter(self, kind: str) -> tuple[int, float]:
        with self._lock:
            room = max(1, int(self._limit * self._shares.get(kind, 1.0)))
            running = self._running
            free = running < room
            if free:
                self._running += 1
        if not free:
            self._bus.emit(Event(self.name, Kind.REJECTED, {"running": running, "limit": room}))
            raise BulkheadFull(self.name, running=running, waiting=0)
        return running + 1, self._clock()

    def _leave(self, running: int, began_s: float, error: BaseException | None) -> None:
        """Learn from a call; one that failed by itself, or was cancelled, teaches nothing."""
        took_s = self._clock() - began_s
        dropped = isinstance(error, TimeoutError | BulkheadFull)
        with self._lock:
            self._running -= 1
            before = int(self._limit)
            if error is None or dropped:
                sample = Sample(took_s, running, dropped)
                self._limit = self._algorithm.next(self._limit, sample)
            after = int(self._limit)
        if after != before:
            self._bus.emit(Event(self.name, Kind.LIMIT, {"from": before, "to": after}))
