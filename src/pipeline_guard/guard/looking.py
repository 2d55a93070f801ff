"""When what is looked at, and the looks: on threads or on the loop, each cut off in time.

A probe that hangs keeps its thread until it comes back. It counts as unknown from its timeout on,
is not looked at again meanwhile, and another thread takes over the rest: at most `most_threads`
are ever made, and when all of them hang, what waits for one is unknown too, and says so.
"""

from __future__ import annotations

import asyncio
import heapq
import inspect
import threading
from collections import deque
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pipeline_guard.errors import PipelineGuardError
from pipeline_guard.guard.plan import Check
from pipeline_guard.model import Moment, Reading, Verdict
from privacy_runtime.world import Clock

_SLOT_S: Final = 0.05
"""Looks that are due within this of each other are begun together: it spares wake-ups."""


class GuardTime:
    """The guard's seconds: since 1970 at the start, and from there on what truly passes.

    They never go back: not when the time of day is set, and not from one process to the next.

    Args:
        clock: of the machine.
        floor_s: the newest that an earlier process used.
    """

    def __init__(self, clock: Clock, floor_s: float = 0.0) -> None:
        self._clock = clock
        self._start_s = max(clock.now().timestamp(), floor_s) - clock.monotonic_s()

    def now_s(self) -> float:
        """Now, in the guard's seconds."""
        return self._start_s + self._clock.monotonic_s()

    def at(self) -> datetime:
        """The time of day."""
        return self._clock.now()

    def moment(self) -> Moment:
        """Now, for probes."""
        return Moment(self._clock.now(), self._clock.monotonic_s())

    def day_of(self, now_s: float) -> datetime:
        """The time of day at a moment of the guard's seconds."""
        return datetime.fromtimestamp(now_s, UTC)


@dataclass(frozen=True, slots=True)
class Look:
    """One look that is over.

    Attributes:
        check: whose.
        reading: what it found.
        at, began_s: when it began, by the time of day and in the guard's seconds.
    """

    check: Check
    reading: Reading
    at: datetime
    began_s: float


@dataclass(slots=True)
class _Pending:
    """A look that is not over."""

    check: Check
    moment: Moment
    began_s: float
    is_late: bool = False
    has_begun: bool = False


