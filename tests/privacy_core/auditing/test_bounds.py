"""Bounds hold at their level on mechanisms whose epsilon is known, and find what there is.

False-alarm rates: a coverage test plays N audits at 95 %; an honest bound exceeds the truth in at
most a Binomial(N, 0.05) number of them, and the limit is that law's 1 - 1e-6 quantile.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privacy_core.accounting.gdp import gaussian_epsilon
from privacy_core.auditing import (
    Bonferroni,
    EpsilonBound,
    Ranks,
    Shape,
    Split,
    clopper_pearson_epsilon,
    gaussian_estimate,
    one_run_epsilon,
    one_run_f_dp_epsilon,
)
from privacy_core.auditing.bounds import GAUSSIAN_SHAPE, INDEPENDENT
from privacy_core.errors import InvalidParameter

seeded = np.random.default_rng  # noqa: TID251 -- scores of a test, the same every time

Generator = np.random.Generator  # noqa: TID251 -- only its name
Bound = Callable[..., EpsilonBound]
AUDITS = 100
MOST_FALSE = int(stats.binom.isf(1e-6, AUDITS, 0.05))


def _response_game(generator: Generator, canaries: int, epsilon: float):
    """Scores of randomised response: exactly epsilon-DP, with ties everywhere."""
    included = generator.random(canaries) < 0.5
    lie = generator.random(canaries) > 1 / (1 + math.exp(-epsilon))
    return (included ^ lie).astype(float), included


def _gaussian_game(generator: Generator, canaries: int, mu: float):
    """Exactly mu-GDP, and a large noise that all canaries share: one run's answers do depend."""
    included = generator.random(canaries) < 0.5
    return generator.normal(size=canaries) + mu * included + 5 * generator.normal(), included


@pytest.mark.parametrize("choice", [Split(), Split(abstain_out=True), Bonferroni(steps=2)], ids=str)
@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_the_one_run_bound_covers_randomised_response(
    choice: Split | Bonferroni, epsilon: float
) -> None:
    generator = seeded(11)
    false = sum(
        one_run_epsilon(*_response_game(generator, 150, epsilon), delta=0.0, choice=choice).epsilon
        > epsilon
        for _ in range(AUDITS)
    )

    assert false <= MOST_FALSE


@pytest.mark.parametrize(
    "choice", [Split(), pytest.param(Bonferroni(steps=4), marks=pytest.mark.slow)], ids=str
)
@pytest.mark.parametrize("shape", list(Shape))
@pytest.mark.parametrize("mu", [0.5, 2.0])
def test_the_f_dp_bound_covers_gaussian_answers_with_shared_noise(
    choice: Split | Bonferroni, shape: Shape, mu: float
) -> None:
    generator, delta = seeded(12), 1e-3
    truth = gaussian_epsilon(mu, delta)
    false = sum(
        one_run_f_dp_epsilon(
            *_gaussian_game(generator, 150, mu), delta=delta, choice=choice, shape=shape
        ).epsilon
        > truth
        for _ in range(AUDITS)
    )

    assert false <= MOST_FALSE


def test_the_one_run_bound_covers_gaussian_answers_with_shared_noise() -> None:
    generator, delta, mu = seeded(13), 1e-3, 1.0
    truth = gaussian_epsilon(mu, delta)
    false = sum(
        one_run_epsilon(*_gaussian_game(generator, 150, mu), delta=delta).epsilon > truth
        for _ in range(AUDITS)
    )

    assert false <= MOST_FALSE


@pytest.mark.parametrize("bound", [clopper_pearson_epsilon, gaussian_estimate])
def test_rates_cover_independent_gaussian_answers(bound: Bound) -> None:
    generator, delta, mu = seeded(14), 1e-3, 1.0
    truth, false = gaussian_epsilon(mu, delta), 0
    for _ in range(AUDITS):
        included = generator.random(150) < 0.5
        scores = generator.normal(size=150) + mu * included
        false += bound(scores, included, delta=delta).epsilon > truth

    assert false <= MOST_FALSE


def test_a_pair_picked_after_the_answers_would_not_cover() -> None:
    """The reason for `Choice`: the best of all pairs, without paying, is wrong far too often."""
    generator, false = seeded(15), 0
    for _ in range(100):
        included = generator.random(100) < 0.5
        scores = generator.normal(size=100)
        picked = max(
            one_run_epsilon(scores, included, delta=0.0, choice=Ranks(k_in=k, k_out=0)).epsilon
            for k in range(5, 50, 3)
        )
        false += picked > 0

    assert false > 10


def test_constant_scores_certify_nothing_even_with_the_members_first() -> None:
    included = np.arange(400) < 200

    for choice in (Split(), Bonferroni(), Ranks(k_in=50, k_out=50)):
        assert one_run_epsilon(np.zeros(400), included, delta=0.0, choice=choice).epsilon < 0.7


def test_the_order_of_the_rows_moves_ties_only() -> None:
    generator = seeded(16)
    scores, included = _gaussian_game(generator, 400, 2.0)
    pair = Ranks(k_in=60, k_out=60)
    order = generator.permutation(400)

    found = one_run_epsilon(scores, included, delta=1e-5, choice=pair)

    assert one_run_epsilon(scores[order], included[order], delta=1e-5, choice=pair) == found


