"""The one thread that writes: whoever asks at the same time shares one wait for the disk.

Source: PostgreSQL documentation, 20.5.1 (commit_delay), for the idea of a group's commit.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from privacy_runtime.allowances.errors import NOT_KNOWN, NOTHING_CHANGED, AllowancesUnavailable
from privacy_runtime.allowances.group import Answer, Group
from privacy_runtime.allowances.requests import Expire, Hold, Look, Request, Settle
from privacy_runtime.allowances.rows import ConnectionLost, Home, Loaded, Rejected, Transient
from privacy_runtime.world import Clock

GROUP_MOST: Final = 256
"""Most requests in one transaction."""
GROUP_SIZE_MOST: Final = 8_192
"""Most rows that the requests of one transaction name, so that nobody waits for a giant."""
WAITING_MOST: Final = 65_536
"""Most requests that wait; one more is refused at once."""
UPKEEP_S: Final = 1.0
"""Time between two looks for reservations past their deadline, in seconds."""
GATHER_FROM: Final = 8
"""Who shares a wait for the disk with so many is likely to ask again with as many."""
GATHER_S: Final = 0.001
"""How long those are waited for, in seconds; a caller among few is never made to wait."""
_UPKEEP_MOST: Final = 256
_REPEATABLE: Final = (Transient, ConnectionLost)

_NOTHING: Final = Look(())

Outcome = Answer | BaseException


class Blocked:
    """A thread that waits for its answer."""

    __slots__ = ("_lock", "outcome")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.outcome: Outcome = None

    def wait(self) -> Answer:
        """Wait, then return the answer or raise it."""
        self._lock.acquire()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def answer(self, outcome: Outcome) -> None:
        """Let the thread go on."""
        self.outcome = outcome
        self._lock.release()


class Told:
    """Somebody on an event loop who is called with the answer, and waits for nothing.

    Args:
        loop: on which.
        done: called with the answer or the error; what it raises is the loop's to report.
    """

    __slots__ = ("_loop", "done")

    def __init__(self, loop: asyncio.AbstractEventLoop, done: Callable[[Outcome], None]) -> None:
        self._loop, self.done = loop, done

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Where it is called."""
        return self._loop


Waiter = Blocked | Told | asyncio.Future[Any]
Item = tuple[Request, Waiter]
_OnLoop = Told | asyncio.Future[Any]


