"""Ceilings: reproducible, in the right order, and simulated again from what they name.

The ceilings of the research notes are in `test_published_ceilings`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.privacy_core.auditing.played_runs import white_box_scores

from privacy_core.accounting import dp_sgd_event, epsilon_of
from privacy_core.accounting.gdp import gaussian_epsilon
from privacy_core.auditing import (
    Method,
    Split,
    WhiteBox,
    ceiling,
    simulated_again,
    white_box_ceiling,
)
from privacy_core.auditing.ceilings import ideal_scores, mu_of_claim
from privacy_core.auditing.chance import Chance
from privacy_core.errors import InvalidParameter

DELTA = 1e-5
PUBLISHED = Split(fraction=0.5, abstain_out=True)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0, 50.0])
def test_mu_is_priced_at_the_epsilon_it_was_made_for(epsilon: float) -> None:
    assert gaussian_epsilon(mu_of_claim(epsilon, DELTA), DELTA) == pytest.approx(epsilon, rel=1e-6)


def test_ideal_scores_are_two_gaussians_and_fair_coins() -> None:
    """40,000 scores: each mean within 5 standard errors, 6e-7."""
    scores, included = ideal_scores(40_000, 1.5, Chance(1, purpose="test"))

    assert abs(np.mean(included) - 0.5) < 5 * 0.5 / 200
    assert abs(np.mean(scores[included]) - 1.5) < 5 / math.sqrt(20_000)
    assert abs(np.mean(scores[~included])) < 5 / math.sqrt(20_000)
    assert abs(np.std(scores[~included]) - 1) < 5 / math.sqrt(40_000)


def test_a_ceiling_is_the_same_for_the_same_seed_and_below_its_epsilon() -> None:
    found = ceiling(4.0, DELTA, 200, trials=20)

    assert found == ceiling(4.0, DELTA, 200, trials=20)
    assert found != ceiling(4.0, DELTA, 200, trials=20, seed=1)
    assert 0 < found.low <= found.expected <= found.high < 4.0


def test_more_canaries_raise_the_ceiling_and_it_never_reaches_a_perfect_leak() -> None:
    found = [ceiling(8.0, DELTA, m, trials=20).expected for m in (50, 200, 1000)]

    assert found == sorted(found)
    assert found[-1] < ceiling(math.inf, DELTA, 1000, trials=10).expected < 8


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("is_white_box", [False, True])
def test_a_ceiling_names_all_that_it_was_simulated_from(
    method: Method, *, is_white_box: bool
) -> None:
    run = WhiteBox(noise_multiplier=0.8, sample_rate=0.05, steps=60, epsilon=4.0)
    found = (
        white_box_ceiling(run, DELTA, 200, method=method, trials=12, seed=3)
        if is_white_box
        else ceiling(4.0, DELTA, 200, method=method, trials=12, seed=3)
    )

    assert simulated_again(found) == found
    assert simulated_again(replace(found, expected=99.0)) == found
    assert simulated_again(replace(found, seed=4)) != found


def test_guessing_both_sides_certifies_more_than_one_side() -> None:
    both = ceiling(8.0, DELTA, 1000, trials=30)
    one = ceiling(8.0, DELTA, 1000, trials=30, choice=PUBLISHED)

    assert both.low > one.low
    assert both.expected > one.expected + 2 * (both.standard_error + one.standard_error)


@pytest.mark.parametrize(
    ("sigma", "epsilon"), [(0.735, 4.0), pytest.param(0.586, 8.0, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("method", [Method.ONE_RUN, Method.F_DP])
def test_the_likelihood_ratio_certifies_twice_what_the_plain_sum_does(
    sigma: float, epsilon: float, method: Method
) -> None:
    """q = 0.01, 1000 steps, m = 5000: the figure that the audit stands on."""
    event = dp_sgd_event(noise_multiplier=sigma, sample_rate=0.01, steps=1000)
    ratio, plain = (
        white_box_ceiling(
            WhiteBox(
                noise_multiplier=sigma,
                sample_rate=0.01,
                steps=1000,
                epsilon=epsilon,
                likelihood_ratio=use,
            ),
            DELTA,
            5000,
            method=method,
            trials=60,
        )
        for use in (True, False)
    )

    assert epsilon_of(event, DELTA) == pytest.approx(epsilon, abs=0.05)
    assert ratio.expected >= 2 * plain.expected
    assert ratio.high < epsilon


def test_the_likelihood_ratio_is_ahead_in_a_small_run() -> None:
    run = WhiteBox(noise_multiplier=0.5, sample_rate=0.02, steps=200, epsilon=8.0)
    scores, included = white_box_scores(2000, run, Chance(5, purpose="test"))
    ratio, plain = scores.likelihood_ratio, scores.dot_product

    def found(column: np.ndarray) -> float:
        threshold = np.quantile(column[~included], 0.99)
        return float(np.mean(column[included] > threshold))

    assert found(ratio) > 2 * found(plain)


def test_sampling_everyone_makes_the_ratio_and_the_sum_the_same_order() -> None:
    run = WhiteBox(noise_multiplier=5.0, sample_rate=1.0, steps=20, epsilon=8.0)
    scores, _ = white_box_scores(100, run, Chance(5, purpose="test"))

    assert np.array_equal(np.argsort(scores.likelihood_ratio), np.argsort(scores.dot_product))


def test_too_few_trials_are_refused() -> None:
    with pytest.raises(InvalidParameter):
        ceiling(1.0, DELTA, 100, trials=5)
    with pytest.raises(InvalidParameter):
        ceiling(-1.0, DELTA, 100)
