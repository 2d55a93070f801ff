"""Coins are fair bits of the entropy, and the score of a step is the likelihood ratio."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from privacy_core.auditing import CoinPlan, StepScores, step_log_likelihood_ratio
from privacy_core.errors import InvalidParameter
from privacy_runtime.testing import SeededEntropy

seeded = np.random.default_rng  # noqa: TID251 -- scores of a test, the same every time


class Bytes:
    """Gives what it was made of."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def token_bytes(self, size_bytes: int) -> bytes:
        return self.raw[:size_bytes]


def test_a_coin_is_one_bit_of_the_entropy() -> None:
    plan = CoinPlan.draw(10, Bytes(bytes([0b00000101, 0b11111110])))

    assert plan.inside.tolist() == [0, 2, 9]
    assert plan.outside.tolist() == [1, 3, 4, 5, 6, 7, 8]


def test_coins_are_fair() -> None:
    """100,000 coins: outside 5 standard deviations with probability 6e-7."""
    plan = CoinPlan.draw(100_000, SeededEntropy(3))

    assert abs(len(plan.inside) - 50_000) < 5 * math.sqrt(25_000)


@given(raw=st.binary(min_size=5, max_size=5), canaries=st.integers(1, 40))
def test_a_plan_survives_being_written_and_read(raw: bytes, canaries: int) -> None:
    plan = CoinPlan.draw(canaries, Bytes(raw))

    assert CoinPlan.from_json(plan.to_json()) == plan


def test_a_plan_shows_no_coin_in_its_repr_and_cannot_be_changed() -> None:
    plan = CoinPlan.draw(16, SeededEntropy(1))

    assert repr(plan) == "CoinPlan(16 canaries)"
    with pytest.raises(ValueError, match="read-only"):
        plan.included[0] = True


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"canaries": 8, "coins": "ff"}',
        '{"canaries": 9, "coins": "ff", "version": 1}',
        '{"canaries": 7, "coins": "ff", "version": 1}',
        '{"canaries": 8, "coins": "zz", "version": 1}',
        '{"canaries": 8, "coins": "ff", "version": 2}',
        '{"canaries": true, "coins": "01", "version": 1}',
    ],
)
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        CoinPlan.from_json(text)


def test_short_entropy_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="1 bytes"):
        CoinPlan.draw(9, Bytes(b"x"))


@given(x=st.floats(-8, 8), sigma=st.floats(0.2, 20), rate=st.floats(1e-6, 1.0))
def test_a_step_scores_the_ratio_of_the_two_densities(x: float, sigma: float, rate: float) -> None:
    inside = rate * stats.norm.pdf(x, 1, sigma) + (1 - rate) * stats.norm.pdf(x, 0, sigma)
    outside = stats.norm.pdf(x, 0, sigma)
    found = step_log_likelihood_ratio(np.array([x]), noise_multiplier=sigma, sample_rate=rate)
    if outside > 1e-280:
        assert found[0] == pytest.approx(math.log(inside / outside), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("x", [-1e6, -1e3, 1e3, 1e6])
def test_no_projection_overflows(x: float) -> None:
    found = step_log_likelihood_ratio(np.array([x]), noise_multiplier=0.3, sample_rate=0.01)
    expected = math.log(0.99) if x < 0 else math.log(0.01) + (2 * x - 1) / (2 * 0.09)

    assert found[0] == pytest.approx(expected)


def test_steps_add_up_and_a_bad_step_adds_nothing() -> None:
    generator = seeded(2)
    table = generator.normal(size=(30, 5))
    scores = StepScores(5, noise_multiplier=0.8, sample_rate=0.1)
    for row in table:
        scores.add(row)
    with pytest.raises(InvalidParameter):
        scores.add(np.array([0.0, 1.0, math.nan, 0.0, 0.0]))
    with pytest.raises(InvalidParameter):
        scores.add(np.zeros(4))
    expected = step_log_likelihood_ratio(table, noise_multiplier=0.8, sample_rate=0.1).sum(axis=0)

    assert scores.steps == 30
    assert scores.likelihood_ratio == pytest.approx(expected)
    assert scores.dot_product == pytest.approx(table.sum(axis=0))


@pytest.mark.parametrize(("sigma", "rate"), [(0.0, 0.1), (math.inf, 0.1), (1.0, 0.0), (1.0, 1.1)])
def test_a_run_that_is_none_is_refused(sigma: float, rate: float) -> None:
    with pytest.raises(InvalidParameter):
        StepScores(3, noise_multiplier=sigma, sample_rate=rate)
