"""The durable account of one run: what was planned, reserved, and settled.

Steps are reserved on disk *before* they run. A process that dies leaves its reservation behind, and
the next one counts every reserved step as taken: the account may be ahead of the truth, never
behind. A process that ends in order settles at the steps it really took.

Entries, in order of a run's life (file `run.jsonl`, hash-chained):

=============  =============================================================================
`planned`      the plan with its event, the job id, the account in a ledger, if one is charged, and
               the digest of the audit's seal, if the run carries canaries
`reserved`     steps up to `until` may run from now on
`settled`      exactly `steps` steps have been charged so far; written with a checkpoint and at
               an orderly stop
`resumed`      a later process took over; `charged` is what it counts as spent
`finished`     no step will follow
=============  =============================================================================
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from privacy_finetuner.errors import CheckpointError
from privacy_runtime.append_log import AppendLog, LogEntry, read_log

FILE_NAME: Final = "run.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """What the entries so far add up to."""

    plan: Mapping[str, Any] | None = None
    job_id: str = ""
    charged_steps: int = 0
    checkpoint: str | None = None
    is_finished: bool = False
    ledger: Mapping[str, Any] | None = None
    audit: Mapping[str, Any] | None = None
    audit_scores: str | None = None


def fold(entries: Sequence[LogEntry]) -> RunState:
    """Add up the entries of one run. Pure.

    Raises:
        CheckpointError: an entry of a kind that this version does not know.
    """
    state: dict[str, Any] = {}
    for entry in entries:
        body = entry.body
        match entry.type:
            case "planned":
                state = {
                    "plan": body["plan"],
                    "job_id": body["job_id"],
                    "ledger": body.get("ledger"),
                    "audit": body.get("audit"),
                }
            case "reserved":
                state["charged_steps"] = body["until"]
            case "settled":
                state["charged_steps"] = body["steps"]
                state["checkpoint"] = body["checkpoint"] or state.get("checkpoint")
            case "resumed":
                state["charged_steps"] = body["charged"]
            case "finished":
                state["is_finished"] = True
                state["audit_scores"] = body.get("audit_scores")
            case _:
                raise CheckpointError(
                    f"entry {entry.index} of the run record is of unknown kind {entry.type!r}; "
                    "it was written by another version; nothing was changed"
                )
    return RunState(**state)


class RunRecord:
    """The run record of an output folder, open for writing: one process at a time.

    Raises:
        RunRecordLocked: another process is running there.
        RunRecordDamaged: the file was changed by something else.
    """

    def __init__(self, folder: Path) -> None:
        self._log = AppendLog(folder / FILE_NAME)
        self.state = fold(self._log.read())

    @property
    def head(self) -> str:
        """The hash of the last entry: it stands for everything recorded so far."""
        return self._log.head

    def plan(
        self,
        plan: Mapping[str, Any],
        job_id: str,
        *,
        ledger: Mapping[str, Any] | None = None,
        audit: Mapping[str, Any] | None = None,
    ) -> None:
        """Open the account of a new run.

        `ledger` says which other account it is charged to, `audit` which canaries it carries.
        """
        body: dict[str, Any] = {"plan": dict(plan), "job_id": job_id}
        for name, value in (("ledger", ledger), ("audit", audit)):
            if value is not None:
                body[name] = dict(value)
        self._append("planned", body)

    def reserve(self, until: int) -> None:
        """Charge all steps up to `until` before they run."""
        if until > self.state.charged_steps:
            self._append("reserved", {"until": until})

    def settle(self, steps: int, *, checkpoint: str | None = None) -> None:
        """State that exactly `steps` steps have been charged: this process took no other."""
        self._append("settled", {"steps": steps, "checkpoint": checkpoint})

    def resume(self, *, from_step: int) -> int:
        """Take over from a process that stopped; returns the steps that count as taken."""
        charged = self.state.charged_steps
        self._append("resumed", {"charged": charged, "from_step": from_step})
        return charged

    def finish(self, steps: int, *, audit_scores: str | None = None) -> None:
        """Close the account; `audit_scores` is the digest of what an observer of the steps saw."""
        body: dict[str, Any] = {"steps": steps}
        if audit_scores is not None:
            body["audit_scores"] = audit_scores
        self._append("finished", body)

    def close(self) -> None:
        """Release the folder. Idempotent."""
        self._log.close()

    def __enter__(self) -> Self:
        """Return the record itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the folder."""
        self.close()

    def _append(self, kind: str, body: Mapping[str, Any]) -> None:
        self._log.append(kind, body)
        self.state = fold(self._log.read())


def read_state(folder: Path) -> RunState | None:
    """The state of the run in a folder, or `None` where there is none. Takes no lock."""
    path = folder / FILE_NAME
    return fold(read_log(path)) if path.exists() else None


def archive(folder: Path) -> None:
    """Put a finished run's checkpoints, seal and record aside: a new run may use the folder.

    The record goes last: whatever stops this, the run that it is about stays known.
    """
    number = 1
    while (target := folder / f"run-{number:04d}").exists():
        number += 1
    target.mkdir()
    for path in [*folder.glob("checkpoint-*"), *folder.glob("audit_*.json"), folder / FILE_NAME]:
        os.rename(path, target / path.name)
