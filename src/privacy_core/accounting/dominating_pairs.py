"""The worst pair of output distributions of an act, on one axis.

A pair (P, Q) dominates an act if no two neighbouring data sets can be told apart more easily than
P can be told from Q. All that composition needs is the law of the privacy loss L = log dP/dQ: how
much mass P and Q put where L lies in a given interval. Loss is increasing in the output x here, so
an interval of losses is an interval of outputs, and its masses are differences of distribution
functions, taken in the tail where they are small (no cancellation).

===================================  =======================================================
act                                  pair
===================================  =======================================================
Gaussian, Poisson-sampled, mixture   sum_k p_k N(s_k, s^2) against N(0, s^2)
the same, one unit exchanged         (1-q) N(0) + q N(1) against (1-q) N(0) + q N(-1)
Laplace, Poisson-sampled             (1-q) Lap(0) + q Lap(1) against Lap(0)
batch cut at a size                  a coin says whether it was cut; each side has its pair
fixed-size sample, one exchanged     tail by tail; see `WithoutReplacementPair`
===================================  =======================================================

Sources: Zhu, Dong & Wang 2022 (arXiv:2106.08567), Theorem 11; Choquette-Choo et al. 2024
(arXiv:2310.15526), section 4; Ganesh 2025 (arXiv:2508.15089) for the cut batch; Lebeda et al. 2024
(arXiv:2405.20769) for the exchanged unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy

Vector: TypeAlias = npt.NDArray[np.float64]

_EXPONENT_SAFE = 500.0
_NEWTON_STEPS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Masses:
    """What P and Q put into the half-open loss intervals (edge_j, edge_{j+1}], and outside."""

    p: Vector
    q: Vector
    p_below: float
    p_above: float
    q_below: float
    q_above: float


class DominatingPair(Protocol):
    """A pair (P, Q), seen through its privacy loss."""

    @property
    def symmetric(self) -> bool:
        """The loss of (Q, P) has the same law as that of (P, Q): one direction is enough."""

    def span(self, tail: float) -> tuple[float, float]:
        """Losses (low, high) with Q(L < low) <= tail and P(L > high) <= tail."""

    def masses(self, edges: Vector) -> Masses:
        """The masses between increasing loss edges. 0 is one of the edges."""


@dataclass(frozen=True)
class MixturePair:
    """P = sum_k p_k N(s_k, sigma^2) against Q = N(0, sigma^2).

    `shifts` are positive and increasing, `probabilities` belong to them; what is missing to 1 is
    the probability of a shift of 0.
    """

    sigma: float
    shifts: tuple[float, ...]
    probabilities: tuple[float, ...]

    @property
    def symmetric(self) -> bool:
        """Only the plain Gaussian is."""
        return self.shifts == (self.shifts[-1],) and self.rest == 1.0

    @cached_property
    def rest(self) -> float:
        """The probability of a shift that is not 0."""
        return min(1.0, math.fsum(self.probabilities))

    @cached_property
    def _atoms(self) -> tuple[Vector, Vector]:
        return np.array(self.shifts)[:, None], np.array(self.probabilities)[:, None]

    def exponents(self, x: Vector) -> Vector:
        """Log N(x; s_k) / N(x; 0) for each shift (rows) and output (columns)."""
        shifts, _ = self._atoms
        result: Vector = shifts * (2 * x - shifts) / (2 * self.sigma**2)
        return result

    def loss(self, x: Vector) -> Vector:
        """Log dP/dQ. Relative precision also where the loss is near 0."""
        _, probabilities = self._atoms
        exponents = self.exponents(x)
        small = probabilities * np.expm1(np.minimum(exponents, _EXPONENT_SAFE))
        near: Vector = np.log1p(np.maximum(small.sum(axis=0), -self.rest))
        if not exponents.size or exponents.max() < _EXPONENT_SAFE:
            return near
        far = np.logaddexp(
            scipy.special.logsumexp(exponents + np.log(probabilities), axis=0), _log1m(self.rest)
        )
        return np.where(exponents.max(axis=0) < _EXPONENT_SAFE, near, far)

    def log_reference(self, x: Vector) -> Vector:
        """Log density of Q."""
        result: Vector = -0.5 * (x / self.sigma) ** 2 - math.log(
            self.sigma * math.sqrt(2 * math.pi)
        )
        return result

    def output(self, losses: Vector) -> Vector:
        """The output at which the loss has these values; -inf where the loss is never that low."""
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = np.where(
                losses > 1,
                losses + np.log1p(-(1 - self.rest) * np.exp(-np.maximum(losses, 0))),
                np.log(np.maximum(np.expm1(np.minimum(losses, 1)) + self.rest, 0)),
            )
        x = np.full_like(losses, -np.inf)
        reached = np.isfinite(moved)
        x[reached] = self._solve(moved[reached])
        return x

    def _solve(self, target: Vector) -> Vector:
        """Newton on log sum_{k: s_k > 0} p_k exp(exponent_k(x)) = target, from the right.

        The left side is convex and increasing, and the start is not left of the root: every step
        goes towards it and none beyond it.
        """
        shifts, probabilities = self._atoms
        variance = self.sigma**2
        x: Vector = (variance / shifts * (target - np.log(probabilities)) + shifts / 2).min(axis=0)
        if len(self.shifts) == 1:
            return x
        for _ in range(_NEWTON_STEPS):
            terms = self.exponents(x) + np.log(probabilities)
            height = scipy.special.logsumexp(terms, axis=0)
            slope = (np.exp(terms - height) * shifts).sum(axis=0) / variance
            step = (height - target) / slope
            x = x - step
            if np.abs(step).max(initial=0.0) < 1e-13 * (1 + np.abs(x).max(initial=0.0)):
                break
        return x

    def span(self, tail: float) -> tuple[float, float]:
        """See `DominatingPair`: outputs that far from every mean are that rare."""
        reach = -float(scipy.special.ndtri(tail)) * self.sigma
        low, high = self.loss(np.array([-reach, self.shifts[-1] + reach]))
        return float(low), float(high)

    def masses(self, edges: Vector) -> Masses:
        """See `DominatingPair`."""
        _, probabilities = self._atoms
        shifts = np.concatenate(([0.0], self.shifts))[:, None]
        z = (self.output(edges)[None, :] - shifts) / self.sigma
        to_p = np.concatenate(([1 - self.rest], probabilities[:, 0]))
        return _weighted(z, to_p, np.eye(1, len(to_p))[0])


@dataclass(frozen=True)
class ExchangePair:
    """P = (1-q) N(0, sigma^2) + q N(1, sigma^2) against its mirror image at 0."""

    sigma: float
    probability: float
    symmetric: bool = True

    def loss(self, x: Vector) -> Vector:
        """Log dP/dQ; odd in x."""
        towards = MixturePair(self.sigma, (1.0,), (self.probability,))
        return towards.loss(x) - towards.loss(-x)

    def log_reference(self, x: Vector) -> Vector:
        """Log density of Q."""
        towards = MixturePair(self.sigma, (1.0,), (self.probability,))
        return towards.log_reference(x) + towards.loss(-x)

    def output(self, losses: Vector) -> Vector:
        """Closed form: e^(x/s^2) solves a quadratic; written with asinh it does not cancel."""
        half = np.abs(losses) / 2
        log_ratio = _log1m(self.probability) - math.log(self.probability) + 0.5 / self.sigma**2
        # log sinh(half) without overflow; -inf at 0 is right: the output is 0 there.
        with np.errstate(divide="ignore"):
            log_t = log_ratio + half + np.log(-np.expm1(-2 * half)) - math.log(2)
        grown = np.where(
            log_t > _EXPONENT_SAFE / 2,
            log_t + math.log(2),
            np.arcsinh(np.exp(np.minimum(log_t, _EXPONENT_SAFE / 2))),
        )
        result: Vector = np.sign(losses) * self.sigma**2 * (half + grown)
        return result

    def span(self, tail: float) -> tuple[float, float]:
        """See `DominatingPair`."""
        high = float(self.loss(np.array([1 - float(scipy.special.ndtri(tail)) * self.sigma]))[0])
        return -high, high

    def masses(self, edges: Vector) -> Masses:
        """See `DominatingPair`."""
        x = self.output(edges)
        q = self.probability
        z = (x[None, :] - np.array([-1.0, 0.0, 1.0])[:, None]) / self.sigma
        return _weighted(z, np.array([0.0, 1 - q, q]), np.array([q, 1 - q, 0.0]))


@dataclass(frozen=True)
class LaplacePair:
    """P = (1-q) Lap(0, b) + q Lap(1, b) against Q = Lap(0, b). The loss is bounded."""

    scale: float
    probability: float = 1.0

    @property
    def symmetric(self) -> bool:
        """Without sampling it is."""
        return self.probability == 1

    def _loss(self, exponent: float) -> float:
        """Log of (1-q) + q e^exponent."""
        if self.probability == 1:
            return exponent
        if exponent > _EXPONENT_SAFE:
            return exponent + math.log(self.probability)
        return math.log1p(self.probability * math.expm1(exponent))

    def span(self, tail: float) -> tuple[float, float]:
        """The bounds of the loss; no tail is left out."""
        del tail
        return self._loss(-1 / self.scale), self._loss(1 / self.scale)

    def masses(self, edges: Vector) -> Masses:
        """See `DominatingPair`. Everything left of 0, and right of 1, is a point mass of loss."""
        low, high = self.span(0.0)
        b, q = self.scale, self.probability
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            exponent = edges if q == 1 else np.log((np.expm1(edges) + q) / q)
        x = np.clip(np.nan_to_num((1 + b * exponent) / 2, nan=0.0), 0.0, 1.0)
        under, over = edges < low, edges >= high
        q_up = np.where(over, 0.0, np.where(under, 1.0, 0.5 * np.exp(-x / b)))
        one_up = np.where(over, 0.0, np.where(under, 1.0, 1 - 0.5 * np.exp((x - 1) / b)))
        p_up = (1 - q) * q_up + q * one_up
        return Masses(
            p=-np.diff(p_up),
            q=-np.diff(q_up),
            p_below=float(1 - p_up[0]),
            p_above=float(p_up[-1]),
            q_below=float(1 - q_up[0]),
            q_above=float(q_up[-1]),
        )


@dataclass(frozen=True)
class LabelledPair:
    """A public coin chooses one of two pairs. The coin's result is part of the output."""

    first: DominatingPair
    second: DominatingPair
    probability_of_second: float

    @property
    def symmetric(self) -> bool:
        """When both are."""
        return self.first.symmetric and self.second.symmetric

    def span(self, tail: float) -> tuple[float, float]:
        """Wide enough for both."""
        low_1, high_1 = self.first.span(tail)
        # A rare coin makes a rare tail: its own tail may be larger by that factor.
        low_2, high_2 = self.second.span(min(0.25, tail / self.probability_of_second))
        return min(low_1, low_2), max(high_1, high_2)

    def masses(self, edges: Vector) -> Masses:
        """See `DominatingPair`."""
        one, two = self.first.masses(edges), self.second.masses(edges)
        w = self.probability_of_second
        return Masses(
            p=(1 - w) * one.p + w * two.p,
            q=(1 - w) * one.q + w * two.q,
            p_below=(1 - w) * one.p_below + w * two.p_below,
            p_above=(1 - w) * one.p_above + w * two.p_above,
            q_below=(1 - w) * one.q_below + w * two.q_below,
            q_above=(1 - w) * one.q_above + w * two.q_above,
        )


