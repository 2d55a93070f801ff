"""Users' clipped mean gradients against an explicit loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from privacy_finetuner.errors import UnsupportedLayer
from privacy_finetuner.training.engine import Clip, ClipRule, ExampleLoop
from privacy_finetuner.training.engine.user_mean import USER, UserMean
from privacy_finetuner.training.objectives import Objective, public_probe

MakeModel = Callable[..., Any]
CAUSAL = Objective("causal_lm", 40)
OWNERS = torch.tensor([4, 9, 4, 2, 9, 4])


def batch() -> dict[str, Tensor]:
    probe = public_probe(CAUSAL, vocabulary=40, device=torch.device("cpu"), examples=6, length=9)
    return {**probe, USER: OWNERS}


def without(found: dict[str, Tensor], user: int) -> dict[str, Tensor]:
    kept = found[USER] != user
    return {name: values[kept] for name, values in found.items()}


def explicit(model: Any, found: dict[str, Tensor], clip: Clip) -> list[Tensor]:
    parameters = list(model.parameters())
    total = [torch.zeros_like(p) for p in parameters]
    for user in (2, 4, 9):
        rows = (found[USER] == user).nonzero().flatten().tolist()
        mean = [torch.zeros_like(p) for p in parameters]
        for row in rows:
            single = {n: v[row : row + 1] for n, v in found.items() if n != USER}
            gradients = torch.autograd.grad(CAUSAL(model, single)[0].sum(), parameters)
            for target, gradient in zip(mean, gradients, strict=True):
                target.add_(gradient, alpha=1 / len(rows))
        norm = float(torch.stack([m.square().sum() for m in mean]).sum().sqrt())
        factor = min(1.0, clip.clip_norm / norm)
        if clip.rule is ClipRule.NORMALISE:
            factor = clip.clip_norm / (norm + 0.01 * clip.clip_norm)
        for target, part in zip(total, mean, strict=True):
            target.add_(part, alpha=factor)
    return total


def distance(a: list[Tensor], b: list[Tensor]) -> float:
    return float(
        torch.stack([(x - y).square().sum() for x, y in zip(a, b, strict=True)]).sum().sqrt()
    )


@pytest.mark.parametrize("rule", [ClipRule.BOUND, ClipRule.NORMALISE])
@pytest.mark.parametrize("piece_tokens", [9, 4096])
def test_the_sum_is_of_clipped_user_means(
    make_model: MakeModel, rule: ClipRule, piece_tokens: int
) -> None:
    model, clip = make_model("llama"), Clip(0.5, rule)
    source = UserMean(model, CAUSAL, piece_tokens=piece_tokens)

    record = source.add(batch(), clip)

    found = source.take(clip)
    expected = explicit(model, batch(), clip)
    scale = distance(expected, [torch.zeros_like(e) for e in expected])
    assert distance(found.tensors, expected) < 1e-5 * scale
    assert found.sensitivity == 0.5
    assert record.losses_B.shape == record.accuracies_B.shape == record.norms_B.shape == (3,)


def test_one_user_with_all_examples_moves_the_sum_by_at_most_the_bound(
    make_model: MakeModel,
) -> None:
    model, clip = make_model("llama"), Clip(0.05)
    source = UserMean(model, CAUSAL)
    source.add(batch(), clip)
    whole = source.take(clip).tensors

    for user in (2, 4, 9):
        source.add(without(batch(), user), clip)
        moved = distance(whole, source.take(clip).tensors)
        assert 0.9 * clip.clip_norm < moved <= clip.clip_norm * (1 + 1e-5)


def test_users_of_one_example_are_examples(make_model: MakeModel) -> None:
    model, clip = make_model("bert"), Clip(0.5)
    objective = Objective("sequence_classification", 3)
    probe = public_probe(objective, vocabulary=40, device=torch.device("cpu"))
    users, examples = UserMean(model, objective), ExampleLoop(model, objective)

    users.add(probe, clip)
    examples.add(probe, clip)

    assert distance(users.take(clip).tensors, examples.take(clip).tensors) < 1e-6


def test_a_loss_that_is_not_finite_takes_only_its_user_out(
    make_model: MakeModel,
) -> None:
    model = make_model("llama")

    def loss(m: nn.Module, found: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        losses_B, hits_B = CAUSAL(m, found)
        return losses_B / (found["input_ids"][:, 0] != batch()["input_ids"][3, 0]), hits_B

    source = UserMean(model, loss)  # type: ignore[arg-type]  # a Mapping would do as well
    owner = int(batch()["user"][3])
    source.add(batch(), Clip(1.0))
    found = source.take(Clip(1.0)).tensors
    source.add(without(batch(), owner), Clip(1.0))

    assert distance(found, source.take(Clip(1.0)).tensors) < 1e-6


def test_a_model_that_mixes_rows_is_refused() -> None:
    mixing = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with pytest.raises(UnsupportedLayer):
        UserMean(mixing, CAUSAL)
