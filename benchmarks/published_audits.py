"""The ceilings of the research notes, made again by the protocol that they were made with.

The notes (accounting, section 5) give one figure a cell and neither a protocol nor a number of
simulated audits. Their AUC column tells the protocol: 0.59, 0.75 and 0.89 are not the areas under
the curves of these attackers (0.571, 0.738, 0.881) but those under the convex hulls of so many
points, as the peer's auditing library computes them. By that library's rules:

- half of the canaries that are in and half of those that are out choose a threshold: the one on
  the convex hull of the ROC curve at which the bound itself is largest; the others are counted
  above it, and nobody is guessed "out";
- where no threshold certifies anything, nobody is guessed, and the audit certifies 0;
- the Gaussian estimate takes all canaries and the best point of the hull, at a level divided by
  twice the number of points.

Here the same rules stand on our own bounds. One audit varies a great deal, so a cell is a law, not
a figure; `benchmarks/audit_bounds.py --notes` prints where in it the notes' figure lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy

from privacy_core.accounting.gdp import gaussian_epsilon
from privacy_core.auditing.ceilings import mu_of_claim
from privacy_core.auditing.chance import Chance
from privacy_core.auditing.contingency import Contingency
from privacy_core.auditing.guesses import Tally
from privacy_core.auditing.one_run import one_run_lower_bound, trade_off_lower_bound
from privacy_core.auditing.rates import lower_limit, upper_limit
from privacy_core.auditing.step_laws import WhiteBox, score_laws

Vector = npt.NDArray[np.float64]
Coins = npt.NDArray[np.bool_]
Bound = Callable[[Contingency], float]

DELTA: Final = 1e-5
LEVEL: Final = 0.05
NOTHING: Final = math.inf


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure of the notes: of an attacker with `canaries`, by one column of their tables."""

    epsilon: float
    canaries: int
    column: str
    stated: float
    run: WhiteBox | None = None


def _ideal() -> Iterator[Cell]:
    columns = ("one_run", "f_dp", "clopper_pearson", "gaussian")
    table: dict[tuple[float, int], tuple[float | None, ...]] = {
        (1.0, 1000): (0.18, 0.34, 0.02, 0.14),
        (1.0, 5000): (0.20, None, 0.10, 0.50),
        (4.0, 200): (0.24, 0.39, 0.15, 1.22),
        (4.0, 1000): (0.94, 1.43, 0.83, 2.77),
        (4.0, 5000): (1.37, None, 1.17, 3.37),
        (8.0, 200): (1.23, 2.25, 0.76, 4.37),
        (8.0, 1000): (1.98, 3.21, 1.66, 6.15),
        (8.0, 5000): (2.95, None, 2.60, 7.21),
    }
    for (epsilon, canaries), figures in table.items():
        for column, stated in zip(columns, figures, strict=True):
            if stated is not None:
                yield Cell(epsilon, canaries, column, stated)
    for epsilon, area in ((1.0, 0.59), (4.0, 0.75), (8.0, 0.89)):
        yield Cell(epsilon, 1000, "auc", area)


def _white_box() -> Iterator[Cell]:
    """By likelihood ratio and by plain sum; 5000 canaries, 1000 for f-DP."""
    table = {
        (0.01, 1000, 0.735, 4.0): {
            "one_run": (1.17, 0.55), "f_dp": (0.76, 0.12), "gaussian": (2.34, 1.11),
            "auc": (0.69, 0.62),
        },
        (0.01, 1000, 0.586, 8.0): {
            "one_run": (2.46, 0.87), "f_dp": (2.53, 1.37), "gaussian": (4.52, 1.74),
            "auc": (0.77, 0.65),
        },
        (0.1, 200, 1.13, 8.0): {
            "one_run": (2.43, 2.38), "f_dp": (3.66, 2.80), "gaussian": (6.10, 5.04),
            "auc": (0.84, 0.81),
        },
    }  # fmt: skip
    for (rate, steps, noise, epsilon), columns in table.items():
        for column, pair in columns.items():
            for is_ratio, stated in zip((True, False), pair, strict=True):
                run = WhiteBox(
                    noise_multiplier=noise,
                    sample_rate=rate,
                    steps=steps,
                    epsilon=epsilon,
                    likelihood_ratio=is_ratio,
                )
                yield Cell(epsilon, 1000 if column == "f_dp" else 5000, column, stated, run)


IDEAL: Final = tuple(_ideal())
WHITE_BOX: Final = tuple(_white_box())


