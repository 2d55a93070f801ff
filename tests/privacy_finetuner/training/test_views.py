"""Views: the gradient that is clipped is the mean over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from privacy_core.errors import InvalidParameter
from privacy_finetuner.training.engine import Clip, make_gradient
from privacy_finetuner.training.objectives import Objective, public_probe
from privacy_finetuner.training.views import Views, replaced_tokens

MakeModel = Callable[..., Any]
CAUSAL = Objective("causal_lm", 40)
PROBE = public_probe(CAUSAL, vocabulary=40, device=torch.device("cpu"))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_clipped_gradient_is_of_the_mean_over_views(make_model: MakeModel) -> None:
    model = make_model("llama")
    parameters = list(model.parameters())
    views = Views(CAUSAL, 3, replaced_tokens(0.4, 40), generator(5))
    engine, words = make_gradient(model, views, PROBE)
    model.train()
    views.generator.manual_seed(5)
    engine.add(PROBE, Clip(0.3))
    found = engine.take(Clip(0.3)).tensors
    engine.close()

    # the same views again, then one example at a time by plain autograd
    chance = generator(5)
    view = replaced_tokens(0.4, 40)
    seen = [
        [view({n: v[b : b + 1] for n, v in PROBE.items()}, chance) for b in range(3)]
        for _ in range(3)
    ]
    expected = [torch.zeros_like(p) for p in parameters]
    for b in range(3):
        losses = [CAUSAL(model, seen[k][b])[0].sum() for k in range(3)]
        gradients = torch.autograd.grad(torch.stack(losses).mean(), parameters)
        norm = float(torch.stack([g.square().sum() for g in gradients]).sum().sqrt())
        for target, gradient in zip(expected, gradients, strict=True):
            target.add_(gradient, alpha=min(1.0, 0.3 / norm))

    assert words.startswith("one backward pass")
    difference = sum(float((a - b).square().sum()) for a, b in zip(found, expected, strict=True))
    whole = sum(float(b.square().sum()) for b in expected)
    assert (difference / whole) ** 0.5 < 1e-5


def test_a_view_is_shown_one_example_at_a_time(make_model: MakeModel) -> None:
    shapes = []

    def view(example: Mapping[str, Tensor], _: torch.Generator) -> Mapping[str, Tensor]:
        shapes.append({name: values.shape[0] for name, values in example.items()})
        return example

    model = make_model("llama").train()
    Views(CAUSAL, 2, view, generator())(model, PROBE)

    assert len(shapes) == 6
    assert all(set(rows.values()) == {1} for rows in shapes)


def test_in_evaluation_a_view_is_the_example(make_model: MakeModel) -> None:
    model = make_model("llama").eval()

    found, _ = Views(CAUSAL, 2, replaced_tokens(0.9, 40), generator())(model, PROBE)

    torch.testing.assert_close(found, CAUSAL(model, PROBE)[0])


def test_replaced_tokens_leave_padding_and_labels() -> None:
    batch = {name: values[2:3] for name, values in PROBE.items()}  # 3 tokens, 4 of padding

    seen = replaced_tokens(0.999, 40)(batch, generator())

    assert torch.equal(seen["labels"], batch["labels"])
    assert torch.equal(seen["input_ids"][:, 3:], batch["input_ids"][:, 3:])
    assert not torch.equal(seen["input_ids"][:, :3], batch["input_ids"][:, :3])
    with pytest.raises(InvalidParameter):
        replaced_tokens(1.0, 40)
