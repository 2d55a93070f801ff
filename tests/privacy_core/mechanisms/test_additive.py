"""Noise on numbers: law, price and refusals. Statistical tests fail by chance once in 10^7."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import opendp.prelude as dp
import pytest
import scipy

from privacy_core.accounting import ORDERS, delta_of, epsilon_of, rdp_curve
from privacy_core.dp_events import DiscreteGaussian, DiscreteLaplace, Gaussian, Laplace, PureDp
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import NeighbouringRelation
from privacy_core.mechanisms import (
    OPENDP,
    DiscreteGaussianMechanism,
    DiscreteLaplaceMechanism,
    GaussianMechanism,
    LaplaceMechanism,
    gaussian_sigma,
    guarantee_of,
)
from privacy_runtime.testing import SeededEntropy

dp.enable_features("contrib")
Follows = Callable[[Sequence[Hashable], Mapping[Hashable, float]], bool]
EpsilonSeen = Callable[[int, int, int], float]
REPLACE = NeighbouringRelation.REPLACE_ONE
DRAWS = 4_000


@pytest.mark.parametrize("step", [None, 0.25])
@pytest.mark.parametrize("size", [2.5, 0.01])
def test_real_mechanisms_release_the_rounded_law(
    follows: Follows, size: float, step: float | None
) -> None:
    data = np.full(DRAWS, 0.7)
    gaussian = GaussianMechanism(sigma=size, sensitivity=1.0, step=step)
    laplace = LaplaceMechanism(scale=size, sensitivity=1.0, dimension=DRAWS, step=step)

    for mechanism, law in ((gaussian, scipy.stats.norm), (laplace, scipy.stats.laplace)):
        found = mechanism.release(data, SeededEntropy(11))
        if step is None:
            assert scipy.stats.kstest((found - 0.7) / size, law.cdf).pvalue > 1e-7
        else:
            cell = {
                k * step: float(np.diff(law.cdf([((k - 0.5) * step - 0.7) / size,
                                                  ((k + 0.5) * step - 0.7) / size]))[0])
                for k in range(-400, 401)
            }  # fmt: skip
            assert follows(found.tolist(), cell)


def test_an_answer_lies_on_the_public_lattice() -> None:
    found = GaussianMechanism(sigma=3.0, sensitivity=1.0, step=0.125).release(
        np.array([0.1, 1e-9, -7.0]), SeededEntropy(1)
    )

    assert np.array_equal(found * 8, np.rint(found * 8))


@pytest.mark.parametrize("relation", list(NeighbouringRelation))
@pytest.mark.parametrize("delta", [1e-12, 1e-6, 0.1])
@pytest.mark.parametrize("epsilon", [1e-3, 0.5, 1.0, 4.0, 30.0])
def test_the_analytic_gaussian_meets_its_target_with_the_least_noise(
    epsilon: float, delta: float, relation: NeighbouringRelation
) -> None:
    mechanism = GaussianMechanism.meeting(
        epsilon=epsilon, delta=delta, sensitivity=3.0, relation=relation
    )

    assert guarantee_of(mechanism, delta).epsilon <= epsilon
    assert delta_of(mechanism.event, epsilon, relation=relation) <= delta
    less = Gaussian(mechanism.event.noise_multiplier * (1 - 1e-6))  # type: ignore[union-attr]
    assert epsilon_of(less, delta, relation=relation) > epsilon


@pytest.mark.parametrize(("epsilon", "delta"), [(0.5, 1e-5), (3.0, 1e-6), (20.0, 1e-9)])
def test_the_analytic_gaussian_agrees_with_opendp(epsilon: float, delta: float) -> None:
    space = dp.atom_domain(T=float, nan=False), dp.absolute_distance(T=float)
    sigma = gaussian_sigma(epsilon=epsilon, delta=delta, sensitivity=1.0)

    release = dp.m.make_gaussian(*space, scale=sigma)
    bound = dp.c.make_zCDP_to_approxDP(release).map(1.0).epsilon(delta=delta)

    assert bound >= epsilon * (1 - 1e-9)  # OpenDP converts from zCDP: never below the exact price
    assert bound <= epsilon * 1.35
    rho = rdp_curve(Gaussian(sigma)) / np.array(ORDERS)
    assert rho == pytest.approx(release.map(1.0), rel=1e-9)


def test_the_textbooks_noise_breaks_its_promise_above_epsilon_one() -> None:
    """sqrt(2 ln(1.25/delta)) / epsilon, as the documents have it, at epsilon 12 and delta 0.1."""
    epsilon, delta = 12.0, 0.1
    textbook = math.sqrt(2 * math.log(1.25 / delta)) / epsilon

    assert delta_of(Gaussian(textbook), epsilon) > delta
    assert gaussian_sigma(epsilon=epsilon, delta=delta, sensitivity=1.0) > textbook


@pytest.mark.parametrize("relation", list(NeighbouringRelation))
def test_each_event_prices_the_declared_sensitivity(relation: NeighbouringRelation) -> None:
    reals = LaplaceMechanism(scale=6.0, sensitivity=3.0, relation=relation)
    many = LaplaceMechanism(scale=6.0, sensitivity=3.0, dimension=4, relation=relation)
    whole = DiscreteLaplaceMechanism(scale=6.0, sensitivity=3, relation=relation)

    for mechanism in (reals, many, whole):
        assert guarantee_of(mechanism).epsilon == pytest.approx(0.5)
    kinds = [type(mechanism.event) for mechanism in (reals, many, whole)]
    assert kinds == [Laplace, PureDp, DiscreteLaplace]
    gaussian = DiscreteGaussianMechanism(sigma=6.0, sensitivity=3, relation=relation)
    assert guarantee_of(gaussian, 1e-6).epsilon == epsilon_of(DiscreteGaussian(6.0, 3), 1e-6)


@pytest.mark.parametrize("entropy", [SeededEntropy(21), OPENDP], ids=["entropy", "opendp"])
def test_a_whole_number_comes_back_with_its_noise(follows: Follows, entropy: object) -> None:
    mechanism = DiscreteLaplaceMechanism(scale=2.0, sensitivity=1)
    unit = math.tanh(1 / 4)

    draws = [mechanism.release(40, entropy) for _ in range(2500)]  # type: ignore[arg-type]

    assert follows(draws, {40 + k: unit * math.exp(-abs(k) / 2) for k in range(-99, 100)})


@pytest.mark.parametrize("epsilon", [0.5, 1.5])
def test_the_privacy_loss_that_is_seen_is_close_to_the_price_and_never_above(
    epsilon_seen: EpsilonSeen, epsilon: float
) -> None:
    """The worst pair, 0 against 1, and the worst event, `at most 0`."""
    mechanism = DiscreteLaplaceMechanism(scale=1 / epsilon, sensitivity=1)
    entropy, draws = SeededEntropy(22), 30_000

    under_p = sum(mechanism.release(0, entropy) <= 0 for _ in range(draws))
    under_q = sum(mechanism.release(1, entropy) <= 0 for _ in range(draws))

    assert 0.85 * epsilon <= epsilon_seen(under_p, under_q, draws) <= epsilon


def test_the_delta_that_is_seen_is_close_to_the_price_and_never_above() -> None:
    """Discrete Gaussian: the mass of {loss > epsilon} less e^epsilon times the other's."""
    mechanism = DiscreteGaussianMechanism(sigma=1.0, sensitivity=1)
    entropy, draws, epsilon = SeededEntropy(23), 25_000, 1.0
    price = delta_of(mechanism.event, epsilon)

    p = Counter(mechanism.release(0, entropy) for _ in range(draws))
    q = Counter(mechanism.release(1, entropy) for _ in range(draws))
    seen = sum(p[k] - math.exp(epsilon) * q[k] for k in range(-9, 0)) / draws

    spread = math.sqrt(2 * math.log(1e7) * (1 + math.exp(2 * epsilon)) / 4 / draws)  # Hoeffding
    assert 0.5 * price < seen < price + spread


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_query_without_a_finite_answer_is_refused_before_any_draw(value: float) -> None:
    class NoEntropy:
        def token_bytes(self, size_bytes: int) -> bytes:
            raise AssertionError(size_bytes)

    for mechanism in (
        GaussianMechanism(sigma=1.0, sensitivity=1.0),
        LaplaceMechanism(scale=1.0, sensitivity=1.0),
    ):
        with pytest.raises(InvalidParameter, match="nothing was drawn") as refusal:
            mechanism.release(np.array([value]), NoEntropy())
        assert str(value) not in str(refusal.value).replace("finite", "")


