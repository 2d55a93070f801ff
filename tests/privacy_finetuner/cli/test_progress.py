from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from privacy_finetuner.cli.progress import StepProgress
from privacy_finetuner.config import PrivacyConfig, TrainingConfig
from privacy_finetuner.training.plan import DPTrainingPlan, make_plan
from privacy_finetuner.training.run_record import RunRecord


class Ticks:
    """A clock that advances by a tenth of a second whenever it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def monotonic_s(self) -> float:
        self.reads += 1
        return self.reads / 10


@pytest.fixture
def plan(tmp_path: Path) -> DPTrainingPlan:
    made = make_plan(
        PrivacyConfig(epsilon=3.0), TrainingConfig(epochs=4, batch_size=10), examples=100
    )
    with RunRecord(tmp_path) as record:
        record.plan(made.to_json(), "job")
    return made


def shown(folder: Path, *, steps: int, terminal: bool, clock: Any = None) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120)
    with StepProgress(console, folder, clock or Ticks()) as progress:
        for step in range(1, steps + 1):
            record: Any = SimpleNamespace(step=step, steps=steps)
            progress(record)
    return out.getvalue()


def test_a_log_gets_ten_lines_with_the_epsilon_so_far(plan: DPTrainingPlan, tmp_path: Path) -> None:
    lines = shown(tmp_path, steps=40, terminal=False).splitlines()

    assert len(lines) == 10
    assert lines[0].startswith(f"step 4/40  epsilon {plan.epsilon(4):.4g}  ")
    assert lines[-1].startswith(f"step 40/40  epsilon {plan.epsilon(40):.4g}  ")
    assert "s/step" in lines[-1]


def test_a_terminal_shows_the_last_step_priced(plan: DPTrainingPlan, tmp_path: Path) -> None:
    screen = shown(tmp_path, steps=40, terminal=True)

    assert "40/40" in screen
    assert f"epsilon {plan.epsilon(40):.4g} after step 40" in screen


def test_epsilon_is_priced_at_most_once_a_second(plan: DPTrainingPlan, tmp_path: Path) -> None:
    clock = Ticks()
    shown(tmp_path, steps=40, terminal=True, clock=clock)

    priced = clock.reads - 40  # the clock is read once a step, and once more after pricing
    assert 2 <= priced <= 6


def test_a_run_without_a_record_is_shown_without_epsilon(tmp_path: Path) -> None:
    assert "epsilon ..." in shown(tmp_path, steps=2, terminal=False)
