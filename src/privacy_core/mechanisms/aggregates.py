"""Counts, histograms, sums, means and quantiles of one column, with their sensitivity.

Each takes a vector with one number for each unit, of any length, the empty one included. Bounds,
bins and candidates are public and come first; whatever the data holds is brought inside them:

==============  =====================  ==================  =====================
a number that   sums and means         histogram           quantile
is
==============  =====================  ==================  =====================
out of bounds   is moved to the bound  joins the end bin   counts as it is
infinite        is moved to the bound  joins the end bin   counts as it is
not a number    counts as the one in   joins no bin        counts on no side
                bounds nearest to 0
==============  =====================  ==================  =====================

so that no value can stop a release or make itself seen. Only the data's shape and type can be
refused; they are public. Sums are taken in whole steps of a public lattice, without rounding
errors, so that the sensitivity on paper is the sensitivity in fact (compare Casacuberta et al.
2022, arXiv:2207.10635, on sums of floats).

==============  ==============================  =================================
sensitivity     one unit joins or leaves        one unit is exchanged
==============  ==============================  =================================
count           1                               1
histogram       1, in one bin                   1, in each of two bins
sum             max(|lower|, |upper|)           upper - lower
mean            as its sum and its count        (upper - lower) / size
quantile        max(q, 1 - q), of a score       1, of a score
==============  ==============================  =================================

Under `replace_one` the size of the data set is public.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from privacy_core.accounting.gdp import sensitivity_under
from privacy_core.dp_events import (
    BoundedRange,
    Composed,
    DiscreteGaussian,
    DiscreteLaplace,
    DpEvent,
    Gaussian,
    Laplace,
    SelfComposed,
)
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import NeighbouringRelation
from privacy_core.mechanisms import deviates
from privacy_core.mechanisms.additive import (
    ADD_OR_REMOVE,
    Noise,
    nearest_float,
    read_names,
    with_whole_noise,
)
from privacy_core.mechanisms.deviates import Bits, NoisyNumber
from privacy_core.mechanisms.lattice import Column, Lattice, numbers_of
from privacy_core.mechanisms.mechanism import Entropy
from privacy_core.mechanisms.opendp_noise import OpenDp
from privacy_core.mechanisms.selection import ExponentialMechanism


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many numbers of a column are not 0, with whole-number noise.

    Args:
        scale: scale of the Laplace noise, or sigma of the Gaussian.
        noise: its shape.
        relation: which data sets are neighbours.
    """

    scale: float
    noise: Noise = Noise.LAPLACE
    relation: NeighbouringRelation = ADD_OR_REMOVE

    def __post_init__(self) -> None:
        read_names(self)
        _require_scale("scale", self.scale)

    @property
    def sensitivity(self) -> float:
        """1 under both relations."""
        return 1.0

    @property
    def event(self) -> DpEvent:
        """One discrete release."""
        return _whole_event(self.noise, self.scale, 1 / sensitivity_under(self.relation))

    def release(self, data: Column, entropy: Entropy | OpenDp) -> int:
        """The noisy count; it may be negative."""
        numbers = numbers_of(data)
        counted = np.count_nonzero(numbers[~np.isnan(numbers)])
        return with_whole_noise([int(counted)], self.noise, self.scale, entropy)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How many numbers fall into each bin [edge_j, edge_j+1), with whole-number noise.

    Args:
        edges: increasing, finite, at least two. The last bin holds its right edge too.
        scale: scale of the Laplace noise, or sigma of the Gaussian.
        noise: its shape.
        relation: which data sets are neighbours.
    """

    edges: tuple[float, ...]
    scale: float
    noise: Noise = Noise.LAPLACE
    relation: NeighbouringRelation = ADD_OR_REMOVE

    def __post_init__(self) -> None:
        read_names(self)
        _require_scale("scale", self.scale)
        _require_increasing("edges", self.edges, least=2)

    @property
    def sensitivity(self) -> float:
        """In L1: one bin moves by 1, or two bins do."""
        return sensitivity_under(self.relation)

    @property
    def event(self) -> DpEvent:
        """One discrete release for each bin that one unit can move."""
        match self.relation:
            case NeighbouringRelation.ADD_OR_REMOVE_ONE:
                return _whole_event(self.noise, self.scale, 1.0)
            case NeighbouringRelation.REPLACE_ONE:
                return SelfComposed(_whole_event(self.noise, self.scale, 0.5), 2)

    def release(self, data: Column, entropy: Entropy | OpenDp) -> list[int]:
        """One noisy count for each bin; a count may be negative."""
        numbers = numbers_of(data)
        known = numbers[~np.isnan(numbers)]
        inner = np.asarray(self.edges[1:-1], dtype=np.float64)
        bins = np.searchsorted(inner, known, side="right")
        counts = np.bincount(bins, minlength=len(self.edges) - 1)
        return with_whole_noise(counts.tolist(), self.noise, self.scale, entropy)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundedSum:
    """The sum of a column whose numbers are moved into [lower, upper].

    Args:
        lower: of the bounds, finite.
        upper: of the bounds, above `lower`.
        scale: scale of the Laplace noise, or sigma of the Gaussian, in units of the data.
        noise: its shape.
        relation: which data sets are neighbours.

    Every number is rounded to a lattice whose step is a power of two, at most 2^-20 of the larger
    bound; bounds are rounded inwards.
    """

    lower: float
    upper: float
    scale: float
    noise: Noise = Noise.LAPLACE
    relation: NeighbouringRelation = ADD_OR_REMOVE

    def __post_init__(self) -> None:
        read_names(self)
        _require_scale("scale", self.scale)
        Lattice.of(self.lower, self.upper)

    @property
    def sensitivity(self) -> float:
        """In units of the data; never above the bounds' own."""
        return float(self._lattice.sensitivity(self.relation))

    @property
    def event(self) -> DpEvent:
        """One real-valued release."""
        return _real_event(self.noise, self.scale, self.sensitivity, self.relation)

    def release(self, data: Column, entropy: Entropy) -> float:
        """The noisy sum."""
        lattice = self._lattice
        return _with_noise(lattice.total(data), lattice.step, self.noise, self.scale, entropy)

    @property
    def _lattice(self) -> Lattice:
        return Lattice.of(self.lower, self.upper)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundedMean:
    """The mean of a column whose numbers are moved into [lower, upper].

    Under `replace_one` the size is public and the sum takes all the noise. Under add-or-remove the
    size is private: a sum counted from the middle of the bounds and a count are released, and their
    quotient is moved back into the bounds. A mean of no data is about the middle.

    Args:
        lower: of the bounds, finite.
        upper: of the bounds, above `lower`.
        scale: noise on the sum: scale of the Laplace noise, or sigma of the Gaussian, in units of
            the data.
        count_scale: noise on the count; not read under `replace_one`.
        noise: its shape.
        relation: which data sets are neighbours.
    """

    lower: float
    upper: float
    scale: float
    count_scale: float
    noise: Noise = Noise.LAPLACE
    relation: NeighbouringRelation = ADD_OR_REMOVE

    def __post_init__(self) -> None:
        read_names(self)
        _require_scale("scale", self.scale)
        _require_scale("count_scale", self.count_scale)
        Lattice.of(self.lower, self.upper)

    @property
    def sensitivity(self) -> float:
        """Of the sum that takes the noise."""
        return float(self._lattice.sensitivity(self.relation))

    @property
    def event(self) -> DpEvent:
        """A real-valued release, and a count where the size is private."""
        of_sum = _real_event(self.noise, self.scale, self.sensitivity, self.relation)
        match self.relation:
            case NeighbouringRelation.ADD_OR_REMOVE_ONE:
                return Composed((of_sum, _whole_event(self.noise, self.count_scale, 1.0)))
            case NeighbouringRelation.REPLACE_ONE:
                return of_sum

    def release(self, data: Column, entropy: Entropy) -> float:
        """The noisy mean, inside the bounds."""
        lattice, size = self._lattice, len(numbers_of(data))
        total = _with_noise(lattice.total(data), lattice.step, self.noise, self.scale, entropy)
        if self.relation is NeighbouringRelation.ADD_OR_REMOVE_ONE:
            size = with_whole_noise([size], self.noise, self.count_scale, entropy)[0]
        mean = float(lattice.middle * lattice.step) + total / max(size, 1)
        return min(max(mean, self.lower), self.upper)

    @property
    def _lattice(self) -> Lattice:
        return Lattice.of(self.lower, self.upper).from_the_middle()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantile:
    """Which of public candidates is nearest to a quantile of a column.

    The score of a candidate c is -|(1 - q) #(below c) - q #(above c)|; the exponential mechanism
    chooses. With no data every candidate is equally likely.

    Args:
        quantile: q in (0, 1).
        candidates: increasing, finite, at least two.
        epsilon: of the selection, between neighbours under `relation`.
        relation: which data sets are neighbours.

    Source: Smith 2011 (the score); McSherry & Talwar 2007.
    """

    quantile: float
    candidates: tuple[float, ...]
    epsilon: float
    relation: NeighbouringRelation = ADD_OR_REMOVE

    def __post_init__(self) -> None:
        read_names(self)
        _require_scale("epsilon", self.epsilon)
        _require_increasing("candidates", self.candidates, least=2)
        if not 0 < self.quantile < 1:
            raise InvalidParameter(
                "quantile", found=self.quantile, expected="a number above 0 and below 1"
            )

    @property
    def sensitivity(self) -> float:
        """Of a score, rounded up: in floats 1 - q may be below what scores really move by."""
        match self.relation:
            case NeighbouringRelation.ADD_OR_REMOVE_ONE:
                exact = max(Fraction(self.quantile), 1 - Fraction(self.quantile))
                near = float(exact)
                return near if Fraction(near) >= exact else math.nextafter(near, 1.0)
            case NeighbouringRelation.REPLACE_ONE:
                return 1.0

    @property
    def event(self) -> DpEvent:
        """One exponential mechanism."""
        return BoundedRange(self.epsilon / sensitivity_under(self.relation))

    def scores(self, data: Column) -> list[Fraction]:
        """The score of every candidate: private, never released."""
        numbers = numbers_of(data)
        known = np.sort(numbers[~np.isnan(numbers)])
        below = np.searchsorted(known, self.candidates, side="left")
        above = len(known) - np.searchsorted(known, self.candidates, side="right")
        q = Fraction(self.quantile)
        return [
            -abs((1 - q) * b - q * a) for b, a in zip(below.tolist(), above.tolist(), strict=True)
        ]

    def release(self, data: Column, entropy: Entropy | OpenDp) -> float:
        """The chosen candidate."""
        choice = ExponentialMechanism(
            epsilon=self.epsilon, sensitivity=self.sensitivity, relation=self.relation
        )
        return self.candidates[choice.release(self.scores(data), entropy)]


