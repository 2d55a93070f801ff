"""The durable account of one run: what was planned, reserved, and settled.

Steps are reserved on disk *before* they run. A process that dies leaves its reservation behind, and
the next one counts every reserved step as taken: the account may be ahead of the truth, never
behind. A process that ends in order settles at the steps it really took.

Entries, in order of a run's life (file `run.jsonl`, hash-chained):

=============  =============================================================================
`planned`      the plan with its event, the job id, the account in a ledger, if one is charged, and
               the digest of the audit's seal, if the run carries canaries
`reserved`     steps up to `until` may run from now on
`settled`      exactly `steps` steps have been charged so far; written with a checkpoint, of
               which it holds the digest, and at an orderly stop
`damaged`      a checkpoint is not what was written, and was set aside; the one before it counts
`resumed`      a later process took over; `charged` is what it counts as spent, `checkpoint` and
               `digest` are what it loaded
`finished`     no step will follow
=============  =============================================================================
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from privacy_finetuner.errors import CheckpointError
from privacy_runtime.append_log import AppendLog, LogEntry, read_log

FILE_NAME: Final = "run.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """What the entries so far add up to.

    Attributes:
        checkpoints: names of those that count, oldest first, each with its digest, which older
            records do not have (`None`).
        damaged: names of those that were set aside.
    """

    plan: Mapping[str, Any] | None = None
    job_id: str = ""
    charged_steps: int = 0
    checkpoints: Mapping[str, str | None] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()
    is_finished: bool = False
    ledger: Mapping[str, Any] | None = None
    audit: Mapping[str, Any] | None = None
    audit_scores: str | None = None

    @property
    def checkpoint(self) -> str | None:
        """The newest checkpoint that counts."""
        return next(reversed(list(self.checkpoints)), None)


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
                if body["checkpoint"]:
                    state.setdefault("checkpoints", {})[body["checkpoint"]] = body.get("digest")
            case "damaged":
                state["checkpoints"].pop(body["checkpoint"])
                state["damaged"] = (*state.get("damaged", ()), body["checkpoint"])
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

    def settle(
        self, steps: int, *, checkpoint: str | None = None, digest: str | None = None
    ) -> None:
        """State that exactly `steps` steps have been charged: this process took no other.

        `checkpoint` holds them, and `digest` is what tells it from every other.
        """
        body: dict[str, Any] = {"steps": steps, "checkpoint": checkpoint}
        if digest is not None:
            body["digest"] = digest
        self._append("settled", body)

    def set_aside(self, checkpoint: str) -> None:
        """State that a checkpoint is damaged; the one before it counts from now on."""
        self._append("damaged", {"checkpoint": checkpoint})

    def resume(self, *, from_step: int, checkpoint: str | None = None) -> int:
        """Take over from a process that stopped; returns the steps that count as taken.

        `checkpoint` is what was loaded; `None`: the model that the run began with.
        """
        charged = self.state.charged_steps
        body: dict[str, Any] = {"charged": charged, "from_step": from_step}
        if checkpoint is not None:
            body |= {"checkpoint": checkpoint, "digest": self.state.checkpoints[checkpoint]}
        self._append("resumed", body)
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
