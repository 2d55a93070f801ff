"""Banded Toeplitz correlation: the noise of the last b - 1 steps is taken back in part."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from privacy_core.errors import InvalidParameter
from privacy_core.mechanisms.matrix_factorization.toeplitz import (
    Floats,
    inverse_series,
    prefix_sum_error,
    product,
    require_count,
    step_weights,
)


@dataclass(frozen=True, slots=True)
class BandedToeplitz:
    """C with first column `coefficients`, zero below; `coefficients[0]` is 1.

    One band is the identity: independent noise, that is DP-SGD.

    Raises:
        InvalidParameter: no coefficients, one that is not finite, or the first is not 1.
    """

    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.coefficients or self.coefficients[0] != 1:
            raise InvalidParameter(
                "coefficients", found=self.coefficients[:1], expected="a first coefficient of 1"
            )
        if not all(math.isfinite(c) for c in self.coefficients):
            raise InvalidParameter("coefficients", found="inf or nan", expected="finite numbers")

    @property
    def bands(self) -> int:
        """b: a step's sum enters this many rows of C G."""
        return len(self.coefficients)

    @property
    def column_norm(self) -> float:
        """Sensitivity of C to one participation in b steps: the norm of the first column."""
        return math.hypot(*self.coefficients)

    def column(self, steps: int) -> Floats:
        """The first column for a number of steps."""
        column_n = np.zeros(steps)
        kept = min(steps, self.bands)
        column_n[:kept] = self.coefficients[:kept]
        return column_n

    def error(self, steps: int) -> float:
        """`prefix_sum_error`, for noise of standard deviation 1 per unit of `column_norm`."""
        return self.column_norm * prefix_sum_error(
            inverse_series(np.array(self.coefficients), steps)
        )


@lru_cache(maxsize=256)
def optimise_banded(steps: int, bands: int) -> BandedToeplitz:
    """The Toeplitz C of so many bands with the least prefix-sum error over n steps.

    Minimises log of (mean variance * column norm^2) by L-BFGS-B with its exact gradient, from the
    square root of the all-ones series, which is the best C without a limit on bands. The bounds
    0 <= c_k <= 1 lose nothing (the optimum falls from 1) and keep the inverse from exploding on
    the way there.

    Args:
        steps: n >= 1.
        bands: b >= 1; more than n are n.

    Raises:
        InvalidParameter: a number is outside its domain.
    """
    require_count("steps", steps)
    require_count("bands", bands)
    bands = min(bands, steps)
    if bands == 1:
        return BandedToeplitz((1.0,))
    k = np.arange(1.0, bands)
    start = np.cumprod((2 * k - 1) / (2 * k), dtype=np.float64)  # coefficients of (1 - x)^(-1/2)
    from scipy.optimize import minimize  # noqa: PLC0415 -- slow to load

    found = minimize(
        _log_error,
        start,
        args=(step_weights(steps),),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, 1.0)] * (bands - 1),
        options={"maxiter": 300, "ftol": 1e-12, "gtol": 1e-9},
    )
    best = found.x if found.fun <= _log_error(start, step_weights(steps))[0] else start
    return BandedToeplitz((1.0, *(float(c) for c in best)))


def _log_error(tail: Floats, weights_n: Floats) -> tuple[float, Floats]:
    """Log of the mean variance times the column norm^2, and its gradient in c_1 .. c_b-1.

    With R = 1 / c and B = cumsum(R), dB / dc_j = -x^j B R: the gradient of sum w B^2 is a
    correlation of w B with B R.
    """
    count = weights_n.size
    series = np.concatenate([[1.0], tail])
    inverse_n = inverse_series(series, count)
    sums_n = np.cumsum(inverse_n)
    variance = float(np.sum(weights_n * sums_n**2))
    norm2 = float(series @ series)
    slopes_n = product(sums_n, inverse_n, count)
    pulls_n = weights_n * sums_n
    # sum_s pulls_s slopes_(s-j): a product of series, one of them read backwards.
    correlated_n = product(pulls_n[::-1], slopes_n, count)[::-1]
    gradient = -2.0 * correlated_n[1 : series.size] / variance + 2.0 * tail / norm2
    return math.log(variance) + math.log(norm2), gradient