@dataclass(frozen=True)
class WithoutReplacementPair:
    """A Gaussian release about a uniform sample of fixed size, one unit exchanged.

    For every alpha >= 1 the hockey-stick divergence is at most that of (1-r) Q + r P against Q;
    r = sample size / data set size and (P, Q) the pair of the release under exchange, here
    N(1, sigma^2) and N(0, sigma^2). The relation is symmetric, so for alpha < 1 it is at most that
    of P against (1-r) P + r Q. The two halves are the loss law of one pair: the upper half of the
    first, the lower half of its mirror image, and what is left of the mass at loss 0.

    Source: Balle, Barthe & Gaboardi 2018 (arXiv:1807.01647), Theorem 11; Zhu, Dong & Wang 2022
    (arXiv:2106.08567), Theorem 11 and Proposition 8.
    """

    sigma: float
    rate: float
    symmetric: bool = True

    def span(self, tail: float) -> tuple[float, float]:
        """The upper bound of the half law, mirrored."""
        _, high = MixturePair(self.sigma, (1.0,), (self.rate,)).span(tail)
        return -high, high

    def masses(self, edges: Vector) -> Masses:
        """See `DominatingPair`."""
        zero = int(np.searchsorted(edges, 0.0))
        half = MixturePair(self.sigma, (1.0,), (self.rate,))
        up = half.masses(edges[zero:])
        down = half.masses(-edges[zero::-1])
        p = np.concatenate((down.q[::-1], up.p))
        q = np.concatenate((down.p[::-1], up.q))
        at_zero = 1 - math.fsum(p) - up.p_above - down.q_above
        p[zero - 1] += at_zero
        q[zero - 1] += at_zero
        return Masses(
            p=p,
            q=q,
            p_below=down.q_above,
            p_above=up.p_above,
            q_below=down.p_above,
            q_above=up.q_above,
        )


