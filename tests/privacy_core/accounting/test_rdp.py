from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from privacy_core.accounting import ORDERS, delta_from_rdp, epsilon_from_rdp, rdp_curve
from privacy_core.accounting.normal_form import normal_form
from privacy_core.accounting.rdp import rdp_of_form
from privacy_core.dp_events import (
    Composed,
    DpEvent,
    Gaussian,
    Laplace,
    MixtureOfGaussians,
    PoissonSampled,
    SampledWithoutReplacement,
    SelfComposed,
)
from privacy_core.guarantee import NeighbouringRelation

REPLACE = NeighbouringRelation.REPLACE_ONE
CHECKED = (1.01, 1.5, 2.0, 4.7, 10.9, 23.0)


def at(event: DpEvent, order: float, **options: NeighbouringRelation) -> float:
    return float(rdp_curve(event, **options)[ORDERS.index(order)])


def divergence(p: object, q: object, order: float, points: list[float]) -> float:
    """Quadrature with 30 digits, split where the densities bend."""
    with mpmath.workdps(30):
        moment = mpmath.quad(lambda x: p(x) ** order * q(x) ** (1 - order), points)  # type: ignore[operator]
        return float(mpmath.log(moment) / (order - 1))


def normal(mean: float, sigma: float) -> object:
    return lambda x: mpmath.npdf(x, mean, sigma)


def mixture(parts: list[tuple[float, float]], sigma: float) -> object:
    (first, _), *others = parts

    def density(x: object) -> object:
        # The weights add to 1 in thirty digits: 1e-17 would show where the moment is 1 + 1e-10.
        rest = 1 - sum(mpmath.mpf(w) for _, w in others)
        return rest * mpmath.npdf(x, first, sigma) + sum(
            w * mpmath.npdf(x, m, sigma) for m, w in others
        )

    return density


@pytest.mark.parametrize("order", CHECKED)
@pytest.mark.parametrize(("q", "sigma"), [(1e-5, 0.8), (0.01, 1.0), (0.3, 0.5), (0.9, 4.0)])
def test_the_sampled_gaussian_is_exact(q: float, sigma: float, order: float) -> None:
    points = [-15 * sigma, 0, 1, order, order + 15 * sigma]
    exact = divergence(mixture([(0, 1 - q), (1, q)], sigma), normal(0, sigma), order, points)

    found = at(PoissonSampled(q, Gaussian(sigma)), order)

    assert exact * (1 - 1e-9) <= found <= exact * (1 + 1e-6) + 1e-18


@pytest.mark.parametrize("order", [1.5, 4.7, 23.0])
@pytest.mark.parametrize(("q", "sigma"), [(0.01, 1.0), (0.3, 0.5)])
def test_the_exchanged_pair_is_exact(q: float, sigma: float, order: float) -> None:
    points = [-1 - 15 * sigma, -1, 0, 1, order, order + 15 * sigma]
    exact = divergence(
        mixture([(0, 1 - q), (1, q)], sigma), mixture([(0, 1 - q), (-1, q)], sigma), order, points
    )

    found = at(PoissonSampled(q, Gaussian(sigma)), order, relation=REPLACE)

    assert exact * (1 - 1e-9) <= found <= exact * (1 + 1e-6)


@pytest.mark.parametrize("order", [1.5, 4.7, 23.0])
def test_a_mixture_is_exact_in_the_larger_direction(order: float) -> None:
    parts, sigma = [(0, 0.7), (0.5, 0.2), (1, 0.1)], 0.9
    points = [-order - 15 * sigma, -1, 0, 1, order, order + 15 * sigma]
    ways = [mixture(parts, sigma), normal(0, sigma)]
    exact = max(divergence(p, q, order, points) for p, q in (ways, ways[::-1]))

    found = at(MixtureOfGaussians(2 * sigma, (0.0, 1.0, 2.0), (0.7, 0.2, 0.1)), order)

    assert exact * (1 - 1e-9) <= found <= exact * (1 + 1e-6)


@pytest.mark.parametrize("order", CHECKED)
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_laplace_noise_is_exact(scale: float, order: float) -> None:
    def laplace(mean: float) -> object:
        return lambda x: mpmath.exp(-abs(x - mean) / scale) / (2 * scale)

    reach = 60 * scale + order
    exact = divergence(laplace(1), laplace(0), order, [-reach, 0, 1, reach])

    assert at(Laplace(scale), order) == pytest.approx(exact, rel=1e-8)


def test_a_sampled_joint_release_is_below_the_release_and_above_its_parts() -> None:
    joint = PoissonSampled(0.05, Composed((Gaussian(2.0), Laplace(3.0))))

    curve = rdp_curve(joint)

    assert np.all(curve < rdp_curve(Composed((Gaussian(2.0), Laplace(3.0)))))
    assert np.all(curve > rdp_curve(PoissonSampled(0.05, Laplace(3.0))) * (1 - 1e-9))


def test_a_fixed_size_sample_of_everything_is_the_release_itself() -> None:
    curve = rdp_curve(SampledWithoutReplacement(10, 10, Gaussian(2.0)), relation=REPLACE)

    assert curve == pytest.approx(rdp_curve(Gaussian(2.0), relation=REPLACE), rel=1e-9)


def test_curves_add() -> None:
    one, other = PoissonSampled(0.1, Gaussian(1.0)), Laplace(2.0)

    both = rdp_curve(Composed((SelfComposed(one, 3), other)))

    assert both == pytest.approx(3 * rdp_curve(one) + rdp_curve(other), rel=1e-9)


def test_every_order_has_a_finite_increasing_bound() -> None:
    for sigma in (0.02, 0.3, 1.0, 50.0):
        for q in (1e-6, 0.01, 0.7):
            for relation in NeighbouringRelation:
                curve = rdp_of_form(normal_form(PoissonSampled(q, Gaussian(sigma))), relation)
                assert np.all(np.isfinite(curve))
                assert np.all(np.diff(curve) >= -1e-9 * curve[1:])


def test_the_conversions_are_inverse_and_clamped() -> None:
    curve = rdp_curve(SelfComposed(PoissonSampled(0.01, Gaussian(1.0)), 1000))

    epsilon = epsilon_from_rdp(curve, 1e-5)

    assert delta_from_rdp(curve, epsilon) == pytest.approx(1e-5, rel=1e-9)
    assert epsilon_from_rdp(curve, 0.0) == math.inf
    assert epsilon_from_rdp(0 * curve, 0.5) == 0.0
    assert delta_from_rdp(curve, 0.0) <= 1.0
