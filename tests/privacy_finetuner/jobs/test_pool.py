"""The pool: so many processes, started again when they die, gone when it stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from privacy_core.errors import InvalidParameter
from privacy_finetuner.cli import worker as worker_command
from privacy_finetuner.jobs.pool import WorkerPool
from privacy_runtime.testing import ManualClock

from .test_worker import eventually, is_gone  # noqa: TID252 -- the tests' own helpers

OBEDIENT = "import sys; sys.stdin.read()"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
DOOMED = "import sys; sys.exit(1)"


def command(code: str, mark: str) -> list[str]:
    return [sys.executable, "-S", "-E", "-c", f"# {mark}\n{code}"]


def running(mark: str) -> list[int]:
    """The processes of a mark."""
    found = []
    for process in psutil.Process().children():
        try:
            if any(mark in word for word in process.cmdline()):
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def test_a_pool_has_as_many_as_are_wanted(tmp_path: Path) -> None:
    mark = str(tmp_path)
    pool = WorkerPool(command(OBEDIENT, mark), 2)
    assert (pool.size, running(mark)) == (2, [])
    with pool:
        eventually(lambda: pool.state.running == len(running(mark)) == 2)
        pool.resize(3)
        eventually(lambda: pool.state.running == len(running(mark)) == 3)
        pool.resize(1)
        eventually(lambda: pool.state.running == len(running(mark)) == 1)
        pool.resize(0)
        eventually(lambda: running(mark) == [])
        pool.resize(1)
        eventually(lambda: len(running(mark)) == 1)
    assert running(mark) == []


def test_a_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    mark = str(tmp_path)
    with WorkerPool(command(OBEDIENT, mark), 1) as pool:
        (first,) = eventually(lambda: running(mark))
        os.kill(first, signal.SIGKILL)
        second = eventually(lambda: [pid for pid in running(mark) if pid != first])
        assert pool.state.restarts == 1
        assert len(second) == 1


def test_a_worker_that_cannot_start_is_tried_less_and_less_often(tmp_path: Path) -> None:
    clock = ManualClock()
    pool = WorkerPool(command(DOOMED, str(tmp_path)), 1, clock=clock)
    pauses = []
    for _ in range(8):
        pool._fit()
        place = pool._places[0]
        if place.process is not None:
            place.process.wait()
            pool._fit()
        pauses.append(place.not_before_s - clock.monotonic_s())
        clock.advance(pauses[-1] - 0.01)
        pool._fit()
        assert place.process is None
        clock.advance(0.02)
    assert [round(pause) for pause in pauses] == [0, 1, 2, 4, 8, 16, 30, 30]


def test_a_command_that_is_not_there_is_no_end_of_the_pool() -> None:
    with WorkerPool(["/nowhere/at/all"], 1) as pool:
        eventually(lambda: pool.state.restarts >= 1)
        assert pool.state.running == 0


def test_a_worker_that_does_not_leave_is_killed(tmp_path: Path) -> None:
    mark = str(tmp_path)
    pool = WorkerPool(command(STUBBORN, mark), 1, stop_grace_s=0.3).start()
    (process,) = eventually(lambda: running(mark))
    pool.stop()
    assert is_gone(process)


@pytest.mark.parametrize("count", [-1, 257, True, 1.5])
def test_a_pool_of_an_impossible_size_is_refused(count: Any) -> None:
    with pytest.raises(InvalidParameter):
        WorkerPool(["x"], count)


def test_the_command_of_a_worker_works_and_ends_with_its_pipe(tmp_path: Path) -> None:
    words = worker_command.command(tmp_path / "home", allow_data=[tmp_path], allow_hub=["a/b"])
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stdin is not None
    assert "a worker waits for jobs" in process.stderr.readline()
    process.stdin.close()
    said = process.stderr.read()
    assert process.wait() == 0
    assert "a worker has stopped" in said
    process.stderr.close()
