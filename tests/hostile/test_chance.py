"""Chance beside the noise: masks of dropout and views couple examples if they are public.

Masks are drawn for a whole micro-batch at once. Under a known seed one more example changes
everybody else's mask, and the sum by many clip norms. The price holds for masks that nobody knows:
then the masks of shared examples may be taken to be the same on both data sets.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, TrainerCallback

from privacy_finetuner import PrivacyConfig, PrivateTrainer
from privacy_finetuner.training.engine import Clip, make_gradient
from privacy_finetuner.training.objectives import Objective, public_probe

MakeModel = Callable[..., Any]
CAUSAL = Objective("causal_lm", 40)
PROBE = public_probe(CAUSAL, vocabulary=40, device=torch.device("cpu"), examples=4, length=9)
RECORDS = [{"text": f"note {i}: " + "ab" * (i % 5)} for i in range(24)]


def test_with_a_known_seed_dropout_moves_the_sum_by_more_than_the_clip_norm(
    make_model: MakeModel,
) -> None:
    """Why the seed must be secret; were this to fall below 1, the rest here would be idle."""
    model, clip = make_model("gpt2"), Clip(1e-2)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.1
    source, _ = make_gradient(model, CAUSAL, PROBE)
    model.train()

    def total(rows: list[int]) -> torch.Tensor:
        torch.manual_seed(42)  # noqa: TID251 -- the attacker's knowledge
        source.add({name: values[rows] for name, values in PROBE.items()}, clip)
        return torch.cat([t.flatten() for t in source.take(clip).tensors])

    moved = float((total([0, 1, 2, 3]) - total([1, 2, 3])).norm()) / clip.clip_norm

    assert moved > 1.5


class Masks(TrainerCallback):
    """Writes down the state of torch's generator at the beginning and after each step."""

    def __init__(self) -> None:
        self.states: list[bytes] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.states.append(torch.get_rng_state().numpy().tobytes())


def test_the_masks_of_a_run_do_not_follow_from_a_public_seed(
    llama_folder: Path, tmp_path: Path, byte_tokenizer: Any
) -> None:
    """Two runs after the same `manual_seed` must not draw from the same stream of masks."""
    folder = tmp_path / "model"
    model = AutoModelForCausalLM.from_pretrained(llama_folder)
    model.config.attention_dropout = 0.1
    model.save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)
    seen = []
    for number in range(2):
        masks = Masks()
        torch.manual_seed(42)  # noqa: TID251 -- what a careful user's script begins with
        PrivateTrainer(str(folder), PrivacyConfig(epsilon=8.0, delta=1e-3), device="cpu").train(
            RECORDS,
            epochs=1,
            batch_size=12,
            output_dir=str(tmp_path / f"run{number}"),
            callbacks=[masks],
        )
        seen.append(masks.states[0])

    assert seen[0] != seen[1]
