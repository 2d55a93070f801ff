"""Sums and noise on one lattice: rounded, added exactly, and only then turned back into floats.

Why the lattice is exact accounting. With whole numbers a = round(g/s) and Z Gaussian,
a + round(Z/s) = round(a + Z/s): rounding the ideal Gaussian mechanism applied to the rounded sum,
that is post-processing. No discrete-Gaussian accounting is needed.

Why `ROUNDING_MARGIN` is 2e-3. Two neighbouring sums are at most C apart in L2. Rounding moves each
of d coordinates by at most s/2, in both sums: at most s * sqrt(d) together. With s = C * 2^-k and
2^k >= 1000 * sqrt(d) that is at most 1e-3 * C. Scaling by 1/s in float64 moves a coordinate by at
most 2^-3 * s (|g| <= 2^50 * s is enforced), in both sums 0.25e-3 * C. The remaining 0.75e-3 * C is
room for the rounding of the engine's own summation. So the rounded sums are at most (1 + 2e-3) * C
apart, and noise of standard deviation noise_multiplier * (1 + 2e-3) * C is at least what
`Gaussian(noise_multiplier)` prices.

What remains. (1) Pairwise float32 summation of B gradients that all point the same way can err by
B * log2(B) * 2^-24 * C: inside the room up to B = 600, in the worst case; gradients that do not
align need far less, and adding micro-batches in float64 removes the limit. (2) Z is a
float64, so the probability of one lattice point is off by a relative 2^-52 * |Z|/s, about 2^-32 for
10^6 coordinates. Neither is part of the reported delta.

Shapes: N coordinates of one chunk.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
import torch
from torch import Tensor

from privacy_core.errors import InvalidParameter
from privacy_finetuner.training.box_muller import Floats

ROUNDING_MARGIN: Final = 2e-3

# Cells of the lattice per unit of sensitivity and sqrt(coordinate): rounding costs 1/1000.
_CELLS: Final = 1000.0
# Copies through torch (half types) stay below the size from which it opens threads.
_SEGMENT: Final = 2**15
_LARGEST_SUM_IN_STEPS: Final = 2.0**50
_LARGEST_NOISE_IN_STEPS: Final = 2.0**52
_LARGEST_NORMAL: Final = 9.5
_FLOATS: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Types whose tensors numpy reads and writes in place.
_NUMPY_FLOATS: Final = (torch.float32, torch.float64)

Segment: TypeAlias = tuple[int, int, int]
"""A run of coordinates: index of the tensor, first and last + 1 position in it."""


def lattice_step(sensitivity: float, *, coordinates: int) -> float:
    """Return s = sensitivity * 2^-k with the smallest k such that 2^k >= 1000 * sqrt(coordinates).

    Args:
        sensitivity: C > 0 and finite, large enough that s is a normal float64.
        coordinates: number of coordinates released together, >= 0 (0 counts as 1).

    Raises:
        InvalidParameter: `sensitivity` is outside its domain.
    """
    step = sensitivity * 2.0 ** -math.ceil(math.log2(_CELLS * math.sqrt(max(coordinates, 1))))
    if not sys.float_info.min <= step < math.inf:
        raise InvalidParameter(
            "sensitivity", found=sensitivity, expected="a finite number > 0 (and not below 1e-290)"
        )
    return step


class LatticeRelease:
    """One release: the sums that it overwrites, and the lattice they go through.

    Args:
        sums: flat, contiguous, on the CPU, of any floating-point types; overwritten by `replace`.
        sensitivity: C > 0, in the units of the sums.
        noise_multiplier: > 0, as priced.
        divisor: public, > 0; the answer is divided by it.

    Raises:
        InvalidParameter: an argument is outside its domain; the sums are unchanged.
    """

    def __init__(
        self,
        sums: Sequence[Tensor],
        *,
        sensitivity: float,
        noise_multiplier: float,
        divisor: float = 1.0,
    ) -> None:
        for index, part in enumerate(sums):
            if part.dtype not in _FLOATS:
                raise InvalidParameter(
                    f"sums[{index}]", found=part.dtype, expected="a floating-point tensor"
                )
        if not 0 < divisor < math.inf:
            raise InvalidParameter("divisor", found=divisor, expected="a finite number > 0")
        self._sums = sums
        self._step = lattice_step(sensitivity, coordinates=sum(part.numel() for part in sums))
        self._unit = self._step / divisor
        self.scale = _noise_scale(sensitivity, noise_multiplier, step=self._step)
        """Standard deviation of the noise, in steps."""

    def replace(self, chunk: Sequence[Segment], noise_N: Floats, spare_N: Floats) -> None:
        """Overwrite the coordinates of one chunk by unit * (round(g / s) + round(noise)).

        Args:
            chunk: which coordinates.
            noise_N: one N(0, scale^2) sample for each of them; overwritten.
            spare_N: as many numbers; overwritten.

        Raises:
            InvalidParameter: a coordinate has no lattice point; this chunk is unchanged.
        """
        at = 0
        for index, start, stop in chunk:
            part_N = spare_N[at : at + stop - start]
            _read_scaled(self._sums[index][start:stop], 1.0 / self._step, part_N)
            at += stop - start
        self._require_points(chunk, spare_N)
        # Whole numbers below 2^53: float64 holds and adds them exactly.
        np.rint(spare_N, out=spare_N)
        np.rint(noise_N, out=noise_N)
        noise_N += spare_N
        at = 0
        for index, start, stop in chunk:
            part_N = noise_N[at : at + stop - start]
            _write_scaled(part_N, self._unit, self._sums[index][start:stop])
            at += stop - start

    def _require_points(self, chunk: Sequence[Segment], steps_N: Floats) -> None:
        """Refuse a coordinate that has no lattice point; name tensors, not values."""
        # Written so that NaN, which min and max pass on, is refused too.
        if steps_N.min() >= -_LARGEST_SUM_IN_STEPS and steps_N.max() <= _LARGEST_SUM_IN_STEPS:
            return
        limit = _LARGEST_SUM_IN_STEPS * self._step
        places = {
            index
            for index, start, stop in chunk
            if not bool((self._sums[index][start:stop].double().abs() <= limit).all())
        }
        raise InvalidParameter(
            "sums",
            found=f"coordinates that are not finite or too large, in tensors {sorted(places)}",
            expected=f"finite coordinates, at most {limit:.3g} in size; nothing is released",
        )


def segments(sizes: Sequence[int], *, room: int) -> Iterator[list[Segment]]:
    """Cut tensors of these sizes into chunks of `room` coordinates; small tensors share one."""
    chunk: list[Segment] = []
    left = room
    for index, size in enumerate(sizes):
        start = 0
        while start < size:
            stop = min(size, start + left)
            chunk.append((index, start, stop))
            left -= stop - start
            start = stop
            if left == 0:
                yield chunk
                chunk, left = [], room
    if chunk:
        yield chunk


def length_of(chunk: Sequence[Segment]) -> int:
    """The number of coordinates of a chunk."""
    return sum(stop - start for _, start, stop in chunk)


def _read_scaled(values: Tensor, factor: float, out: Floats) -> None:
    if values.dtype in _NUMPY_FLOATS:
        np.multiply(values.numpy(), factor, out=out, dtype=np.float64)
        return
    for start in range(0, out.size, _SEGMENT):
        piece = slice(start, start + _SEGMENT)
        torch.from_numpy(out[piece]).copy_(values[piece])
    out *= factor


def _write_scaled(values: Floats, factor: float, out: Tensor) -> None:
    if out.dtype in _NUMPY_FLOATS:
        np.multiply(values, factor, out=out.numpy(), casting="same_kind")
        return
    values *= factor
    for start in range(0, values.size, _SEGMENT):
        piece = slice(start, start + _SEGMENT)
        out[piece].copy_(torch.from_numpy(values[piece]))


def _noise_scale(sensitivity: float, noise_multiplier: float, *, step: float) -> float:
    """Return the noise's standard deviation in lattice steps."""
    if not 0 < noise_multiplier < math.inf:
        raise InvalidParameter(
            "noise_multiplier", found=noise_multiplier, expected="a finite number > 0"
        )
    scale = noise_multiplier * (1 + ROUNDING_MARGIN) * (sensitivity / step)
    if scale * _LARGEST_NORMAL > _LARGEST_NOISE_IN_STEPS:
        limit = _LARGEST_NOISE_IN_STEPS * noise_multiplier / (scale * _LARGEST_NORMAL)
        raise InvalidParameter(
            "noise_multiplier", found=noise_multiplier, expected=f"at most {limit:.3g} here"
        )
    return scale


def _require_floats(sums: Sequence[Tensor]) -> None:
    for index, part in enumerate(sums):
        if part.dtype not in _FLOATS:
            raise InvalidParameter(
                f"sums[{index}]", found=part.dtype, expected="a floating-point tensor"
            )
