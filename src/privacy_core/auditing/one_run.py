"""How likely so many right guesses are, if the training run was as private as is claimed.

The setting: m canaries, each put in by its own fair coin; after *one* training run the auditor
guesses some of the coins. Privacy says that no output tells much about one coin, and both theorems
turn this into a statement about all guesses together, with no independence assumed: the answers of
one run may depend on each other in any way.

- `one_run_p_value`: Steinke, Nasr & Jagielski 2023 (arXiv:2305.08846), Theorem 5.2.
- `refutes_trade_off`: Mahloujifar, Melis & Chaudhuri 2024 (arXiv:2410.22235).

`one_run_lower_bound` and `trade_off_lower_bound` turn them into the largest claim that is refuted.

Both are conditional on a number of guesses that was fixed before the answers were seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy

from privacy_core.auditing.guesses import Tally

Vector = npt.NDArray[np.float64]

_SURE = 0.5
"""Above it the theorem's sum is not relied upon."""
_GRID: Final = 257
_ROUNDING: Final = 1e-9
_CLAIMS: Final = 33
_ROUNDS: Final = 4
MOST_EPSILON: Final = 64.0
MOST_MU: Final = 12.0

InverseBlowUp = Callable[[Vector], Vector]
"""For probabilities y under one coin, the least probability under the other: one entry a claim."""


def one_run_p_value(tally: Tally, epsilon: float, delta: float) -> float:
    """The chance, at most, of `correct` or more right guesses if the run is (epsilon, delta)-DP.

    Where that is above one half, with delta > 0, it is no bound: a linear program over all
    mechanisms (2 to 40 coins) found true chances up to 2 % larger, never where it says less than
    0.8. So 1 is answered there. Audits use small values only.

    With f(v) = P[Binomial(guesses, e^eps / (1 + e^eps)) >= v] it is

        f(v) + 2 m delta max over 1 <= i <= v of (f(v - i) - f(v)) / i.

    Args:
        tally: m = `canaries` are all coins whose answers the auditor was not told, guessed or not.
        epsilon: >= 0.
        delta: in [0, 1].

    Source: Steinke, Nasr & Jagielski 2023 (arXiv:2305.08846), Theorem 5.2, written as in
    the authors' program.
    """
    if tally.correct == 0:
        return 1.0
    chance = float(scipy.special.expit(epsilon))
    beta = float(_at_least(np.array([tally.correct]), tally.guesses, chance)[0])
    if delta == 0:
        return min(1.0, beta)
    # Ten deviations below the mean f is 1 to the last digit, and the quotient only falls with i.
    mean = tally.guesses * chance
    sure = math.floor(mean - 10 * math.sqrt(mean * (1 - chance))) - 1
    steps = np.arange(1, min(max(tally.correct - sure, 1), tally.correct) + 1)
    gains = (_at_least(tally.correct - steps, tally.guesses, chance) - beta) / steps
    found = beta + 2 * tally.canaries * delta * max(0.0, float(gains.max()))
    return found if found <= _SURE else 1.0


def one_run_lower_bound(tally: Tally, delta: float, significance: float) -> float:
    """The largest epsilon below which every claim is refuted at this significance; 0 if none is.

    Without delta this is the logit of a Clopper-Pearson limit, which delta can only lower; it
    brackets the search. While 2 m delta <= 1 the p-value is a maximum of weighted means of tails,
    each of which rises with epsilon, so bisection finds its crossing. Beyond that it need not rise,
    and the first claim that survives is looked for on a grid first.
    """
    if tally.correct == 0:
        return 0.0
    limit = float(
        scipy.special.betaincinv(tally.correct, tally.guesses - tally.correct + 1, significance)
    )
    low, high = 0.0, max(0.0, float(scipy.special.logit(limit)))
    if one_run_p_value(tally, low, delta) > significance:
        return 0.0
    if delta == 0:
        return high
    if 2 * tally.canaries * delta > 1:
        for claim in np.linspace(low, high, _GRID)[1:]:
            if one_run_p_value(tally, float(claim), delta) > significance:
                high = float(claim)
                break
            low = float(claim)
    while high - low > _ROUNDING * (1 + low):
        middle = (low + high) / 2
        if one_run_p_value(tally, middle, delta) > significance:
            high = middle
        else:
            low = middle
    return low


