from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_guard.detection.tails import SURPRISE_MOST, Tail

seeded = np.random.default_rng  # noqa: TID251 -- fixed samples


def learned(numbers: np.ndarray, **settings: float) -> Tail:
    tail = Tail(**settings)
    for number in numbers.tolist():
        tail.surprise(number)
    return tail


@pytest.mark.parametrize(
    ("draw", "exceeds"),
    [
        (lambda rng: rng.exponential(size=20_000), lambda x: math.exp(-x)),
        (lambda rng: rng.normal(size=20_000), lambda x: math.erfc(x / math.sqrt(2)) / 2),
        (lambda rng: rng.pareto(5.0, size=20_000), lambda x: (1 + x) ** -5.0),
    ],
    ids=["exponential", "normal", "pareto"],
)
@pytest.mark.parametrize("chance", [1e-3, 1e-4])
def test_a_surprise_is_the_logarithm_of_the_true_chance(draw, exceeds, chance):
    numbers = draw(seeded(7))
    tail = learned(numbers)
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if exceeds(middle) > chance else (low, middle)

    # Method of moments on about 170 remembered excesses: a third of a decade.
    assert tail.surprise(low) == pytest.approx(-math.log10(chance), abs=0.35)


def test_nothing_surprises_during_the_warm_up():
    tail = Tail(warm_up=50)

    assert [tail.surprise(x) for x in [0.0] * 40 + [1e9] * 9] == [0.0] * 49


@given(st.lists(st.floats(0, 1e6), min_size=20, max_size=60), st.floats(0, 1e6))
@settings(max_examples=30)
def test_a_surprise_is_bounded_and_grows_with_the_number(numbers, number):
    low, high = (learned(np.array(numbers), warm_up=15) for _ in range(2))
    surprises = low.surprise(number), high.surprise(number + 1.0)

    assert 0.0 <= surprises[0] <= surprises[1] <= SURPRISE_MOST


def test_one_absurd_number_does_not_end_the_watch():
    rng = seeded(1)
    tail = learned(rng.exponential(size=5000))

    assert tail.surprise(1e150) == SURPRISE_MOST
    assert tail.surprise(100.0) > 3.0


def test_a_new_regime_becomes_ordinary():
    rng = seeded(2)
    tail = learned(rng.exponential(size=2000))
    first = tail.surprise(50.0)
    for number in (50.0 + rng.exponential(size=2000)).tolist():
        tail.surprise(number)

    assert first > 5.0
    assert tail.surprise(50.5) < 1.0


def test_a_tail_that_nothing_reaches_any_more_begins_anew():
    rng = seeded(3)
    tail = learned(1000.0 * rng.exponential(size=500))
    for number in rng.exponential(size=17_000).tolist():
        tail.surprise(number)

    assert tail.surprise(30.0) > 3.0


def test_of_equal_numbers_the_first_greater_one_surprises():
    tail = learned(np.zeros(1000))

    assert 2.0 < tail.surprise(1.0) < 5.0
