"""Zeroth order: slopes against an explicit loop, their bound, and the move they cause."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from privacy_core.errors import InvalidParameter
from privacy_finetuner.training.engine import Clip
from privacy_finetuner.training.engine.forward_only import DirectionalStep, ForwardOnly
from privacy_finetuner.training.objectives import Objective, public_probe
from privacy_runtime.testing import SeededEntropy

MakeModel = Callable[..., Any]
CAUSAL = Objective("causal_lm", 40)
PROBE = public_probe(CAUSAL, vocabulary=40, device=torch.device("cpu"), examples=6, length=9)


def source_of(model: Any, directions: int = 2, seed: int = 7) -> ForwardOnly:
    return ForwardOnly(model, CAUSAL, SeededEntropy(seed), directions=directions)


def directions_of(seed: int, count: int, model: Any) -> list[list[Tensor]]:
    """The directions that a source of this seed draws first, made here again."""
    entropy, found = SeededEntropy(seed), []
    for _ in range(count):
        chance = torch.Generator().manual_seed(int.from_bytes(entropy.token_bytes(7)))
        found.append([torch.empty(p.shape).normal_(generator=chance) for p in model.parameters()])
    return found


def slope(model: Any, single: dict[str, Tensor], direction: list[Tensor]) -> float:
    """By how much one example's loss differs between the two ends, on copies of the model."""
    ends = []
    for sign in (1e-3, -1e-3):
        moved = copy.deepcopy(model).double()
        with torch.no_grad():
            for parameter, z in zip(moved.parameters(), direction, strict=True):
                parameter.add_(z.double(), alpha=sign)
            ends.append(float(CAUSAL(moved, single)[0]))
    return (ends[0] - ends[1]) / 2e-3


def test_slopes_are_clipped_one_example_at_a_time(make_model: MakeModel) -> None:
    model = make_model("llama").eval()
    source = source_of(model)
    z = directions_of(7, 2, model)
    rows = [{n: v[b : b + 1] for n, v in PROBE.items()} for b in range(6)]
    slopes = torch.tensor([[slope(model, row, direction) for direction in z] for row in rows])
    clip = Clip(float(slopes.norm(dim=1).median()))
    factors = (clip.clip_norm / slopes.norm(dim=1)).clamp(max=1.0)

    record = source.add(PROBE, clip)

    found = source.take(clip)
    assert found.sensitivity == clip.clip_norm
    # a float32 loss divided by 2e-3 has three digits after the point
    torch.testing.assert_close(record.norms_B, slopes.norm(dim=1), rtol=1e-3, atol=5e-3)
    torch.testing.assert_close(found.tensors[0], factors @ slopes, rtol=1e-3, atol=1e-2)


def test_one_example_moves_the_sum_by_at_most_the_bound(make_model: MakeModel) -> None:
    model, clip = make_model("llama"), Clip(1e-3)
    source = source_of(model, directions=3)
    source.add(PROBE, clip)
    whole = source.take(clip).tensors[0]

    for b in range(6):
        kept = [i for i in range(6) if i != b]
        source.add({n: v[kept] for n, v in PROBE.items()}, clip)
        assert float((whole - source.take(clip).tensors[0]).norm()) <= clip.clip_norm * (1 + 1e-4)


def test_the_weights_come_back_up_to_rounding(make_model: MakeModel) -> None:
    model = make_model("llama")
    before = [p.detach().clone() for p in model.parameters()]

    source_of(model).add(PROBE, Clip(1.0))

    for parameter, values in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.detach(), values, rtol=0, atol=2e-6)


def test_a_step_moves_against_the_slopes_and_turns(make_model: MakeModel) -> None:
    model = make_model("llama")
    before = [p.detach().clone() for p in model.parameters()]
    source = source_of(model)
    z = directions_of(7, 2, model)
    (coordinates,) = source.parameters
    coordinates.grad = torch.tensor([0.5, -2.0])

    DirectionalStep(source, lr=0.1).step()

    for parameter, start, a, b in zip(model.parameters(), before, *z, strict=True):
        expected = start - 0.05 * (0.5 * a - 2.0 * b)
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-6)
    source.move([1.0, 0.0])
    moved = next(iter(model.parameters())).detach()
    along_old = before[0] - 0.05 * (0.5 * z[0][0] - 2.0 * z[1][0]) + z[0][0]
    assert not torch.allclose(moved, along_old, atol=1e-2)


def test_directions_do_not_depend_on_the_data(make_model: MakeModel) -> None:
    sums = []
    for rows in (slice(0, 3), slice(3, 6)):
        model = make_model("llama")
        source = source_of(model)
        source.add({n: v[rows] for n, v in PROBE.items()}, Clip(1.0))
        source.take(Clip(1.0))
        before = next(iter(model.parameters())).detach().clone()
        source.move([1.0, 0.0])
        sums.append(next(iter(model.parameters())).detach() - before)

    torch.testing.assert_close(sums[0], sums[1], rtol=0, atol=1e-5)


def test_nothing_added_is_a_zero_sum_and_so_is_a_bad_loss(make_model: MakeModel) -> None:
    model = make_model("llama")
    source = source_of(model)
    assert source.take(Clip(1.0)).tensors[0].tolist() == [0.0, 0.0]
    with torch.no_grad():
        next(iter(model.parameters())).fill_(float("inf"))
    source.add(PROBE, Clip(1.0))
    assert source.take(Clip(1.0)).tensors[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("options", [{"directions": 0}, {"perturbation": 0.0}])
def test_numbers_outside_their_domain_are_refused(
    make_model: MakeModel, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidParameter):
        ForwardOnly(make_model("llama"), CAUSAL, SeededEntropy(0), **options)