def audits(cell: Cell, count: int, *, seed: int = 0) -> Vector:
    """What `count` simulated audits of a cell certify, one number each."""
    chance = Chance(seed, purpose="published audits")
    included = np.arange(cell.canaries) % 2 == 0
    mu = mu_of_claim(cell.epsilon, DELTA)
    laws = None if cell.run is None else score_laws(cell.run)
    judged = COLUMNS[cell.column]
    found = []
    for _ in range(count):
        if laws is None:
            scores = chance.normals(cell.canaries) + mu * included
        else:
            scores = laws.draw(included, chance)
        # Scores of a lattice tie; whoever ties is in any order.
        scores = scores[order := chance.permutation(len(scores))]
        found.append(judged(scores, included[order], chance))
    return np.array(found)


def one_run(counts: Contingency) -> float:
    """Steinke et al. of the guesses above a threshold."""
    return one_run_lower_bound(_guessed(counts), DELTA, LEVEL) if counts.true else 0.0


def f_dp(counts: Contingency) -> float:
    """Mahloujifar et al., against Gaussian claims without a floor."""
    if not counts.true:
        return 0.0
    mu = trade_off_lower_bound(_guessed(counts), 0.0, LEVEL, is_gaussian=True)
    return gaussian_epsilon(mu, DELTA)


def clopper_pearson(counts: Contingency) -> float:
    """log((TPR - delta) / FPR), one direction only."""
    least = lower_limit(counts.true, counts.members, LEVEL / 2)
    most = upper_limit(counts.false, counts.others, LEVEL / 2)
    return max(0.0, math.log((least - DELTA) / most)) if least > DELTA else 0.0


def _guessed(counts: Contingency) -> Tally:
    return Tally(counts.members + counts.others, counts.true + counts.false, counts.true)


def _split(bound: Bound) -> Callable[[Vector, Coins, Chance], float]:
    def audit(scores: Vector, included: Coins, chance: Chance) -> float:
        chooses = np.zeros(len(scores), dtype=np.bool_)
        for side in (included, ~included):
            members = np.flatnonzero(side)
            order = chance.permutation(len(members))
            chooses[members[order[: len(members) // 2]]] = True
        threshold = _best_threshold(scores[chooses], included[chooses], bound)
        return bound(Contingency.at(threshold, scores[~chooses], included[~chooses]))

    return audit


def _best_threshold(scores: Vector, included: Coins, bound: Bound) -> float:
    """The point of the hull at which the bound is largest; above everything if it is 0 there."""
    thresholds = scores[np.argsort(-scores, kind="stable")][_hull(scores, included) - 1]
    counts = [Contingency.at(float(t), scores, included) for t in thresholds]
    # Whoever is right no more often than not certifies nothing: no need to ask.
    values = [bound(c) if c.true > c.false else 0.0 for c in counts]
    best = int(np.argmax(values))
    return float(thresholds[best]) if values[best] > 0 else NOTHING


def _hull(scores: Vector, included: Coins) -> npt.NDArray[np.int64]:
    """How many of the highest scores each point of the convex hull of the ROC curve takes."""
    ranked = included[np.argsort(-scores, kind="stable")]
    true = np.concatenate([[0], np.cumsum(ranked)]).tolist()
    kept: list[int] = []
    for k, hits in enumerate(true):
        while len(kept) >= 2:
            a, b = kept[-2], kept[-1]
            rise, run = true[b] - true[a], (b - true[b]) - (a - true[a])
            if rise * ((k - hits) - (b - true[b])) > (hits - true[b]) * run:
                break
            kept.pop()
        kept.append(k)
    return np.array(kept[1:], dtype=np.int64)


def _points(scores: Vector, included: Coins) -> tuple[Vector, Vector, int, int]:
    """Found members and others at each point of the hull, from none to all."""
    taken = _hull(scores, included)
    hits = np.cumsum(included[np.argsort(-scores, kind="stable")])[taken - 1]
    members = int(included.sum())
    true, false = np.append(0, hits), np.append(0, taken - hits)
    return true.astype(float), false.astype(float), members, len(included) - members


def _gaussian(scores: Vector, included: Coins, _: Chance) -> float:
    true, false, members, others = _points(scores, included)
    level = LEVEL / (2 * len(true))
    mus = [
        -scipy.special.ndtri(upper_limit(int(f), others, level))
        - scipy.special.ndtri(upper_limit(members - int(t), members, level))
        for t, f in zip(true, false, strict=True)
    ]
    return gaussian_epsilon(max(0.0, *map(float, mus)), DELTA)


def _area(scores: Vector, included: Coins, _: Chance) -> float:
    true, false, members, others = _points(scores, included)
    return float(np.trapezoid(true / members, false / others))


COLUMNS: Final[dict[str, Callable[[Vector, Coins, Chance], float]]] = {
    "one_run": _split(one_run),
    "f_dp": _split(f_dp),
    "clopper_pearson": _split(clopper_pearson),
    "gaussian": _gaussian,
    "auc": _area,
}
