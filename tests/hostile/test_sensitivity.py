"""How far one unit moves what is released before the noise, on real models and hostile numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from privacy_core.errors import InvalidParameter
from privacy_finetuner.training.engine import Clip, ClipRule, make_gradient
from privacy_finetuner.training.engine.clipped_gradient import Batch
from privacy_finetuner.training.engine.example_loop import ExampleLoop
from privacy_finetuner.training.engine.forward_only import ForwardOnly
from privacy_finetuner.training.engine.rules import Matrix, joint_norms_squared
from privacy_finetuner.training.engine.user_mean import USER, UserMean
from privacy_finetuner.training.objectives import Objective, public_probe
from privacy_runtime.testing import SeededEntropy

MakeModel = Callable[..., Any]
CAUSAL = Objective("causal_lm", 40)
PROBE = public_probe(CAUSAL, vocabulary=40, device=torch.device("cpu"), examples=6, length=11)
ROOM = 1 + 7.5e-4  # what `training.lattice_release` leaves for the rounding of sums


def rows_of(batch: Batch, rows: list[int]) -> dict[str, Tensor]:
    return {name: values[rows] for name, values in batch.items()}


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.double().flatten() for t in tensors])


@pytest.mark.parametrize("pieces", [1, 2, 3])
@pytest.mark.parametrize("directions", [1, 3])
def test_forward_only_puts_the_weights_back_bit_for_bit(
    directions: int, pieces: int, make_model: MakeModel
) -> None:
    """What is left in the weights is released without noise: it must not tell how many pieces."""
    model = make_model("llama")
    source = ForwardOnly(model, CAUSAL, SeededEntropy(7), directions=directions)
    before = [p.detach().clone() for p in model.parameters()]

    for piece in range(pieces):
        source.add(rows_of(PROBE, [piece]), Clip(1.0))

    for kept, now in zip(before, model.parameters(), strict=True):
        assert torch.equal(kept, now)


def test_forward_only_puts_the_weights_back_when_the_loss_fails(make_model: MakeModel) -> None:
    model = make_model("llama")
    calls = iter([False, True])

    def fails_the_second_time(given: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        if next(calls):
            raise RuntimeError("out of memory")
        return CAUSAL(given, batch)

    source = ForwardOnly(model, fails_the_second_time, SeededEntropy(7), directions=2)
    before = [p.detach().clone() for p in model.parameters()]

    with pytest.raises(RuntimeError):
        source.add(PROBE, Clip(1.0))

    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert source.take(Clip(1.0)).tensors[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("engine", "rule"),
    [
        *itertools.product(
            ["user mean", "example loop", "clipped", "forward"],
            [ClipRule.BOUND, ClipRule.NORMALISE],
        ),
        *itertools.product(["example loop", "clipped"], [ClipRule.BOUND_LAYERS]),
    ],
)
@pytest.mark.parametrize("clip_norm", [1e-6, 0.3, 1e6])
def test_leaving_one_unit_out_moves_the_sum_by_at_most_the_clip_norm(
    engine: str, rule: ClipRule, clip_norm: float, make_model: MakeModel
) -> None:
    """Users of 1, 2 and 3 examples; the others as examples of their own. Two pieces a step."""
    model, clip = make_model("gpt2", tied=True), Clip(clip_norm, rule)
    owners = torch.tensor([0, 1, 1, 2, 2, 2]) if engine == "user mean" else torch.arange(6)
    source: Any
    match engine:
        case "user mean":
            source = UserMean(model, CAUSAL, piece_tokens=22)
        case "example loop":
            source = ExampleLoop(model, CAUSAL)
        case "forward":
            source = ForwardOnly(model, CAUSAL, SeededEntropy(3), directions=3)
        case _:
            source, _ = make_gradient(model, CAUSAL, PROBE)
    model.eval()

    def total(without: int | None) -> Tensor:
        for part in ([0, 1, 2], [3, 4, 5]):
            rows = [row for row in part if int(owners[row]) != without]
            if rows:
                batch = rows_of(PROBE, rows)
                source.add({**batch, USER: owners[rows]} if engine == "user mean" else batch, clip)
        return flat(source.take(clip).tensors)

    whole = total(None)
    for unit in set(owners.tolist()):
        assert float((whole - total(unit)).norm()) <= clip_norm * ROOM


def test_empty_batches_are_zeros_of_every_engine(make_model: MakeModel) -> None:
    model = make_model("llama")
    for source in (
        UserMean(model, CAUSAL),
        ExampleLoop(model, CAUSAL),
        ForwardOnly(model, CAUSAL, SeededEntropy(0), directions=4),
    ):
        found = source.take(Clip(0.7))
        assert found.sensitivity == 0.7
        assert not bool(flat(found.tensors).any())


def hostile_products(trial: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """What one example shows a layer, [1, T, D] and [1, T, P]: random, cancelling, far apart."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=chance)  # noqa: TID251 -- tests

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=chance)  # noqa: TID251 -- tests

    t, d, p = (int(torch.randint(1, most, (1,), generator=chance)) for most in (150, 30, 30))
    a = normal(1, t, d) * 10 ** uniform(-9, 9, 1)
    g = normal(1, t, p) * 10 ** uniform(-9, 9, 1)
    half = t // 2
    match trial % 6:
        case 1:  # pairs that cancel to the last digits
            a[:, half : 2 * half] = a[:, :half]
            g[:, half : 2 * half] = -g[:, :half] * (1 + 1e-6 * (trial % 2))
        case 2:  # one input, gradients that add up to nothing
            a = a[:, :1].expand(1, t, d).clone()
            g = g - g.mean(dim=1, keepdim=True)
        case 3:
            a = a * 10 ** uniform(-8, 8, 1, t, 1)
        case 4:
            g = g * 10 ** uniform(-8, 8, 1, t, 1)
        case 5:  # beyond float32 once multiplied
            a, g = a * 1e15, g * 1e15
    return a, g


