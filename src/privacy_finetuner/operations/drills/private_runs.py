"""Private runs on the shipped sample, in a process of their own: this side of `tiny_run`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from privacy_finetuner.operations.errors import SimulationFailed

COMMAND: Final = (sys.executable, "-m", "privacy_finetuner.operations.drills.tiny_run")
_TIME_LIMIT_S: Final = 600.0
_PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "OMP_NUM_THREADS")


class PrivateRuns:
    """Trains when it is asked. The process starts with the first wish, and ends with `close`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def ask(self, *, seed: int, flipped: float) -> Mapping[str, float]:
        """Train once, and return the figures that the run released last.

        Args:
            seed: which records.
            flipped: the probability of a wrong label.

        Raises:
            SimulationFailed: the process ended, or a run took over ten minutes.
        """
        process = self._started()
        if process.stdin is None or process.stdout is None:
            raise AssertionError
        timer = threading.Timer(_TIME_LIMIT_S, process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps({"seed": seed, "flipped": flipped}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            self.close()
            raise SimulationFailed("label_flipping", "the process that trains has ended")
        found: Mapping[str, float] = json.loads(line)
        return found

    def close(self) -> None:
        """End the process. Closing twice is closing once."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(  # noqa: S603 -- our own module
                COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                cwd=Path("/"),
            )
        return self._process
