"""A record whose loss is not finite cannot end a run: such an end would have no price."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from privacy_finetuner.training.engine import Clip, make_gradient
from privacy_finetuner.training.engine.clipped_gradient import Batch
from privacy_finetuner.training.engine.example_loop import ExampleLoop
from privacy_finetuner.training.engine.forward_only import ForwardOnly
from privacy_finetuner.training.engine.user_mean import UserMean
from privacy_finetuner.training.objectives import Objective, public_probe
from privacy_runtime.testing import SeededEntropy

MakeModel = Callable[..., Any]
CAUSAL = Objective("causal_lm", 40)
PROBE = public_probe(CAUSAL, vocabulary=40, device=torch.device("cpu"), examples=3)
MARK = 39


def overflows(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """A loss that is infinite for examples with one certain token, as an overflow would be."""
    losses_B, hits_B = CAUSAL(model, batch)
    bad_B = (batch["input_ids"] == MARK).any(dim=1)
    return losses_B * torch.where(bad_B, torch.inf, 1.0), hits_B


@pytest.mark.parametrize("engine", ["clipped", "example loop", "user mean", "forward"])
def test_an_example_with_an_infinite_loss_contributes_nothing_and_stops_nothing(
    engine: str, make_model: MakeModel
) -> None:
    model = make_model("llama").eval()
    source: Any
    match engine:
        case "clipped":
            source, _ = make_gradient(model, overflows, PROBE)
        case "example loop":
            source = ExampleLoop(model, overflows)
        case "user mean":
            source = UserMean(model, overflows)
        case _:
            source = ForwardOnly(model, overflows, SeededEntropy(1), directions=2)
    marked = {name: values.clone() for name, values in PROBE.items()}
    marked["input_ids"][1, 0] = MARK
    without = {name: values[[0, 2]] for name, values in PROBE.items()}

    source.add(marked, Clip(0.1))
    found = source.take(Clip(0.1)).tensors
    source.add(without, Clip(0.1))
    expected = source.take(Clip(0.1)).tensors

    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