class Writer:
    """Takes requests from any thread or event loop, and answers when they are on the disk.

    Args:
        home: where the rows live; the writer owns it.
        clock: gives the deadlines.
        keep_s: how long an ended reservation is remembered.
        retry_s: how long a group is repeated, in seconds.
    """

    def __init__(self, home: Home, *, clock: Clock, keep_s: float, retry_s: float) -> None:
        self._home, self._clock = home, clock
        self._keep_us = int(keep_s * 1e6)
        self._retry_s = retry_s
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._patient: deque[Item] = deque()  # they go with the next of the queue
        self._urgent = 0  # how many of the queue were in the last group
        self._door = threading.Lock()  # nobody enters behind the last
        self._refusal = ""
        self._is_forked = False
        _WRITERS.add(self)
        self._upkeep_at = clock.monotonic_s() + UPKEEP_S
        self._is_gone = False
        self._thread = threading.Thread(target=self._run, name="allowances", daemon=True)
        self._thread.start()

    def submit(self, request: Request, waiter: Waiter, *, is_patient: bool = False) -> None:
        """Put a request in the queue.

        Args:
            request: what is asked.
            waiter: who is told.
            is_patient: it is answered with the next one that is not, or after `nudge`.

        Raises:
            AllowancesUnavailable: closed, forked, or too many wait.
        """
        if self._is_forked:
            raise self._unavailable("it was opened before a fork: open it again in this process")
        with self._door:
            if self._refusal:
                raise self._unavailable(self._refusal)
            if self._queue.qsize() + len(self._patient) >= WAITING_MOST:
                raise self._unavailable(f"{WAITING_MOST} requests wait already")
            if is_patient:
                self._patient.append((request, waiter))
            else:
                self._queue.put((request, waiter))

    def nudge(self) -> None:
        """Answer the patient now, if any are left; a closed writer has answered them."""
        with self._door:
            if self._patient and not self._refusal:
                self._queue.put((_NOTHING, Blocked()))

    def ask(self, request: Request) -> Answer:
        """Put a request in the queue and wait for its answer."""
        waiter = Blocked()
        self.submit(request, waiter)
        return waiter.wait()

    def close(self) -> None:
        """Answer what waits, and end. Idempotent."""
        if self._is_forked:
            return
        with self._door:
            first, self._refusal = not self._refusal, self._refusal or "it is closed"
            if first:
                self._queue.put(None)
        self._thread.join()

    def forked(self) -> None:
        """In a child: the thread that writes is the parent's."""
        self._is_forked = True

    def _unavailable(self, reason: str, state: str = NOTHING_CHANGED) -> AllowancesUnavailable:
        return AllowancesUnavailable(self._home.name, reason=reason, state=state)

    def _run(self) -> None:
        going = True
        while going:
            group, going = self._next_group()
            requests = [request for request, _ in group]
            try:
                outcomes = self._serve(requests)
            except BaseException as error:  # noqa: BLE001  nobody may be left waiting
                self._give_up(group, error)
                return
            _tell(group, outcomes)
        with suppress(Exception):
            self._home.close()

    def _next_group(self) -> tuple[list[Item], bool]:
        """Who is answered together; and whether there will be another group.

        The patient come first: what they give back is there for the others.
        """
        waiting, patient = self._queue, self._patient
        first = waiting.get()
        if self._urgent >= GATHER_FROM and waiting.qsize() < self._urgent:
            time.sleep(GATHER_S)
        urgent: list[Item] = []
        going = first is not None
        item, size = first, 0
        while item is not None:
            urgent.append(item)
            size += item[0].size
            if len(urgent) >= GROUP_MOST or size >= GROUP_SIZE_MOST or waiting.empty():
                break
            item = waiting.get()
            going = item is not None
        self._urgent = len(urgent)
        group: list[Item] = []
        while patient and ((len(group) < GROUP_MOST and size < GROUP_SIZE_MOST) or not going):
            group.append(patient.popleft())
            size += group[-1][0].size
        if patient:  # they have waited: the next group is theirs
            waiting.put((_NOTHING, Blocked()))
        group += urgent
        return group, going

    def _give_up(self, group: list[tuple[Request, Waiter]], error: BaseException) -> None:
        """The thread ends: say so to all who wait and to all who come."""
        with self._door:
            self._refusal = f"its writer ended with {type(error).__name__}"
            waiting = [*group, *self._patient]
            self._patient.clear()
            while not self._queue.empty():
                if (item := self._queue.get()) is not None:
                    waiting.append(item)
        _tell(waiting, [self._unavailable(self._refusal, NOT_KNOWN) for _ in waiting])

    def _serve(self, requests: Sequence[Request]) -> Sequence[Outcome]:
        """Answer a group; what a request is to blame for, it bears alone."""
        if not requests:
            return []
        try:
            return self._repeated(requests)
        except Exception as error:  # noqa: BLE001  handed to the callers, who raise it
            if isinstance(error, AllowancesUnavailable) and not isinstance(error, Rejected):
                return [self._unavailable(error.reason, error.state) for _ in requests]
            if len(requests) == 1:
                return [error]
        return [outcome for request in requests for outcome in self._serve([request])]

    def _repeated(self, requests: Sequence[Request]) -> Sequence[Outcome]:
        """Run a group, again and again where the database asks for it.

        After a failure the next group is tried once only: nobody waits behind a database that is
        known to be gone.
        """
        maybe_written = False

        def once() -> Sequence[Outcome]:
            nonlocal maybe_written
            try:
                outcomes = self._attempt(requests)
            except ConnectionLost as lost:
                maybe_written = maybe_written or lost.maybe_written
                raise
            finally:
                self._home.rollback()
            self._is_gone = False
            return outcomes

        try:
            if not self._is_gone:
                with suppress(*_REPEATABLE):
                    return once()
            return Retrying(
                retry=retry_if_exception_type(_REPEATABLE),
                stop=stop_after_delay(0.0 if self._is_gone else self._retry_s),
                wait=wait_random_exponential(multiplier=0.005, max=0.5),
                reraise=True,
            )(once)
        except _REPEATABLE as error:
            self._is_gone = True
            state = NOT_KNOWN if maybe_written else NOTHING_CHANGED
            raise self._unavailable(str(error), state) from None

    def _attempt(self, requests: Sequence[Request]) -> Sequence[Outcome]:
        now_us = int(self._clock.now().timestamp() * 1e6)
        keys: list[str] = []
        names: set[str] = set()
        most = 0
        for request in requests:
            match request:
                case Hold():
                    keys.append(request.key)
                    names.update(request.debits)
                case Settle():
                    keys.append(request.key)
                case Expire():
                    most += request.most
                case Look():
                    names.update(request.names)
        if not keys and not most:
            looked = Group(Loaded({}, self._home.look(list(names))), now_us)
            return [looked.answer(request) for request in requests]
        due = self._due(now_us, most)
        group = Group(self._home.load([*keys, *due], list(names)), now_us, due)
        answers = [group.answer(request) for request in requests]
        if due and not most:
            group.answer(Expire(len(due)))
        if group.changes:
            group.changes.forget_before_us = now_us - self._keep_us
            group.changes.forget_most = 2 * len(requests) + 8  # more than it adds
            self._home.commit(group.changes)
        else:
            self._home.rollback(unchanged=True)
        return answers

    def _due(self, now_us: int, most: int) -> list[str]:
        now_s = self._clock.monotonic_s()
        if not most:
            if now_s < self._upkeep_at:
                return []
            most = _UPKEEP_MOST
        self._upkeep_at = now_s + UPKEEP_S
        return self._home.due(now_us, most)


def _tell(group: Sequence[tuple[Request, Waiter]], outcomes: Sequence[Outcome]) -> None:
    """Wake the threads; each event loop once, for all of its futures."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[_OnLoop, Outcome]]] = {}
    for (_, waiter), outcome in zip(group, outcomes, strict=True):
        if isinstance(waiter, Blocked):
            waiter.answer(outcome)
        else:
            loops.setdefault(waiter.get_loop(), []).append((waiter, outcome))
    for loop, told in loops.items():
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, told)


def _resolve(told: Sequence[tuple[_OnLoop, Outcome]]) -> None:
    for future, outcome in told:
        if isinstance(future, Told):
            try:
                future.done(outcome)
            except Exception as error:  # noqa: BLE001  the others have answers, too
                report = {"message": "an answer was not taken", "exception": error}
                future.get_loop().call_exception_handler(report)
            continue
        if future.done():
            continue  # cancelled: its reservation counts as spent at the deadline
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _mark_forked() -> None:
    for writer in list(_WRITERS):
        writer.forked()


_WRITERS: Final[weakref.WeakSet[Writer]] = weakref.WeakSet()
os.register_at_fork(after_in_child=_mark_forked)
