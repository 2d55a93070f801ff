"""A draw from the softmax of exact numbers. Floats decide only where they are certain.

The law: P(v) = e^(x_v) / sum_w e^(x_w), where x are rational numbers, given as they are. It is
drawn by inversion. A uniform number U is known by its first 64 binary digits; the place is the v
with A_(v-1) < U T < A_v, where A are the running sums of e^x and T is the last of them.

1. In float64 the running sums a_v and their last one t are computed, and a bound m such that
   |a_v - A_v| <= m t for all v (up to a common factor, which the law does not see). If U t is
   further than 3 m t from both ends of the step that it falls in, then U T lies in the same step
   of the exact sums: the place is certain, and is the one that exact inversion gives.
2. Else (once in 2^30 draws at 128 candidates) sums and U are enclosed in decimal intervals of
   more and more digits until one step holds all of U T. The inverse exists and is unique but for
   U on one of finitely many numbers, which has probability 0.

So every decision is that of exact inversion of an exactly uniform number, and the law is exact: no
rounding, no low-order bit for an attack (Mironov 2012) to hold on to. The time
does not depend on the law either, but for the rare second part, where a rejection sampler's would.

What is taken for granted: IEEE 754 arithmetic, and numpy's float64 `exp` within a relative 2^-45,
128 units in the last place; the tests hold it against decimal arithmetic.

Sources: Haney et al. 2022 (arXiv:2207.13793) (refining intervals until a release is certain);
Karney 2016 (arXiv:1303.6257) (digits drawn when a comparison needs them).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import MAX_EMAX, MIN_EMIN, ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from itertools import accumulate
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from privacy_core.mechanisms.deviates import Bits, Uniform

Floats: TypeAlias = npt.NDArray[np.float64]
Exact: TypeAlias = Callable[[], Sequence[Fraction]]
"""Computes the exponents exactly; called where floats are not certain."""

_CERTAIN: Final = 2.0**-40
"""exp: 2^-45; 1,024 additions: 2^-43; u and its product: 2^-51; together below 2^-41, doubled."""
_COARSE: Final = 2.0**-12
"""Beyond this error of the exponents floats are not asked."""
_DIGITS: Final = 40
_ULP: Final = 2.0**64


def draw_place(approximate: Floats, error: float, exact: Exact, bits: Bits) -> int:
    """A place, with probability proportional to e^x of it.

    Args:
        approximate: float64 values of the exponents, [K], finite, 1 <= K <= 1024.
        error: how far each of them may be from its exact value.
        exact: gives the exact values.
        bits: where the uniform number comes from. None are drawn for a single candidate.
    """
    if len(approximate) == 1:
        return 0
    u = Uniform(bits)
    if error < _COARSE:
        ends = np.add.accumulate(np.exp(approximate - np.maximum.reduce(approximate)))
        whole = float(ends[-1])
        margin = 3 * (_CERTAIN + 2 * error) * whole
        x = u.digits / _ULP * whole
        place = int(ends.searchsorted(x, side="right"))
        if place < len(ends):
            low = float(ends[place - 1]) if place else -margin
            high = float(ends[place]) if place < len(ends) - 1 else whole + 2 * margin
            if low + margin <= x <= high - margin:
                return place
    return exact_place(exact(), u, bits)


def exact_place(exponents: Sequence[Fraction], u: Uniform, bits: Bits) -> int:
    """The place by exact inversion; draws digits of `u`, and computes digits of e^x, as needed."""
    top = max(exponents)
    gaps = [top - x for x in exponents]
    digits = _DIGITS
    while True:
        weights = [enclosed(gap, digits) for gap in gaps]
        lows = list(accumulate(Fraction(low) for low, _ in weights))
        highs = list(accumulate(Fraction(high) for _, high in weights))
        least = Fraction(u.digits, 1 << u.size_bits) * lows[-1]
        most = Fraction(u.digits + 1, 1 << u.size_bits) * highs[-1]
        place = next((i for i, high in enumerate(highs) if least < high), len(highs) - 1)
        # The first step has no lower end and the last no upper one.
        below_end = place == len(highs) - 1 or most <= lows[place]
        above_start = place == 0 or least >= highs[place - 1]
        if below_end and above_start:
            return place
        digits *= 2
        u.refine(bits)


def enclosed(gap: Fraction, digits: int) -> tuple[Decimal, Decimal]:
    """Two numbers around e^-gap, gap >= 0, about 10^-digits apart."""
    if gap > 3 * digits:  # e^-3 < 10^-1
        return Decimal(0), Decimal(1).scaleb(-digits)
    down, up = (
        Context(prec=digits, rounding=rounding, Emin=MIN_EMIN, Emax=MAX_EMAX)
        for rounding in (ROUND_FLOOR, ROUND_CEILING)
    )
    numerator, denominator = Decimal(gap.numerator), Decimal(gap.denominator)
    # `exp` rounds to the nearest, in every context: a step outwards makes it a bound.
    low = down.next_minus(down.exp(up.divide(numerator, denominator).copy_negate()))
    high = up.next_plus(up.exp(down.divide(numerator, denominator).copy_negate()))
    return max(low, Decimal(0)), high
