"""Lower-triangular Toeplitz matrices as power series, and the error they leave in prefix sums.

The first column of such a matrix is a power series cut at x^n; products and inverses of matrices
are products and inverses of series. S stands for the number of coefficients, n for steps.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from privacy_core.errors import InvalidParameter

Floats: TypeAlias = npt.NDArray[np.float64]


def inverse_series(series_S: Floats, count: int) -> Floats:
    """The first `count` coefficients of 1 / series.

    Newton's iteration g <- g (2 - c g) doubles the number of right coefficients each time.

    Args:
        series_S: coefficients, the first not zero.
        count: how many to return, >= 1.

    Raises:
        InvalidParameter: the first coefficient is zero or not finite, or `count` is below 1.
    """
    require_count("count", count)
    if not (series_S.size and series_S[0] != 0 and math.isfinite(series_S[0])):
        raise InvalidParameter("series", found=series_S[:1], expected="a first coefficient, not 0")
    inverse = np.array([1.0 / series_S[0]])
    while inverse.size < count:
        size = min(2 * inverse.size, count)
        rest = -product(series_S[:size], inverse, size)
        rest[0] += 2.0
        inverse = product(inverse, rest, size)
    return inverse


def product(left_S: Floats, right_S: Floats, count: int) -> Floats:
    """The first `count` coefficients of a product of series."""
    size = 1 << (left_S.size + right_S.size - 1).bit_length()
    spectrum = np.fft.rfft(left_S, size) * np.fft.rfft(right_S, size)
    whole: Floats = np.fft.irfft(spectrum, size)[:count]
    return whole


def prefix_sum_error(inverse_n: Floats) -> float:
    """Root mean square error of the n prefix sums per unit of Z, from the first column of C^-1.

    The sum of the first t steps carries A C^-1 Z with A all ones below the diagonal: its variance
    is sum_{s<t} B_s^2 with B = cumsum(inverse). The mean is over t = 1 .. n.

    Source: Choquette-Choo et al. 2023 (arXiv:2306.08153), section 2.
    """
    return math.sqrt(float(np.sum(step_weights(inverse_n.size) * np.cumsum(inverse_n) ** 2)))


def step_weights(steps: int) -> Floats:
    """In how many of n prefix sums the s-th coefficient of B counts, over n: (n - s) / n."""
    return 1.0 - np.arange(steps) / steps


def require_count(name: str, value: int) -> None:
    """Refuse what is not a whole number >= 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidParameter(name, found=value, expected="a whole number >= 1")
