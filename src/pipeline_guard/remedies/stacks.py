"""Where a program hangs, written down before it is stopped."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pipeline_guard.config.values import POSITIVE
from pipeline_guard.heartbeat import STACKS_FILE
from pipeline_guard.model import Applied, Case
from pipeline_guard.remedies.actions import path_setting, refusal
from pipeline_guard.remedies.programs import running_of

_POLL_S: Final = 0.05
_QUIET_S: Final = 0.3
_KEPT_S: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class CaptureStacks:
    """Write down where a process is that hangs, before it is stopped. Nothing else changes.

    A program that called `dump_stacks_on_signal` is sent SIGUSR1 and writes its stacks itself. Of
    any other, or one that is stopped or waits in the kernel, the states of its threads are taken
    from /proc. Neither holds values of variables.

    Args:
        pid_file: names it. Setting `pid_file`.
        heartbeat: names it where there is no pid file. Setting `heartbeat`.
        stacks: the file that it writes to. Setting `stacks`; without, `stacks.txt` beside the
            heartbeat.
        wait_s: for the stacks.
    """

    pid_file: Path | None = None
    heartbeat: Path | None = None
    stacks: Path | None = None
    wait_s: Annotated[float, POSITIVE] = 3.0

    def objection(self, case: Case) -> str | None:
        """Refuse where there is no process."""
        name = running_of(case, self.pid_file, self.heartbeat)
        return "its process is gone: there is no stack" if name is None else None

    def intent(self, case: Case) -> str:
        """Which process."""
        name = running_of(case, self.pid_file, self.heartbeat)
        return f"write down the stacks of process {name.pid if name else '(gone)'}"

    def apply(self, case: Case, within_s: float) -> Applied:
        """Ask for the stacks, or look at its threads."""
        name = running_of(case, self.pid_file, self.heartbeat)
        if name is None:
            raise refusal("its process is gone: there is no stack")
        evidence: dict[str, Any] = {"pid": name.pid, "threads": threads_of(name.pid)}
        stacks = self._file(case)
        if stacks is not None and name.catches(signal.SIGUSR1):
            before = _size(stacks)
            name.send(signal.SIGUSR1)
            if _grew(stacks, before, min(self.wait_s, within_s - _KEPT_S)):
                evidence |= {"stacks": str(stacks), "from_byte": before}
                return Applied(summary=f"its stacks are in {stacks.name}", evidence=evidence)
        states = sorted({each["state"] for each in evidence["threads"]})
        words = f"it wrote no stacks; its threads are {', '.join(states) or 'gone'}"
        return Applied(summary=words, evidence=evidence)

    def _file(self, case: Case) -> Path | None:
        stacks = path_setting(case, self.stacks, "stacks")
        heartbeat = path_setting(case, self.heartbeat, "heartbeat")
        if stacks is None and heartbeat is not None:
            return heartbeat.with_name(STACKS_FILE)
        return stacks


def threads_of(pid: int) -> list[dict[str, str]]:
    """State and place in the kernel of each thread of a process."""
    found = []
    try:
        tasks = sorted(os.listdir(f"/proc/{pid}/task"), key=int)[:256]
    except OSError:
        return []
    for task in tasks:
        folder = Path(f"/proc/{pid}/task/{task}")
        try:
            state = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
            place = (folder / "wchan").read_text(errors="replace")
        except OSError:
            continue
        found.append({"thread": task, "state": _STATES.get(state, state), "kernel": place})
    return found


_STATES: Final = {
    "R": "running", "S": "sleeping", "D": "waiting for a device", "T": "stopped", "t": "traced",
    "Z": "ended", "I": "idle",
}  # fmt: skip


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _grew(path: Path, before: int, within_s: float) -> bool:
    """Wait until a file has grown and stays as it is."""
    last, quiet_s, waited_s = before, 0.0, 0.0
    while waited_s < within_s and (last == before or quiet_s < _QUIET_S):
        time.sleep(_POLL_S)
        waited_s += _POLL_S
        size = _size(path)
        quiet_s = quiet_s + _POLL_S if size == last else 0.0
        last = size
    return last > before
