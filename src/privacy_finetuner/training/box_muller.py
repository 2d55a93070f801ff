"""Gaussian samples from uniform words, by arithmetic that never branches on them.

63-bit radii reach 9.41 standard deviations; what is cut off has probability 2^-64. A
coordinate errs by at most 8 units of 2^-53, relative to the radius.

Every pass writes into a buffer that the caller owns: numpy then allocates nothing, and leaves the
interpreter to other threads while it works.

Shapes: P pairs, W = 2 P words, N = 2 P samples.
"""

from __future__ import annotations

import math
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

_SIXTY_THREE_BITS: Final = np.uint64(2**63 - 1)
_SIGN_BIT: Final = np.uint64(2**63)
# sin(x) / x in powers of x^2 for |x| <= pi / 4, to a relative 2^-57: FreeBSD msun, k_sin.c.
_SINE: Final = (
    1.0,
    -1.66666666666666324348e-01,
    8.33333333332248946124e-03,
    -1.98412698298579493134e-04,
    2.75573137070700676789e-06,
    -2.50507602534068634195e-08,
    1.58969099521155010221e-10,
)
# The same for sqrt(2) sin(pi / 4 * 2^-63 w), in powers of the word w itself: no pass to scale it.
_HALF_ANGLE: Final = tuple(
    math.sqrt(2) * coefficient * (math.pi / 4 * 2.0**-63) ** (2 * k + 1)
    for k, coefficient in enumerate(_SINE)
)


def box_muller(
    words_W: npt.NDArray[np.uint64], out_N: Floats, scratch_P: Floats, *, scale: float = 1.0
) -> None:
    """Turn uniform words into independent N(0, scale^2) samples; the words are overwritten.

    A pair is one word of the first half and one of the second. The first gives the radius, from 63
    bits: u = (w + 1/2) * 2^-63 in [2^-64, 1], r = scale * sqrt(-2 ln u) <= 9.42 scale; its
    first bit turns the pair by pi. The second, signed, gives an angle a = w * 2^-63 * pi/2. Both
    coordinates are used: r cos a in the first half of the answer, r sin a in the second. No word is
    rejected and no branch is taken on any of them.

    With h = sqrt(2) sin(a/2), from a polynomial: cos a = 1 - h^2 and sin a = h sqrt(2 - h^2).

    Args:
        words_W: uniform words, an even number of them.
        out_N: filled with as many samples as there are words.
        scratch_P: half as many numbers; overwritten.
        scale: standard deviation, > 0.

    Source: Box and Muller 1958, "A note on the generation of random normal deviates".
    """
    pairs = scratch_P.size
    radius_words_P, angle_words_P = words_W[:pairs], words_W[pairs:]
    radius_P, angle_P = out_N[:pairs], out_N[pairs:]
    _signed_radii(radius_words_P, radius_P, scratch_P, scale)
    np.copyto(angle_P, angle_words_P.view(np.int64))
    square_P, half_P = angle_words_P.view(np.float64), scratch_P  # the angle's word is used up
    np.multiply(angle_P, angle_P, out=square_P)
    np.multiply(square_P, _HALF_ANGLE[-1], out=half_P)
    for coefficient in _HALF_ANGLE[-2:0:-1]:
        half_P += coefficient
        half_P *= square_P
    half_P += _HALF_ANGLE[0]
    half_P *= angle_P
    np.multiply(half_P, half_P, out=square_P)
    sine_P, cosine_P = angle_P, radius_P
    np.subtract(2.0, square_P, out=sine_P)
    np.sqrt(sine_P, out=sine_P)
    half_P *= radius_P
    sine_P *= half_P
    square_P *= radius_P
    cosine_P -= square_P


def _signed_radii(
    words_P: npt.NDArray[np.uint64], out_P: Floats, scratch_P: Floats, scale: float
) -> None:
    """Write scale * sqrt(-2 ln u), with the sign that the first bit of the word says."""
    bits_P = scratch_P.view(np.uint64)
    np.bitwise_and(words_P, _SIXTY_THREE_BITS, out=bits_P)
    np.copyto(out_P, bits_P.view(np.int64))
    out_P += 0.5
    out_P *= 2.0**-63
    np.log(out_P, out=out_P)
    out_P *= -2.0 * scale * scale
    np.sqrt(out_P, out=out_P)
    words_P &= _SIGN_BIT
    signed_P = out_P.view(np.uint64)
    signed_P |= words_P
