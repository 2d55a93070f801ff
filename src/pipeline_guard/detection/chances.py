"""Tails of two distributions, for p-values without scipy."""

from __future__ import annotations

import math
from typing import Final

_TERMS: Final = 1000
_CLOSE: Final = 1e-15
_TINY: Final = 1e-300


def kolmogorov_tail(x: float) -> float:
    """Return the chance that Kolmogorov's distribution exceeds x (Smirnov 1948).

    Below 0.2 it is 1 to twelve digits, and the series would need many terms.
    """
    if x < 0.2:
        return 1.0
    total = 0.0
    for k in range(1, _TERMS):
        term = 2.0 * (-1.0) ** (k - 1) * math.exp(-2.0 * k * k * x * x)
        total += term
        if abs(term) < _CLOSE * abs(total):
            break
    return min(max(total, 0.0), 1.0)


def chi_square_tail(statistic: float, degrees: int) -> float:
    """Return the chance that a chi-square of so many degrees of freedom exceeds the statistic.

    The regularised upper incomplete gamma function: by its series below a + 1, by Lentz's continued
    fraction above (Press et al., Numerical Recipes, section 6.2). Relative error below 1e-10.
    """
    a, x = degrees / 2.0, statistic / 2.0
    if x <= 0.0:
        return 1.0
    if math.isinf(x):
        return 0.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1.0:
        return min(max(1.0 - front * _series(a, x), 0.0), 1.0)
    return min(front * _fraction(a, x), 1.0)


def _series(a: float, x: float) -> float:
    term = total = 1.0 / a
    for n in range(1, _TERMS):
        term *= x / (a + n)
        total += term
        if term < _CLOSE * total:
            break
    return total


def _fraction(a: float, x: float) -> float:
    b = x + 1.0 - a
    c = 1.0 / _TINY
    d = 1.0 / b
    result = d
    for n in range(1, _TERMS):
        numerator = -n * (n - a)
        b += 2.0
        d = 1.0 / (numerator * d + b or _TINY)
        c = b + numerator / c or _TINY
        change = d * c
        result *= change
        if abs(change - 1.0) < _CLOSE:
            break
    return result
