"""Layers clipped one by one: the sum is what a loop says, and one example moves it by the bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from privacy_finetuner.training.engine import Clip, ClipRule, make_gradient
from privacy_finetuner.training.engine.clipped_gradient import Batch
from privacy_finetuner.training.engine.example_loop import ExampleLoop
from privacy_finetuner.training.objectives import Objective, public_probe

MakeModel = Callable[..., Any]
CAUSAL = Objective("causal_lm", 40)
PROBE = public_probe(CAUSAL, vocabulary=40, device=torch.device("cpu"), examples=4, length=9)


def named_gradients(model: nn.Module, batch: Batch) -> Iterator[dict[str, Tensor]]:
    """Each example's gradient by itself, from ordinary autograd."""
    for row in range(4):
        model.zero_grad()
        loss_1, _ = CAUSAL(model, {name: values[row : row + 1] for name, values in batch.items()})
        loss_1.sum().backward()
        yield {name: p.grad.double() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()


def by_the_book(model: nn.Module, batch: Batch, clip_norm: float) -> dict[str, Tensor]:
    """Sum of gradients, the part of each module scaled to at most C / sqrt(K)."""
    holders = {name.rpartition(".")[0] for name, _ in model.named_parameters()}
    limit = clip_norm / math.sqrt(len(holders))
    total: dict[str, Tensor] = {}
    for gradient in named_gradients(model, batch):
        for holder in holders:
            part = {n: g for n, g in gradient.items() if n.rpartition(".")[0] == holder}
            norm = math.sqrt(sum(float(g.square().sum()) for g in part.values()))
            for name, values in part.items():
                total[name] = total.get(name, 0) + values * min(1.0, limit / max(norm, 1e-30))
    return total


@pytest.mark.parametrize("engine", ["one pass", "loop"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("tied", [False, True])
def test_the_sum_is_that_of_a_loop_over_examples_and_layers(
    family: str, engine: str, tied: bool, make_model: MakeModel
) -> None:
    model = make_model(family, tied=tied).eval()
    clip = Clip(0.4, ClipRule.BOUND_LAYERS)  # some layers of some examples are longer, some not
    expected = by_the_book(model, PROBE, clip.clip_norm)
    source: Any = (
        ExampleLoop(model, CAUSAL) if engine == "loop" else make_gradient(model, CAUSAL, PROBE)[0]
    )

    record = source.add(PROBE, clip)
    found = dict(
        zip((n for n, _ in model.named_parameters()), source.take(clip).tensors, strict=True)
    )

    error = sum(float((found[n].double() - e).square().sum()) for n, e in expected.items())
    size = sum(float(e.square().sum()) for e in expected.values())
    assert math.sqrt(error / size) < 1e-5
    whole = [
        math.sqrt(sum(float(g.square().sum()) for g in gradient.values()))
        for gradient in named_gradients(model, PROBE)
    ]
    assert record.norms_B.tolist() == pytest.approx(whole, rel=1e-4)


def test_one_example_moves_the_sum_by_the_clip_norm_at_most_and_nearly_so(
    make_model: MakeModel,
) -> None:
    model = make_model("llama").eval()
    gradient, _ = make_gradient(model, CAUSAL, PROBE)
    clip = Clip(1e-3, ClipRule.BOUND_LAYERS)  # every layer of every example is longer
    sums = []
    for rows in ([0, 1, 2, 3], [0, 1, 2]):
        gradient.add({name: values[rows] for name, values in PROBE.items()}, clip)
        sums.append(torch.cat([t.double().flatten() for t in gradient.take(clip).tensors]))
    moved = float((sums[0] - sums[1]).norm()) / clip.clip_norm
    assert 0.99 < moved <= 1.001
