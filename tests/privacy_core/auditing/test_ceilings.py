"""Ceilings: reproducible, in the right order, and those of the measured tables.

The tables are those of the research notes (one-sided guesses, half of the canaries choose), made by
another program with another random split; figures agree within the stated distance.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from privacy_core.accounting import dp_sgd_event, epsilon_of
from privacy_core.accounting.gdp import gaussian_epsilon
from privacy_core.auditing import Method, Split, WhiteBox, ceiling, white_box_ceiling
from privacy_core.auditing.ceilings import ideal_scores, mu_of_claim, white_box_scores
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


@pytest.mark.parametrize(
    ("epsilon", "canaries", "method", "published", "distance"),
    [
        (4.0, 1000, Method.ONE_RUN, 0.94, 0.2),
        (8.0, 1000, Method.ONE_RUN, 1.98, 0.3),
        (8.0, 1000, Method.F_DP, 3.21, 0.4),
        (8.0, 1000, Method.CLOPPER_PEARSON, 1.66, 0.3),
        (8.0, 1000, Method.GAUSSIAN_ESTIMATE, 6.15, 0.5),
    ],
)
def test_the_table_of_ideal_attackers(
    epsilon: float, canaries: int, method: Method, published: float, distance: float
) -> None:
    found = ceiling(epsilon, DELTA, canaries, method=method, choice=PUBLISHED, trials=40)

    assert abs(found.expected - published) < distance + 3 * found.standard_error


def test_guessing_both_sides_certifies_more_than_one_side() -> None:
    both = ceiling(8.0, DELTA, 1000, trials=30)
    one = ceiling(8.0, DELTA, 1000, trials=30, choice=PUBLISHED)

    assert both.low > one.low
    assert both.expected > one.expected + 2 * (both.standard_error + one.standard_error)


@pytest.mark.slow
def test_the_likelihood_ratio_certifies_twice_what_the_plain_sum_does() -> None:
    """q = 0.01, 1000 steps, m = 5000: the figure that the audit stands on."""
    event = dp_sgd_event(noise_multiplier=0.586, sample_rate=0.01, steps=1000)
    epsilon = epsilon_of(event, DELTA)
    ratio, plain = (
        white_box_ceiling(
            WhiteBox(
                noise_multiplier=0.586,
                sample_rate=0.01,
                steps=1000,
                epsilon=epsilon,
                likelihood_ratio=use,
            ),
            DELTA,
            5000,
            trials=10,
        )
        for use in (True, False)
    )

    assert epsilon == pytest.approx(8.0, abs=0.05)
    assert ratio.expected >= 2 * plain.expected
    assert ratio.high < epsilon


def test_the_likelihood_ratio_is_ahead_in_a_small_run() -> None:
    run = WhiteBox(noise_multiplier=0.5, sample_rate=0.02, steps=200, epsilon=math.nan)
    scores, included = white_box_scores(2000, run, Chance(5, purpose="test"))
    ratio, plain = scores.likelihood_ratio, scores.dot_product

    def found(column: np.ndarray) -> float:
        threshold = np.quantile(column[~included], 0.99)
        return float(np.mean(column[included] > threshold))

    assert found(ratio) > 2 * found(plain)


def test_sampling_everyone_makes_the_ratio_and_the_sum_the_same_order() -> None:
    run = WhiteBox(noise_multiplier=5.0, sample_rate=1.0, steps=20, epsilon=math.nan)
    scores, _ = white_box_scores(100, run, Chance(5, purpose="test"))

    assert np.array_equal(np.argsort(scores.likelihood_ratio), np.argsort(scores.dot_product))


def test_too_few_trials_are_refused() -> None:
    with pytest.raises(InvalidParameter):
        ceiling(1.0, DELTA, 100, trials=5)
    with pytest.raises(InvalidParameter):
        ceiling(-1.0, DELTA, 100)
