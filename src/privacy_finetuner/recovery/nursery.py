"""A process that has loaded everything and forks a run for each task, one at a time.

Loading torch takes three times as long as a rehearsed run. So it is done once, in a process that
runs nothing itself: each run is a child of its own, forked from it, and what is done to the run
(SIGKILL, limits of the system) ends or limits the child alone. Nothing that a run made is in the
next one: no thread, no lock and no open file but the three standard ones is there to be inherited.

=========================  ======================================================================
line                       says
=========================  ======================================================================
in: a task, JSON           run this; `words` is the file for what it says on standard error
out: `{"event": ...}`      told by the run while it runs
out: `{"event": "exit"}`   it has ended, with `code`: negative for a signal
=========================  ======================================================================
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self, TextIO

from privacy_finetuner.recovery.errors import RehearsalFailed

EXIT: Final = "exit"
_PR_SET_PDEATHSIG: Final = 1
_TIME_LIMIT_S: Final = 300.0


class Nursery:
    """The nursery, as who gives tasks to it sees it. For one thread at a time.

    The process starts with the first task, and ends, with its run, when this is closed.

    Args:
        module: is run, and serves (`serve`) what standard input asks for.
    """

    def __init__(self, module: str) -> None:
        self._command = (sys.executable, "-m", module)
        self._process: subprocess.Popen[str] | None = None

    def run(self, task: dict[str, Any], words: Path, hear: Callable[[dict[str, Any]], None]) -> int:
        """Run a task; returns the exit code of its process, negative for a signal.

        Args:
            task: for the run.
            words: gets what the run says on standard error.
            hear: is told each event while the run goes on.

        Raises:
            RehearsalFailed: the process that forks runs has ended, or a run took five minutes.
        """
        process = self._started()
        if process.stdin is None or process.stdout is None:
            raise AssertionError
        timer = threading.Timer(_TIME_LIMIT_S, process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps({**task, "words": str(words)}) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                said = json.loads(line)
                if said["event"] == EXIT:
                    return int(said["code"])
                hear(said)
        except OSError:
            pass
        finally:
            timer.cancel()
        self.close()
        raise RehearsalFailed("the process that forks the rehearsed runs has ended")

    def close(self) -> None:
        """End the process and its run. Closing twice is closing once."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
            self._process = subprocess.Popen(  # noqa: S603 -- our own module
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
            )
        return self._process


def serve(run: Callable[[dict[str, Any]], int], tasks: TextIO) -> None:
    """Fork a run for each task, and wait for its end; returns when nobody gives tasks any more."""
    for line in tasks:
        child = os.fork()
        if child == 0:
            os._exit(_run(run, json.loads(line)))
        _, status = os.waitpid(child, 0)
        tell(EXIT, code=os.waitstatus_to_exitcode(status))


def tell(event: str, **figures: float) -> None:
    """Write one event."""
    print(json.dumps({"event": event, **figures}), flush=True)  # noqa: T201


def _run(run: Callable[[dict[str, Any]], int], task: dict[str, Any]) -> int:
    """In the child: never outlive the nursery, never return into it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    words = os.open(task.pop("words"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(words, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        return run(task)
    except BaseException:  # noqa: BLE001  the process's last line
        traceback.print_exc()
        sys.stderr.flush()
        return 1
