"""The two theorems on one run: against exact laws of mechanisms whose privacy is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from privacy_core.auditing.guesses import Tally
from privacy_core.auditing.one_run import (
    approximate_inverse,
    gaussian_inverse,
    one_run_lower_bound,
    one_run_p_value,
    refutes_trade_off,
)

seeded = np.random.default_rng  # noqa: TID251 -- scores of a test, the same every time


def _response(epsilon: float) -> float:
    return 1 / (1 + math.exp(-epsilon))


@pytest.mark.parametrize("epsilon", [0.0, 0.7, 3.0])
@pytest.mark.parametrize("guesses", [5, 40])
def test_without_delta_the_p_value_is_the_exact_tail_of_randomised_response(
    epsilon: float, guesses: int
) -> None:
    law = stats.binom(guesses, _response(epsilon))
    for correct in range(guesses + 1):
        found = one_run_p_value(Tally(60, guesses, correct), epsilon, 0.0)

        assert found == pytest.approx(law.sf(correct - 1), rel=1e-9)


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 4.0])
@pytest.mark.parametrize(("canaries", "guesses"), [(10, 10), (50, 20), (200, 200)])
@pytest.mark.parametrize("delta", [1e-3, 1e-2])
def test_the_p_value_is_never_below_the_exact_tail_of_response_that_sometimes_tells(
    epsilon: float, canaries: int, guesses: int, delta: float
) -> None:
    """Each coin is told with probability delta, else randomised: exactly (epsilon, delta)-DP."""
    told = np.arange(canaries + 1)
    left = np.maximum(guesses - told, 0)
    chance = stats.binom(canaries, delta).pmf(told)
    for correct in range(guesses + 1):
        needed = correct - np.minimum(told, guesses)
        exact = float(chance @ stats.binom.sf(needed - 1, left, _response(epsilon)))
        found = one_run_p_value(Tally(canaries, guesses, correct), epsilon, delta)

        assert found >= min(1.0, exact) - 1e-12


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("told", [1, 5, 20])
def test_the_p_value_is_never_below_the_exact_tail_of_response_that_tells_several_at_once(
    epsilon: float, told: int
) -> None:
    """With probability m delta / i a random set of i coins is told: each with probability delta."""
    canaries, guesses, delta = 40, 40, 2e-3
    chance = canaries * delta / told
    law = stats.binom(guesses, _response(epsilon))
    rest = stats.binom(guesses - told, _response(epsilon))
    for correct in range(guesses + 1):
        exact = (1 - chance) * law.sf(correct - 1) + chance * rest.sf(correct - told - 1)
        found = one_run_p_value(Tally(canaries, guesses, correct), epsilon, delta)

        assert found >= exact - 1e-12


def test_the_p_value_is_the_published_sum() -> None:
    """As the authors of arXiv:2305.08846 compute it: a running sum over i."""
    canaries, guesses, correct, epsilon, delta = 1000, 300, 240, 1.1, 1e-5
    law = stats.binom(guesses, _response(epsilon))
    beta, alpha, total = law.sf(correct - 1), 0.0, 0.0
    for i in range(1, correct + 1):
        total += law.pmf(correct - i)
        alpha = max(alpha, total / i)

    found = one_run_p_value(Tally(canaries, guesses, correct), epsilon, delta)

    assert found == pytest.approx(beta + alpha * canaries * delta * 2, rel=1e-9)


@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-3])
@pytest.mark.parametrize(("guesses", "correct"), [(100, 100), (100, 80), (400, 330), (30, 16)])
def test_the_lower_bound_is_the_last_claim_that_is_refuted(
    delta: float, guesses: int, correct: int
) -> None:
    tally = Tally(500, guesses, correct)
    bound = one_run_lower_bound(tally, delta, 0.05)

    assert one_run_p_value(tally, bound + 1e-6, delta) > 0.05
    if bound > 0:
        for claim in np.linspace(0, bound * (1 - 1e-9), 50):
            assert one_run_p_value(tally, float(claim), delta) <= 0.05


def test_a_hundred_right_guesses_of_a_hundred_certify_the_closed_form() -> None:
    """0.05 = p^100, so epsilon = logit(0.05^(1/100)) = 3.49."""
    chance = 0.05 ** (1 / 100)

    found = one_run_lower_bound(Tally(100, 100, 100), 0.0, 0.05)

    assert found == pytest.approx(math.log(chance / (1 - chance)), rel=1e-9)


def test_a_delta_at_which_everything_may_be_told_certifies_nothing() -> None:
    assert one_run_lower_bound(Tally(1000, 500, 500), 0.5, 0.05) == 0


def test_more_delta_never_certifies_more() -> None:
    bounds = [one_run_lower_bound(Tally(2000, 200, 180), d, 0.05) for d in (0, 1e-6, 1e-4, 1e-2)]

    assert bounds == sorted(bounds, reverse=True)


@pytest.mark.parametrize("epsilon", [0.3, 1.0, 3.0])
@pytest.mark.parametrize(("canaries", "guesses"), [(20, 20), (300, 300)])
def test_an_exact_law_of_randomised_response_is_never_refuted(
    epsilon: float, canaries: int, guesses: int
) -> None:
    """At the significance of its own exact tail: the sharpest question that can be asked."""
    law = stats.binom(guesses, _response(epsilon))
    for correct in range(guesses + 1):
        tail = float(law.sf(correct - 1)) * (1 - 1e-9)
        if not 1e-12 < tail < 0.999:
            continue
        inverse = approximate_inverse(np.array([epsilon]), 0.0)

        assert not refutes_trade_off(Tally(canaries, guesses, correct), inverse, tail)[0]


@pytest.mark.parametrize("mu", [0.2, 1.0, 2.5])
@pytest.mark.parametrize("canaries", [20, 300])
def test_an_exact_law_of_gaussian_answers_is_never_refuted(mu: float, canaries: int) -> None:
    """Every coin guessed at the middle threshold: right with probability Phi(mu / 2) each."""
    law = stats.binom(canaries, stats.norm.cdf(mu / 2))
    for correct in range(canaries + 1):
        tail = float(law.sf(correct - 1)) * (1 - 1e-9)
        if not 1e-12 < tail < 0.999:
            continue
        inverse = gaussian_inverse(np.array([mu]))

        assert not refutes_trade_off(Tally(canaries, canaries, correct), inverse, tail)[0]


def test_the_recursion_is_that_of_the_published_algorithm() -> None:
    """That of arXiv:2410.22235, with lists r and h and one claim, for 200 cases."""
    generator = seeded(5)
    answers = set()
    for _ in range(200):
        canaries = int(generator.integers(10, 120))
        guesses = int(generator.integers(1, canaries + 1))
        correct = int(generator.integers(guesses // 2, guesses + 1))
        mu = float(generator.uniform(0.05, 4))
        expected = _published(canaries, guesses, correct, mu, 0.05)
        found = refutes_trade_off(
            Tally(canaries, guesses, correct), gaussian_inverse(np.array([mu])), 0.05
        )
        answers.add(expected)

        assert bool(found[0]) is expected
    assert answers == {True, False}


def _published(canaries: int, guesses: int, correct: int, mu: float, level: float) -> bool:
    r, h = [0.0] * (correct + 1), [0.0] * (correct + 1)
    r[correct] = level * correct / canaries
    h[correct] = level * (guesses - correct) / canaries
    for i in range(correct - 1, -1, -1):
        back = float(stats.norm.cdf(stats.norm.ppf(min(r[i + 1], 1.0)) - mu))
        h[i] = max(h[i + 1], back)
        r[i] = r[i + 1] + i / (guesses - i) * (h[i] - h[i + 1])
    return r[0] + h[0] > guesses / canaries


@pytest.mark.parametrize("floor", [0.0, 0.01])
def test_the_inverses_invert_the_best_test(floor: float) -> None:
    """Gaussian with a floor: 1 - f(x) is the largest power of a test of size x."""
    mu, sizes = 1.3, np.linspace(1e-6, (1 - floor) * 0.999, 200)
    power = floor + (1 - floor) * stats.norm.cdf(stats.norm.ppf(sizes / (1 - floor)) + mu)

    assert gaussian_inverse(np.array([mu]), floor)(power) == pytest.approx(sizes, rel=1e-6)

    epsilon, delta = 0.8, 0.02
    power = np.minimum(
        delta + math.exp(epsilon) * sizes, 1 - math.exp(-epsilon) * (1 - delta - sizes)
    )
    inside = power < 1 - 1e-9
    found = approximate_inverse(np.array([epsilon]), delta)(power[inside])

    assert found == pytest.approx(sizes[inside], rel=1e-6)
