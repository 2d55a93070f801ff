"""A training run in its folder: what can be returned to, what it costs, what is to be changed.

Needs no torch: a guard's process looks at runs as well. The run record (`training.run_record`) is
the account of the run; nothing here lowers what it says was charged.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from pipeline_guard.checkpoints import step_of, verify
from privacy_core.errors import UnknownReservation
from privacy_finetuner.errors import CheckpointError
from privacy_finetuner.recovery.errors import NoVerifiedPoint
from privacy_finetuner.recovery.points import RecoveryPoints
from privacy_finetuner.recovery.prices import Outlook, outlook_of_plan
from privacy_finetuner.training.ledger_account import LedgerSource
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_finetuner.training.run_record import RunRecord, RunState, read_state
from privacy_runtime.blobs.stores import FolderStore, digest
from privacy_runtime.budget_store import BudgetStore, Status
from privacy_runtime.files import write_atomic

CHANGES_FILE: Final = "recovery.json"
_DAMAGED: Final = ".damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What the next attempt does otherwise. None of it is in the plan: epsilon is as it was.

    Attributes:
        micro_batch: of one physical pass: tokens of our trainer, examples of other loops.
        recompute_activations: instead of keeping them (gradient checkpointing).
        learning_rate: the lowered one.
    """

    micro_batch: int | None = None
    recompute_activations: bool = False
    learning_rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """Where a run goes on.

    Attributes:
        step: of the state it returns to; 0: the model that it began with.
        charged: steps that count as spent.
        point: the recovery point that had to be put back; `None`: the folder had the state.
        damaged: checkpoints that were not what was written.
    """

    step: int
    charged: int
    point: str | None = None
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The output folder of a run of our trainer."""

    path: Path

    @property
    def state(self) -> RunState | None:
        """What its record adds up to; `None`: there is no run."""
        return read_state(self.path)

    def is_unfinished(self) -> bool:
        """Whether a run that has taken steps ended before its last.

        Raises:
            RunRecordLocked: it has not ended: another process runs there.
        """
        state = self.state
        if state is None or state.plan is None or state.is_finished or not state.charged_steps:
            return False
        RunRecord(self.path).close()
        return True

    def damaged(self) -> tuple[str, ...]:
        """Recorded checkpoints that are not what was written, oldest first."""
        state = self.state
        if state is None:
            return ()
        kept = state.checkpoints
        # Training removes the oldest: what is newer than the first that is there must be there.
        there = [name for name in kept if (self.path / name).is_dir()]
        names = list(kept)[list(kept).index(there[0]) :] if there else list(kept)[-1:]
        return tuple(name for name in names if not self._is_intact(name, kept[name]))

    def go_back(self, points: RecoveryPoints) -> Return:
        """Make sure that the newest verified state lies where the next attempt will look for it.

        Damaged checkpoints are moved out of the way. Where a recovery point is newer than what is
        intact in the folder, it is put back under its old name; it must be the very checkpoint that
        the run record names.

        Raises:
            NoVerifiedPoint: the run had checkpoints, and none is left in folder or points.
            RunRecordLocked: another process runs there.
        """
        state = self.state
        if state is None or not state.charged_steps:
            return Return(step=0, charged=0)
        damaged = self.damaged()
        kept = state.checkpoints
        if not kept and not state.damaged:
            return Return(step=0, charged=state.charged_steps)
        intact = [n for n in kept if n not in damaged and (self.path / n).is_dir()]
        newest = max(map(_step, intact), default=-1)
        point = self._put_back(points, kept, above=newest)
        if point is not None:
            return Return(
                step=_step(point[1]), charged=state.charged_steps, point=point[0], damaged=damaged
            )
        if not intact:
            raise NoVerifiedPoint(
                f"{self.path.name} has no checkpoint that is what was written, and no recovery "
                "point of it; nothing was loaded"
            )
        return Return(step=newest, charged=state.charged_steps, damaged=damaged)

    def outlook(self, reached: int, ledger: LedgerSource | None) -> Outlook | None:
        """What finishing the run costs; `None`: it has no plan yet.

        Raises:
            JournalError: the ledger is away.
        """
        state = self.state
        if state is None or state.plan is None:
            return None
        plan = DPTrainingPlan.from_json(dict(state.plan))
        total = plan.epsilon()
        if state.ledger is not None:
            total = max(total, float(state.ledger["epsilon"]))
        return outlook_of_plan(
            plan,
            reached=min(reached, state.charged_steps),
            charged=state.charged_steps,
            epsilon_total=total,
            is_reserved=_is_reserved(state, ledger),
        )

    @property
    def changes(self) -> Changes:
        """What the next attempt of this very run does otherwise."""
        state, path = self.state, self.path / CHANGES_FILE
        if state is None or not path.is_file():
            return Changes()
        try:
            document = json.loads(path.read_text())
            if document.pop("job_id") != state.job_id:
                return Changes()  # of an earlier run in this folder
            return Changes(**document)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path} is damaged; remove it to go on unchanged") from error

    def change(self, **fields: Any) -> Changes:
        """Change more for the next attempt; returns all that is changed.

        Raises:
            WriteFailed: the disk refused; it is as it was.
        """
        changes = replace(self.changes, **fields)
        state = self.state
        document = {"job_id": "" if state is None else state.job_id, **asdict(changes)}
        write_atomic(self.path / CHANGES_FILE, json.dumps(document, indent=1).encode())
        return changes

    def forget_changes(self) -> None:
        """The run is finished."""
        (self.path / CHANGES_FILE).unlink(missing_ok=True)

    def free(self) -> int:
        """Remove what no run will load: what was left half written or set aside. Returns bytes."""
        freed = 0
        for path in self._litter():
            freed += sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
            shutil.rmtree(path, ignore_errors=True)
        return freed

    def _litter(self) -> Iterator[Path]:
        yield from self.path.glob(".*checkpoint-*.partial*")
        yield from self.path.glob(f"checkpoint-*{_DAMAGED}*")

    def _is_intact(self, name: str, expected: str | None) -> bool:
        try:
            found = verify(self.path / name)
        except OSError:
            return False
        if expected is None:
            return found.is_verified
        return (
            found.is_verified and digest(FolderStore(self.path), f"{name}/state.json") == expected
        )

    def _put_back(self, points: RecoveryPoints, kept: Any, *, above: int) -> tuple[str, str] | None:
        """Put the newest fitting recovery point back; returns its id and the checkpoint's name."""
        for number in reversed(points.numbers()):
            if points.damage(number):
                continue
            point = points.point(number)
            name = f"checkpoint-{point.step}"
            if point.step <= above or name not in kept:
                continue
            target, trial = self.path / name, self.path / f".{name}.partial-recovery"
            shutil.rmtree(trial, ignore_errors=True)
            points.restore(number, trial)
            expected = kept[name]
            if expected and digest(FolderStore(trial), "state.json") != expected:
                shutil.rmtree(trial)  # of another run
                continue
            if target.exists():
                aside = target.with_name(f"{name}{_DAMAGED}")
                shutil.rmtree(aside, ignore_errors=True)
                target.rename(aside)
            trial.rename(target)
            return point.id, name
        return None


def _step(name: str) -> int:
    return step_of(Path(name))


def _is_reserved(state: RunState, ledger: LedgerSource | None) -> bool:
    """Whether the ledger holds, or was paid, the whole plan. Without one the record is the account.

    Raises:
        JournalError: the ledger is away.
    """
    if ledger is None or state.ledger is None:
        return True
    with opened_ledger(ledger) as store:
        try:
            held = store.reservation(f"training:{state.job_id}")
        except UnknownReservation:
            return False
    if held.status is Status.OPEN:
        return True
    return held.settled is not None and held.charge.is_within(held.settled)


def opened_ledger(ledger: LedgerSource) -> AbstractContextManager[BudgetStore]:
    """A ledger, open; closed again unless it was open before."""
    return nullcontext(ledger) if isinstance(ledger, BudgetStore) else BudgetStore.open(ledger)