def _with_noise(steps: int, step: Fraction, noise: Noise, scale: float, entropy: Entropy) -> float:
    bits = Bits(entropy)
    draw = deviates.laplace if noise is Noise.LAPLACE else deviates.normal
    number = NoisyNumber(steps * step, Fraction(scale), draw(bits))
    return nearest_float(number.rounded(bits, step), step)


def _whole_event(noise: Noise, scale: float, contribution: float) -> DpEvent:
    match noise:
        case Noise.LAPLACE:
            return DiscreteLaplace(scale, contribution)
        case Noise.GAUSSIAN:
            return DiscreteGaussian(scale, contribution)


def _real_event(
    noise: Noise, scale: float, sensitivity: float, relation: NeighbouringRelation
) -> DpEvent:
    multiplier = scale * sensitivity_under(relation) / sensitivity
    match noise:
        case Noise.LAPLACE:
            return Laplace(multiplier)
        case Noise.GAUSSIAN:
            return Gaussian(multiplier)


def _require_scale(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise InvalidParameter(name, found=value, expected="a finite number > 0")


def _require_increasing(name: str, values: Sequence[float], *, least: int) -> None:
    if (
        len(values) < least
        or not all(math.isfinite(value) for value in values)
        or any(b <= a for a, b in pairwise(values))
    ):
        raise InvalidParameter(
            name, found=f"{len(values)} numbers", expected=f"at least {least}, finite, increasing"
        )
