"""The product's own child process, with a witness, a clock that jumps and a disk that fails.

Three seams are used: the clock is an argument of `child.main`; forcing files to the disk goes
through `os.fsync`, here and nowhere else; and the two calls that matter (`child._run`, which holds
the lock of the folder, and `loop.dp_step`, which takes a step) are told to a witness file, because
what they write themselves is what is to be checked.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from driver.jumping_clock import JumpingClock
from driver.places import Places
from privacy_finetuner.jobs import child


def failing(fsync: Callable[[int], None], order: Path) -> Callable[[int], None]:
    """`os.fsync` that fails while a file says with which errno."""

    def forced(descriptor: int) -> None:
        if order.exists():
            number = int(order.read_text() or 0)
            if number:
                raise OSError(number, os.strerror(number))
        fsync(descriptor)

    return forced


class Witness:
    """Writes down what this child does in one job's run, and whether it is alone there."""

    def __init__(self, folder: Path, job: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(folder / f"{job}.jsonl", flags, 0o600)
        self._lock = os.open(folder / f"{job}.lock", flags, 0o600)

    def enter(self) -> None:
        """Say that this child works on the run, alone or not."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.tell("two at once")
        self.tell("enter")

    def leave(self) -> None:
        """Say that this child works on the run no more; before the product lets go of it."""
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def tell(self, what: str) -> None:
        """One line."""
        os.write(self._file, json.dumps({"process": os.getpid(), "what": what}).encode() + b"\n")


def watched(run: Callable[..., Any], places: Places) -> Callable[..., Any]:
    """`child._run`, with every step told before it is taken, and a pause before that."""

    def told(task: Any, *rest: Any) -> Any:
        from privacy_finetuner.training import loop

        witness = Witness(places.witness, task.job)
        witness.enter()
        step = loop.dp_step

        def stepped(*given: Any, **named: Any) -> Any:
            threading.Event().wait(places.pace_s)
            witness.tell("step")
            return step(*given, **named)

        loop.dp_step = stepped
        try:
            end = run(task, *rest)
            witness.tell("end")
            return end
        finally:
            witness.leave()

    return told


def main(root: Path) -> int:
    """Run the task on standard input; returns the exit code."""
    here = Places.read(root)
    os.fsync = failing(os.fsync, here.disk)
    child._run = watched(child._run, here)
    return child.main(clock=JumpingClock(here.clock))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
