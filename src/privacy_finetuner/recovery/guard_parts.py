"""What the pipeline guard learns of privacy from us: a gate, two probes and a remedy.

The guard knows no privacy. It finds the probes and the remedy by entry points (`privacy_burn`,
`checkpoint_integrity`; `resume_from_verified`); the gate is handed to it with
`guard.add_gate(PrivacyGate(ledger="ledger.db"))`. Nothing here loads torch, and nothing sees a
record or a figure of one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Final

from pipeline_guard.config.values import POSITIVE, Within
from pipeline_guard.errors import RecoveryError
from pipeline_guard.model import Applied, Case, Fault, Moment, Permit, Reading, Verdict
from pipeline_guard.probes.trends import Trend, duration
from privacy_core.errors import PrivacyError
from privacy_finetuner.recovery.errors import RecoveryRefused
from privacy_finetuner.recovery.points import RecoveryPoints, Sealing
from privacy_finetuner.recovery.prices import Outlook
from privacy_finetuner.recovery.runs import RunFolder, opened_ledger
from privacy_runtime.budget_store import parse_scope
from privacy_runtime.plugins import PluginMetadata

GOING_ON: Final = frozenset(
    {"restart", "start", "rerun_job", "resume_training", "resume_from_verified", "rerun"}
)
"""Remedies after which a run takes further private steps. Others are let through."""
_REQUIRES: Final = ">=0.1,<0.2"
Share = Annotated[float, Within(0, 1)]


def _about(name: str, description: str) -> PluginMetadata:
    return PluginMetadata(name=name, version="1", requires=_REQUIRES, description=description)


@dataclass(frozen=True, kw_only=True)
class PrivacyGate:
    """Refuses what would let a run go on that cannot finish inside its budget.

    The run is the component's setting `run`: the output folder. A component without one is not a
    training of ours, and is let through.

    Args:
        ledger: that the runs are charged to.
        privacy_threshold: see `FailureRecoverySystem`.
    """

    ledger: str | None = None
    privacy_threshold: Share = 0.9

    def permit(self, case: Case, remedy: str) -> Permit:
        """Price what would be left to do. What cannot be priced raises, which is a refusal."""
        run = case.settings.get("run")
        if remedy not in GOING_ON or run is None:
            return Permit(is_allowed=True, reason="it takes no private step")
        folder = RunFolder(Path(str(run)))
        outlook = folder.outlook(_newest_step(folder), self.ledger)
        if outlook is None:
            return Permit(is_allowed=True, reason="the run has spent nothing")
        try:
            outlook.require(self.privacy_threshold)
        except RecoveryRefused as refusal:
            return Permit(is_allowed=False, reason=str(refusal), figures=_figures(outlook))
        return Permit(is_allowed=True, reason=_words(outlook), figures=_figures(outlook))


@dataclass(frozen=True, kw_only=True)
class CheckpointIntegrity:
    """Recovery points, sealed or plain: whether they are what was kept, read back file by file.

    ================================  ==============================================
    the newest point                  is
    ================================  ==============================================
    is what was kept                  well; a warning where an older one is not
    is not, and another one is        critical: a recovery loses more than it should
    is not, and no other is           critical: there is nothing to return to
    was taken away, or replaced       critical, where they are sealed
    ================================  ==============================================

    Args:
        points: the folder of a `FailureRecoverySystem`.
        sealed: whether they are encrypted; then this account's keys read them.
        keyring: another address of wrapping keys.
        memory: another journal of newest states.
    """

    points: Path
    sealed: bool = False
    keyring: str | None = None
    memory: Path | None = None

    plugin_metadata: ClassVar = _about(
        "checkpoint_integrity", "recovery points are what was kept, byte by byte"
    )

    def look(self, moment: Moment) -> Reading:
        """Read them back."""
        del moment
        if not self.points.is_dir():
            return Reading(verdict=Verdict.UNKNOWN, summary=f"there is no folder {self.points}")
        try:
            with _opened(self.points, self.sealed, self.keyring, self.memory) as points:
                numbers = points.numbers()
                wrong = {n: said for n in numbers if (said := points.damage(n))}
                gone = points.rolled_back()
        except PrivacyError as error:
            return Reading(verdict=Verdict.UNKNOWN, summary=f"they cannot be read: {error}")
        measured = {"recovery_points": float(len(numbers)), "damaged": float(len(wrong))}
        evidence = {"damaged": {str(number): said for number, said in wrong.items()}}
        if gone:
            return Reading(verdict=Verdict.CRITICAL, summary=gone, fault=Fault.CORRUPT_CHECKPOINT,
                           measurements=measured, evidence=evidence)  # fmt: skip
        if not numbers:
            return Reading(verdict=Verdict.WARNING, summary="no point was kept yet",
                           measurements=measured)  # fmt: skip
        if not wrong:
            words = f"{len(numbers)} recovery points are what was kept"
            return Reading(verdict=Verdict.OK, summary=words, measurements=measured)
        is_newest = numbers[-1] in wrong
        return Reading(
            verdict=Verdict.CRITICAL if is_newest else Verdict.WARNING,
            summary=f"{len(wrong)} of {len(numbers)} recovery points are not what was kept, "
            f"{'the newest among them' if is_newest else 'the newest is'}",
            fault=Fault.CORRUPT_CHECKPOINT,
            measurements=measured,
            evidence=evidence,
        )


@dataclass(frozen=True, kw_only=True)
class PrivacyBurn:
    """A budget: whether a run can finish inside it, and when an account is used up at this rate.

    Of a run (`run`): what is spent and what finishing costs against its budget. Of an account
    (`ledger`, `account`): epsilon that is spent or set aside, and a straight line through the looks
    of the last `window_s`. Epsilon grows less than linearly with queries of one kind, so the
    forecast is early rather than late.

    Args:
        run: the output folder of a training.
        ledger: a path, or `postgresql://...`.
        account: `protection/COHORT/SLICE`, or a quota.
        warn_s: used up within this time: a warning.
        crit_s: the same, critical.
        warn_share: of the account's epsilon that is spent: a warning.
        window_s: the line looks back so far.
    """

    run: Path | None = None
    ledger: str | None = None
    account: str | None = None
    warn_s: Annotated[float, POSITIVE] = 7 * 86_400.0
    crit_s: Annotated[float, POSITIVE] = 86_400.0
    warn_share: Share = 0.9
    window_s: Annotated[float, POSITIVE] = 86_400.0
    _trend: Trend = field(init=False, repr=False, compare=False)

    plugin_metadata: ClassVar = _about("privacy_burn", "spent, and the cost to finish, in budget")

    def __post_init__(self) -> None:
        """Refuse what names nothing to look at."""
        if self.run is None and (self.ledger is None or self.account is None):
            raise ValueError("run must be named, or ledger and account")
        object.__setattr__(self, "_trend", Trend(self.window_s))

    def look(self, moment: Moment) -> Reading:
        """Ask the run's record, or the ledger."""
        try:
            if self.run is not None:
                return self._of_run(RunFolder(self.run))
            return self._of_account(moment)
        except (PrivacyError, OSError) as error:
            return Reading(verdict=Verdict.UNKNOWN, summary=f"the budget cannot be read: {error}")

    def _of_run(self, folder: RunFolder) -> Reading:
        outlook = folder.outlook(_newest_step(folder), self.ledger)
        if outlook is None:
            return Reading(verdict=Verdict.OK, summary="the run has spent nothing")
        is_over = not outlook.epsilon_needed <= outlook.epsilon_total * (1 + 1e-12)
        return Reading(
            verdict=Verdict.CRITICAL if is_over else Verdict.OK,
            summary=_words(outlook),
            fault=Fault.BUDGET_BURN if is_over else None,
            measurements=_figures(outlook),
        )

    def _of_account(self, moment: Moment) -> Reading:
        with opened_ledger(self.ledger or "") as store:
            state = store.balance(parse_scope(self.account or ""))
        total, spent = state.guarantee.epsilon, state.epsilon_if_all_commit
        self._trend.add(moment.monotonic_s, spent)
        left_s, rate = self._trend.seconds_to(total), self._trend.slope()
        words = f"epsilon {spent:.6g} of {total:.6g} is spent or set aside"
        if 0 < left_s < math.inf:
            words += f"; at this rate the rest is gone in {duration(left_s)}"
        verdict = Verdict.OK
        if left_s <= self.warn_s or spent >= self.warn_share * total:
            verdict = Verdict.WARNING
        if left_s <= self.crit_s or spent >= total:
            verdict = Verdict.CRITICAL
        return Reading(
            verdict=verdict,
            summary=words,
            fault=None if verdict is Verdict.OK else Fault.BUDGET_BURN,
            measurements={
                "epsilon_spent": spent, "epsilon_total": total, "epsilon_per_day": 86_400 * rate
            },
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ResumeFromVerified:
    """Put the newest verified state of a run where the next start looks for it.

    From the run's own checkpoints, or from a recovery point where they are damaged: one that is the
    very checkpoint that the run record names. What is damaged is renamed, not deleted. It starts
    nothing: the step after it does (`resume_training`). Refused where the run is under way, or
    cannot finish inside its budget; what was charged stays charged.

    Args:
        run: the output folder. Setting `run`.
        points: the folder of recovery points. Setting `points`.
        sealed, keyring, memory: see `CheckpointIntegrity`.
        ledger: that the run is charged to.
        privacy_threshold: see `FailureRecoverySystem`.
    """

    run: Path | None = None
    points: Path | None = None
    sealed: bool = False
    keyring: str | None = None
    memory: Path | None = None
    ledger: str | None = None
    privacy_threshold: Share = 0.9

    plugin_metadata: ClassVar = _about(
        "resume_from_verified", "puts the newest verified state of a run in its place"
    )

    def objection(self, case: Case) -> str | None:
        """Refuse without a run, while it is under way, and where the budget does not reach."""
        folder, points = self._places(case)
        if folder is None or points is None:
            return "it needs 'run' and 'points': as parameters, or in the component's settings"
        try:
            if not folder.is_unfinished():
                return f"{folder.path.name} holds no run that has to go on"
            outlook = folder.outlook(_newest_step(folder), self.ledger)
            if outlook is not None:
                outlook.require(self.privacy_threshold)
        except PrivacyError as error:
            return str(error)
        return None

    def intent(self, case: Case) -> str:
        """Which run."""
        folder, _ = self._places(case)
        name = "an unknown run" if folder is None else folder.path.name
        return f"verify the states of {name}, and put the newest that is whole in its place"

    def apply(self, case: Case, within_s: float) -> Applied:
        """Verify, and put in place. It is not cut off: a half-restored state never appears."""
        del within_s
        folder, points = self._places(case)
        wrong = self.objection(case)
        if wrong is not None or folder is None or points is None:
            raise RecoveryError(f"{wrong}; nothing was changed")
        try:
            with _opened(points, self.sealed, self.keyring, self.memory) as kept:
                back = folder.go_back(kept)
        except PrivacyError as error:
            raise RecoveryError(f"{error}; nothing was restored") from error
        lost = back.charged - back.step
        return Applied(
            summary=f"the run goes on from step {back.step}"
            + (f", put back from {back.point}" if back.point else "")
            + f"; {lost} steps are lost and stay charged",
            evidence={"run": str(folder.path), **asdict(back)},
        )

    def _places(self, case: Case) -> tuple[RunFolder | None, Path | None]:
        run = self.run or case.settings.get("run")
        points = self.points or case.settings.get("points")
        return (
            None if run is None else RunFolder(Path(str(run))),
            None if points is None else Path(str(points)),
        )


@contextmanager
def _opened(
    folder: Path, sealed: bool, keyring: str | None, memory: Path | None
) -> Iterator[RecoveryPoints]:
    """Recovery points, for as long as their keys are open."""
    if not sealed:
        yield RecoveryPoints(folder)
        return
    with Sealing.of_account(keyring, memory) as sealing:
        yield RecoveryPoints(folder, sealing=sealing)


def _newest_step(folder: RunFolder) -> int:
    state = folder.state
    names = [] if state is None else list(state.checkpoints)
    return max((int(name.rpartition("-")[2]) for name in names), default=0)


def _words(outlook: Outlook) -> str:
    return (
        f"finishing brings the run to epsilon {outlook.epsilon_needed:.6g} of "
        f"{outlook.epsilon_total:.6g}; {outlook.steps_lost} steps are lost, "
        f"{outlook.steps_left} are left"
    )


def _figures(outlook: Outlook) -> dict[str, float]:
    return {
        "epsilon_needed": outlook.epsilon_needed,
        "epsilon_spent": outlook.epsilon_spent,
        "epsilon_total": outlook.epsilon_total,
        "steps_lost": float(outlook.steps_lost),
        "steps_left": float(outlook.steps_left),
    }
