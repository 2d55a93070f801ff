"""Numbers with noise: Gaussian and Laplace, on real numbers and on whole ones.

============================  ==============================  ================  ====================
mechanism                     answers                         sensitivity in    event
============================  ==============================  ================  ====================
`GaussianMechanism`           vector of numbers               L2                Gaussian
`LaplaceMechanism`            vector of numbers               L1                Laplace; PureDp for
                                                                                several numbers
`DiscreteGaussianMechanism`   whole number                    steps             DiscreteGaussian
`DiscreteLaplaceMechanism`    whole number                    steps             DiscreteLaplace
============================  ==============================  ================  ====================

On real numbers the noise is the real-valued law itself, added exactly and rounded to a public
lattice (`deviates`), so that the textbook price holds to the letter. What the caller computed in
floating point before is the caller's: a sum of floats may move by more than its sensitivity on
paper. `aggregates` sum in whole numbers for that reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from privacy_core.accounting.gdp import gaussian_mu, sensitivity_under
from privacy_core.dp_events import (
    DiscreteGaussian,
    DiscreteLaplace,
    DpEvent,
    Gaussian,
    Laplace,
    PureDp,
)
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import NeighbouringRelation
from privacy_core.mechanisms import deviates
from privacy_core.mechanisms.deviates import Bits, NoisyNumber
from privacy_core.mechanisms.mechanism import Entropy
from privacy_core.mechanisms.opendp_noise import OpenDp, noisy_whole_numbers

Vector: TypeAlias = npt.NDArray[np.float64]

ADD_OR_REMOVE: Final = NeighbouringRelation.ADD_OR_REMOVE_ONE
_STEPS_PER_SCALE: Final = 1 << 20
_ROUNDING: Final = 1e-9
"""Noise is rounded up by this, so that the accountants, which round up too, agree."""

_FLOAT_MOST: Final = Fraction(float(np.finfo(np.float64).max))


class Noise(StrEnum):
    """The shape of additive noise."""

    LAPLACE = "laplace"
    GAUSSIAN = "gaussian"


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianMechanism:
    """Adds N(0, sigma^2) to every number of a vector and rounds to a public lattice.

    Args:
        sigma: standard deviation of the noise.
        sensitivity: how far the vector moves in L2 between neighbours under `relation`.
        relation: which data sets are neighbours.
        step: the lattice's step; `None`: the power of two next below sigma / 2^20.
    """

    sigma: float
    sensitivity: float
    relation: NeighbouringRelation = ADD_OR_REMOVE
    step: float | None = None

    def __post_init__(self) -> None:
        read_names(self)
        _require_scales(sigma=self.sigma, sensitivity=self.sensitivity, step=self.step)

    @classmethod
    def meeting(
        cls,
        *,
        epsilon: float,
        delta: float,
        sensitivity: float,
        relation: NeighbouringRelation = ADD_OR_REMOVE,
    ) -> GaussianMechanism:
        """The least noise that meets (epsilon, delta) exactly, for every epsilon > 0.

        The textbook's sqrt(2 ln(1.25/delta)) / epsilon is a proof for epsilon < 1 only, and above
        the least noise there.

        Raises:
            InvalidParameter: `epsilon` is not positive and finite, or `delta` is outside (0, 1).

        Source: Balle & Wang 2018 (arXiv:1805.06530), Theorem 8.
        """
        sigma = gaussian_sigma(epsilon=epsilon, delta=delta, sensitivity=sensitivity)
        return cls(sigma=sigma, sensitivity=sensitivity, relation=relation)

    @property
    def event(self) -> DpEvent:
        """A Gaussian release; its multiplier counts one contribution."""
        return Gaussian(self.sigma * sensitivity_under(self.relation) / self.sensitivity)

    def release(self, data: Vector, entropy: Entropy) -> Vector:
        """The vector with noise.

        Raises:
            InvalidParameter: a number is not finite. No bound on the sensitivity can hold for such
                a query, so this refusal is not protected: mend the query.
        """
        bits = Bits(entropy)
        scale, step = Fraction(self.sigma), lattice_step(self.sigma, self.step)
        return np.array(
            [
                nearest_float(
                    NoisyNumber(x, scale, deviates.normal(bits)).rounded(bits, step), step
                )
                for x in exact_numbers(data)
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LaplaceMechanism:
    """Adds Laplace noise to every number of a vector and rounds to a public lattice.

    Args:
        scale: mean size of the noise.
        sensitivity: how far the vector moves in L1 between neighbours under `relation`.
        dimension: how many numbers. For more than one, only the pure epsilon is claimed.
        relation: which data sets are neighbours.
        step: the lattice's step; `None`: the power of two next below scale / 2^20.
    """

    scale: float
    sensitivity: float
    dimension: int = 1
    relation: NeighbouringRelation = ADD_OR_REMOVE
    step: float | None = None

    def __post_init__(self) -> None:
        read_names(self)
        _require_scales(scale=self.scale, sensitivity=self.sensitivity, step=self.step)
        if isinstance(self.dimension, bool) or self.dimension < 1:
            raise InvalidParameter(
                "dimension", found=self.dimension, expected="a whole number >= 1"
            )

    @classmethod
    def meeting(
        cls,
        *,
        epsilon: float,
        sensitivity: float,
        dimension: int = 1,
        relation: NeighbouringRelation = ADD_OR_REMOVE,
    ) -> LaplaceMechanism:
        """The least Laplace noise that meets a pure epsilon.

        Raises:
            InvalidParameter: `epsilon` or `sensitivity` is not positive and finite.
        """
        scale = laplace_scale(epsilon=epsilon, sensitivity=sensitivity)
        return cls(scale=scale, sensitivity=sensitivity, dimension=dimension, relation=relation)

    @property
    def event(self) -> DpEvent:
        """A Laplace release; its multiplier counts one contribution."""
        multiplier = self.scale * sensitivity_under(self.relation) / self.sensitivity
        return Laplace(multiplier) if self.dimension == 1 else PureDp(1 / multiplier)

    def release(self, data: Vector, entropy: Entropy) -> Vector:
        """The vector with noise.

        Raises:
            InvalidParameter: a number is not finite (see `GaussianMechanism.release`), or there are
                not `dimension` of them.
        """
        numbers = exact_numbers(data)
        if len(numbers) != self.dimension:
            raise InvalidParameter("data", found=len(numbers), expected=f"{self.dimension} numbers")
        bits = Bits(entropy)
        scale, step = Fraction(self.scale), lattice_step(self.scale, self.step)
        return np.array(
            [
                nearest_float(
                    NoisyNumber(x, scale, deviates.laplace(bits)).rounded(bits, step), step
                )
                for x in numbers
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscreteLaplaceMechanism:
    """Adds noise k with P(k) proportional to e^(-|k| / scale) to a whole number.

    Args:
        scale: of the noise, > 0.
        sensitivity: how far the number moves between neighbours under `relation`, a whole number.
        relation: which data sets are neighbours.
    """

    scale: float
    sensitivity: int
    relation: NeighbouringRelation = ADD_OR_REMOVE

    def __post_init__(self) -> None:
        read_names(self)
        _require_scales(scale=self.scale, sensitivity=self.sensitivity, step=None)
        _require_whole("sensitivity", self.sensitivity)

    @property
    def event(self) -> DpEvent:
        """A discrete Laplace release; its sensitivity counts one contribution."""
        return DiscreteLaplace(self.scale, self.sensitivity / sensitivity_under(self.relation))

    def release(self, data: int, entropy: Entropy | OpenDp) -> int:
        """The number with noise; `OPENDP` in place of the entropy lets OpenDP draw it."""
        return with_whole_noise([data], Noise.LAPLACE, self.scale, entropy)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscreteGaussianMechanism:
    """Adds noise k with P(k) proportional to e^(-k^2 / (2 sigma^2)) to a whole number.

    Args:
        sigma: of the noise, > 0. Below about 0.5 the standard deviation is smaller than sigma.
        sensitivity: how far the number moves between neighbours under `relation`, a whole number.
        relation: which data sets are neighbours.
    """

    sigma: float
    sensitivity: int
    relation: NeighbouringRelation = ADD_OR_REMOVE

    def __post_init__(self) -> None:
        read_names(self)
        _require_scales(sigma=self.sigma, sensitivity=self.sensitivity, step=None)
        _require_whole("sensitivity", self.sensitivity)

    @property
    def event(self) -> DpEvent:
        """A discrete Gaussian release; its sensitivity counts one contribution."""
        return DiscreteGaussian(self.sigma, self.sensitivity / sensitivity_under(self.relation))

    def release(self, data: int, entropy: Entropy | OpenDp) -> int:
        """The number with noise; `OPENDP` in place of the entropy lets OpenDP draw it."""
        return with_whole_noise([data], Noise.GAUSSIAN, self.sigma, entropy)[0]


def gaussian_sigma(*, epsilon: float, delta: float, sensitivity: float) -> float:
    """The least standard deviation of (epsilon, delta)-private Gaussian noise, rounded up by 1e-9.

    Raises:
        InvalidParameter: `epsilon` or `sensitivity` is not positive and finite, or `delta` is
            outside (0, 1).

    Source: Balle & Wang 2018 (arXiv:1805.06530), Theorem 8 and Algorithm 1.
    """
    _require_scales(epsilon=epsilon, sensitivity=sensitivity, step=None)
    if not 0 < delta < 1:
        raise InvalidParameter("delta", found=delta, expected="a number above 0 and below 1")
    return sensitivity / gaussian_mu(epsilon, delta) * (1 + _ROUNDING)


def laplace_scale(*, epsilon: float, sensitivity: float) -> float:
    """The least scale of epsilon-private Laplace noise, rounded up by 1e-9."""
    _require_scales(epsilon=epsilon, sensitivity=sensitivity, step=None)
    return sensitivity / epsilon * (1 + _ROUNDING)


def with_whole_noise(
    values: list[int], noise: Noise, scale: float, entropy: Entropy | OpenDp
) -> list[int]:
    """Each whole number with fresh noise of this shape; `scale` is the sigma of a Gaussian."""
    if isinstance(entropy, OpenDp):
        return noisy_whole_numbers(values, law=noise.value, scale=scale)
    bits, width = Bits(entropy), Fraction(scale)
    draw = deviates.discrete_laplace if noise is Noise.LAPLACE else deviates.discrete_gaussian
    return [value + draw(bits, width) for value in values]


def exact_numbers(data: Vector) -> list[Fraction]:
    """The numbers of a vector, exactly.

    Raises:
        InvalidParameter: `data` is no vector of numbers, or one of them is not finite.
    """
    vector = np.asarray(data)
    if vector.ndim != 1 or vector.dtype.kind not in "fiu":
        raise InvalidParameter(
            "data", found=f"{vector.ndim} axes of {vector.dtype}", expected="a vector of numbers"
        )
    if not np.all(np.isfinite(vector)):
        raise InvalidParameter(
            "data",
            found="a number that is not finite",
            expected="finite numbers: the sensitivity is not bounded otherwise; nothing was drawn",
        )
    return [Fraction(x) for x in vector.tolist()]


def nearest_float(steps: int, step: Fraction) -> float:
    """Where so many steps lie, as a float; beyond the floats, the largest one."""
    return float(max(-_FLOAT_MOST, min(_FLOAT_MOST, steps * step)))


def lattice_step(scale: float, step: float | None) -> Fraction:
    """The step asked for, or the power of two next below scale / 2^20."""
    if step is not None:
        return Fraction(step)
    _, exponent = math.frexp(scale)
    return Fraction(2) ** (exponent - 1) / _STEPS_PER_SCALE


def read_names(mechanism: object) -> None:
    """Let a frozen mechanism's relation and noise be given by name.

    Raises:
        InvalidParameter: there is no such name.
    """
    for name, kind in (("relation", NeighbouringRelation), ("noise", Noise)):
        if hasattr(mechanism, name):
            try:
                object.__setattr__(mechanism, name, kind(getattr(mechanism, name)))
            except ValueError:
                raise InvalidParameter(
                    name, found=getattr(mechanism, name), expected=f"one of {[*kind]}"
                ) from None


def _require_scales(*, step: float | None, **scales: float) -> None:
    for name, value in {**scales, **({} if step is None else {"step": step})}.items():
        if not 0 < value < math.inf:
            raise InvalidParameter(name, found=value, expected="a finite number > 0")


def _require_whole(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidParameter(name, found=value, expected="a whole number >= 1")
