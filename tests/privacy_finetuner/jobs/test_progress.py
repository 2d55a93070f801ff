"""What a child tells of its steps: released figures, and no more of them than anybody reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from privacy_finetuner.config import PrivacyConfig, TrainingConfig
from privacy_finetuner.jobs.model import EventKind
from privacy_finetuner.jobs.progress import Progress
from privacy_finetuner.results import EpochRecord, TrainingHistory
from privacy_finetuner.training.loop import StepRecord
from privacy_finetuner.training.plan import make_plan
from privacy_finetuner.training.run_record import RunRecord
from privacy_runtime.testing import ManualClock

PLAN = make_plan(
    PrivacyConfig(epsilon=3.0, delta=1e-5), TrainingConfig(epochs=5, batch_size=100), examples=1000
)


def epoch(number: int) -> EpochRecord:
    figures = dict.fromkeys(
        ("loss", "loss_std", "accuracy", "accuracy_std", "mean_gradient_norm",
         "mean_gradient_norm_std", "clip_norm", "epsilon"), 0.5,
    )  # fmt: skip
    return EpochRecord(
        epoch=number, step=10 * number, clipping_rate=None, clipping_rate_std=None, **figures
    )


class Told:
    """A run of 50 steps and everything that was told of it."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.clock, self.history = ManualClock(), TrainingHistory()
        self.lines: list[tuple[EventKind, Mapping[str, Any]]] = []
        with RunRecord(folder) as record:
            record.plan(PLAN.to_json(), "run")
        self.progress = Progress(
            lambda kind, body: self.lines.append((kind, body)),
            folder,
            lambda: self.history,
            clock=self.clock,
            **more,
        )

    def step(self, number: int, *, took_s: float) -> None:
        self.clock.advance(took_s)
        self.progress(
            StepRecord(
                step=number, steps=PLAN.steps, epoch=1 + number // 10, clip_norm=1.0,
                learning_rate=0.1,
            )
        )  # fmt: skip

    def steps(self) -> list[int]:
        return [body["step"] for kind, body in self.lines if kind is EventKind.STEP]


def test_slow_steps_are_all_told_with_price_and_time_left(tmp_path: Path) -> None:
    told = Told(tmp_path)
    for number in range(1, 6):
        told.step(number, took_s=2.0)
    assert told.steps() == [1, 2, 3, 4, 5]
    first, *_, last = [body for _, body in told.lines]
    assert first["eta_s"] is None
    assert last["eta_s"] == 2.0 * (PLAN.steps - 5)
    assert last["epsilon"] == PLAN.epsilon(5) < last["epsilon_planned"] == PLAN.epsilon()
    assert last["delta"] == PLAN.delta


def test_fast_steps_are_told_five_times_a_second_and_at_the_end(tmp_path: Path) -> None:
    told = Told(tmp_path)
    for number in range(1, PLAN.steps + 1):
        told.step(number, took_s=0.05)
    assert len(told.steps()) <= 2 + 0.05 * PLAN.steps / 0.2
    assert told.steps()[-1] == PLAN.steps
    assert told.lines[-1][1]["eta_s"] == 0.0


def test_an_epoch_and_a_score_are_told_once_with_their_step(tmp_path: Path) -> None:
    told = Told(tmp_path, epochs_told=1, steps_told=10)
    told.history.epochs += [epoch(1), epoch(2)]
    told.history.evaluations += [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 0.5}]
    told.step(20, took_s=0.01)
    told.step(21, took_s=0.01)
    kinds = [kind for kind, _ in told.lines]
    assert kinds == [EventKind.EPOCH, EventKind.EVALUATION, EventKind.STEP]
    assert told.lines[0][1]["epoch"] == 2
    assert told.lines[0][1]["gradient_norm"] == 0.5
    assert told.lines[1][1] == {"step": 20, "loss": 0.5}
