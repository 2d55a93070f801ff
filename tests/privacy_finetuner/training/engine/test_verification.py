from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from privacy_finetuner.errors import UnsupportedLayer
from privacy_finetuner.training.engine import Clip, ClippedGradient, verify_against_loop


class Honest(nn.Linear):
    """A subclass that is what it says."""


class Offset(nn.Linear):
    """Looks at its input twice: the weight's gradient is another than a linear layer's."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * 1.0) + super().forward(x.roll(1, dims=-1)) * 0.3


def loss(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    losses_B = model(batch["x"]).square().sum(dim=(1, 2))
    return losses_B, torch.zeros(len(losses_B))


PROBE = {"x": torch.sin(torch.arange(60.0)).reshape(3, 5, 4)}


def test_an_honest_subclass_passes_to_rounding() -> None:
    model = nn.Sequential(Honest(4, 6), nn.LayerNorm(6), nn.Linear(6, 2))
    assert verify_against_loop(ClippedGradient(model, loss), loss, PROBE) < 1e-5


def test_a_wrong_rule_is_refused_by_the_parameters_name() -> None:
    model = nn.Sequential(nn.Linear(4, 6), Offset(6, 2))
    gradient = ClippedGradient(model, loss)
    with pytest.raises(UnsupportedLayer, match=r"layer '1\.(weight|bias)'"):
        verify_against_loop(gradient, loss, PROBE)


def test_verification_leaves_the_model_in_its_mode_and_the_sum_empty() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 2))
    model.train()
    gradient = ClippedGradient(model, loss)
    verify_against_loop(gradient, loss, PROBE)
    assert model.training
    assert all(not part.any() for part in gradient.take(Clip(1.0)).tensors)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
