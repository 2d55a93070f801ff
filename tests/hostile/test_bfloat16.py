"""Rounding is part of sensitivity: a neighbour must not round the others differently."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from privacy_finetuner import PrivacyConfig, PrivateTrainer
from privacy_finetuner.errors import ConfigurationError, UnsupportedLayer
from privacy_finetuner.training.engine import Clip, ClippedGradient
from privacy_finetuner.training.engine.clipped_gradient import Batch
from privacy_finetuner.training.engine.padding import refuse_company
from privacy_finetuner.training.gradient_choice import in_bfloat16
from privacy_finetuner.training.objectives import IGNORED, Objective, public_probe

MakeModel = Callable[..., Any]
CAUSAL = Objective("causal_lm", 40)


def batch_of(lengths: list[int], width: int) -> Batch:
    counts = torch.arange(len(lengths) * width).reshape(len(lengths), width)
    mask = (torch.arange(width)[None] < torch.tensor(lengths)[:, None]).long()
    input_ids = (counts * 7 + 3) % 40 * mask
    labels = input_ids.masked_fill(mask == 0, IGNORED)
    return {"input_ids": input_ids, "attention_mask": mask, "labels": labels}


def sum_of(engine: ClippedGradient, batch: Batch, clip: Clip) -> Tensor:
    engine.add(batch, clip)
    return torch.cat([part.flatten() for part in engine.take(clip).tensors])


def moved_others(model: nn.Module, *, short: int) -> float:
    """By how many clip norms the sum of 32 others moves when a silent example joins their batch.

    The one that joins is long and learns nothing, so that all that moves is the others.
    """
    engine, clip = ClippedGradient(model, in_bfloat16(CAUSAL)), Clip(0.05)
    whole = batch_of([*(5 + i % 4 for i in range(32)), 24], 24)
    whole["labels"][32] = IGNORED
    others = {name: values[:32, :short] for name, values in whole.items()}
    together, before = (sum_of(engine, batch, clip) for batch in (whole, others))
    engine.close()
    return float((together - before).norm()) / clip.clip_norm


def test_one_width_for_all_keeps_the_others_where_they_were(make_model: MakeModel) -> None:
    model = make_model("llama").eval()
    assert moved_others(model, short=8) > 1e-3  # padded to the longest: the reason
    assert moved_others(model, short=24) < 1e-5


class Crowded(nn.Module):
    """Rounds by the number of rows, as other kernels for other shapes would."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.weight * (1 + 1e-3 * (len(input_ids) > 8)) * torch.ones(len(input_ids))


def test_a_model_in_which_the_number_of_neighbours_shows_is_refused() -> None:
    def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        losses_B = model(batch["input_ids"])
        return losses_B, losses_B

    probe = public_probe(CAUSAL, vocabulary=40, device=torch.device("cpu"))
    with pytest.raises(UnsupportedLayer, match="16 neighbours"):
        refuse_company(Crowded(), loss, probe, 12)


def test_a_collator_that_pads_as_it_likes_is_refused(llama_folder: Path, tmp_path: Path) -> None:
    trainer = PrivateTrainer(str(llama_folder), PrivacyConfig(epsilon=4.0, delta=1e-3), "cpu")
    with pytest.raises(ConfigurationError, match="public width"):
        trainer.train(
            [{"text": "ab"}] * 16,
            precision="bfloat16",
            data_collator=list,
            output_dir=str(tmp_path),
        )
