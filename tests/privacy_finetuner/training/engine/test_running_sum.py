from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from privacy_core.errors import InvalidParameter
from privacy_finetuner.training.engine import Clip
from privacy_finetuner.training.engine.running_sum import RunningSum

CLIP = Clip(1.0)


def parameter(size: int = 3) -> nn.Parameter:
    return nn.Parameter(torch.zeros(size))


def part(value: float) -> Callable[[list[Tensor]], None]:
    def contribute(targets: list[Tensor]) -> None:
        targets[0].add_(value)

    return contribute


def test_nothing_added_is_zeros_of_the_parameters_shapes() -> None:
    bounded = RunningSum([parameter(3), parameter(5)]).take(CLIP)

    assert [t.shape for t in bounded.tensors] == [(3,), (5,)]
    assert not any(t.any() for t in bounded.tensors)
    assert bounded.sensitivity == CLIP.clip_norm


def test_many_parts_add_up_without_losing_the_small_ones() -> None:
    total = RunningSum([parameter(1)])
    total.add(CLIP, part(2.0**24))
    for _ in range(1000):
        total.add(CLIP, part(0.25))

    found = total.take(CLIP).tensors[0].item()

    assert found == 2.0**24 + 250  # in float32 every quarter would have been rounded away


def test_taking_starts_a_new_sum() -> None:
    total = RunningSum([parameter()])
    total.add(CLIP, part(1.0))
    total.take(CLIP)

    assert not total.take(CLIP).tensors[0].any()


def test_parts_of_one_sum_share_one_bound() -> None:
    total = RunningSum([parameter()])
    total.add(CLIP, part(1.0))

    with pytest.raises(InvalidParameter, match="clip"):
        total.add(Clip(2.0), part(1.0))
    with pytest.raises(InvalidParameter, match="clip"):
        total.take(Clip(2.0))
    assert total.take(CLIP).tensors[0].tolist() == [1.0, 1.0, 1.0]


def test_a_part_that_is_made_is_added_like_any_other() -> None:
    total = RunningSum([parameter(3), parameter(2)])
    for _ in range(3):
        total.add_made(CLIP, lambda: [torch.full((3,), 2.0), torch.full((2,), 2.0)])

    assert [t.tolist() for t in total.take(CLIP).tensors] == [[6.0] * 3, [6.0] * 2]
