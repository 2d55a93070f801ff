from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from privacy_finetuner.config import PrivacyConfig, TrainingConfig, steps_of
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.options import TrainOptions

BAD_PRIVACY: list[tuple[str, Any]] = [
    ("epsilon", 0), ("epsilon", -1.0), ("epsilon", math.inf), ("epsilon", math.nan),
    ("epsilon", True), ("epsilon", "1"), ("delta", 0), ("delta", 1), ("delta", -1e-5),
    ("delta", math.nan), ("max_grad_norm", 0), ("max_grad_norm", math.inf),
    ("noise_multiplier", 0.0), ("noise_multiplier", -1.0), ("noise_multiplier", math.nan),
    ("target_delta", 0.0), ("target_delta", 1e-3), ("accounting_mode", "zcdp"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD_PRIVACY)
def test_a_value_out_of_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        PrivacyConfig(**{name: value})


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        PrivacyConfig(epsilon=-1, delta=2, accounting_mode="x")
    assert all(name in str(caught.value) for name in ("epsilon", "delta", "accounting_mode"))


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PrivacyConfig().epsilon = 100.0  # type: ignore[misc]


BAD_TRAINING: list[tuple[str, Any]] = [
    ("epochs", 0), ("epochs", math.nan), ("batch_size", 0), ("batch_size", 1.5),
    ("learning_rate", 0), ("optimizer", "lamb"), ("lr_schedule", "step"), ("warmup_steps", -1),
    ("save_steps", 0), ("eval_steps", 0), ("max_length", 1), ("clip_rule", "none"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD_TRAINING)
def test_training_values_out_of_range_are_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        TrainingConfig(**{name: value})


def test_options_are_read_by_name_only() -> None:
    assert TrainOptions.read({"lora_rank": 4}).lora_rank == 4
    with pytest.raises(TypeError, match="did you mean 'warmup_steps'"):
        TrainOptions.read({"warmup_step": 4})


@pytest.mark.parametrize(
    ("epochs", "rate", "steps"),
    [(3, 0.25, 12), (1, 1.0, 1), (0.1, 1.0, 1), (1, 0.3, 4), (3, 0.1, 30)],
)
def test_steps_cover_the_epochs(epochs: float, rate: float, steps: int) -> None:
    assert steps_of(epochs, rate) == steps


def test_the_solved_noise_keeps_epsilon() -> None:
    config = PrivacyConfig(epsilon=2.0, accounting_mode="pld")
    noise = config.calculate_noise_multiplier(sample_rate=0.05, epochs=2)
    kept = dataclasses.replace(config, noise_multiplier=noise)
    promised = kept.get_privacy_guarantees(steps=40, sample_rate=0.05)
    assert 1.99 < promised.epsilon <= 2.0