@pytest.mark.parametrize("bound", [one_run_epsilon, one_run_f_dp_epsilon, clopper_pearson_epsilon])
def test_a_perfect_attack_certifies_more_with_more_canaries(bound: Bound) -> None:
    found = []
    for canaries in (40, 200, 1000):
        included = np.arange(canaries) % 2 == 0
        found.append(bound(included * 1.0, included, delta=1e-5).epsilon)

    assert found == sorted(found)
    assert found[0] > 0.4
    assert found[-1] > 4


@pytest.mark.parametrize("bound", [one_run_epsilon, one_run_f_dp_epsilon, clopper_pearson_epsilon])
def test_scores_without_information_certify_almost_nothing(bound: Bound) -> None:
    generator = seeded(17)
    included = generator.random(1000) < 0.5

    assert bound(generator.normal(size=1000), included, delta=1e-5).epsilon < 0.3


def test_f_dp_certifies_more_than_the_first_theorem_on_gaussian_answers() -> None:
    generator = seeded(18)
    pairs = [_gaussian_game(generator, 500, 2.0) for _ in range(20)]
    first = [one_run_epsilon(*pair, delta=1e-5).epsilon for pair in pairs]
    second = [one_run_f_dp_epsilon(*pair, delta=1e-5).epsilon for pair in pairs]

    assert np.mean(second) > 1.3 * np.mean(first)


def test_a_bound_says_what_it_rests_on() -> None:
    included = np.arange(200) % 2 == 0
    scores = included * 1.0

    assert one_run_epsilon(scores, included, delta=1e-5).assumes == ()
    assert one_run_f_dp_epsilon(scores, included, delta=1e-5).assumes == (GAUSSIAN_SHAPE,)
    assert one_run_f_dp_epsilon(scores, included, delta=1e-5, shape=Shape.APPROXIMATE).assumes == ()
    assert clopper_pearson_epsilon(scores, included, delta=1e-5).assumes == (INDEPENDENT,)
    assert (
        clopper_pearson_epsilon(scores, included, delta=1e-5, choice=0.5, independent=True).assumes
        == ()
    )
    assert not gaussian_estimate(scores, included, delta=1e-5).is_certified


def test_the_rates_at_a_named_threshold_give_the_textbook_value() -> None:
    """90 of 100 found, 10 of 100 false, by hand: log(lower(90) / upper(10)) at half the level."""
    scores = np.array([1.0] * 90 + [0.0] * 10 + [1.0] * 10 + [0.0] * 90)
    included = np.arange(200) < 100
    low = stats.beta.ppf(0.025, 90, 11)
    high = stats.beta.ppf(0.975, 11, 90)

    found = clopper_pearson_epsilon(scores, included, delta=0.0, choice=0.5)
    estimate = gaussian_estimate(scores, included, delta=1e-5, choice=0.5)

    assert found.epsilon == pytest.approx(math.log(low / high))
    assert estimate.mu == pytest.approx(-2 * stats.norm.ppf(high))


@pytest.mark.parametrize(
    ("scores", "included", "delta"),
    [
        (np.zeros(19), np.zeros(19, bool), 0.0),
        (np.zeros(30), np.zeros(29, bool), 0.0),
        (np.zeros(30), np.zeros(30), 0.0),
        (np.full(30, math.nan), np.zeros(30, bool), 0.0),
        (np.zeros(30), np.zeros(30, bool), 1.0),
    ],
    ids=["too few", "lengths", "coins", "nan", "delta"],
)
@pytest.mark.parametrize("bound", [one_run_epsilon, clopper_pearson_epsilon])
def test_what_cannot_be_audited_is_refused(
    bound: Bound, scores: np.ndarray, included: np.ndarray, delta: float
) -> None:
    with pytest.raises(InvalidParameter):
        bound(scores, included, delta=delta)


def test_a_gaussian_shape_at_delta_zero_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="no Gaussian has a finite epsilon"):
        one_run_f_dp_epsilon(np.zeros(30), np.zeros(30, bool), delta=0.0)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_scores_break_a_bound(data: st.DataObject) -> None:
    """Ties, infinities, one-sided coins, odd sizes and fractions: always a number >= 0."""
    canaries = data.draw(st.integers(20, 45))
    numbers = st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 1.0, math.inf])
    scores = np.array(data.draw(st.lists(numbers, min_size=canaries, max_size=canaries)))
    coins = np.array(data.draw(st.lists(st.booleans(), min_size=canaries, max_size=canaries)))
    split = Split(
        seed=data.draw(st.integers(0, 9)),
        fraction=data.draw(st.floats(0.01, 0.99)),
        abstain_out=data.draw(st.booleans()),
    )
    for bound in (
        one_run_epsilon,
        one_run_f_dp_epsilon,
        clopper_pearson_epsilon,
        gaussian_estimate,
    ):
        found = bound(scores, coins, delta=1e-5, choice=split)

        assert 0 <= found.epsilon < math.inf
        assert 0 <= found.correct <= found.guesses <= found.counted <= canaries