@dataclass(frozen=True)
class ReversedPair:
    """(Q, P) for a pair (P, Q): the loss changes its sign."""

    pair: DominatingPair

    @property
    def symmetric(self) -> bool:
        """As the pair."""
        return self.pair.symmetric

    def span(self, tail: float) -> tuple[float, float]:
        """Mirrored."""
        low, high = self.pair.span(tail)
        return -high, -low

    def masses(self, edges: Vector) -> Masses:
        """Mirrored."""
        found = self.pair.masses(-edges[::-1])
        return Masses(
            p=found.q[::-1],
            q=found.p[::-1],
            p_below=found.q_above,
            p_above=found.q_below,
            q_below=found.p_above,
            q_above=found.p_below,
        )


def _weighted(z: Vector, to_p: Vector, to_q: Vector) -> Masses:
    """The masses of two mixtures whose components (rows of z) have these weights in P and Q."""
    inside = _between(z)
    below, above = scipy.special.ndtr(z[:, 0]), scipy.special.ndtr(-z[:, -1])
    return Masses(
        p=to_p @ inside,
        q=to_q @ inside,
        p_below=float(to_p @ below),
        p_above=float(to_p @ above),
        q_below=float(to_q @ below),
        q_above=float(to_q @ above),
    )


def _between(z: Vector) -> Vector:
    """Standard normal mass between neighbouring columns, from the nearer tail."""
    left, right = z[..., :-1], z[..., 1:]
    mirror = left > 0
    result: Vector = np.where(
        mirror,
        scipy.special.ndtr(-left) - scipy.special.ndtr(-right),
        scipy.special.ndtr(right) - scipy.special.ndtr(left),
    )
    return result


def _log1m(probability: float) -> float:
    """log(1 - probability), -inf at 1."""
    return math.log1p(-probability) if probability < 1 else -math.inf