class Looking:
    """Looks at checks when they are due.

    Args:
        time: the guard's.
        most_threads: for probes that block.
    """

    def __init__(self, time: GuardTime, *, most_threads: int = 32) -> None:
        self.lag_s = 0.0
        self._time = time
        self._most_threads = most_threads
        self._due: list[tuple[float, str]] = []
        self._checks: dict[str, Check] = {}
        self._pending: dict[str, _Pending] = {}
        self._jobs: deque[_Pending] = deque()
        self._work = threading.Semaphore(0)
        self._done: deque[tuple[_Pending, Reading]] = deque()
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = 0
        self._idle = 0
        self._count = threading.Lock()
        self._is_closed = False

    def schedule(self, checks: Iterable[Check], *, at_once: bool = False) -> None:
        """Look at these from now on, and at no others.

        The first looks are spread over a second, unless all are wanted `at_once`.
        """
        found = {each.id: each for each in checks}
        fresh = [name for name in found if name not in self._checks]
        self._checks = found
        now_s = self._time.now_s()
        for place, name in enumerate(fresh):
            first_s = 0.0 if at_once else min(1.0, found[name].interval_s) * place / len(fresh)
            heapq.heappush(self._due, (now_s + round(first_s / _SLOT_S) * _SLOT_S, name))
        self._wake.set()

    @property
    def is_waited_for(self) -> int:
        """How many looks hang beyond their timeout."""
        return sum(each.is_late for each in self._pending.values())

    async def next(self, until_s: float) -> list[Look]:
        """Wait until a look is over or a moment is reached; returns all looks that are over."""
        self._loop = asyncio.get_running_loop()
        self._begin_due()
        if not self._done:
            wait_s = max(0.0, min(until_s, self._next_s()) - self._time.now_s())
            try:
                async with asyncio.timeout(None if wait_s == float("inf") else wait_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
        self._wake.clear()
        self._begin_due()
        looks = [look for look in map(self._taken, self._drained()) if look is not None]
        return looks + self._overdue()

    def wake(self) -> None:
        """Let `next` return; from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake.set)

    def close(self) -> None:
        """Begin nothing more. Threads that hang end with the process."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        for _ in range(self._threads):
            self._work.release()

    def _next_s(self) -> float:
        due_s = self._due[0][0] if self._due else float("inf")
        late_s = min(
            (p.began_s + p.check.timeout_s for p in self._pending.values() if not p.is_late),
            default=float("inf"),
        )
        waiting_s = self._time.now_s() + _SLOT_S if self._jobs else float("inf")
        return min(due_s, late_s, waiting_s)

    def _begin_due(self) -> None:
        now_s = self._time.now_s()
        while self._due and self._due[0][0] <= now_s:
            due_s, name = heapq.heappop(self._due)
            check = self._checks.get(name)
            if check is None:
                continue
            self.lag_s = max(self.lag_s * 0.99, now_s - due_s)
            missed = int((now_s - due_s) // check.interval_s)
            heapq.heappush(self._due, (due_s + (missed + 1) * check.interval_s, name))
            self._begin(check, now_s)
        if self._jobs:
            self._hand_out()

    def _begin(self, check: Check, now_s: float) -> None:
        pending = _Pending(check, self._time.moment(), now_s)
        hanging = self._pending.get(check.id)
        if hanging is not None:
            if hanging.is_late:
                waited_s = now_s - hanging.began_s
                self._done.append((pending, _silent(waited_s, has_begun=hanging.has_begun)))
            return
        self._pending[check.id] = pending
        if inspect.iscoroutinefunction(check.probe.look):
            pending.has_begun = True
            task = asyncio.ensure_future(self._awaited(pending))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._jobs.append(pending)

    async def _awaited(self, pending: _Pending) -> None:
        try:
            async with asyncio.timeout(pending.check.timeout_s):
                reading = await _as_awaitable(pending.check.probe.look(pending.moment))
        except TimeoutError:
            reading = _silent(pending.check.timeout_s, has_begun=True)
        except Exception as error:  # noqa: BLE001  # a fault of the probe is no end of the guard
            reading = _broken(error)
        self._done.append((pending, reading))
        self._wake.set()

    def _hand_out(self) -> None:
        """Wake one thread; it takes what waits. One that is stuck is joined by another here."""
        with self._count:
            is_needed = self._idle == 0 and self._threads < self._most_threads
            if is_needed:
                self._threads += 1
        if is_needed:
            threading.Thread(target=self._serve, name="guard-look", daemon=True).start()
        else:
            self._work.release()

    def _serve(self) -> None:
        """A thread that looks, until the end."""
        while not self._is_closed:
            while True:
                try:
                    pending = self._jobs.popleft()
                except IndexError:
                    break
                pending.has_begun = True
                try:
                    reading = pending.check.probe.look(pending.moment)
                except Exception as error:  # noqa: BLE001  # see above
                    reading = _broken(error)
                is_first = not self._done
                self._done.append((pending, _checked(reading)))
                if is_first:
                    self.wake()
            with self._count:
                self._idle += 1
            self._work.acquire()
            with self._count:
                self._idle -= 1

    def _drained(self) -> list[tuple[_Pending, Reading]]:
        found = []
        while self._done:
            found.append(self._done.popleft())
        return found

    def _taken(self, item: tuple[_Pending, Reading]) -> Look | None:
        """What came back; nothing where it came too late, or its check is gone."""
        pending, reading = item
        if self._pending.get(pending.check.id) is pending:
            del self._pending[pending.check.id]
        if pending.is_late or self._checks.get(pending.check.id) is not pending.check:
            return None
        return Look(pending.check, reading, pending.moment.at, pending.began_s)

    def _overdue(self) -> list[Look]:
        now_s = self._time.now_s()
        found = []
        for pending in self._pending.values():
            if not pending.is_late and now_s >= pending.began_s + pending.check.timeout_s:
                pending.is_late = True
                reading = _silent(pending.check.timeout_s, has_begun=pending.has_begun)
                found.append(Look(pending.check, reading, pending.moment.at, pending.began_s))
        return found


async def _as_awaitable(found: Any) -> Reading:
    return _checked(await found if isinstance(found, Awaitable) else found)


def _checked(found: Any) -> Reading:
    if isinstance(found, Reading):
        return found
    summary = f"the probe returned a {type(found).__name__}, expected a Reading"
    return Reading(verdict=Verdict.UNKNOWN, summary=summary)


def _silent(waited_s: float, *, has_begun: bool) -> Reading:
    if has_begun:
        summary = f"it did not answer within {waited_s:.3g} s"
    else:
        summary = f"no thread was free within {waited_s:.3g} s: other probes hang"
    return Reading(verdict=Verdict.UNKNOWN, summary=summary)


def _broken(error: Exception) -> Reading:
    said = f": {error}" if isinstance(error, PipelineGuardError) else ""
    summary = f"the probe failed with {type(error).__name__}{said}"
    return Reading(verdict=Verdict.UNKNOWN, summary=summary)