def refutes_trade_off(
    tally: Tally, inverse: InverseBlowUp, significance: float
) -> npt.NDArray[np.bool_]:
    """Whether so many right guesses are less likely than `significance` under each claim.

    Let p_i be the chance of exactly i right guesses out of c. Turning one right guess wrong is
    turning one coin, so the masses r_i = sum_{j >= i} (j / m) p_j and h_i = sum_{j >= i}
    ((c - j) / m) p_j satisfy r_{i+1} <= 1 - f(h_i) for the trade-off function f of the claim. If
    P[correct or more] is at least `significance`, this chain forces r_0 + h_0 upwards; it must be
    exactly c / m, so more than that is a contradiction.

    Args:
        tally: what was counted.
        inverse: the inverse of x -> 1 - f(x), elementwise over a vector with one entry a claim.
        significance: in (0, 1).

    Source: Mahloujifar, Melis & Chaudhuri 2024 (arXiv:2410.22235), the recursion of
    its numerical audit, with a cap on guesses and two answers.
    """
    total, correct = tally.guesses, tally.correct
    claims = len(inverse(np.zeros(1)))
    right = np.full(claims, significance * correct / tally.canaries)
    wrong = np.full(claims, significance * (total - correct) / tally.canaries)
    for i in range(correct - 1, -1, -1):
        raised = np.maximum(wrong, inverse(right))
        growth = raised - wrong
        if not growth.any():
            break
        right = np.minimum(right + i / (total - i) * growth, 1.0)
        wrong = raised
    return np.asarray(right + wrong > total / tally.canaries)


def trade_off_lower_bound(
    tally: Tally, part: float, significance: float, *, is_gaussian: bool
) -> float:
    """The largest claim of a family that is refuted with all smaller ones, rounded down; 0 if none.

    Args:
        tally: what was counted.
        part: of a claim of Gaussian shape the `delta_floor`, else the delta.
        significance: in (0, 1).
        is_gaussian: the claims are mu-GDP (up to `MOST_MU`), else (epsilon, delta)-DP (up to
            `MOST_EPSILON`).
    """
    inverse = gaussian_inverse if is_gaussian else approximate_inverse
    low, high = 0.0, MOST_MU if is_gaussian else MOST_EPSILON
    for _ in range(_ROUNDS):
        claims = np.linspace(low, high, _CLAIMS)
        refusals = refutes_trade_off(tally, inverse(claims, part), significance)
        survivors = np.flatnonzero(~refusals)
        if len(survivors) == 0:
            return high
        if survivors[0] == 0:
            return low
        low, high = float(claims[survivors[0] - 1]), float(claims[survivors[0]])
    return low


def gaussian_inverse(mu: Vector, delta_floor: float = 0.0) -> InverseBlowUp:
    """For claims of mu-GDP except with probability `delta_floor`, at which all is given away.

    The trade-off function is (1 - floor) G_mu(x / (1 - floor)) for x <= 1 - floor, on its other
    side likewise: 1 - f(x) = floor + (1 - floor) Phi(Phi^-1(x / (1 - floor)) + mu).

    Source: Dong, Roth & Su 2022 (arXiv:1905.02383) for G_mu; the floor as in
    `accounting.dominating_gaussian`.
    """

    def inverse(probability: Vector) -> Vector:
        inner = np.clip((probability - delta_floor) / (1 - delta_floor), 0.0, 1.0)
        found: Vector = scipy.special.ndtr(scipy.special.ndtri(inner) - mu) * (1 - delta_floor)
        return found

    return inverse


def approximate_inverse(epsilon: Vector, delta: float) -> InverseBlowUp:
    """For claims of (epsilon, delta)-DP and nothing more.

    Source: f_{eps,delta} of Wasserman & Zhou 2010, as in Dong, Roth & Su 2022
    (arXiv:1905.02383).
    """

    def inverse(probability: Vector) -> Vector:
        least = np.maximum(
            np.exp(-epsilon) * (probability - delta),
            1 - delta - np.exp(epsilon) * (1 - probability),
        )
        found: Vector = np.maximum(least, 0.0)
        return found

    return inverse


def _at_least(counts: npt.NDArray[np.int64], trials: int, chance: float) -> Vector:
    """P[Binomial(trials, chance) >= count]."""
    inside = np.clip(counts, 1, trials)
    tail = scipy.special.betainc(inside, trials - inside + 1, chance)
    found: Vector = np.where(counts <= 0, 1.0, tail)
    return found
