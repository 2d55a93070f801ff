"""Checkpoints: set damaged ones aside, so that a run goes on from one that is verified.

Nothing is deleted: a damaged checkpoint gets a name that nobody loads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline_guard import checkpoints
from pipeline_guard.checkpoints import OutOfTime
from pipeline_guard.model import Applied, Case
from pipeline_guard.remedies.actions import (
    locked,
    needs,
    path_setting,
    process_of,
    refusal,
    until,
)


@dataclass(frozen=True, kw_only=True)
class QuarantineCheckpoint:
    """Set damaged checkpoints of a run aside, under a name that nobody loads. Nothing is deleted.

    Each is verified again first: one that is sound stays. Rename it back to undo it.

    Args:
        run: the run's folder. Setting `run`.
        pattern: of its checkpoints.
    """

    run: Path | None = None
    pattern: str = "checkpoint-*"

    def objection(self, case: Case) -> str | None:
        """Refuse where there is none that a check calls damaged."""
        run = path_setting(case, self.run, "run")
        if run is None:
            return needs("run")
        return None if self._named(case, run) else "no check says which checkpoint is damaged"

    def intent(self, case: Case) -> str:
        """Which ones."""
        run = path_setting(case, self.run, "run")
        names = [] if run is None else [path.name for path in self._named(case, run)]
        return f"set aside {', '.join(names) or 'nothing'}"

    def apply(self, case: Case, within_s: float) -> Applied:
        """Verify and rename them."""
        run = path_setting(case, self.run, "run")
        if run is None:
            raise refusal(needs("run"))
        may_go_on = until(within_s)
        moved = {}
        with locked(f"run:{run}"):
            for path in self._named(case, run):
                if not _verified(path, may_go_on):
                    moved[path.name] = set_aside(path)
        if not moved:
            raise refusal("what the check named is sound now")
        words = f"set aside: {', '.join(moved)}"
        return Applied(summary=words, evidence={"run": str(run), "renamed": moved})

    def _named(self, case: Case, run: Path) -> list[Path]:
        damaged = case.reading.evidence.get("damaged") or {}
        return [path for path in checkpoints.found_in(run, self.pattern) if path.name in damaged]


@dataclass(frozen=True, kw_only=True)
class RestoreLastVerified:
    """Make the newest checkpoint of a run one that is verified, by setting newer ones aside.

    Refused while the run's process is there, and where no checkpoint is verified. What was charged
    for the lost steps stays charged: the ledger is elsewhere and is not touched.

    Args:
        run: the run's folder. Setting `run`.
        pattern: of its checkpoints.
        pid_file: names the process. Setting `pid_file`.
    """

    run: Path | None = None
    pattern: str = "checkpoint-*"
    pid_file: Path | None = None

    def objection(self, case: Case) -> str | None:
        """Refuse while the run goes on, and where there is nothing to restore."""
        run = path_setting(case, self.run, "run")
        if run is None:
            return needs("run")
        running = process_of(path_setting(case, self.pid_file, "pid_file"), run / "heartbeat.json")
        if running is not None:
            return f"process {running.pid} may be writing there: terminate it first"
        return None if checkpoints.found_in(run, self.pattern) else "the run has no checkpoint"

    def intent(self, case: Case) -> str:
        """What would be set aside is known only after reading them."""
        return "verify the checkpoints, newest first, and set aside those that are damaged"

    def apply(self, case: Case, within_s: float) -> Applied:
        """Verify from the newest on; stop at the first that is sound."""
        run = path_setting(case, self.run, "run")
        wrong = self.objection(case)
        if wrong is not None or run is None:
            raise refusal(wrong or needs("run"))
        may_go_on = until(within_s)
        damaged: list[Path] = []
        with locked(f"run:{run}"):
            for path in reversed(checkpoints.found_in(run, self.pattern)):
                if _verified(path, may_go_on):
                    moved = {each.name: set_aside(each) for each in damaged}
                    words = f"{path.name} is verified, {len(moved)} newer set aside"
                    evidence = {"run": str(run), "verified": path.name, "renamed": moved}
                    return Applied(summary=words, evidence=evidence)
                damaged.append(path)
        raise refusal(f"none of {len(damaged)} checkpoints is verified: a person has to look")


def set_aside(path: Path) -> str:
    """Rename what is damaged; returns the new name.

    Raises:
        RecoveryError: the file system refused.
    """
    target, number = path.with_name(f"{path.name}.damaged"), 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.damaged-{number}")
    try:
        path.rename(target)
    except OSError as error:
        raise refusal(f"{path.name} cannot be set aside: {error.strerror}") from error
    return target.name


def _verified(path: Path, may_go_on: Callable[[], bool]) -> bool:
    """Whether every byte of a checkpoint is what was written."""
    try:
        return checkpoints.verify(path, may_go_on=may_go_on).is_verified
    except OutOfTime as error:
        raise refusal(f"there was no time to verify {path.name}") from error
    except OSError as error:
        raise refusal(f"{path.name} cannot be read: {error.strerror}") from error