@pytest.mark.parametrize("data", [np.zeros((2, 2)), np.array(["1"]), np.array([1j]), np.array(3.0)])
def test_what_is_no_vector_of_numbers_is_refused(data: np.ndarray) -> None:
    with pytest.raises(InvalidParameter, match="vector of numbers"):
        GaussianMechanism(sigma=1.0, sensitivity=1.0).release(data, SeededEntropy(0))


def test_an_answer_beyond_the_floats_is_the_largest_float() -> None:
    largest = np.finfo(np.float64).max
    mechanism = LaplaceMechanism(scale=1e308, sensitivity=1.0, dimension=60)

    found = mechanism.release(np.full(60, largest), SeededEntropy(3))

    assert np.all(np.isfinite(found))
    assert np.count_nonzero(found == largest) > 10


@pytest.mark.parametrize(
    "make",
    [
        lambda: GaussianMechanism(sigma=0.0, sensitivity=1.0),
        lambda: GaussianMechanism(sigma=1.0, sensitivity=-1.0),
        lambda: GaussianMechanism(sigma=1.0, sensitivity=1.0, step=0.0),
        lambda: GaussianMechanism(sigma=1.0, sensitivity=1.0, relation="swap"),  # type: ignore[arg-type]
        lambda: GaussianMechanism.meeting(epsilon=1.0, delta=0.0, sensitivity=1.0),
        lambda: GaussianMechanism.meeting(epsilon=math.inf, delta=0.1, sensitivity=1.0),
        lambda: LaplaceMechanism(scale=math.nan, sensitivity=1.0),
        lambda: LaplaceMechanism(scale=1.0, sensitivity=1.0, dimension=0),
        lambda: LaplaceMechanism.meeting(epsilon=0.0, sensitivity=1.0),
        lambda: DiscreteLaplaceMechanism(scale=1.0, sensitivity=1.5),  # type: ignore[arg-type]
        lambda: DiscreteLaplaceMechanism(scale=1.0, sensitivity=0),
        lambda: DiscreteGaussianMechanism(sigma=math.inf, sensitivity=1),
    ],
)
def test_a_number_outside_its_domain_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidParameter):
        make()
