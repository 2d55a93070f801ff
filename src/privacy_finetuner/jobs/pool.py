"""`WorkerPool`: worker processes of one machine, started again when they die.

The server starts them; they are processes of their own, so that neither a job nor a crash touches
it. Each holds a pipe from the server and stops in order when that ends, so that none survives a
server that was killed.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

from privacy_core.errors import InvalidParameter
from privacy_runtime.world import Clock, SystemClock

STOP_GRACE_S: Final = 15.0
WORKERS_MOST: Final = 256
_LOOK_S: Final = 0.2
_BACKOFF_FIRST_S: Final = 0.5
_BACKOFF_MOST_S: Final = 30.0
_HEALTHY_S: Final = 60.0


@dataclass(slots=True)
class _Place:
    """One place in the pool: its process, and when the next may be started."""

    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    not_before_s: float = 0.0
    backoff_s: float = _BACKOFF_FIRST_S


@dataclass(slots=True)
class _Leaving:
    """A worker that was asked to stop, and when it is killed."""

    process: subprocess.Popen[bytes]
    deadline_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolState:
    """What a pool looks like: workers wanted, running, and started again so far."""

    wanted: int
    running: int
    restarts: int


class WorkerPool:
    """Keeps so many workers running.

    A worker that ends by itself is started again: at once if it lived for a minute, else after a
    pause that doubles from half a second to thirty.

    Args:
        command: starts one worker that stops when its standard input ends.
        count: how many, from 0 to 256.
        clock: measures.
        environment: of the workers; None: this process's.

    Raises:
        InvalidParameter: `count` is out of range.
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        *,
        clock: Clock | None = None,
        environment: Mapping[str, str] | None = None,
        stop_grace_s: float = STOP_GRACE_S,
    ) -> None:
        self._command = list(command)
        self._clock = clock or SystemClock()
        self._environment = None if environment is None else dict(environment)
        self._grace_s = stop_grace_s
        self._places: list[_Place] = []
        self._leaving: list[_Leaving] = []
        self._restarts = 0
        self._wanted = _counted(count)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def size(self) -> int:
        """How many workers are wanted."""
        return self._wanted

    @property
    def processes(self) -> list[int]:
        """The process numbers of the workers that run and were not asked to go."""
        with self._lock:
            here = [place.process for place in self._places]
            return [process.pid for process in here if process is not None and _lives(process)]

    @property
    def state(self) -> PoolState:
        """How many workers are wanted, and how many are there."""
        with self._lock:
            running = sum(_lives(place.process) for place in self._places)
            return PoolState(wanted=self._wanted, running=running, restarts=self._restarts)

    def start(self) -> Self:
        """Start the workers; returns at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._supervise, name="workers", daemon=True)
            self._thread.start()
        return self

    def resize(self, count: int, *, spare: Collection[int] = ()) -> None:
        """Have so many workers from now on. Those that are too many give their jobs back.

        Args:
            count: how many.
            spare: process numbers of workers that go last.

        Raises:
            InvalidParameter: `count` is out of range; nothing was changed.
        """
        with self._lock:
            self._wanted = _counted(count)
            self._places.sort(key=lambda place: not _is_among(place.process, spare))

    def stop(self) -> None:
        """Stop all workers in order and wait for them; one that takes too long is killed."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def _supervise(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                self._fit()
            self._stop.wait(_LOOK_S)
        with self._lock:
            while self._places:
                self._dismiss(self._places.pop())
        while self._leaving:
            with self._lock:
                self._see_off()
            threading.Event().wait(_LOOK_S / 4)

    def _fit(self) -> None:
        """Make the pool what is wanted, as far as it is time."""
        now_s = self._clock.monotonic_s()
        self._see_off()
        while len(self._places) > self._wanted:
            self._dismiss(self._places.pop())
        while len(self._places) < self._wanted:
            self._places.append(_Place())
        for place in self._places:
            if place.process is not None and not _lives(place.process):
                self._mourn(place, now_s)
            if place.process is None and now_s >= place.not_before_s:
                self._fill(place, now_s)

    def _fill(self, place: _Place, now_s: float) -> None:
        place.started_s = now_s
        try:
            place.process = subprocess.Popen(  # noqa: S603 -- our own command
                self._command,
                stdin=subprocess.PIPE,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is the server's, which stops us in order
            )
        except OSError:
            self._mourn(place, now_s)

    def _mourn(self, place: _Place, now_s: float) -> None:
        """A worker has ended by itself, or did not start."""
        if place.process is not None:
            _close(place.process)
            place.process = None
        if now_s - place.started_s >= _HEALTHY_S:
            place.backoff_s, pause_s = _BACKOFF_FIRST_S, 0.0
        else:
            pause_s = place.backoff_s
            place.backoff_s = min(2 * place.backoff_s, _BACKOFF_MOST_S)
        place.not_before_s = now_s + pause_s
        self._restarts += 1

    def _dismiss(self, place: _Place) -> None:
        if place.process is not None:
            deadline_s = self._clock.monotonic_s() + self._grace_s
            self._leaving.append(_Leaving(place.process, deadline_s))
            place.process.terminate()

    def _see_off(self) -> None:
        """Kill those who take too long to leave; forget those who left."""
        now_s = self._clock.monotonic_s()
        for leaving in self._leaving:
            if _lives(leaving.process) and now_s >= leaving.deadline_s:
                leaving.process.kill()
        gone = [leaving for leaving in self._leaving if not _lives(leaving.process)]
        for leaving in gone:
            _close(leaving.process)
            self._leaving.remove(leaving)


def _counted(count: int) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= WORKERS_MOST:
        raise InvalidParameter("count", found=count, expected=f"0 to {WORKERS_MOST} workers")
    return count


def _lives(process: subprocess.Popen[bytes] | None) -> bool:
    return process is not None and process.poll() is None


def _is_among(process: subprocess.Popen[bytes] | None, numbers: Collection[int]) -> bool:
    return process is not None and process.pid in numbers


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()
