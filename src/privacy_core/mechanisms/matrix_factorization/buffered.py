"""Buffered linear Toeplitz (BLT) correlation: a few decaying sums remember all past noise.

C(x) = prod_j (1 - h_j x) / prod_j (1 - th_j x) with 1 > th_1 > h_1 > th_2 > h_2 > ... > 0. Then
c_0 = 1 and c_k = sum_j w_j th_j^(k-1) with weights w_j > 0, so the column falls and is positive;
the inverse has the same form with h and th exchanged, and negative weights.

d is the number of buffers, n of steps, p = 2 d of free numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from privacy_core.errors import InvalidParameter
from privacy_core.mechanisms.matrix_factorization.sensitivity import fixed_pattern_sensitivity
from privacy_core.mechanisms.matrix_factorization.toeplitz import (
    Floats,
    inverse_series,
    prefix_sum_error,
    require_count,
    step_weights,
)

_BUFFERS_MOST: Final = 8


@dataclass(frozen=True, slots=True)
class BufferedToeplitz:
    """C with c_0 = 1 and c_k = sum_j weights_j * decays_j^(k-1).

    Raises:
        InvalidParameter: decays outside [0, 1), negative weights, different or no numbers of them,
            or a sum of weights above 1: the column would rise.
    """

    decays: tuple[float, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.decays or len(self.decays) != len(self.weights):
            raise InvalidParameter(
                "weights", found=len(self.weights), expected=f"{len(self.decays)}, one a decay"
            )
        if not all(0 <= decay < 1 for decay in self.decays):
            raise InvalidParameter("decays", found=self.decays, expected="numbers in [0, 1)")
        if not (all(weight >= 0 for weight in self.weights) and math.fsum(self.weights) <= 1):
            raise InvalidParameter(
                "weights", found=self.weights, expected="numbers >= 0 that add up to at most 1"
            )

    def column(self, steps: int) -> Floats:
        """The first column for a number of steps."""
        powers_nd = np.power.outer(np.array(self.decays), np.arange(steps - 1.0)).T
        return np.concatenate([[1.0], powers_nd @ np.array(self.weights)])

    def sensitivity(self, steps: int, separation: int) -> float:
        """See `fixed_pattern_sensitivity`."""
        return fixed_pattern_sensitivity(self.column(steps), separation=separation)

    def error(self, steps: int, separation: int) -> float:
        """`prefix_sum_error`, for noise of standard deviation 1 per unit of sensitivity."""
        inverse_n = inverse_series(self.column(steps), steps)
        return self.sensitivity(steps, separation) * prefix_sum_error(inverse_n)


@lru_cache(maxsize=64)
def optimise_buffered(steps: int, *, separation: int, buffers: int = 4) -> BufferedToeplitz:
    """The C of so many buffers with the least prefix-sum error over n steps.

    Units take part in at most every `separation`-th step. Minimises log of (mean variance *
    sensitivity^2) by L-BFGS-B with its exact gradient, over 2 d sigmoids that cut (0, th_1),
    (0, h_1) ... in turn, so that every point is an admissible C.

    Args:
        steps: n >= 1.
        separation: >= 1.
        buffers: d, 1 to 8. Beyond 4 the gain is below a thousandth.

    Raises:
        InvalidParameter: a number is outside its domain.

    Source: McMahan et al. 2024 (arXiv:2408.08868), section 4.
    """
    require_count("steps", steps)
    require_count("separation", separation)
    require_count("buffers", buffers)
    if buffers > _BUFFERS_MOST:
        raise InvalidParameter("buffers", found=buffers, expected=f"at most {_BUFFERS_MOST}")
    from scipy.optimize import minimize  # noqa: PLC0415 -- slow to load

    problem = _Problem(steps=steps, separation=separation)
    best: tuple[float, Floats] = (math.inf, np.zeros(2 * buffers))
    for horizon in (steps, separation):
        found = minimize(
            problem.log_error,
            _start(horizon, buffers),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-14.0, 14.0)] * (2 * buffers),
            options={"maxiter": 400, "ftol": 1e-11, "gtol": 1e-8},
        )
        if found.fun < best[0]:
            best = (float(found.fun), found.x)
    decays_d, zeros_d = _ladder(best[1])
    weights_d = _weights(decays_d, zeros_d)
    return BufferedToeplitz(
        tuple(float(decay) for decay in decays_d), tuple(float(weight) for weight in weights_d)
    )


@lru_cache(maxsize=64)
def one_step_correlation(steps: int, *, separation: int) -> BufferedToeplitz:
    """C^-1 = 1 - lambda x with the best lambda: a step takes back lambda of the noise before it.

    As a buffered C it has one buffer, whose decay and weight are both lambda; the buffer holds the
    fresh noise of the last step. We keep that one vector: our key streams refuse to be read twice,
    so noise is never generated again.

    Args:
        steps: n >= 1.
        separation: >= 1.

    Source: DP-lambdaCGD (arXiv:2601.22334).
    """
    require_count("steps", steps)
    require_count("separation", separation)

    def error(weight: float) -> float:
        return BufferedToeplitz((weight,), (weight,)).error(steps, separation)

    from scipy.optimize import minimize_scalar  # noqa: PLC0415 -- slow to load

    found = minimize_scalar(error, bounds=(0.0, 1 - 1e-6), method="bounded")
    weight = float(found.x) if found.fun < error(0.0) else 0.0
    return BufferedToeplitz((weight,), (weight,))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problem:
    """The error of a C as a function of its sigmoids."""

    steps: int
    separation: int

    def log_error(self, point_p: Floats) -> tuple[float, Floats]:
        """Log of mean variance times sensitivity^2, and its gradient."""
        decays_d, zeros_d = _ladder(point_p)
        sens2, by_decay, by_weight = self._sensitivity2(decays_d, _weights(decays_d, zeros_d))
        error2, by_zero, by_inverse = self._variance(zeros_d, _weights(zeros_d, decays_d))
        # Both sets of weights depend on decays and zeros: chain rule through their logarithms.
        own_c, other_c = _weight_slopes(decays_d, zeros_d)
        own_r, other_r = _weight_slopes(zeros_d, decays_d)
        to_decays = (by_decay + by_weight @ own_c) / sens2 + by_inverse @ other_r / error2
        to_zeros = by_weight @ other_c / sens2 + (by_zero + by_inverse @ own_r) / error2
        ladder = np.empty(point_p.size)
        ladder[0::2], ladder[1::2] = to_decays * decays_d, to_zeros * zeros_d
        # Every rung below a cut is proportional to it: d rung / d point = rung * (1 - sigmoid).
        gradient = np.cumsum(ladder[::-1])[::-1] * _sigmoid(-point_p)
        return math.log(sens2) + math.log(error2), gradient

    def _sensitivity2(self, decays_d: Floats, weights_d: Floats) -> tuple[float, Floats, Floats]:
        """The squared sensitivity, and its slopes in the decays and in log weights."""
        column_n, powers_nd = _column(decays_d, weights_d, self.steps)
        moved_n = np.zeros(self.steps)
        starts = range(0, self.steps, self.separation)
        for start in starts:
            moved_n[start:] += column_n[: self.steps - start]
        slopes_n = np.zeros(self.steps)
        for start in starts:
            slopes_n[: self.steps - start] += 2 * moved_n[start:]
        return (float(moved_n @ moved_n), *_slopes(slopes_n, decays_d, weights_d, powers_nd))

    def _variance(self, zeros_d: Floats, weights_d: Floats) -> tuple[float, Floats, Floats]:
        """The mean variance of prefix sums, and its slopes in the zeros and in log weights."""
        inverse_n, powers_nd = _column(zeros_d, weights_d, self.steps)
        pulls_n = step_weights(self.steps) * np.cumsum(inverse_n)
        slopes_n = 2 * np.cumsum(pulls_n[::-1])[::-1]
        error2 = float(np.sum(pulls_n * np.cumsum(inverse_n)))
        return (error2, *_slopes(slopes_n, zeros_d, weights_d, powers_nd))


def _column(decays_d: Floats, weights_d: Floats, steps: int) -> tuple[Floats, Floats]:
    """The first column 1, sum w, sum w th, ... and the powers th^(k-1) that it is made of."""
    exponents = np.arange(steps - 1.0)[:, None]
    powers_nd = np.exp(np.log(decays_d) * exponents)
    return np.concatenate([[1.0], powers_nd @ weights_d]), powers_nd


def _slopes(
    slopes_n: Floats, decays_d: Floats, weights_d: Floats, powers_nd: Floats
) -> tuple[Floats, Floats]:
    """From slopes in the entries of a column to slopes in its decays and log weights."""
    pulled_nd = slopes_n[1:, None] * powers_nd
    exponents = np.arange(powers_nd.shape[0], dtype=np.float64)
    return weights_d * (exponents @ pulled_nd) / decays_d, weights_d * pulled_nd.sum(axis=0)


def _weights(poles_d: Floats, zeros_d: Floats) -> Floats:
    """Residues w_i = prod_j (p_i - z_j) / prod_{j != i} (p_i - p_j)."""
    gaps = np.subtract.outer(poles_d, poles_d) + np.eye(poles_d.size)
    weights: Floats = np.prod(np.subtract.outer(poles_d, zeros_d) / gaps, axis=1)
    return weights


def _weight_slopes(poles_d: Floats, zeros_d: Floats) -> tuple[Floats, Floats]:
    """Matrices [i, k] of d log w_i / d p_k and of d log w_i / d z_k."""
    to_zeros = 1 / np.subtract.outer(poles_d, zeros_d)
    gaps = np.subtract.outer(poles_d, poles_d)
    np.fill_diagonal(gaps, 1.0)
    to_poles = 1 / gaps
    np.fill_diagonal(to_poles, 0.0)
    own = to_poles.copy()
    np.fill_diagonal(own, to_zeros.sum(axis=1) - to_poles.sum(axis=1))
    return own, -to_zeros


def _ladder(point_p: Floats) -> tuple[Floats, Floats]:
    """th_1 > h_1 > th_2 > ...: each a share, by a sigmoid, of the one above it."""
    rungs = np.exp(-np.cumsum(np.logaddexp(0.0, -point_p)))
    return rungs[0::2], rungs[1::2]


def _start(horizon: int, buffers: int) -> Floats:
    """Decays that forget after 1 .. horizon steps, evenly in the logarithm, and zeros between."""
    spans = np.geomspace(max(horizon, 2), 1.2, 2 * buffers)
    rungs = np.exp(-1 / spans)
    shares = rungs / np.concatenate([[1.0], rungs[:-1]])
    return np.asarray(np.clip(np.log(shares / (1 - shares)), -13.0, 13.0))


def _sigmoid(point_p: Floats) -> Floats:
    shares: Floats = np.exp(-np.logaddexp(0.0, -point_p))
    return shares
