"""Rates against brute force, and intervals against the probability that they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from privacy_core.auditing import (
    auc,
    bootstrap,
    clopper_pearson,
    difference_of_shares,
    paired_difference,
    tpr_at_fpr,
)
from privacy_core.errors import InvalidParameter

seeded = np.random.default_rng  # noqa: TID251 -- scores of a test, the same every time

SCORES = st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=30)


@given(members=SCORES, nonmembers=SCORES)
def test_auc_is_the_share_of_pairs_in_order(members: list[float], nonmembers: list[float]) -> None:
    pairs = [(a > b) + 0.5 * (a == b) for a in members for b in nonmembers]

    found = auc(np.array(members), np.array(nonmembers))

    assert found.estimate == pytest.approx(sum(pairs) / len(pairs))
    assert 0 <= found.low <= found.estimate + 1e-12
    assert found.estimate - 1e-12 <= found.high <= 1


def test_auc_turned_round_is_one_minus_it_with_the_interval_turned_round() -> None:
    generator = seeded(1)
    a, b = generator.normal(size=50) + 0.6, generator.normal(size=70)
    found, turned = auc(a, b), auc(b, a)

    assert turned.estimate == pytest.approx(1 - found.estimate)
    assert turned.low == pytest.approx(1 - found.high)


def test_the_auc_interval_covers_the_truth_as_often_as_it_says() -> None:
    """600 draws at 95 %: between the 1e-6 quantiles of Binomial(600, 0.95), less 2 % for DeLong."""
    generator = seeded(2)
    truth, hits = stats.norm.cdf(1 / math.sqrt(2)), 0
    for _ in range(600):
        found = auc(generator.normal(size=60) + 1, generator.normal(size=80))
        hits += found.low <= truth <= found.high

    assert hits >= stats.binom.ppf(1e-6, 600, 0.93)
    assert hits <= stats.binom.isf(1e-6, 600, 0.97)


def test_a_perfect_auc_on_few_texts_has_an_interval_of_positive_width() -> None:
    found = auc(np.arange(10, 15.0), np.arange(5.0))

    assert found.estimate == 1
    assert 0.4 < found.low < 0.9
    assert found.high == pytest.approx(1)


def test_delong_equals_the_published_components() -> None:
    """Variance from the definition: components over all pairs, not ranks."""
    generator = seeded(3)
    a, b = generator.normal(size=20) + 0.5, generator.normal(size=25)
    kernel = (a[:, None] > b).astype(float)
    variance = np.var(kernel.mean(1), ddof=1) / 20 + np.var(kernel.mean(0), ddof=1) / 25
    estimate = kernel.mean()
    reach = stats.norm.ppf(0.975) * math.sqrt(variance) / (estimate * (1 - estimate))

    found = auc(a, b)

    assert found.low == pytest.approx(
        1 / (1 + math.exp(-(math.log(estimate / (1 - estimate)) - reach)))
    )


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (81, 263)])
def test_clopper_pearson_inverts_the_binomial_tails(successes: int, trials: int) -> None:
    """The limits are the probabilities at which the tail is exactly half of the error."""
    found = clopper_pearson(successes, trials)

    if successes:
        assert stats.binom.sf(successes - 1, trials, found.low) == pytest.approx(0.025)
    if successes < trials:
        assert stats.binom.cdf(successes, trials, found.high) == pytest.approx(0.025)
    assert (found.low == 0) is (successes == 0)


def test_the_published_interval() -> None:
    """81 of 263: [0.2527, 0.3676], Agresti & Coull 1998 and NIST handbook conventions."""
    found = clopper_pearson(81, 263)

    assert (round(found.low, 3), round(found.high, 3)) == (0.253, 0.368)


def test_a_rate_below_one_over_n_is_not_claimed() -> None:
    found = tpr_at_fpr(np.arange(50.0), np.arange(999.0), 0.001)

    assert found.tpr is None
    assert found.achieved_fpr is None
    assert found.nonmembers_needed == 1000


@given(members=SCORES, nonmembers=st.lists(st.integers(-3, 3).map(float), min_size=10, max_size=40))
def test_the_false_positives_are_never_more_than_asked(
    members: list[float], nonmembers: list[float]
) -> None:
    found = tpr_at_fpr(np.array(members), np.array(nonmembers), 0.1)

    assert found.achieved_fpr is not None
    assert found.achieved_fpr.estimate <= 0.1


def test_the_true_positive_rate_is_that_of_the_best_threshold() -> None:
    generator = seeded(4)
    members, others = generator.normal(size=300) + 1, generator.normal(size=1000)
    best = max(float(np.mean(members > t)) for t in others if np.sum(others > t) <= 10)
    found = tpr_at_fpr(members, others, 0.01)

    assert found.tpr is not None
    assert found.tpr.estimate == pytest.approx(best)


def test_the_bootstrap_of_a_mean_is_the_normal_interval() -> None:
    """2000 resamples: each limit is within 5 standard errors of a quantile, about 0.005."""
    sample = seeded(5).normal(size=400)
    found = bootstrap(lambda row: float(np.mean(row)), sample, seed=1, resamples=2000)
    reach = 1.96 * np.std(sample) / 20

    assert found.low == pytest.approx(np.mean(sample) - reach, abs=0.02)
    assert found.high == pytest.approx(np.mean(sample) + reach, abs=0.02)
    assert found == bootstrap(lambda row: float(np.mean(row)), sample, seed=1, resamples=2000)


def test_pairs_are_resampled_together() -> None:
    base = seeded(6).normal(size=100) * 100
    found = paired_difference(base + 1, base, seed=0)

    assert found.low == pytest.approx(1)
    assert found.high == pytest.approx(1)


def test_nan_and_single_scores_are_refused() -> None:
    with pytest.raises(InvalidParameter):
        auc(np.array([1.0, math.nan]), np.zeros(5))
    with pytest.raises(InvalidParameter):
        auc(np.zeros(1), np.zeros(5))
    with pytest.raises(InvalidParameter):
        clopper_pearson(4, 3)


@pytest.mark.parametrize("paired", [True, False])
def test_a_difference_without_variation_still_has_an_interval(*, paired: bool) -> None:
    found = difference_of_shares(np.ones(40), np.zeros(40), paired=paired, seed=0)

    assert found.estimate == 1
    assert 0.75 < found.low < 0.95
    assert found.high == 1


def test_the_interval_of_a_difference_covers_it_as_often_as_it_says() -> None:
    """120 draws at 95 %, unpaired: misses beyond the 1e-6 quantile at 93 % do not happen."""
    generator, misses = seeded(8), 0
    for k in range(120):
        first, second = generator.random(80) < 0.5, generator.random(60) < 0.3
        found = difference_of_shares(first, second, paired=False, seed=k, resamples=500)
        misses += not found.low <= 0.2 <= found.high

    assert misses <= stats.binom.isf(1e-6, 120, 0.07)


def test_a_difference_of_other_numbers_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="zeros and ones"):
        difference_of_shares(np.array([0.5, 1.0]), np.zeros(2), paired=True, seed=0)
