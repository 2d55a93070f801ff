"""Correlated noise: algebra against dense matrices, sensitivity against every pattern there is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import toeplitz
from scipy.optimize import approx_fprime

from privacy_core.errors import InvalidParameter
from privacy_core.mechanisms.matrix_factorization import (
    BandedToeplitz,
    BufferedToeplitz,
    banded,
    buffered,
    fixed_pattern_sensitivity,
    inverse_series,
    one_step_correlation,
    optimise_banded,
    optimise_buffered,
    prefix_sum_error,
    sensitivity_bound,
    separated_maximum,
)
from privacy_core.mechanisms.matrix_factorization.toeplitz import step_weights

Floats = npt.NDArray[np.float64]
seeded = np.random.default_rng  # noqa: TID251 -- test matrices


def matrix(column_n: Floats) -> Floats:
    """The lower-triangular Toeplitz matrix with this first column."""
    return np.tril(toeplitz(column_n))


def dense_error(column_n: Floats) -> float:
    """Root mean square of the rows of A C^-1, A all ones: from the definition."""
    n = column_n.size
    return float(np.linalg.norm(np.tril(np.ones((n, n))) @ np.linalg.inv(matrix(column_n)))) / (
        math.sqrt(n)
    )


def patterns(n: int, separation: int, participations: int) -> Iterator[tuple[int, ...]]:
    """Every set of steps that one unit may take part in."""
    for count in range(participations + 1):
        for steps in combinations(range(n), count):
            if all(b - a >= separation for a, b in pairwise(steps)):
                yield steps


def brute_force(c_nn: Floats, separation: int, participations: int) -> float:
    """The sensitivity, for contributions whose worst signs are equal (C^T C >= 0)."""
    return max(
        float(np.linalg.norm(c_nn[:, list(steps)].sum(axis=1)))
        for steps in patterns(len(c_nn), separation, participations)
    )


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=6), st.integers(1, 30))
def test_the_inverse_of_a_series_is_the_inverse_of_its_matrix(
    tail: list[float], count: int
) -> None:
    series = np.array([1.0, *tail])
    column = np.zeros(count)
    column[: series.size] = series[:count]

    inverse = inverse_series(series, count)

    assert matrix(inverse) @ matrix(column) == pytest.approx(
        np.eye(count), abs=1e-9 * max(1.0, np.abs(inverse).max() ** 2)
    )


@pytest.mark.parametrize(
    "correlation",
    [
        BandedToeplitz((1.0,)),
        BandedToeplitz((1.0, 0.5, 0.25)),
        BufferedToeplitz((0.9, 0.3), (0.2, 0.4)),
        BufferedToeplitz((0.7,), (0.7,)),
    ],
)
def test_the_error_is_that_of_the_dense_product(
    correlation: BandedToeplitz | BufferedToeplitz,
) -> None:
    column = correlation.column(40)
    inverse = inverse_series(column, 40)

    assert prefix_sum_error(inverse) == pytest.approx(dense_error(column), rel=1e-12)


def test_one_band_leaves_what_independent_noise_leaves() -> None:
    plain = optimise_banded(1000, 1)

    assert plain.coefficients == (1.0,)
    assert plain.column_norm == 1.0
    assert plain.error(1000) == pytest.approx(math.sqrt(1001 / 2), rel=1e-12)


@pytest.mark.parametrize(
    ("steps", "bands", "error"),
    [
        (1000, 32, 4.9107),
        (1000, 100, 3.6596),
        (2048, 64, 5.1700),
        (2048, 512, 3.4423),
        (10_000, 64, 9.8527),
    ],
)
def test_bands_reach_the_known_optimum(steps: int, bands: int, error: float) -> None:
    """Optima of an independent optimiser; jax-privacy gives the first and the third."""
    assert optimise_banded(steps, bands).error(steps) == pytest.approx(error, rel=1e-4)


def test_eight_bands_beat_the_truncated_square_root() -> None:
    """9.4262 was once taken for the optimum: it is where the search begins."""
    k = np.arange(1, 8)
    start = BandedToeplitz((1.0, *np.cumprod((2 * k - 1) / (2 * k))))
    found = optimise_banded(1000, 8)

    assert start.error(1000) == pytest.approx(9.4262, rel=1e-5)
    assert found.error(1000) == pytest.approx(8.35164, rel=1e-5)
    assert found.column_norm * dense_error(found.column(1000)) == pytest.approx(8.35164, rel=1e-5)


@pytest.mark.parametrize(
    ("steps", "separation", "buffers", "error"),
    [
        (1000, 100, 2, 12.1939),
        (1000, 100, 4, 12.1939),
        (2048, 512, 2, 7.1292),
        (2048, 512, 3, 7.1097),
        (10_000, 1000, 4, 14.5097),
    ],
)
def test_buffers_reach_the_known_optimum(
    steps: int, separation: int, buffers: int, error: float
) -> None:
    """Optima of an independent optimiser; jax-privacy gives the first."""
    found = optimise_buffered(steps, separation=separation, buffers=buffers)

    assert found.error(steps, separation) == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize("bands", [2, 3, 6])
def test_no_restart_finds_better_bands(bands: int) -> None:
    rng = seeded(bands)
    best = optimise_banded(60, bands).error(60)
    for _ in range(200):
        other = BandedToeplitz((1.0, *np.sort(rng.uniform(0, 1, bands - 1))[::-1]))
        assert other.error(60) >= best * (1 - 1e-9)


def test_the_gradient_of_the_banded_error_is_exact() -> None:
    tail, weights = np.array([0.5, 0.3, 0.25, 0.1]), step_weights(50)

    value, gradient = banded._log_error(tail, weights)

    numeric = approx_fprime(tail, lambda t: banded._log_error(t, weights)[0], 1e-7)
    assert gradient == pytest.approx(numeric, rel=1e-4, abs=1e-6)
    correlation = BandedToeplitz((1.0, *tail))
    assert value == pytest.approx(2 * math.log(correlation.error(50)), rel=1e-12)


def test_the_gradient_of_the_buffered_error_is_exact() -> None:
    problem = buffered._Problem(steps=60, separation=10)
    point = seeded(0).normal(size=6)

    value, gradient = problem.log_error(point)

    numeric = approx_fprime(point, lambda p: problem.log_error(p)[0], 1e-7)
    assert gradient == pytest.approx(numeric, rel=1e-4, abs=1e-6)
    assert np.linalg.norm(gradient) > 0.1
    decays, zeros = buffered._ladder(point)
    weights = tuple(buffered._weights(decays, zeros))
    found = BufferedToeplitz(tuple(decays), weights)
    assert value == pytest.approx(2 * math.log(found.error(60, 10)), rel=1e-9)


def test_one_step_correlation_takes_back_lambda_of_the_noise_before() -> None:
    found = one_step_correlation(200, separation=50)
    ((weight,), (decay,)) = found.weights, found.decays

    assert 0.5 < weight == decay < 1
    assert inverse_series(found.column(200), 4) == pytest.approx([1, -weight, 0, 0], abs=1e-12)
    errors = [
        BufferedToeplitz((w,), (w,)).error(200, 50) for w in np.linspace(0.01, 0.99, 99).tolist()
    ]
    assert found.error(200, 50) <= min(errors) * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=12),
    st.integers(1, 6),
    st.integers(3, 12),
)
def test_the_sensitivity_of_a_falling_column_is_that_of_the_worst_pattern(
    drops: list[float], separation: int, n: int
) -> None:
    """All patterns, not only the one that the theorem names; n <= 12."""
    column = np.minimum.accumulate(np.array([1.0, *drops, *[0.0] * n])[:n])

    exact = fixed_pattern_sensitivity(column, separation=separation)

    worst = brute_force(matrix(column), separation, -(-n // separation))
    assert exact == pytest.approx(worst, rel=1e-12)


@pytest.mark.parametrize(("bands", "separation"), [(1, 1), (2, 2), (3, 4), (4, 4)])
def test_the_sensitivity_of_bands_is_that_of_the_worst_pattern(bands: int, separation: int) -> None:
    """Coefficients of any sign: participations that do not overlap add up in squares."""
    rng = seeded(bands)
    column = np.zeros(12)
    column[:bands] = rng.normal(size=bands)
    c_nn = matrix(column)
    for participations in (1, 2, 3):
        worst = brute_force(c_nn, separation, participations)

        bound = sensitivity_bound(c_nn, separation=separation, participations=participations)

        assert bound == pytest.approx(worst, rel=1e-12)
        assert bound <= math.sqrt(participations) * np.linalg.norm(column) * (1 + 1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4))
def test_the_general_bound_is_never_below_the_worst_pattern(
    seed: int, separation: int, participations: int
) -> None:
    """Any lower-triangular C, contributions of any sign."""
    rng = seeded(seed)
    c_nn = np.tril(rng.normal(size=(8, 8)))
    gram = np.abs(c_nn.T @ c_nn)
    worst = max(
        float(gram[np.ix_(steps, steps)].sum())
        for steps in patterns(8, separation, participations)
        if steps
    )
    signed = max(
        float(np.linalg.norm(c_nn[:, list(steps)] @ rng.choice([-1.0, 1.0], len(steps))))
        for steps in patterns(8, separation, participations)
    )

    bound = sensitivity_bound(c_nn, separation=separation, participations=participations)

    assert bound >= math.sqrt(worst) * (1 - 1e-12)
    assert bound >= signed * (1 - 1e-12)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=10), st.integers(1, 4), st.integers(0, 4))
def test_the_separated_maximum_is_that_of_all_patterns(
    values: list[float], separation: int, participations: int
) -> None:
    best = max(
        math.fsum(values[i] for i in steps)
        for steps in patterns(len(values), separation, participations)
    )

    found = separated_maximum(
        np.array(values), separation=separation, participations=participations
    )

    assert found == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("column", [[0.5, 1.0], [1.0, -0.1]])
def test_a_column_that_rises_or_turns_negative_has_no_fixed_worst_pattern(
    column: list[float],
) -> None:
    with pytest.raises(InvalidParameter, match="column"):
        fixed_pattern_sensitivity(np.array(column), separation=1)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: BandedToeplitz(()), "coefficients"),
        (lambda: BandedToeplitz((2.0,)), "coefficients"),
        (lambda: BandedToeplitz((1.0, math.nan)), "coefficients"),
        (lambda: BufferedToeplitz((), ()), "weights"),
        (lambda: BufferedToeplitz((0.5,), (0.1, 0.1)), "weights"),
        (lambda: BufferedToeplitz((1.0,), (0.1,)), "decays"),
        (lambda: BufferedToeplitz((0.5,), (-0.1,)), "weights"),
        (lambda: BufferedToeplitz((0.5, 0.4), (0.6, 0.6)), "weights"),
        (lambda: optimise_banded(0, 1), "steps"),
        (lambda: optimise_banded(10, 0), "bands"),
        (lambda: optimise_buffered(10, separation=5, buffers=9), "buffers"),
        (lambda: optimise_buffered(10, separation=0), "separation"),
        (lambda: inverse_series(np.array([0.0, 1.0]), 3), "series"),
        (lambda: inverse_series(np.array([1.0]), 0), "count"),
    ],
)
def test_numbers_outside_their_domain_are_refused(make: object, name: str) -> None:
    with pytest.raises(InvalidParameter, match=name):
        make()  # type: ignore[operator]
