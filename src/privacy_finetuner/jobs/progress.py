"""What a child tells of a run while it trains: public and released figures, paced.

A step is told at most five times a second, and pricing it may take a twentieth of the time: a run
of many short steps is not slowed by its own story. The last step, and one that ends an epoch or was
scored, is always told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from privacy_finetuner.jobs.lines import SAVED
from privacy_finetuner.jobs.model import EventKind
from privacy_finetuner.training import run_record
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_runtime.world import Clock

if TYPE_CHECKING:
    from privacy_finetuner.results import EpochRecord, TrainingHistory
    from privacy_finetuner.training.loop import StepRecord

PACE_S: Final = 0.2
_PRICING_SHARE: Final = 0.05
_RENAMED: Final = {
    "mean_gradient_norm": "gradient_norm",
    "mean_gradient_norm_std": "gradient_norm_std",
}

Tell = Callable[[EventKind, Mapping[str, Any]], None]


class Progress:
    """`on_step` of a job: turns a run's steps into events.

    Args:
        tell: takes an event.
        folder: of the run; the plan is read from its record.
        history: the run's released course, as it grows.
        clock: paces, and measures what is left.
        epochs_told, steps_told: by earlier attempts.
    """

    def __init__(
        self,
        tell: Tell,
        folder: Path,
        history: Callable[[], TrainingHistory],
        *,
        clock: Clock,
        epochs_told: int = 0,
        steps_told: int = 0,
    ) -> None:
        self._tell, self._folder, self._history, self._clock = tell, folder, history, clock
        self._epochs_told, self._scored = epochs_told, steps_told
        self._plan: DPTrainingPlan | None = None
        self._first: tuple[int, float] | None = None
        self._next_s = 0.0

    def __call__(self, step: StepRecord) -> None:
        """Tell of a step, if it is time."""
        now_s = self._clock.monotonic_s()
        if self._first is None:
            self._first = (step.step, now_s)
        history = self._history()
        epochs = history.epochs[self._epochs_told :]
        scores = [each for each in history.evaluations if each["step"] > self._scored]
        is_due = now_s >= self._next_s or step.step >= step.steps
        for epoch in epochs:
            self._tell(EventKind.EPOCH, epoch_body(epoch))
        for each in scores:
            self._tell(EventKind.EVALUATION, dict(each))
        self._epochs_told += len(epochs)
        self._scored = max([self._scored, *(each["step"] for each in scores)])
        if is_due or epochs or scores:
            body = {**self._step_body(step, now_s), SAVED: _saved_steps(self._folder)}
            self._tell(EventKind.STEP, body)
            spent_s = self._clock.monotonic_s() - now_s
            self._next_s = now_s + max(PACE_S, spent_s / _PRICING_SHARE)

    def _step_body(self, step: StepRecord, now_s: float) -> dict[str, Any]:
        plan = self._priced()
        first, since_s = self._first or (step.step, now_s)
        taken = step.step - first
        eta_s = None if taken < 1 else (now_s - since_s) / taken * (step.steps - step.step)
        return {
            "step": step.step,
            "steps": step.steps,
            "epoch": step.epoch,
            "epsilon": plan.epsilon(step.step),
            "epsilon_planned": plan.epsilon(),
            "delta": plan.delta,
            "clip_norm": step.clip_norm,
            "learning_rate": step.learning_rate,
            "eta_s": eta_s,
        }

    def _priced(self) -> DPTrainingPlan:
        """The plan of the run, which its record holds before the first step."""
        if self._plan is None:
            state = run_record.read_state(self._folder)
            if state is None or state.plan is None:
                raise AssertionError
            self._plan = DPTrainingPlan.from_json(dict(state.plan))
        return self._plan


def _saved_steps(folder: Path) -> int:
    """The step of the newest checkpoint; 0: there is none. Names only, no file is read."""
    numbers = (path.name.partition("-")[2] for path in folder.glob("checkpoint-*"))
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def epoch_body(epoch: EpochRecord) -> dict[str, Any]:
    """A released epoch as an event's body."""
    return {_RENAMED.get(name, name): value for name, value in asdict(epoch).items()}
