"""Composition of privacy losses: discretise, tilt, one fast Fourier transform.

1. *Connect the dots* (see `loss_law`) on edges that are a subset of a lattice.
2. *Tilt*: with the law of the sum S weighted by e^(theta S), the region that decides delta is the
   centre of the weighted law, so that rounding does not drown it, whatever delta is.
3. *Wrap*: the transform adds masses that are a multiple of its length apart. All are positive, so
   the result stays an upper bound; the length is chosen so that they are below 1e-6 delta. What is
   cut off at the top is added to delta.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy

from privacy_core.accounting.dominating_pairs import DominatingPair, Vector
from privacy_core.accounting.loss_law import (
    LossLaw,
    Moments,
    connect_the_dots,
    lattice_edges,
    rough_edges,
)

_THETAS: Final = np.geomspace(1e-3, 1e7, 116)
_NEGLIGIBLE: Final = 1e-6
_LENGTH_MAX: Final = 1 << 22
_ROUNDING: Final = 1e-9
_VANISHED: Final = 80.0
_NATS_SPARE: Final = 14.0
_EPSILON_LEAST: Final = 1e-4
_EDGES_FEW: Final = 4000
_REACH_OF_Q: Final = 600.0
_EXPONENT_MAX: Final = 740.0
_LOG_RARE: Final = math.log(5e-4)
_REFERENCE_DELTAS: Final = (1e-3, 1e-6, 1e-10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """A pair, composed with itself `count` times."""

    pair: DominatingPair
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSum:
    """The sum S of independent discrete losses on one lattice.

    Every delta it returns is an upper bound for the acts it was made of.
    """

    acts: tuple[Act, ...]
    cut: float
    accuracy: float
    laws: tuple[LossLaw, ...]
    step: float
    moments: Moments
    below: Moments
    infinite: float

    @classmethod
    def of(cls, acts: Sequence[Act], *, tail: float, accuracy: float) -> LossSum:
        """Discretise the acts.

        Args:
            acts: what is composed.
            tail: mass that each law may move to infinity.
            accuracy: the relative error of epsilon to aim at. The lattice follows from it and from
                the acts alone, so that epsilon does not jump when delta changes.
        """
        budget = _error_budget(acts, accuracy)
        shares = [math.sqrt(budget / (len(acts) * act.count)) for act in acts]
        step = min(shares)
        widest = math.sqrt(budget) / (2 * step)
        laws = []
        for act, share in zip(acts, shares, strict=True):
            spacing = int(share / step * (1 + 1e-9))
            low, high = act.pair.span(tail)
            few = math.ceil((high - low) / (_EDGES_FEW * step))
            edges = lattice_edges(
                low, high, spacing=spacing, widest=max(spacing, int(widest), few), step=step
            )
            laws.append(connect_the_dots(act.pair, edges, act.count))
        return cls(
            acts=tuple(acts),
            cut=tail,
            accuracy=accuracy,
            laws=tuple(laws),
            step=step,
            moments=Moments.of(laws, _THETAS),
            below=Moments.of(laws, -_THETAS[::4]),
            infinite=math.fsum(law.infinite * law.count for law in laws),
        )

    def reach(self, lowest: float) -> float:
        """The highest loss up to which one tilt keeps rounding as small as it is at `lowest`.

        inf if no tilted mean lies above `lowest`: then one tilt serves the rest.
        """
        higher = self.moments.mean[self.moments.mean > lowest]
        if not len(higher):
            return math.inf
        spare = self._spare(np.append(higher, lowest))
        served = np.maximum(spare[:, :-1], spare[:, -1:]).min(axis=0) <= _NATS_SPARE
        return float(higher[served].max()) if served.any() else float(higher.min())

    def _spare(self, losses: Vector) -> Vector:
        """How many nats the law tilted by each theta (rows) gives away at each loss (columns)."""
        centred = self.moments.height[:, None] - _THETAS[:, None] * losses
        result: Vector = centred - centred.min(axis=0)
        return result

    def tail(self, lowest: float, delta: float, *, highest: float | None = None) -> LossTail:
        """The law of S above `lowest`, for deltas around `delta`.

        Precise at `lowest` and a little above it; with `highest`, up to there: see `reach`.
        """
        log_tiny = math.log(delta * _NEGLIGIBLE)
        lost = self.infinite + delta * _NEGLIGIBLE
        top = float(np.min((self.moments.height - log_tiny) / _THETAS))
        if top <= lowest:  # what is above `lowest` is in `lost` already
            return _nothing_above(lowest, lost)
        widths = self._widths(lowest, top, log_tiny, min(highest or lowest, top))
        i = int(np.argmin(widths))
        cells = (max(float(widths[i]), top - lowest) + 4 * self.step) / self.step
        if cells > _LENGTH_MAX:
            coarse = self.accuracy * 1.1 * (cells / _LENGTH_MAX) ** 2
            return LossSum.of(self.acts, tail=self.cut, accuracy=coarse).tail(
                lowest, delta, highest=highest
            )
        first, last = math.floor(lowest / self.step), math.ceil(top / self.step)
        theta = float(_THETAS[i])
        return LossTail.of(
            np.arange(first, last + 1, dtype=np.float64) * self.step,
            self._tilted(theta, first, last, math.ceil(cells)),
            theta=theta,
            log_moment=float(self.moments.height[i]),
            lost=lost,
            slack=_ROUNDING * (1 + 1e-5 * (1 + theta) * sum(law.count for law in self.laws)),
        )

    def _widths(self, lowest: float, top: float, log_tiny: float, highest: float) -> Vector:
        """For every theta, how long the transform must be for wrapped masses to be negligible.

        inf where the tilted law is so far from `lowest` or `highest` that rounding would show;
        what it gives away is convex in the loss, so that it is less in between.
        """
        heights, slopes = self.moments.height, -self.below.thetas
        centred = heights - _THETAS * lowest
        # Mass at S > lowest + W lands above `lowest` with weight e^(theta W): for every steeper t,
        # at most exp(K(t) - t (lowest + W) + theta W).
        steeper = _THETAS[None, :] - _THETAS[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            bounds = (centred - log_tiny)[None, :] / steeper
        from_above = np.where(steeper > 0, bounds, math.inf).min(axis=1)
        # Mass at S < top - W lands above `lowest` with weight e^(-theta W).
        from_below = (
            (self.below.height + slopes * top - log_tiny) / (_THETAS[:, None] + slopes)
        ).min(axis=1)
        needed = np.maximum(from_above, np.minimum(from_below, -log_tiny / _THETAS))
        spare = self._spare(np.array([lowest, highest])).max(axis=1)
        usable = spare <= max(_NATS_SPARE, float(spare.min()))
        return np.where(usable, np.maximum(needed, top - lowest), math.inf)

    def _tilted(self, theta: float, first: int, last: int, length: int) -> Vector:
        """The tilted, wrapped law of S on the lattice points first..last."""
        size = _fast_length(max(length, last - first + 2))
        product = np.ones(size // 2 + 1, dtype=np.complex128)
        for law in self.laws:
            kept = law.p > 0
            exponents = theta * law.losses[kept] + np.log(law.p[kept])
            weights = np.exp(exponents - scipy.special.logsumexp(exponents))
            cells = np.round(law.losses[kept] / self.step).astype(np.int64) % size
            spectrum = np.fft.rfft(np.bincount(cells, weights=weights, minlength=size))
            product *= _power(spectrum, law.count)
        wrapped = np.fft.irfft(product, size)
        return np.maximum(np.take(wrapped, np.arange(first, last + 1), mode="wrap"), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTail:
    """The upper tail of a loss sum: delta for every epsilon above its first loss, and back.

    `above_p[i]` and `above_q[i]` are sums over the losses from i on of p(S) and of
    p(S) e^(first loss - S), in units of exp(log_scale).
    """

    losses: Vector
    above_p: Vector
    above_q: Vector
    log_scale: float
    lost: float
    slack: float

    @classmethod
    def of(
        cls,
        losses: Vector,
        weighted: Vector,
        *,
        theta: float,
        log_moment: float,
        lost: float,
        slack: float,
    ) -> LossTail:
        """Undo the tilt and add from the top."""
        fall = losses - losses[0]
        p = weighted * np.exp(-np.minimum(theta * fall, _EXPONENT_MAX))
        # Further up, e^(epsilon - S) is 0 for every epsilon of interest; leaving it out rounds up.
        q = np.where(fall < _REACH_OF_Q, p * np.exp(-np.minimum(fall, _REACH_OF_Q)), 0.0)
        return cls(
            losses=losses,
            above_p=np.cumsum(p[::-1])[::-1],
            above_q=np.cumsum(q[::-1])[::-1],
            log_scale=log_moment - theta * float(losses[0]),
            lost=lost,
            slack=slack,
        )

    def delta(self, epsilon: float) -> float:
        """E[(1 - e^(epsilon - S))_+], rounded up."""
        i = int(np.searchsorted(self.losses, epsilon, side="left"))
        if i >= len(self.losses):
            return min(1.0, self.lost)
        inner = self.above_p[i] - self.above_q[i] * math.exp(
            min(epsilon - self.losses[0], _REACH_OF_Q)
        )
        if inner <= 0:
            return min(1.0, self.lost)
        exponent = self.log_scale + math.log(inner)
        return min(1.0, math.exp(min(exponent, 1.0)) * (1 + self.slack) + self.lost)

    def epsilon(self, delta: float) -> float | None:
        """The smallest epsilon >= the first loss with `delta(epsilon) <= delta`.

        None if already the first loss has a smaller delta: the answer lies below this tail.
        """
        left = (delta - self.lost) / (1 + self.slack)
        if left <= 0:
            return math.inf
        wanted = math.exp(min(math.log(left) - self.log_scale, 700.0))
        inner = self.above_p - self.above_q * np.exp(
            np.minimum(self.losses - self.losses[0], _REACH_OF_Q)
        )
        over = np.flatnonzero(inner > wanted)
        if not len(over):
            return None
        # Between the last loss that is over and the next one, delta is A - e^epsilon B.
        i = min(int(over[-1]) + 1, len(self.losses) - 1)
        room, weight = self.above_p[i] - wanted, self.above_q[i]
        if room <= 0 or weight <= 0:
            return float(self.losses[i])
        return float(min(self.losses[0] + math.log(room / weight), self.losses[i]))


def _nothing_above(lowest: float, lost: float) -> LossTail:
    nothing = np.zeros(1)
    return LossTail(
        losses=np.array([lowest]),
        above_p=nothing,
        above_q=nothing,
        log_scale=0.0,
        lost=lost,
        slack=0.0,
    )


def _fast_length(least: int) -> int:
    """The smallest even number >= `least` of the form 2^a 3^b with b <= 2: quick to transform."""
    return min(odd << max(1, math.ceil(math.log2(least / odd))) for odd in (1, 3, 9))


def rough_moments(acts: Sequence[Act]) -> Moments:
    """Moments to within about one percent, in about a millisecond."""
    return Moments.of(_rough_laws(acts), _THETAS)


def lies_above(acts: Sequence[Act], epsilon: float) -> bool:
    """Whether the loss is above `epsilon` by far, all but surely: delta is then above 0.999.

    By Chernoff's bound on the lower tail, with forty nats to spare. A loss that floats cannot hold
    is above everything.
    """
    with np.errstate(all="ignore"):
        below = Moments.of(_rough_laws(acts), -_THETAS)
        exponents = below.height + _THETAS * (epsilon + 40)
    known = np.isfinite(exponents)
    return not known.any() or float(exponents[known].min()) < _LOG_RARE


def rough_bound(acts: Sequence[Act], delta: float) -> float:
    """An epsilon for `delta`, never below the true one, in about a millisecond.

    The Renyi bound of coarse laws: they dominate the acts too, only less closely.
    """
    laws = _rough_laws(acts)
    infinite = math.fsum(law.infinite * law.count for law in laws)
    return Moments.of(laws, _THETAS).chernoff_epsilon(delta - infinite) * (1 + _ROUNDING)


def _rough_laws(acts: Sequence[Act]) -> list[LossLaw]:
    laws = []
    for act in acts:
        low, high = act.pair.span(1e-20)
        laws.append(connect_the_dots(act.pair, rough_edges(low, high), act.count))
    return laws


def _error_budget(acts: Sequence[Act], accuracy: float) -> float:
    """sum_i count_i h_i^2 that keeps the relative error of epsilon near `accuracy`.

    Splitting an interval of width h adds theta (theta + 1) h^2 / 12 to the log moment of one loss,
    hence about (theta + 1) sum_i count_i h_i^2 / 12 to epsilon; and never more than count_i h_i.
    """
    moments = rough_moments(acts)
    count = sum(act.count for act in acts)
    budgets = []
    for delta in _REFERENCE_DELTAS:
        bounds = (moments.height - math.log(delta)) / _THETAS
        i = int(np.argmin(bounds))
        error = accuracy * max(float(bounds[i]), _EPSILON_LEAST)
        budgets.append(max(12 * error / (1 + float(_THETAS[i])), error**2 / count))
    return min(budgets)


def _power(spectrum: npt.NDArray[np.complex128], count: int) -> npt.NDArray[np.complex128]:
    """spectrum^count. Frequencies at which the power vanishes are not computed."""
    size = np.abs(spectrum)
    kept = size > math.exp(-_VANISHED / count)
    result = np.zeros_like(spectrum)
    result[kept] = np.exp(count * np.log(spectrum[kept]))
    return result
