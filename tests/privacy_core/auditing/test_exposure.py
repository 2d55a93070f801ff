"""Exposure by rank, by sample and by extrapolation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from privacy_core.auditing import exposure, extrapolated_exposure, sampled_exposure
from privacy_core.errors import InvalidParameter

seeded = np.random.default_rng  # noqa: TID251 -- scores of a test, the same every time


def test_the_first_of_1024_has_ten_bits_and_the_last_none() -> None:
    others = np.arange(1023.0)

    assert exposure(2000.0, others).bits == pytest.approx(10)
    assert exposure(-1.0, others).bits == pytest.approx(0)
    assert exposure(511.0, others).rank == 513


def test_ties_count_against_the_canary() -> None:
    assert exposure(1.0, np.ones(7)).bits == pytest.approx(0)


def test_the_sampled_interval_covers_the_exact_exposure() -> None:
    """300 samples at 95 %: misses beyond the 1e-6 quantile of Binomial(300, 0.05) do not happen."""
    generator = seeded(3)
    others = generator.normal(size=9_999)
    canary = float(np.quantile(others, 0.99))
    exact, misses = exposure(canary, others).bits, 0
    for _ in range(300):
        sample = others[generator.integers(0, len(others), 400)]
        found = sampled_exposure(canary, sample, space=10_000)
        misses += not found.low <= exact <= found.high

    assert misses <= stats.binom.isf(1e-6, 300, 0.05)


def test_a_canary_above_the_whole_sample_is_only_known_to_be_high() -> None:
    found = sampled_exposure(10.0, np.zeros(1023), space=1e9)

    assert found.bits == pytest.approx(10)
    assert found.high == pytest.approx(math.log2(1e9))
    assert 7 < found.low < 9


def test_extrapolation_finds_the_exact_tail_of_a_law_of_the_family() -> None:
    """5 bits beyond the sample, within a bit: the fit's error at 2,000 scores."""
    generator = seeded(4)
    law = stats.skewnorm(2.0)
    sample = law.rvs(2000, random_state=generator)
    canary = float(law.isf(2.0**-16))

    found = extrapolated_exposure(canary, sample, space=2.0**30)

    assert found.bits == pytest.approx(16, abs=1.5)
    assert found.fit_p_value is not None
    assert found.fit_p_value > 1e-3


def test_a_law_of_another_family_shows_in_the_fit() -> None:
    generator = seeded(5)
    sample = np.concatenate([generator.normal(-20, 1, 500), generator.normal(20, 1, 500)])

    found = extrapolated_exposure(25.0, sample, space=1e6)

    assert found.fit_p_value is not None
    assert found.fit_p_value < 1e-3


def test_what_cannot_be_ranked_is_refused() -> None:
    with pytest.raises(InvalidParameter):
        exposure(1.0, np.array([]))
    with pytest.raises(InvalidParameter):
        exposure(math.nan, np.zeros(3))
    with pytest.raises(InvalidParameter):
        sampled_exposure(1.0, np.zeros(30), space=20)
    with pytest.raises(InvalidParameter):
        extrapolated_exposure(1.0, np.zeros(200), space=1e6)
