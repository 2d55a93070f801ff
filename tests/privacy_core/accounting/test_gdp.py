from __future__ import annotations

import math

import mpmath
import pytest

from privacy_core.accounting.gdp import gaussian_delta, gaussian_epsilon

GRID = [(mu, eps) for mu in (1e-3, 0.1, 1.0, 5.0, 40.0) for eps in (0.0, 0.01, 1.0, 10.0, 300.0)]


def exact_delta(mu: float, epsilon: float) -> mpmath.mpf:
    with mpmath.workdps(60):
        mu, epsilon = mpmath.mpf(mu), mpmath.mpf(epsilon)
        a = mpmath.ncdf(mu / 2 - epsilon / mu)
        return +(a - mpmath.exp(epsilon) * mpmath.ncdf(-mu / 2 - epsilon / mu))


@pytest.mark.parametrize(("mu", "epsilon"), GRID)
def test_delta_equals_the_sixty_digit_value(mu: float, epsilon: float) -> None:
    exact = exact_delta(mu, epsilon)
    if exact < 1e-280:
        assert gaussian_delta(mu, epsilon) <= 1e-279
    else:
        assert gaussian_delta(mu, epsilon) == pytest.approx(float(exact), rel=2e-10)


@pytest.mark.parametrize("mu", [1e-3, 0.1, 1.0, 2.5, 40.0])
@pytest.mark.parametrize("delta", [1e-2, 1e-5, 1e-14, 1e-100])
def test_epsilon_is_the_inverse_rounded_up(mu: float, delta: float) -> None:
    epsilon = gaussian_epsilon(mu, delta)

    assert exact_delta(mu, epsilon) <= delta * (1 + 1e-9)
    if epsilon > 0:
        assert exact_delta(mu, epsilon * (1 - 1e-9)) > delta


def test_the_ends() -> None:
    assert gaussian_delta(0.0, 0.0) == 0.0
    assert gaussian_epsilon(0.0, 0.0) == 0.0
    assert gaussian_epsilon(1.0, 0.0) == math.inf
    assert gaussian_epsilon(1.0, 0.5) == 0.0
