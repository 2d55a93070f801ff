"""Prices of releases on whole numbers and of selections: their worst pairs and Renyi curves.

================  ==================================================  ============================
event             worst pair (P, Q)                                   Renyi curve
================  ==================================================  ============================
DiscreteLaplace   the noise at 0 against the noise at the shift       exact
DiscreteGaussian  the noise at 0 against the noise at the shift       order shift^2 / (2 sigma^2)
PureDp            a coin of bias e^epsilon : 1 against its reverse    exact for this pair
BoundedRange      densities e^(+-loss/2) on [-epsilon, epsilon]       largest over two-point pairs
================  ==================================================  ============================

All four pairs are symmetric: one direction is enough. The shift, or epsilon, is twice the declared
one when a unit is exchanged (for ranges: the log ratios of two changes add, and so do their
ranges).

A release of bounded range epsilon is, for some t in [0, epsilon], dominated by the two-point pair
whose losses are t and t - epsilon; its delta at x is q_t (e^t - e^x). The largest over t, at
t = (epsilon + x) / 2, is (1 - e^((x - epsilon)/2))^2 / (1 - e^-epsilon): a convex profile, so that
it is the profile of a pair, and dominating pairs compose. It is the exact price of one release.

Sources: Canonne, Kamath & Steinke 2020 (arXiv:2004.00010), Proposition 5 (discrete Gaussian);
Murtagh & Vadhan 2016 (arXiv:1507.03113) (the coin); Dong, Durfee & Rogers 2020 (arXiv:1909.13830),
Lemma 2.3 (bounded range); Cesar & Rogers 2021 (arXiv:2004.07223), epsilon^2 / 8 for its curve;
Zhu, Dong & Wang 2022 (arXiv:2106.08567), Theorem 10 (composition).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from privacy_core.accounting.dominating_pairs import DominatingPair, Masses, Vector
from privacy_core.dp_events import (
    BoundedRange,
    DiscreteGaussian,
    DiscreteLaplace,
    PureDp,
    UnsampledRelease,
)
from privacy_core.errors import UnsupportedEvent

_GAUSSIAN_ATOMS_MOST: Final = 1 << 20
_LAPLACE_ATOMS_MOST: Final = 1 << 16
_REACH: Final = 39.0
_SMALL_RANGE: Final = 1e-4
_SAFE: Final = 500.0
_BLOCK: Final = 512


def unsampled_pair(event: UnsampledRelease, reach: float) -> DominatingPair:
    """The worst pair of an event whose declared sensitivity or epsilon counts `reach` times.

    Raises:
        UnsupportedEvent: half a step is no step (the event belongs to data sets of public size), or
            the pair has too many different losses to list.
    """
    match event:
        case DiscreteLaplace():
            return _laplace_atoms(event, _whole_shift(event, reach, "pld"), "pld")
        case DiscreteGaussian():
            return _gaussian_atoms(event, _whole_shift(event, reach, "pld"), "pld")
        case PureDp(epsilon):
            loss = epsilon * reach
            up = 1 / (1 + math.exp(-loss))
            return AtomPair.of(np.array([loss]), np.array([up]), at_zero=0.0)
        case BoundedRange(epsilon):
            return BoundedRangePair(epsilon * reach)


def unsampled_curve(event: UnsampledRelease, orders: Vector, reach: float) -> Vector:
    """An upper bound on the Renyi divergence of the worst pair at every order > 1.

    Raises:
        UnsupportedEvent: as `unsampled_pair`.
    """
    match event:
        case DiscreteLaplace():
            pair = _laplace_atoms(event, _whole_shift(event, reach, "rdp"), "rdp")
            return _symmetric_curve(pair.losses, pair.p, orders)
        case DiscreteGaussian(sigma):
            gaussian: Vector = orders * (_whole_shift(event, reach, "rdp") / sigma) ** 2 / 2
            return gaussian
        case PureDp(epsilon):
            loss = epsilon * reach
            up = 1 / (1 + math.exp(-loss))
            return _symmetric_curve(np.array([-loss, loss]), np.array([1 - up, up]), orders)
        case BoundedRange(epsilon):
            return _range_curve(epsilon * reach, orders)


def unsampled_pure_epsilon(event: UnsampledRelease, reach: float) -> float:
    """The epsilon at delta = 0."""
    match event:
        case DiscreteLaplace(scale):
            return _whole_shift(event, reach, "rdp") / scale
        case DiscreteGaussian():
            return math.inf
        case PureDp(epsilon) | BoundedRange(epsilon):
            return epsilon * reach


@dataclass(frozen=True, eq=False)
class AtomPair:
    """A pair with finitely many losses, ascending and mirrored at 0, and the masses of P at them.

    Q has the same masses in the opposite order.
    """

    losses: Vector
    p: Vector
    symmetric: bool = True

    @classmethod
    def of(cls, losses: Vector, p: Vector, *, at_zero: float) -> AtomPair:
        """From the positive losses, ascending, the masses of P at them, and the mass at 0."""
        return cls(
            losses=np.concatenate((-losses[::-1], [0.0], losses)),
            p=np.concatenate(((p * np.exp(-losses))[::-1], [at_zero], p)),
        )

    def span(self, tail: float) -> tuple[float, float]:
        """See `DominatingPair`."""
        above = np.cumsum(self.p[::-1])[::-1]
        high = float(self.losses[int(np.flatnonzero(above > tail)[-1])])
        return -high, high

    def masses(self, edges: Vector) -> Masses:
        """See `DominatingPair`."""
        place = np.searchsorted(edges, self.losses, side="left")
        p: Vector = np.bincount(place, self.p, len(edges) + 1).astype(np.float64)
        q: Vector = np.bincount(place, self.p[::-1], len(edges) + 1).astype(np.float64)
        return Masses(
            p=p[1:-1],
            q=q[1:-1],
            p_below=float(p[0]),
            p_above=float(p[-1]),
            q_below=float(q[0]),
            q_above=float(q[-1]),
        )


@dataclass(frozen=True)
class BoundedRangePair:
    """P(L > x) = (1 - e^((x - epsilon)/2)) / (1 - e^-epsilon) for |x| <= epsilon; Q mirrored."""

    epsilon: float
    symmetric: bool = True

    def span(self, tail: float) -> tuple[float, float]:
        """The bounds of the loss; no tail is left out."""
        del tail
        return -self.epsilon, self.epsilon

    def masses(self, edges: Vector) -> Masses:
        """See `DominatingPair`. Differences of exponentials, written so that nothing cancels."""
        x = np.clip(edges, -self.epsilon, self.epsilon)
        whole = -math.expm1(-self.epsilon)
        width = -np.expm1(-np.diff(x) / 2) / whole
        return Masses(
            p=np.exp((x[1:] - self.epsilon) / 2) * width,
            q=np.exp((-x[:-1] - self.epsilon) / 2) * width,
            p_below=math.exp(-self.epsilon) * math.expm1((x[0] + self.epsilon) / 2) / whole,
            p_above=-math.expm1((x[-1] - self.epsilon) / 2) / whole,
            q_below=-math.expm1(-(x[0] + self.epsilon) / 2) / whole,
            q_above=math.exp(-self.epsilon) * math.expm1((self.epsilon - x[-1]) / 2) / whole,
        )


def _whole_shift(event: DiscreteLaplace | DiscreteGaussian, reach: float, accountant: str) -> int:
    shift = event.sensitivity * reach
    if shift != int(shift):
        raise UnsupportedEvent(
            accountant=accountant,
            event=type(event).__name__,
            reason=f"sensitivity {event.sensitivity} counts from the middle of a range: it belongs "
            "to data sets of public size, priced under replace_one",
        )
    return int(shift)


def _laplace_atoms(event: DiscreteLaplace, shift: int, accountant: str) -> AtomPair:
    """Left of 0 and right of the shift the loss is constant; between, it falls by 2 / scale."""
    if shift > _LAPLACE_ATOMS_MOST:
        raise _too_many(event, _LAPLACE_ATOMS_MOST, accountant)
    b = event.scale
    k = np.arange((shift - 1) // 2, -1, -1, dtype=np.float64)
    at_k = math.tanh(1 / (2 * b)) * np.exp(-k / b)
    at_k[-1] = 1 / (1 + math.exp(-1 / b))  # all of k <= 0
    middle = math.tanh(1 / (2 * b)) * math.exp(-shift / (2 * b)) if shift % 2 == 0 else 0.0
    return AtomPair.of((shift - 2 * k) / b, at_k, at_zero=middle)


def _gaussian_atoms(event: DiscreteGaussian, shift: int, accountant: str) -> AtomPair:
    """The loss at k is shift (shift - 2k) / (2 sigma^2)."""
    sigma = event.sigma
    reach = math.ceil(_REACH * sigma) + 1
    if 2 * reach + shift > _GAUSSIAN_ATOMS_MOST:
        raise _too_many(event, _GAUSSIAN_ATOMS_MOST, accountant)
    weight = math.fsum(np.exp(-(np.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2)))
    k = np.arange((shift - 1) // 2, -reach - 1, -1, dtype=np.float64)
    at_k = np.exp(-(k**2) / (2 * sigma**2)) / weight
    middle = math.exp(-((shift / 2) ** 2) / (2 * sigma**2)) / weight if shift % 2 == 0 else 0.0
    return AtomPair.of(shift * (shift - 2 * k) / (2 * sigma**2), at_k, at_zero=middle)


def _too_many(event: UnsampledRelease, most: int, accountant: str) -> UnsupportedEvent:
    return UnsupportedEvent(
        accountant=accountant,
        event=type(event).__name__,
        reason=f"it has more than {most:,} different losses; release on a coarser lattice",
    )


def _symmetric_curve(losses: Vector, p: Vector, orders: Vector) -> Vector:
    """The exact curve of a pair whose losses mirror each other.

    With w the mass of P at the losses l and -l, both together add
    w 2 sinh(a l / 2) sinh((a-1) l / 2) / cosh(l / 2) to E_Q[e^(a L)] - 1: nothing cancels.
    """
    up = losses > 0
    loss, weight = losses[up], p[up] * (1 + np.exp(-losses[up]))
    log_excess = np.full(len(orders), -math.inf)
    for start in range(0, len(loss), _BLOCK):
        x, w = loss[start : start + _BLOCK], weight[start : start + _BLOCK]
        with np.errstate(divide="ignore"):
            terms = (
                np.log(w)
                + _log_two_sinh(orders[:, None] * x / 2)
                + _log_two_sinh((orders[:, None] - 1) * x / 2)
                - (x / 2 + np.log1p(np.exp(-x)))
            )
        top = np.maximum(terms.max(axis=1), -700.0)
        block = top + np.log(np.exp(terms - top[:, None]).sum(axis=1))
        log_excess = np.logaddexp(log_excess, block)
    result: Vector = np.logaddexp(0.0, log_excess) / (orders - 1)
    return np.minimum(result, float(losses[-1]))


def _log_two_sinh(x: Vector) -> Vector:
    result: Vector = x + np.log(-np.expm1(-2 * x))
    return result


def _range_curve(epsilon: float, orders: Vector) -> Vector:
    """The largest divergence over the two-point pairs with losses t and t - epsilon.

    E_Q[e^(a L)] = A e^((a-1) t) - B e^(a t) has its one maximum at e^t = (a-1) A / (a B).
    """
    bound: Vector = np.minimum(orders * epsilon**2 / 8, epsilon)
    if epsilon < _SMALL_RANGE:
        return bound
    best = (
        epsilon
        + np.log1p(-1 / orders)
        + np.log(-np.expm1(-orders * epsilon))
        - np.log(-np.expm1(-(orders - 1) * epsilon))
    )
    t = np.clip(best, 0.0, epsilon)
    whole = -math.expm1(-epsilon)
    log_q = -t + np.log(-np.expm1(t - epsilon)) - math.log(whole)
    rest = -np.expm1(-t) / whole
    rise, fall = orders * t, orders * (epsilon - t)
    near = np.exp(log_q) * np.expm1(np.minimum(rise, _SAFE)) + rest * np.expm1(-fall)
    with np.errstate(divide="ignore"):
        far = np.logaddexp(log_q + rise, np.log(rest) - fall)
    log_moment = np.where(rise < _SAFE, np.log1p(np.maximum(near, 0.0)), far)
    return np.minimum(bound, log_moment * (1 + 1e-9) / (orders - 1))
