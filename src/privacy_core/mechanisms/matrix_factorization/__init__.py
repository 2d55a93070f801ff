"""Correlated noise: each step takes back a part of the noise of the steps before it.

A run of n steps releases Y = G + C^-1 Z: G holds the clipped sums, row by row, Z independent
Gaussian noise, and C is lower triangular. That is the Gaussian mechanism on C G, post-processed, so
its price is that of Z against the sensitivity of C: how far one unit moves C G, given in which
steps it may take part. What training feels is the noise of the *sum* of the steps. Independent
noise (C = identity) adds up; a good C makes most of it cancel.

======================  =====================================  ==================================
`Correlation`           C                                      memory, in copies of the gradient
======================  =====================================  ==================================
`BandedToeplitz`        b coefficients c_0 = 1, c_1 .. c_b-1   b - 1
`BufferedToeplitz`      c_0 = 1, c_k = sum_j w_j th_j^(k-1)    number of buffers; for any length
======================  =====================================  ==================================

All matrices here are lower-triangular Toeplitz, so a matrix is its first column. Sources: Denisov
et al. 2022 (arXiv:2202.08312) for adaptive inputs; Choquette-Choo et al. 2023 (arXiv:2306.08153)
for bands and their amplification; McMahan et al. 2024 (arXiv:2404.16706, 2408.08868) for buffers.
"""

from privacy_core.mechanisms.matrix_factorization.banded import BandedToeplitz, optimise_banded
from privacy_core.mechanisms.matrix_factorization.buffered import (
    BufferedToeplitz,
    one_step_correlation,
    optimise_buffered,
)
from privacy_core.mechanisms.matrix_factorization.sensitivity import (
    fixed_pattern_sensitivity,
    sensitivity_bound,
    separated_maximum,
)
from privacy_core.mechanisms.matrix_factorization.toeplitz import (
    inverse_series,
    prefix_sum_error,
)

Correlation = BandedToeplitz | BufferedToeplitz

__all__ = [
    "BandedToeplitz",
    "BufferedToeplitz",
    "Correlation",
    "fixed_pattern_sensitivity",
    "inverse_series",
    "one_step_correlation",
    "optimise_banded",
    "optimise_buffered",
    "prefix_sum_error",
    "sensitivity_bound",
    "separated_maximum",
]
