"""`FailureRecoverySystem`: keeps states of a run, and brings the run back after a failure.

It owns no loop. `PrivateTrainer.train(..., recovery=system)` asks it; so does the pipeline guard,
through `recovery.guard_parts`; so may any other training loop, through `handle_failure`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from privacy_core.errors import InvalidParameter, PrivacyError
from privacy_finetuner.recovery.course import POINT, Attempt, Course
from privacy_finetuner.recovery.errors import RecoveryGivenUp, RecoveryRefused
from privacy_finetuner.recovery.failures import FailureType
from privacy_finetuner.recovery.history import (
    Outcome,
    RecoveredState,
    Recovery,
    RecoveryStatistics,
    TestResults,
)
from privacy_finetuner.recovery.points import RecoveryPoint, RecoveryPoints, Sealing
from privacy_finetuner.recovery.runs import Changes, RunFolder, opened_ledger
from privacy_finetuner.training.ledger_account import LedgerSource
from privacy_runtime import logs
from privacy_runtime.blobs import BlobStore
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

if TYPE_CHECKING:
    from privacy_finetuner.results import TrainingResult

_log = logs.logger(__name__)
_MODEL, _OPTIMIZER = "model", "optimizer"


class FailureRecoverySystem:
    """Recovery points, and the strategies that return to them within the budget.

    Guarantee: no recovery lowers what was charged, none changes the plan of the run, and none goes
    on that cannot finish inside the budget.

    Args:
        checkpoint_dir: where recovery points lie.
        max_recovery_attempts: at one failure, until the run makes progress again.
        auto_recovery_enabled: whether a failure is acted on at all.
        privacy_threshold: share of the budget, in (0, 1], that a recovery may bring the run to
            where it costs more than was set aside for the run before it failed.
        sealing: who encrypts and signs points; `None`: they are plain files, and say so.
        replicas: folders or `s3://...` addresses; each must hold every point.
        ledger: where points note its head, and what is waited for when it is away; a trainer's own
            ledger takes its place.
        point_steps: a point every so many steps; `None`: with every checkpoint of the run.
        keep_points: the newest points that stay.
        store_deadline_s: how long to wait for a ledger that is away.
        clock, entropy, pause: the outside world; only tests replace them.
    """

    def __init__(  # noqa: PLR0913 -- the documented four, and keywords
        self,
        checkpoint_dir: str = "recovery_checkpoints",
        max_recovery_attempts: int = 3,
        auto_recovery_enabled: bool = True,
        privacy_threshold: float = 0.9,
        *,
        sealing: Sealing | None = None,
        replicas: Sequence[str | Path | BlobStore] = (),
        ledger: LedgerSource | None = None,
        point_steps: int | None = None,
        keep_points: int = 3,
        store_deadline_s: float = 600.0,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        if max_recovery_attempts < 1 or keep_points < 1 or (point_steps or 1) < 1:
            raise InvalidParameter(
                "max_recovery_attempts, keep_points, point_steps",
                found=(max_recovery_attempts, keep_points, point_steps),
                expected="at least 1 each",
            )
        if not 0 < privacy_threshold <= 1:
            raise InvalidParameter(
                "privacy_threshold", found=privacy_threshold, expected="a share in (0, 1]"
            )
        self.checkpoint_dir = Path(checkpoint_dir)
        self.max_recovery_attempts = max_recovery_attempts
        self.auto_recovery_enabled = auto_recovery_enabled
        self.privacy_threshold = privacy_threshold
        self.point_steps = point_steps
        self.keep_points = keep_points
        self.store_deadline_s = store_deadline_s
        self._clock, self._entropy = clock or SystemClock(), entropy or SystemEntropy()
        self._pause = pause
        self._ledger = ledger
        self._run: RunFolder | None = None
        self._points = RecoveryPoints(
            self.checkpoint_dir,
            sealing=sealing,
            replicas=replicas,
            clock=self._clock,
            entropy=self._entropy,
        )
        self._handled: list[Recovery] = []
        self._attempts: dict[FailureType, tuple[int, int]] = {}

    @property
    def points(self) -> list[RecoveryPoint]:
        """The points whose manifests are in order, oldest first; their files are not looked at."""
        found = []
        for number in self._points.numbers():
            try:
                found.append(self._points.point(number))
            except PrivacyError:
                continue  # damaged: `handle_failure` says so when it comes to it
        return found

    @property
    def recoveries(self) -> tuple[Recovery, ...]:
        """How each failure was handled, oldest first."""
        return tuple(self._handled)

    def create_recovery_point(
        self,
        epoch: int,
        step: int,
        model_state: Mapping[str, Any],
        optimizer_state: Mapping[str, Any],
        privacy_state: Mapping[str, Any],
        training_metrics: Mapping[str, float] | None = None,
        system_state: Mapping[str, Any] | None = None,
        *,
        released_metrics: Collection[str] = (),
    ) -> str:
        """Keep the state of a training loop; returns the id of the point.

        Tensors become safetensors, everything else JSON; there is no pickle. The point was read
        back, and copied to every replica, before this returns. `points[-1].is_sealed` says whether
        it is encrypted.

        Args:
            epoch: of the run.
            step: of the run.
            model_state: a `state_dict()`.
            optimizer_state: a `state_dict()`.
            privacy_state: `epsilon_spent`, `epsilon_total`, `delta`. With `plan`
                (`DPTrainingPlan.to_json()`) and `charged_steps` a recovery is priced by the
                accountant; with `replay` (the fields of `prices.Replay`) a bit-exact repetition is
                free.
            training_metrics: figures of the run. Those not named in `released_metrics` count as
                exact figures of private data: they are kept in a sealed point, marked
                `outside_guarantee`, and left out of a plain one, which names what it lacks.
            system_state: JSON; what else resuming needs.
            released_metrics: names of those that are public or were released.

        Raises:
            InvalidParameter: something that cannot be written as tensors and JSON.
            WriteFailed, ReplicationFailed, SealedError: it was not kept, or not everywhere.
        """
        from privacy_finetuner.recovery.states import encoded  # noqa: PLC0415  loads torch

        metrics = dict(training_metrics or {})
        private = {n: v for n, v in metrics.items() if n not in set(released_metrics)}
        is_sealed = self._points.sealing is not None
        document = {
            "epoch": epoch,
            "step": step,
            "privacy_state": dict(privacy_state),
            "system_state": dict(system_state or {}),
            "released_metrics": {n: v for n, v in metrics.items() if n not in private},
            "outside_guarantee": private if is_sealed else {},
            "left_out": [] if is_sealed else sorted(private),
        }
        try:
            described = json.dumps(document).encode()
        except (TypeError, ValueError) as error:
            raise InvalidParameter("state", found=str(error), expected="JSON") from error
        contents = {
            **encoded(_MODEL, model_state),
            **encoded(_OPTIMIZER, optimizer_state),
            POINT: described,
        }
        return self._keep(contents, epoch=epoch, step=step).id

    def keep_checkpoint(self, folder: Path, *, epoch: int, step: int) -> RecoveryPoint:
        """Keep a checkpoint of our trainer, as it lies there, as a recovery point.

        Raises:
            WriteFailed, ReplicationFailed, SealedError: it was not kept, or not everywhere.
        """
        return self._keep(folder, epoch=epoch, step=step)

    def load_recovery_point(self, recovery_id: str) -> RecoveredState:
        """Read back what `create_recovery_point` kept. Nothing of it touches a disk unsealed.

        Raises:
            UnknownPoint: there is none.
            NoVerifiedPoint: it is not what was kept, or is a checkpoint of our trainer.
        """
        from privacy_finetuner.recovery.states import decoded  # noqa: PLC0415  loads torch

        number = self._points.named(recovery_id)
        names = [f"{n}.{kind}" for n in (_MODEL, _OPTIMIZER) for kind in ("safetensors", "json")]
        files = {name: self._points.read(number, name) for name in names}
        described = json.loads(self._points.read(number, POINT))
        described.pop("left_out")
        return RecoveredState(
            model_state=decoded(_MODEL, files),
            optimizer_state=decoded(_OPTIMIZER, files),
            **described,
        )

    def handle_failure(
        self,
        failure_type: FailureType,
        description: str,
        affected_components: Sequence[str],
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Do what the strategy of a failure says; whether the run may go on.

        Advisory: `recover` is the same and raises what stands against it. What was done, and with
        which figures, is in `recoveries[-1]`.

        Args:
            failure_type: what happened.
            description: for people; it is neither kept nor logged, for it may quote anything.
            affected_components: names.
            metadata: `batch_size` or `micro_batch_size` of one physical pass; `learning_rate`;
                `step`, `charged_steps`; `repeat_lost_steps`; `replay`.
        """
        try:
            self.recover(failure_type, description, affected_components, metadata)
        except PrivacyError as error:
            _log.warning("a failure was not recovered", kind=failure_type.value, code=error.code)
            return False
        return True

    def recover(
        self,
        failure_type: FailureType,
        description: str,
        affected_components: Sequence[str],
        metadata: Mapping[str, Any] | None = None,
    ) -> Recovery:
        """As `handle_failure`.

        Raises:
            RecoveryRefused: finishing would cost more than the budget leaves; says both numbers.
            RecoveryGivenUp: attempts are used up, no step is left, or recovery is switched off.
            NoVerifiedPoint: nothing that was kept is what was kept.
            FilesError, JournalError: a step could not be done.
        """
        del description  # it may quote anything
        began_s = self._clock.monotonic_s()
        attempt = Attempt(failure_type, self._count(failure_type), metadata or {})
        outcome, reason = Outcome.FAILED, ""
        try:
            self._require_attempt(attempt)
            course = Course(
                points=self._points,
                run=self._run,
                ledger=self._ledger,
                privacy_threshold=self.privacy_threshold,
                store_deadline_s=self.store_deadline_s,
                held=self._handled[-1].changes if self._handled else Changes(),
                clock=self._clock,
                entropy=self._entropy,
                pause=self._pause,
            )
            course.follow(attempt)
            outcome, reason = Outcome.RECOVERED, attempt.note
        except PrivacyError as error:
            outcome, reason = _outcome_of(error, is_on=self.auto_recovery_enabled), str(error)
            raise
        finally:
            done = Recovery(
                failure=failure_type,
                components=tuple(affected_components),
                at=self._clock.now().isoformat(timespec="seconds"),
                outcome=outcome,
                reason=reason,
                attempt=attempt.number,
                done=tuple(attempt.done),
                point=attempt.point,
                step=attempt.step,
                changes=attempt.changes,
                outlook=attempt.outlook,
                duration_s=self._clock.monotonic_s() - began_s,
            )
            self._handled.append(done)
        _log.info("a failure was recovered", kind=failure_type.value, step=attempt.step)
        return done

    def get_recovery_statistics(self) -> RecoveryStatistics:
        """Figures over all failures that this object has handled."""
        return RecoveryStatistics.of(
            self._handled,
            recovery_points=len(self._points.numbers()),
            points_are_sealed=self._points.sealing is not None,
            auto_recovery_enabled=self.auto_recovery_enabled,
            privacy_threshold=self.privacy_threshold,
        )

    def test_recovery_system(self, faults: Sequence[FailureType] | None = None) -> TestResults:
        """Inject each fault into a real run in a process of its own, and measure the recovery.

        Runs are of the shipped sample model and records, in a temporary folder; this object's own
        points are not touched.

        Args:
            faults: which; `None`: all six, about a minute on two cores.

        Raises:
            RehearsalFailed: a fault could not be injected.
        """
        from privacy_finetuner.recovery.rehearsal import rehearse  # noqa: PLC0415  rarely needed

        return rehearse(tuple(faults or FailureType), clock=self._clock)

    def supervise(
        self,
        train: Callable[..., TrainingResult],
        options: Mapping[str, Any],
        *,
        ledger: LedgerSource | None,
    ) -> TrainingResult:
        """Train, keep points, and come back; see `training.recoverable`."""
        from privacy_finetuner.recovery.supervision import supervise  # noqa: PLC0415  loads torch

        self._run = RunFolder(Path(options["output_dir"]))
        self._ledger = ledger or self._ledger
        return supervise(self, self._run, train, options)

    def attach(self, run: RunFolder) -> None:
        """Recover this run of our trainer from now on."""
        self._run = run

    def _keep(self, source: Path | Mapping[str, bytes], *, epoch: int, step: int) -> RecoveryPoint:
        head: dict[str, str | int] = {}
        if self._ledger is not None:
            with opened_ledger(self._ledger) as store:
                found = store.head()
            head = {"stream": "ledger", "seq": found.seq, "hash": found.hash}
        point = self._points.keep(source, epoch=epoch, step=step, ledger=head)
        if not point.is_sealed and len(self._points.numbers()) == 1:
            _log.warning("recovery points are plain files: no key is configured", step=step)
        self._points.prune(self.keep_points)
        return point

    def _count(self, failure: FailureType) -> int:
        """Which attempt this is, since the run last made progress."""
        progress = self._progress()
        before, reached = self._attempts.get(failure, (0, progress))
        number = before + 1 if progress <= reached else 1
        self._attempts[failure] = (number, progress)
        return number

    def _progress(self) -> int:
        """How far the run is: what is saved, for charged steps grow with every failed attempt."""
        state = None if self._run is None else self._run.state
        if state is not None:
            return max((int(n.rpartition("-")[2]) for n in state.checkpoints), default=0)
        return max(self._points.numbers(), default=0)

    def _require_attempt(self, attempt: Attempt) -> None:
        if not self.auto_recovery_enabled:
            raise RecoveryGivenUp("automatic recovery is switched off; nothing was done")
        if attempt.number > self.max_recovery_attempts:
            raise RecoveryGivenUp(
                f"{attempt.number - 1} attempts at {attempt.failure.value} brought no progress, "
                f"at most {self.max_recovery_attempts} are made; the run was left as it is"
            )


def _outcome_of(error: PrivacyError, *, is_on: bool) -> Outcome:
    if not is_on:
        return Outcome.OFF
    match error:
        case RecoveryRefused():
            return Outcome.REFUSED
        case RecoveryGivenUp():
            return Outcome.GIVEN_UP
    return Outcome.FAILED
