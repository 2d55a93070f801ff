"""A column of numbers, bounded and rounded to whole steps, so that its sum is exact.

Whole numbers add without rounding errors, in any order and on any machine: the sensitivity of the
sum is a whole number of steps and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import NeighbouringRelation
from privacy_core.mechanisms.additive import Vector

Column: TypeAlias = npt.NDArray[np.float64] | npt.NDArray[np.int64] | npt.NDArray[np.bool_]
"""One number for each unit."""

Steps: TypeAlias = npt.NDArray[np.int64]

_LATTICE: Final = 1 << 20
_STEPS_MOST: Final = 1 << 40
_BLOCK: Final = 1 << 22
_SIZE_LEAST: Final = 1e-280


@dataclass(frozen=True, slots=True)
class Lattice:
    """Whole steps: `low` to `high` are the bounds, and sums are counted from `middle`."""

    low: int
    high: int
    step: Fraction
    middle: int = 0

    @classmethod
    def of(cls, lower: float, upper: float) -> Lattice:
        """The lattice for these bounds: at least 2^20 steps to the larger, 1024 between them.

        Raises:
            InvalidParameter: the bounds are no interval, or too near to each other for their size.
        """
        if not (-math.inf < lower < upper < math.inf and max(-lower, upper) > _SIZE_LEAST):
            raise InvalidParameter(
                "lower", found=(lower, upper), expected="finite bounds, the lower one smaller"
            )
        _, exponent = math.frexp(max(abs(lower), abs(upper)))
        step = Fraction(2) ** (exponent - 1) / _LATTICE
        # A narrow range far from 0 needs a finer lattice, as long as whole numbers carry it.
        while (Fraction(upper) - Fraction(lower)) < 1024 * step:
            step /= 2
            if max(abs(lower), abs(upper)) / step > _STEPS_MOST:
                raise InvalidParameter(
                    "lower",
                    found=(lower, upper),
                    expected="bounds whose distance is not far below their size; move the origin",
                )
        return cls(math.ceil(Fraction(lower) / step), math.floor(Fraction(upper) / step), step)

    def from_the_middle(self) -> Lattice:
        """The same bounds, counted from their middle."""
        return Lattice(self.low, self.high, self.step, (self.low + self.high) // 2)

    def sensitivity(self, relation: NeighbouringRelation) -> Fraction:
        """How far one unit moves the total."""
        match relation:
            case NeighbouringRelation.ADD_OR_REMOVE_ONE:
                return max(abs(self.low - self.middle), abs(self.high - self.middle)) * self.step
            case NeighbouringRelation.REPLACE_ONE:
                return (self.high - self.low) * self.step

    def total(self, data: Column) -> int:
        """The exact sum of the rounded, bounded numbers less the middle, in steps."""
        numbers = np.nan_to_num(numbers_of(data), nan=0.0, posinf=math.inf, neginf=-math.inf)
        step = float(self.step)
        inside = np.clip(numbers, self.low * step, self.high * step)
        steps: Steps = np.rint(inside / step).astype(np.int64)
        steps = np.clip(steps, self.low, self.high) - self.middle
        # A block of 2^22 numbers of 2^41 steps at most stays inside 64 bits.
        return sum(int(steps[i : i + _BLOCK].sum()) for i in range(0, len(steps), _BLOCK))


def numbers_of(data: Column) -> Vector:
    """The column as floats.

    Raises:
        InvalidParameter: it is no vector, or not of numbers. Shape and type are public.
    """
    column = np.asarray(data)
    if column.ndim != 1 or column.dtype.kind not in "fiub":
        raise InvalidParameter(
            "data", found=f"{column.ndim} axes of {column.dtype}", expected="a vector of numbers"
        )
    return column.astype(np.float64)
