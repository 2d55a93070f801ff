"""Both theorems against every attack on random mechanisms that are small enough to enumerate.

A mechanism is a table: for each of the 2^m settings of the coins a law over a few outputs, drawn
at random, so that outputs tie the coins together in any way. Its exact delta at an epsilon is a
maximum over neighbours; the best attack with c guesses is a maximum over all guesses for each
output. What that attack reaches must never be less likely than a theorem says.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from privacy_core.auditing.guesses import Tally
from privacy_core.auditing.one_run import (
    approximate_inverse,
    one_run_p_value,
    refutes_trade_off,
)

seeded = np.random.default_rng  # noqa: TID251 -- random mechanisms, the same every time


def _mechanism(seed: int, coins: int, outputs: int) -> np.ndarray:
    """Laws of the outputs, one row a setting; from nearly constant to nearly revealing."""
    generator = seeded(seed)
    rows = generator.dirichlet(np.full(outputs, generator.uniform(0.2, 5)), size=2**coins)
    mixing = generator.uniform(0, 0.9)
    return mixing * rows.mean(axis=0) + (1 - mixing) * rows


def _delta(laws: np.ndarray, coins: int, epsilon: float) -> float:
    """The exact delta: the worst hockey-stick divergence between settings one coin apart."""
    return max(
        float(np.maximum(laws[s] - math.exp(epsilon) * laws[s ^ (1 << k)], 0).sum())
        for s in range(2**coins)
        for k in range(coins)
    )


def _best_attack(laws: np.ndarray, coins: int, guesses: int, correct: int) -> float:
    """The largest chance of `correct` right guesses that any choice of `guesses` guesses has."""
    settings = np.array(list(itertools.product((0, 1), repeat=coins)))[:, ::-1]
    total = np.zeros(laws.shape[1])
    for places in itertools.combinations(range(coins), guesses):
        for values in itertools.product((0, 1), repeat=guesses):
            hits = (settings[:, list(places)] == values).sum(axis=1) >= correct
            total = np.maximum(total, laws[hits].sum(axis=0) / 2**coins)
    return float(total.sum())


@pytest.mark.parametrize("coins", [2, 3, 4])
def test_no_attack_on_any_mechanism_beats_the_theorems(coins: int) -> None:
    """30 mechanisms, five epsilons each with their exact delta, every number of guesses."""
    asked = 0
    for seed in range(30):
        laws = _mechanism(100 * coins + seed, coins, outputs=3 + seed % 6)
        attacks = {
            (c, v): _best_attack(laws, coins, c, v)
            for c in range(1, coins + 1)
            for v in range(1, c + 1)
        }
        for epsilon in (0.0, 0.2, 0.7, 1.5, 3.0):
            delta = _delta(laws, coins, epsilon)
            inverse = approximate_inverse(np.array([epsilon]), delta)
            for (guesses, correct), chance in attacks.items():
                tally = Tally(coins, guesses, correct)
                asked += 1

                assert chance <= one_run_p_value(tally, epsilon, delta) + 1e-12
                assert not refutes_trade_off(tally, inverse, chance * (1 - 1e-9))[0]
    assert asked == 30 * 5 * coins * (coins + 1) // 2


@pytest.mark.parametrize("coins", [2, 3, 4])
def test_a_claim_ten_per_cent_too_low_is_beaten_by_randomised_response(coins: int) -> None:
    """The check above can fail: on the mechanism for which the theorems are tight."""
    epsilon = 1.5
    truth = 1 / (1 + math.exp(-epsilon))
    settings = np.array(list(itertools.product((0, 1), repeat=coins)))
    same = (settings[:, None, :] == settings[None, :, :]).sum(axis=2)
    laws = truth**same * (1 - truth) ** (coins - same)
    for guesses in range(1, coins + 1):
        chance = _best_attack(laws, coins, guesses, guesses)
        tally = Tally(coins, guesses, guesses)

        assert chance == pytest.approx(one_run_p_value(tally, epsilon, 0.0))
        assert chance > one_run_p_value(tally, 0.9 * epsilon, 0.0)
        refuted = refutes_trade_off(tally, approximate_inverse(np.array([0.0]), 0.0), chance)
        assert refuted[0]
