from __future__ import annotations

import itertools
from typing import Any

import pytest

from privacy_finetuner.config import TrainingConfig
from privacy_finetuner.training.update import learning_rate


def rates(**options: Any) -> list[float]:
    training = TrainingConfig(learning_rate=1.0, **options)
    return [learning_rate(training, step=step, steps=10) for step in range(10)]


def test_a_constant_rate_is_constant() -> None:
    assert set(rates()) == {1.0}


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_warms_up_to_the_peak_and_falls_to_nearly_nothing(schedule: str) -> None:
    found = rates(lr_schedule=schedule, warmup_steps=4)
    assert found[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert all(a > b for a, b in itertools.pairwise(found[4:]))
    assert 0 < found[-1] < 0.2


def test_a_warm_up_longer_than_the_run_never_passes_the_peak() -> None:
    assert max(rates(lr_schedule="linear", warmup_steps=50)) < 1.0