@pytest.mark.parametrize("seed", range(4))
def test_no_product_of_a_layer_contributes_more_than_the_clip_norm(seed: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    for trial in range(150):
        inputs, gradients = hostile_products(trial, chance)
        rule = Matrix(nn.Parameter(torch.zeros(gradients.shape[2], inputs.shape[2])))
        rule.is_shared = bool(trial % 2)  # then nothing is instantiated before
        rule.add_dense(inputs, gradients)
        if trial % 4 == 1:
            rule.add_dense(inputs.clone(), -gradients * (1 + 1e-7))
        true = float((gradients[0].double().T @ inputs[0].double()).norm())
        size = 10 ** float(-4 + 5 * torch.rand(1, generator=chance))  # noqa: TID251 -- tests
        bound = min(max(true * size, 1e-9), 1e12)
        clip = Clip(bound, ClipRule.BOUND if trial % 3 else ClipRule.NORMALISE)
        norms = rule.norms_squared()
        assert norms is not None
        target = torch.full((gradients.shape[2], inputs.shape[2]), math.nan)

        rule.write_weighted_sum(clip.factors(norms.sqrt()), target)

        assert float(target.double().norm()) <= bound * ROOM


@pytest.mark.parametrize("seed", range(2))
def test_layers_that_read_one_input_are_bounded_together(seed: int) -> None:
    """Their norm comes from one Gram matrix of the input: cancellation, other sizes, overflow."""
    chance = torch.Generator().manual_seed(100 + seed)
    for trial in range(120):
        inputs, first = hostile_products(trial, chance)
        second = first.flip(2) * 10 ** float(torch.empty(1).uniform_(-6, 6, generator=chance))
        if trial % 2:
            second = second[:, :, : max(1, second.shape[2] // 2)]
        outputs = [first, second, torch.zeros_like(first)]
        rules = [Matrix(nn.Parameter(torch.zeros(g.shape[2], inputs.shape[2]))) for g in outputs]
        for rule, gradients in zip(rules, outputs, strict=True):
            rule.is_shared = True
            rule.add_dense(inputs, gradients)
        products = [product for rule in rules if (product := rule.lone_product()) is not None]
        assert len(products) == 3
        true = math.sqrt(
            sum(float((g[0].double().T @ inputs[0].double()).square().sum()) for g in outputs)
        )
        bound = min(max(true * 10 ** float(-4 + 5 * torch.rand(1, generator=chance)), 1e-9), 1e12)  # noqa: TID251 -- tests
        factors = Clip(bound).factors(joint_norms_squared(products).sqrt())
        written = []
        for rule, gradients in zip(rules, outputs, strict=True):
            written.append(torch.full((gradients.shape[2], inputs.shape[2]), math.nan))
            rule.write_weighted_sum(factors, written[-1])

        assert float(flat(written).norm()) <= bound * ROOM


def test_a_clip_norm_whose_square_is_no_number_is_refused_or_kept() -> None:
    """Squares of gradients near 1e-24 are zero in float32: the norm would count as zero."""
    try:
        clip = Clip(1e-26)
    except InvalidParameter:
        return
    rule = Matrix(nn.Parameter(torch.zeros(3, 3)))
    rule.add_dense(torch.full((1, 5, 3), 1e-3), torch.full((1, 5, 3), 1e-21))
    norms = rule.norms_squared()
    assert norms is not None
    target = torch.zeros(3, 3)
    rule.write_weighted_sum(clip.factors(norms.sqrt()), target)
    assert float(target.double().norm()) <= clip.clip_norm * ROOM


def test_what_is_not_finite_contributes_nothing_beside_what_is() -> None:
    """One row of NaN, one of infinity and one that overflows, beside an honest one."""
    inputs = torch.ones(4, 5, 3)
    gradients = torch.ones(4, 5, 2) * 1e-2
    inputs[0], gradients[1] = math.nan, math.inf
    inputs[2], gradients[2] = 1e30, 1e30
    for shared in (False, True):
        rule = Matrix(nn.Parameter(torch.zeros(2, 3)))
        rule.is_shared = shared
        rule.add_dense(inputs.clone(), gradients.clone())
        norms = rule.norms_squared()
        assert norms is not None
        factors = Clip(10.0).factors(norms.sqrt())
        target = torch.full((2, 3), math.nan)

        rule.write_weighted_sum(factors, target)

        assert factors.tolist() == [0.0, 0.0, 0.0, 1.0]
        torch.testing.assert_close(target, torch.full((2, 3), 0.05))
