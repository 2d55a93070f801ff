"""`PrivateTrainer.train` with a recovery system: points as it goes, and back after a failure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from transformers import TrainerCallback

from privacy_core.errors import PrivacyError
from privacy_finetuner.errors import PrivacyBudgetExhaustedException, TrainingInterrupted
from privacy_finetuner.options import TrainOptions
from privacy_finetuner.recovery.failures import FailureType, failure_of
from privacy_finetuner.recovery.runs import Changes, RunFolder
from privacy_finetuner.training.inputs import DEFAULT_MAX_LENGTH

if TYPE_CHECKING:
    from privacy_finetuner.recovery.system import FailureRecoverySystem
    from privacy_finetuner.results import TrainingResult

_TRAINER: Final = ("trainer",)


class PointWriter(TrainerCallback):  # type: ignore[misc]  # transformers is not checked
    """Keeps every checkpoint that training writes as a recovery point.

    Args:
        system: keeps them.
    """

    def __init__(self, system: FailureRecoverySystem) -> None:
        self._system = system
        self.learning_rate: float | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Learn the rate that "auto" came to."""
        self.learning_rate = float(args.learning_rate)
        return control

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Ask for a checkpoint where a point is due."""
        every = self._system.point_steps
        if every is not None and state.global_step % every == 0:
            control.should_save = True
        return control

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Keep the checkpoint that was just written."""
        step = int(state.global_step)
        folder = Path(args.output_dir) / f"checkpoint-{step}"
        self._system.keep_checkpoint(folder, epoch=int(state.epoch or 0), step=step)
        return control


def supervise(
    system: FailureRecoverySystem,
    run: RunFolder,
    train: Callable[..., TrainingResult],
    options: Mapping[str, Any],
) -> TrainingResult:
    """Train to the end of the plan, over failures that the system recovers from.

    A run that an earlier process left unfinished in the output folder is gone on with. What is no
    failure of the world, a spent budget and a request to stop are raised as they come.

    Raises:
        FailureRecoveryError: what an earlier process left cannot be recovered.
        PrivacyError: as `PrivateTrainer.train`; a note says why it was not recovered.
    """
    given = dict(options)
    if run.is_unfinished():
        found = FailureType.CORRUPT_CHECKPOINT if run.damaged() else FailureType.PROCESS_CRASH
        system.recover(found, "an earlier process left the run unfinished", _TRAINER)
        given["resume"] = True
    while True:
        writer = PointWriter(system)
        changed = with_changes(given, run.changes)
        try:
            result = train(**{**changed, "callbacks": [*changed.get("callbacks", ()), writer]})
        except (PrivacyBudgetExhaustedException, TrainingInterrupted):
            raise
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            try:
                system.recover(failure, str(error), _TRAINER, _figures(changed, writer))
            except PrivacyError as refusal:
                error.add_note(f"not recovered: {refusal}")
                raise error from refusal
            given["resume"] = run.is_unfinished()
        else:
            run.forget_changes()
            return result


def with_changes(options: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """The arguments of the next attempt. The plan that they make is the one that was reserved."""
    given = dict(options)
    if changes.micro_batch is not None:
        given["micro_batch_tokens"] = changes.micro_batch
    if changes.recompute_activations:
        given["gradient_checkpointing"] = True
    if changes.learning_rate is not None:
        if given["learning_rate"] == "auto":  # which settles these as well
            given.setdefault("clip_rule", "normalise")
            given.setdefault("weight_average", "polynomial")
        given["learning_rate"] = changes.learning_rate
    return given


def _figures(options: Mapping[str, Any], writer: PointWriter) -> dict[str, Any]:
    """What the strategies ask for; all of it public."""
    rate = writer.learning_rate
    if rate is None and options["learning_rate"] != "auto":
        rate = float(options["learning_rate"])
    return {
        "batch_size": options.get("micro_batch_tokens", TrainOptions().micro_batch_tokens),
        "least": options.get("max_length") or DEFAULT_MAX_LENGTH,
        "learning_rate": rate,
    }
