"""Rewritten tokens: the law's log ratios never exceed the epsilon, and come close to it."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from privacy_core.decoding.rewriting import REACH, Rewriting
from privacy_core.errors import InvalidParameter
from privacy_runtime.testing import SeededEntropy

GRID = 2**20


def law(rewriting: Rewriting, token: int) -> np.ndarray[Any, Any]:
    """The probabilities of the candidates, as floats of the exact exponents."""
    exponents = rewriting.steps(token) * (rewriting.epsilon_per_token / (2 * REACH * GRID))
    weights = np.exp(exponents - exponents.max())
    return weights / weights.sum()


def instances() -> list[np.ndarray[Any, Any]]:
    draw = np.random.default_rng(5)  # noqa: TID251 -- which embeddings
    found = [draw.normal(size=(12, 4)).astype(np.float32) for _ in range(40)]
    found += [draw.normal(size=(12, 1)) * 10.0**k for k in (-30, 0, 150)]  # all at 1 or -1
    opposite = np.vstack([np.ones((1, 3)), -np.ones((11, 3))])
    return [*found, opposite, np.zeros((12, 2)), opposite.astype(np.float16)]


@pytest.mark.parametrize("epsilon", [0.01, 1.0, 30.0, 400.0])
def test_no_two_tokens_tell_each_other_apart_by_more_than_epsilon(epsilon: float) -> None:
    widest = 0.0
    for rows in instances():
        rewriting = Rewriting(rows, range(12), epsilon_per_token=epsilon)
        for one in range(12):
            for other in range(12):
                exponents = (rewriting.steps(one) - rewriting.steps(other)).astype(object)
                gaps = [Fraction(int(gap), 2 * REACH * GRID) for gap in exponents]
                assert Fraction(epsilon) * (max(gaps) - min(gaps)) <= Fraction(epsilon)
                with np.errstate(divide="ignore", invalid="ignore"):
                    ratio = np.log(law(rewriting, one)) - np.log(law(rewriting, other))
                widest = max(widest, float(np.nanmax(ratio)))
    assert widest <= epsilon * (1 + 1e-9)
    if epsilon <= 1:
        assert widest > 0.5 * epsilon  # the price is not far above what is told


def test_drawn_tokens_follow_the_law() -> None:
    """Chi-square with 11 degrees of freedom; exceeds 60 by chance once in 10^8. Seed 3."""
    rewriting = Rewriting(instances()[0], range(12), epsilon_per_token=6.0)
    entropy = SeededEntropy(3)
    counts = np.zeros(12)
    for _ in range(4000):
        counts[rewriting.draw(4, entropy)] += 1
    expected = 4000 * law(rewriting, 4)

    assert ((counts - expected) ** 2 / expected).sum() < 60


def test_the_price_is_the_sum_and_a_large_one_keeps_the_words() -> None:
    rows = np.eye(50)
    rewriting = Rewriting(rows, range(50), epsilon_per_token=200.0)

    assert [rewriting.draw(token, SeededEntropy(1)) for token in range(50)] == list(range(50))
    assert rewriting.epsilon(64) == 64 * 200.0
    assert rewriting.epsilon(0) == 0.0


def test_what_may_come_out_does_not_depend_on_what_goes_in() -> None:
    rewriting = Rewriting(np.eye(8), [5, 2], epsilon_per_token=1e6)
    assert {rewriting.draw(token, SeededEntropy(token)) for token in range(8)} == {2, 5}
    assert rewriting.draw(5, SeededEntropy(0)) == 5


@pytest.mark.parametrize(
    ("rows", "candidates", "epsilon"),
    [
        (np.eye(4), [0, 1], 0.0),
        (np.eye(4), [0, 1], math.nan),
        (np.eye(4), [0, 1], math.inf),
        (np.eye(4), [], 1.0),
        (np.eye(4), [0, 0], 1.0),
        (np.eye(4), [0, 4], 1.0),
        (np.eye(4), [-1], 1.0),
        (np.ones(4), [0], 1.0),
        (np.full((4, 2), math.nan), [0], 1.0),
    ],
)
def test_what_cannot_be_is_refused(rows: Any, candidates: list[int], epsilon: float) -> None:
    with pytest.raises(InvalidParameter):
        Rewriting(rows, candidates, epsilon_per_token=epsilon)


def test_a_token_of_another_vocabulary_is_refused() -> None:
    rewriting = Rewriting(np.eye(4), [0], epsilon_per_token=1.0)
    for token in (-1, 4):
        with pytest.raises(InvalidParameter):
            rewriting.draw(token, SeededEntropy(0))
