"""Who uses a home's connection, how often a transaction is repeated, and what a fork leaves.

Source: PostgreSQL documentation, 20.5.1 (commit_delay, commit_siblings), for the wait of a leader.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from privacy_runtime.journal.batch import Request
from privacy_runtime.journal.contract import ConnectionLost, Home, Transient
from privacy_runtime.journal.errors import NOT_KNOWN, NOTHING_WRITTEN, StoreUnavailable

T = TypeVar("T")

BATCH_MOST: Final = 64
"""Most requests that share one transaction."""
GATHER_S: Final = 0.002
"""Longest wait for those who were served together to ask again, in seconds."""

_REPEATABLE = (Transient, ConnectionLost)


class Turns:
    """One connection among threads, and none across a fork.

    Before a fork every connection is closed, and both processes make a new one when they need it:
    SQLite keeps its file locks per process and cannot know that it was forked, and a PostgreSQL
    session would hear the words of two clients.

    Args:
        home: whose connection it is.
        retry_s: how long a transaction is repeated, in seconds.
    """

    def __init__(self, home: Home, *, retry_s: float) -> None:
        self._home = home
        self._retry_s = retry_s
        self._connection = threading.Lock()
        self._queue = threading.Condition()  # guards what follows
        self._waiting: deque[Request] = deque()
        self._led = False
        self._batch = 1  # how many were served last
        _open.add(self)

    def ask(self, request: Request, serve: Callable[[list[Request]], None]) -> None:
        """Have `request` answered: by this thread, for all that wait, or by another one.

        While one thread serves, the others queue up; the first of them serves next.
        """
        with self._queue:
            self._waiting.append(request)
            leads, self._led = not self._led, True
            self._queue.notify()
        if not leads:
            try:
                request.wake.wait()
            except BaseException:
                self._leave(request)
                raise
        if request.outcome is None:
            batch = self._taken(request)
            try:
                serve(batch)
            finally:
                for served in batch:
                    served.wake.set()
                self._hand_over()

    def _taken(self, request: Request) -> list[Request]:
        """Take what waits for the same stream, `request` included, out of the queue.

        Those who were served together are about to ask again, so they are given a moment: alone
        one would pay for the disk, and let all the others wait for it. A single caller never waits.
        """
        with self._queue:
            if self._batch > 1:
                self._queue.wait_for(lambda: len(self._waiting) >= self._batch, GATHER_S)
            same = [other for other in self._waiting if other.stream == request.stream]
            batch = [request, *(other for other in same if other is not request)][:BATCH_MOST]
            for taken in batch:
                self._waiting.remove(taken)
            self._batch = len(batch)
            return batch

    def _hand_over(self) -> None:
        with self._queue:
            if self._waiting:
                self._waiting[0].wake.set()
            else:
                self._led = False

    def _leave(self, request: Request) -> None:
        """Give up the place in the queue, and the lead if it had just been handed over."""
        with self._queue:
            queued = request in self._waiting
            if queued:
                self._waiting.remove(request)
        if queued and request.wake.is_set():
            self._hand_over()

    def guarded(self, attempt: Callable[[], T]) -> T:
        """Run with the connection to oneself; repeat what may be repeated, roll back the rest.

        Raises:
            StoreUnavailable: it was repeated for `retry_s` in vain.
        """
        maybe_written = False

        def once() -> T:
            nonlocal maybe_written
            with self._connection:
                try:
                    return attempt()
                except ConnectionLost as lost:
                    maybe_written = maybe_written or lost.maybe_written
                    self._home.disconnect()
                    raise
                except BaseException:
                    self._home.rollback()
                    raise

        with suppress(*_REPEATABLE):
            return once()
        repeated = Retrying(
            retry=retry_if_exception_type(_REPEATABLE),
            stop=stop_after_delay(self._retry_s),
            wait=wait_random_exponential(multiplier=0.005, max=0.5),
            reraise=True,
        )
        try:
            return repeated(once)
        except _REPEATABLE as error:
            state = NOT_KNOWN if maybe_written else NOTHING_WRITTEN
            raise StoreUnavailable(self._home.name, reason=str(error), state=state) from error

    def disconnect(self) -> None:
        """Close the connection once nobody uses it."""
        with self._connection:
            self._home.disconnect()

    def stop(self) -> None:
        """Wait for the transaction under way, let nobody start another, and disconnect."""
        self._connection.acquire()
        self._queue.acquire()
        self._home.disconnect()

    def go_on(self, *, alone: bool = False) -> None:
        """Undo `stop`; `alone`: the threads that wait are the parent's, not this process's."""
        self._queue.release()
        if alone:
            self._queue = threading.Condition()
            self._waiting.clear()
            self._led, self._batch = False, 1
        self._connection.release()


_open: weakref.WeakSet[Turns] = weakref.WeakSet()
_stopped: list[Turns] = []


def _before_fork() -> None:
    for turns in sorted(_open, key=id):  # one order, so that two forking threads cannot cross
        turns.stop()
        _stopped.append(turns)


def _after_fork_in_parent() -> None:
    while _stopped:
        _stopped.pop().go_on()


def _after_fork_in_child() -> None:
    while _stopped:
        _stopped.pop().go_on(alone=True)


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
