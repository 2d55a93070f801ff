"""One discrete privacy loss, and the moments of sums of such losses.

*Connect the dots* (Doroshenko et al. 2022, arXiv:2207.04380): the masses P and Q of a loss interval
are split between its two edges so that both are kept. The result is a pair that dominates the
original one, and its error is quadratic in the width of the interval. The edges are dense where
almost all losses lie and sparse in the tails.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy

from privacy_core.accounting.dominating_pairs import DominatingPair, Vector

_ROUGH_RATIO: Final = 1.12
_ROUGH_SMALLEST: Final = 1e-9
_DENSE: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class LossLaw:
    """A discrete loss: P-mass `p` at the values `losses`, and mass `infinite` at infinity."""

    losses: Vector
    p: Vector
    infinite: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """The finite part of a sum of losses, tilted by every theta of a list.

    `height` is the log moment log E[e^(theta S)], `mean` and `variance` those of the tilted sum.
    """

    thetas: Vector
    height: Vector
    mean: Vector
    variance: Vector

    @classmethod
    def of(cls, laws: Sequence[LossLaw], thetas: Vector) -> Moments:
        """Add up the moments of independent losses."""
        height, mean, variance = (np.zeros_like(thetas) for _ in range(3))
        for law in laws:
            kept = law.p > 0
            losses = law.losses[kept]
            terms = thetas[:, None] * losses + np.log(law.p[kept])
            top = terms.max(axis=1)
            weights = np.exp(terms - top[:, None])
            total = weights.sum(axis=1)
            first = weights @ losses / total
            second = weights @ losses**2 / total
            height += law.count * (top + np.log(total))
            mean += law.count * first
            variance += law.count * np.maximum(second - first**2, 0.0)
        return cls(thetas=thetas, height=height, mean=mean, variance=variance)

    def chernoff_epsilon(self, delta: float) -> float:
        """An epsilon for `delta` from the moments alone: the Renyi bound of these laws.

        Source: Canonne, Kamath & Steinke 2020 (arXiv:2004.00010), Proposition 12.
        """
        if delta <= 0:
            return math.inf
        penalty = self.thetas * np.log(self.thetas) - (1 + self.thetas) * np.log1p(self.thetas)
        return max(0.0, float(np.min((self.height + penalty - math.log(delta)) / self.thetas)))

    def rough_epsilon(self, delta: float) -> float:
        """The saddle-point estimate of epsilon. Within a few percent, but not a bound."""
        spread = np.sqrt(self.variance / 2)
        with np.errstate(divide="ignore"):
            log_delta = (self.height - self.thetas * self.mean) + np.log(
                0.5
                * (
                    scipy.special.erfcx(self.thetas * spread)
                    - scipy.special.erfcx((self.thetas + 1) * spread)
                )
            )
        known = np.isfinite(log_delta)
        if not known.any():  # almost all mass at one loss
            return float(self.mean[-1])
        order = np.argsort(log_delta[known])
        return float(np.interp(math.log(delta), log_delta[known][order], self.mean[known][order]))

    def chernoff_delta(self, epsilon: float) -> float:
        """A delta for `epsilon` from the moments alone, without the Renyi bound's prefactor."""
        return math.exp(min(0.0, float(np.min(self.height - self.thetas * epsilon))))


def connect_the_dots(pair: DominatingPair, edges: Vector, count: int) -> LossLaw:
    """The discrete law on `edges` that dominates the pair's loss.

    Mass below the first edge is moved up to it, mass above the last one to infinity.
    """
    found = pair.masses(edges)
    with np.errstate(over="ignore", invalid="ignore"):
        to_right = (found.p - found.q * np.exp(edges[:-1])) / -np.expm1(-np.diff(edges))
    # Where exp overflows nothing is known about the split: all the mass goes up.
    to_right = np.clip(np.where(np.isfinite(to_right), to_right, found.p), 0.0, found.p)
    p = np.zeros_like(edges)
    p[1:] += to_right
    p[:-1] += found.p - to_right
    p[0] += found.p_below
    return LossLaw(losses=edges, p=p, infinite=found.p_above, count=count)


def rough_edges(low: float, high: float) -> Vector:
    """Edges in geometric progression on both sides of 0."""
    widest = max(abs(low), abs(high), 1e-300)
    steps = math.ceil(-math.log(_ROUGH_SMALLEST) / math.log(_ROUGH_RATIO)) + 1
    positive = widest * _ROUGH_RATIO ** np.arange(-steps, 2)
    up = positive[: int(np.searchsorted(positive, max(high, 0.0))) + 1]
    down = positive[: int(np.searchsorted(positive, max(-low, 0.0), side="right")) + 1]
    return np.concatenate((-down[::-1], [0.0], up))


def lattice_edges(low: float, high: float, *, spacing: int, widest: int, step: float) -> Vector:
    """Whole multiples of `step`, 0 among them, that cover [low, high] with an edge to spare.

    Every `spacing`-th near 0, then 2 % of the distance apart, but at most `widest` steps.
    """
    reach = math.ceil(max(abs(low), abs(high)) / step) + spacing + 1
    dense = np.arange(0, min(reach, _DENSE * spacing) + spacing, spacing, dtype=np.int64)
    turn = max(_DENSE * spacing, _DENSE * widest)
    growing = math.ceil(math.log(max(turn / dense[-1], 1)) / math.log1p(1 / _DENSE)) + 1
    middle = np.ceil(dense[-1] * (1 + 1 / _DENSE) ** np.arange(growing)).astype(np.int64)
    middle = middle[middle <= max(turn, int(dense[-1]))]
    outer = np.arange(int(middle[-1]), max(reach, int(middle[-1])) + 2 * widest, widest)
    positive = np.unique(np.concatenate((dense, middle, outer)))
    up = positive[: int(np.searchsorted(positive, max(high / step, 0) + 1)) + 1]
    down = positive[: int(np.searchsorted(positive, max(-low / step, 0) + 1)) + 1]
    return np.unique(np.concatenate((-down, up))) * step
