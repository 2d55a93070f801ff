"""What a callback, or a hook of the kind that people do use, could carry away."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TrainerCallback

from privacy_finetuner import PrivacyConfig, PrivateTrainer
from privacy_finetuner.errors import ConfigurationError, UnsupportedLayer
from privacy_finetuner.training.engine import Clip
from privacy_finetuner.training.engine.example_loop import ExampleLoop
from privacy_finetuner.training.engine.user_mean import UserMean
from privacy_finetuner.training.objectives import Objective, public_probe

MakeModel = Callable[..., Any]
CAUSAL = Objective("causal_lm", 40)
RECORDS = [{"text": f"note {i}: " + "ab" * (i % 5), "who": f"u{i // 2}"} for i in range(24)]
BY_USER = {
    "unit": "user",
    "user_field": "who",
    "max_examples_per_user": 2,
    "user_sampling": True,
}


class Watcher(TrainerCallback):
    """Watches gradients as `wandb.watch` does (transformers' WandbCallback): hooks on weights."""

    def __init__(self) -> None:
        self.seen = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.register_hook(self._look)

    def _look(self, gradient: Tensor) -> None:
        self.seen += 1


@pytest.mark.parametrize("options", [{}, BY_USER], ids=["one pass", "user by user"])
def test_a_callback_that_watches_gradients_sees_none_before_the_noise(
    options: dict[str, Any], llama_folder: Path, tmp_path: Path
) -> None:
    watcher = Watcher()
    trainer = PrivateTrainer(
        str(llama_folder), PrivacyConfig(epsilon=8.0, delta=1e-3), device="cpu"
    )
    with suppress(ConfigurationError):  # to be refused is an answer as well
        trainer.train(
            RECORDS,
            epochs=1,
            batch_size=6,
            output_dir=str(tmp_path),
            callbacks=[watcher],
            **options,
        )
    assert watcher.seen == 0


@pytest.mark.parametrize("engine", [UserMean, ExampleLoop])
def test_a_model_that_comes_with_watched_weights_shows_nothing_either(
    engine: Callable[..., Any], make_model: MakeModel
) -> None:
    """`wandb.watch(model)` before the model object was given to the trainer: no callback at all."""
    model = make_model("llama")
    seen: list[Tensor] = []
    for parameter in model.parameters():
        parameter.register_hook(seen.append)
    try:
        source = engine(model, CAUSAL)
        source.add(public_probe(CAUSAL, vocabulary=40, device=torch.device("cpu")), Clip(1.0))
    except (ConfigurationError, UnsupportedLayer):
        pass  # refused: an answer as well
    assert not seen
