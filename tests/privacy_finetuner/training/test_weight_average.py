"""The average of weights against sums written out, and across a restart."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from privacy_core.errors import InvalidParameter
from privacy_finetuner.training.weight_average import WeightAverage


def walk(
    rule: str, steps: int, optimizer_kind: type[Any] = torch.optim.SGD, decay: float = 0.9
) -> tuple[nn.Parameter, WeightAverage, list[np.ndarray[Any, Any]]]:
    """Take steps along a fixed course; returns the weights after each as well."""
    weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = optimizer_kind([weight], lr=0.1)
    average = WeightAverage(optimizer, rule, decay=decay)
    course = []
    for step in range(1, steps + 1):
        weight.grad = torch.sin(torch.arange(3, dtype=torch.float64) + step)
        optimizer.step()
        average.follow(step)
        course.append(weight.detach().numpy().copy())
    return weight, average, course


def test_an_exponential_average_is_the_weighted_sum_it_says() -> None:
    weight, average, course = walk("ema", 30)
    shares = [1.0] + [1 - min(0.9, (1 + t) / (10 + t)) for t in range(2, 31)]
    left = np.cumprod([1 - share for share in reversed(shares)])
    weights = [s * (left[i - 1] if i else 1.0) for i, s in enumerate(reversed(shares))]
    expected = sum(w * c for w, c in zip(weights, reversed(course), strict=True))

    average.settle()

    assert abs(sum(weights) - 1) < 1e-12
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-12)


def test_a_polynomial_average_weighs_step_t_like_t_to_the_eighth() -> None:
    weight, average, course = walk("polynomial", 40)
    # product form of the recursion: w_t is proportional to t (t+1) ... (t+7)
    weights = np.array([np.prod(np.arange(t, t + 8, dtype=float)) for t in range(1, 41)])
    expected = (weights / weights.sum()) @ np.array(course)

    average.settle()

    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-12)


def test_the_average_has_less_noise_than_the_last_weights() -> None:
    generator = torch.Generator().manual_seed(1)
    weight = nn.Parameter(torch.zeros(10_000))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    average = WeightAverage(optimizer)
    for step in range(1, 101):
        # a contraction to zero with fresh noise: what private training looks like near a minimum
        weight.grad = 0.5 * weight.detach() + torch.empty(10_000).normal_(generator=generator)
        optimizer.step()
        average.follow(step)
    last = float(weight.detach().std())

    average.settle()

    assert float(weight.detach().std()) < 0.7 * last


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop])
@pytest.mark.parametrize("rule", ["ema", "polynomial"])
def test_half_and_half_is_the_whole(kind: type[Any], rule: str) -> None:
    """N/2 steps, state saved and loaded into a new optimizer, N/2 steps: bit for bit N steps."""

    def steps(weight: nn.Parameter, optimizer: Any, average: WeightAverage, numbers: range) -> None:
        for step in numbers:
            weight.grad = torch.cos(torch.arange(5.0) * step)
            optimizer.step()
            average.follow(step)

    whole = nn.Parameter(torch.ones(5))
    optimizer = kind([whole], lr=0.01)
    average = WeightAverage(optimizer, rule)
    steps(whole, optimizer, average, range(1, 21))

    first = nn.Parameter(torch.ones(5))
    before = kind([first], lr=0.01)
    steps(first, before, WeightAverage(before, rule), range(1, 11))
    second = nn.Parameter(first.detach().clone())
    after = kind([second], lr=0.01)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    resumed = WeightAverage(after, rule)
    steps(second, after, resumed, range(11, 21))

    assert torch.equal(whole, second)
    average.settle()
    resumed.settle()
    assert torch.equal(whole, second)


def test_in_place_puts_the_weights_back() -> None:
    weight, average, course = walk("polynomial", 5)

    with average.in_place():
        inside = weight.detach().numpy().copy()

    assert not np.array_equal(inside, course[-1])
    np.testing.assert_array_equal(weight.detach().numpy(), course[-1])


def test_before_the_first_step_there_is_nothing_to_settle() -> None:
    weight = nn.Parameter(torch.ones(2))
    WeightAverage(torch.optim.SGD([weight], lr=0.1)).settle()
    assert torch.equal(weight, torch.ones(2))


@pytest.mark.parametrize(("rule", "decay"), [("mean", 0.9), ("ema", 1.0), ("ema", -0.1)])
def test_unknown_rules_and_decays_are_refused(rule: str, decay: float) -> None:
    with pytest.raises(InvalidParameter):
        WeightAverage(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1), rule, decay=decay)
