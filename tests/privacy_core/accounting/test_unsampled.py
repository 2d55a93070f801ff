"""Prices of whole-number noise and of selections, against exact sums and two other libraries."""

from __future__ import annotations

import math
from dataclasses import replace

import mpmath as mp
import numpy as np
import opendp.prelude as dp
import pytest
from dp_accounting.pld import privacy_loss_distribution as google

from privacy_core.accounting import ORDERS, delta_of, epsilon_of, rdp_curve
from privacy_core.dp_events import (
    BoundedRange,
    Composed,
    DiscreteGaussian,
    DiscreteLaplace,
    DpEvent,
    Gaussian,
    Laplace,
    PoissonSampled,
    PureDp,
    SampledWithoutReplacement,
    SelfComposed,
    from_json,
    to_json,
)
from privacy_core.errors import InvalidParameter, UnsupportedEvent
from privacy_core.guarantee import NeighbouringRelation

dp.enable_features("contrib")
mp.mp.dps = 40
REPLACE = NeighbouringRelation.REPLACE_ONE
EVENTS: list[DpEvent] = [
    DiscreteLaplace(2.0, 1), DiscreteLaplace(0.7, 3), DiscreteGaussian(1.5, 2), PureDp(0.4),
    BoundedRange(1.3),
]  # fmt: skip


def laplace_atoms(scale: float, shift: int) -> tuple[list[mp.mpf], list[mp.mpf]]:
    """The noise at 0 and at the shift, all mass included: the tails are one atom each."""
    r = mp.exp(-mp.mpf(1) / scale)
    unit = (1 - r) / (1 + r)
    p = [unit / (1 - r), *(unit * r**k for k in range(1, shift)), r**shift * unit / (1 - r)]
    return p, p[::-1]


def gaussian_atoms(sigma: float, shift: int) -> tuple[list[mp.mpf], list[mp.mpf]]:
    reach = math.ceil(20 * sigma) + shift
    p = [mp.exp(-(mp.mpf(k) ** 2) / (2 * mp.mpf(sigma) ** 2)) for k in range(-reach, reach + 1)]
    q = [
        mp.exp(-(mp.mpf(k - shift) ** 2) / (2 * mp.mpf(sigma) ** 2))
        for k in range(-reach, reach + 1)
    ]
    total = mp.fsum(p)
    return [x / total for x in p], [x / total for x in q]


def coin_atoms(epsilon: float) -> tuple[list[mp.mpf], list[mp.mpf]]:
    up = 1 / (1 + mp.exp(-mp.mpf(epsilon)))
    return [up, 1 - up], [1 - up, up]


def hockey_stick(p: list[mp.mpf], q: list[mp.mpf], epsilon: float) -> float:
    grown = mp.exp(epsilon)
    return float(mp.fsum(max(a - grown * b, 0) for a, b in zip(p, q, strict=True)))


def renyi(p: list[mp.mpf], q: list[mp.mpf], order: float) -> float:
    terms = (mp.mpf(a) ** order * mp.mpf(b) ** (1 - order) for a, b in zip(p, q, strict=True))
    return float(mp.log(mp.fsum(terms)) / (order - 1))


ATOMS: list[tuple[DpEvent, tuple[list[mp.mpf], list[mp.mpf]]]] = [
    *(
        (DiscreteLaplace(scale, shift), laplace_atoms(scale, shift))
        for scale, shift in ((1, 1), (3.5, 2), (0.4, 5), (20, 7))
    ),
    *(
        (DiscreteGaussian(sigma, shift), gaussian_atoms(sigma, shift))
        for sigma, shift in ((1, 1), (3.5, 2), (0.4, 1))
    ),
    *((PureDp(epsilon), coin_atoms(epsilon)) for epsilon in (1e-3, 0.1, 1.0, 6.0)),
]


@pytest.mark.parametrize(("event", "atoms"), ATOMS, ids=[str(event) for event, _ in ATOMS])
def test_delta_of_one_release_is_the_exact_sum_rounded_up(
    event: DpEvent, atoms: tuple[list[mp.mpf], list[mp.mpf]]
) -> None:
    top = epsilon_of(event, 1e-9)
    for part in (0.0, 0.1, 0.5, 0.9):
        exact = hockey_stick(*atoms, part * top)
        assert exact * (1 - 1e-12) <= delta_of(event, part * top) <= exact * 1.002 + 1e-12


@pytest.mark.parametrize(("event", "atoms"), ATOMS, ids=[str(event) for event, _ in ATOMS])
def test_the_renyi_curve_is_never_below_the_exact_one_and_meets_it(
    event: DpEvent, atoms: tuple[list[mp.mpf], list[mp.mpf]]
) -> None:
    curve = rdp_curve(event)
    for i in range(0, len(ORDERS), 13):
        is_gaussian = isinstance(event, DiscreteGaussian)
        if is_gaussian and ORDERS[i] * event.sensitivity > 10 * event.sigma:
            continue  # the mass lies outside the atoms that are listed
        exact = renyi(*atoms, ORDERS[i])
        assert curve[i] >= exact * (1 - 1e-12)
        if not is_gaussian or ORDERS[i] == int(ORDERS[i]):  # at whole orders the bound is met
            assert curve[i] <= exact * (1 + 1e-9) + 1e-15


@pytest.mark.parametrize("scale", [0.01, 0.3, 2.0, 50.0])
def test_the_renyi_curve_of_the_real_laplace_is_its_integral(scale: float) -> None:
    for i in range(0, len(ORDERS), 31):
        order = ORDERS[i]

        def moment(x: mp.mpf, order: float = order) -> mp.mpf:
            return mp.exp((-order * abs(x) + (order - 1) * abs(x - 1)) / scale) / (2 * scale)

        if scale < 0.1 and order > 10:
            continue  # quadrature of e^(-2 order / scale) is worse than the closed form
        middle = mp.quad(moment, mp.linspace(0, 1, 9))
        tails = (mp.exp((order - 1) / mp.mpf(scale)) + mp.exp(-order / mp.mpf(scale))) / 2
        exact = float(mp.log(middle + tails) / (order - 1))
        assert rdp_curve(Laplace(scale))[i] == pytest.approx(exact, rel=1e-7, abs=1e-14)


def exact_composition_of_coins(epsilon: float, count: int, at: float) -> float:
    """Kairouz, Oh & Viswanath 2015 (arXiv:1311.0776), Theorem 3.3, as a binomial sum."""
    p = 1 / (1 + mp.exp(-mp.mpf(epsilon)))
    return float(
        mp.fsum(
            mp.binomial(count, i)
            * max(p ** (count - i) * (1 - p) ** i - mp.exp(at) * (1 - p) ** (count - i) * p**i, 0)
            for i in range(count + 1)
        )
    )


@pytest.mark.parametrize(("epsilon", "count"), [(0.1, 10), (0.5, 30), (1.0, 5), (3.0, 3)])
def test_composed_pure_releases_cost_what_optimal_composition_says(
    epsilon: float, count: int
) -> None:
    event = SelfComposed(PureDp(epsilon), count)

    found = epsilon_of(event, 1e-4)

    assert exact_composition_of_coins(epsilon, count, found) <= 1e-4
    assert exact_composition_of_coins(epsilon, count, found * (1 - 1e-3)) > 1e-4
    assert exact_composition_of_coins(epsilon, count, epsilon_of(event, 1e-4, "rdp")) <= 1e-4
    assert epsilon_of(event, 0.0) == pytest.approx(epsilon * count, rel=1e-9)


@pytest.mark.parametrize("count", [1, 10, 40])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 1), (4.0, 1), (10.0, 3), (30.0, 8)])
def test_discrete_laplace_agrees_with_dp_accounting(scale: float, shift: int, count: int) -> None:
    other = google.from_discrete_laplace_mechanism(
        1 / scale, sensitivity=shift, value_discretization_interval=1e-4
    ).self_compose(count)

    found = epsilon_of(SelfComposed(DiscreteLaplace(scale, shift), count), 1e-6)

    assert found == pytest.approx(other.get_epsilon_for_delta(1e-6), rel=2e-3)


@pytest.mark.parametrize("count", [1, 10, 40])
@pytest.mark.parametrize(("sigma", "shift"), [(1.0, 1), (4.0, 1), (10.0, 3), (60.0, 1)])
def test_discrete_gaussian_agrees_with_dp_accounting(sigma: float, shift: int, count: int) -> None:
    other = google.from_discrete_gaussian_mechanism(
        sigma, sensitivity=shift, value_discretization_interval=5e-5
    ).self_compose(count)

    found = epsilon_of(SelfComposed(DiscreteGaussian(sigma, shift), count), 1e-6)

    assert found == pytest.approx(other.get_epsilon_for_delta(1e-6), rel=4e-3)


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("scale", [0.5, 2.0, 11.0])
def test_real_laplace_agrees_with_dp_accounting(scale: float, count: int) -> None:
    other = google.from_laplace_mechanism(scale, value_discretization_interval=1e-4).self_compose(
        count
    )

    found = epsilon_of(SelfComposed(Laplace(scale), count), 1e-6)

    assert found == pytest.approx(other.get_epsilon_for_delta(1e-6), rel=1e-3)


@pytest.mark.parametrize("scale", [0.3, 1.0, 7.5])
@pytest.mark.parametrize("shift", [1, 4])
def test_opendp_asks_the_same_price(scale: float, shift: int) -> None:
    whole = dp.atom_domain(T=int)
    laplace = dp.m.make_laplace(whole, dp.absolute_distance(T=int), scale=scale)
    gaussian = dp.m.make_gaussian(whole, dp.absolute_distance(T=int), scale=scale)

    rho = rdp_curve(DiscreteGaussian(scale, shift)) / np.array(ORDERS)

    assert epsilon_of(DiscreteLaplace(scale, shift), 0.0) == pytest.approx(laplace.map(shift))
    assert rho == pytest.approx(gaussian.map(shift))


@pytest.mark.parametrize("epsilon", [1e-5, 0.01, 0.5, 2.0])
def test_opendp_asks_the_same_price_for_selections(epsilon: float) -> None:
    scores = dp.vector_domain(dp.atom_domain(T="f64", nan=False)), dp.linf_distance(T="f64")
    flip = dp.m.make_noisy_max(*scores, dp.max_divergence(), scale=2 / epsilon)
    gumbel = dp.m.make_noisy_max(*scores, dp.zero_concentrated_divergence(), scale=2 / epsilon)

    rho = np.max(rdp_curve(BoundedRange(epsilon)) / np.array(ORDERS))

    assert epsilon_of(PureDp(epsilon), 0.0) == pytest.approx(flip.map(1.0))
    assert rho <= gumbel.map(1.0) * (1 + 1e-9)  # OpenDP charges epsilon^2 / 8: never below ours
    assert gumbel.map(1.0) == pytest.approx(epsilon**2 / 8)


def range_pair(epsilon: float, t: float) -> tuple[list[mp.mpf], list[mp.mpf]]:
    """The two-point pair with losses t and t - epsilon."""
    q = (mp.exp(-mp.mpf(t)) - mp.exp(-mp.mpf(epsilon))) / (1 - mp.exp(-mp.mpf(epsilon)))
    return [q * mp.exp(t), (1 - q) * mp.exp(mp.mpf(t) - epsilon)], [q, 1 - q]


@pytest.mark.parametrize("epsilon", [2e-4, 0.01, 1.0, 5.0, 30.0])
def test_the_curve_of_a_bounded_range_is_the_largest_over_two_point_pairs(epsilon: float) -> None:
    curve = rdp_curve(BoundedRange(epsilon))
    for i in range(0, len(ORDERS), 29):
        largest = max(
            renyi(*range_pair(epsilon, float(t)), ORDERS[i])
            for t in np.linspace(0, epsilon, 401)[1:-1]
        )
        assert largest * (1 - 1e-9) <= curve[i]
        assert curve[i] <= min(largest * (1 + 2e-3), ORDERS[i] * epsilon**2 / 8 * (1 + 1e-9))


@pytest.mark.parametrize("epsilon", [0.01, 1.0, 5.0])
def test_delta_of_one_bounded_range_is_the_largest_over_two_point_pairs(epsilon: float) -> None:
    for at in (0.0, 0.3 * epsilon, 0.9 * epsilon):
        largest = max(
            hockey_stick(*range_pair(epsilon, float(t)), at) for t in np.linspace(0, epsilon, 2001)
        )
        assert largest <= delta_of(BoundedRange(epsilon), at) <= largest * 1.003 + 1e-12


def test_no_pair_of_bounded_range_costs_more() -> None:
    """Random laws on five results whose log ratios range over exactly epsilon, composed thrice."""
    generator = np.random.default_rng(4)  # noqa: TID251  laws to try, no noise
    epsilon = 0.8
    event = SelfComposed(BoundedRange(epsilon), 3)
    prices = {at: delta_of(event, at) for at in (0.0, 0.5, 1.2)}
    for _ in range(60):
        q = generator.dirichlet(np.ones(5) * generator.choice([0.3, 1, 5]))
        tilt = generator.uniform(0, epsilon, 5)
        tilt[:2] = 0, epsilon
        p = q * np.exp(tilt)
        p /= p.sum()
        both = p, q
        joint = [np.multiply.outer(np.multiply.outer(x, x), x).ravel() for x in both]
        for at, price in prices.items():
            assert np.maximum(joint[0] - math.exp(at) * joint[1], 0).sum() <= price


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_composition_across_types_is_between_its_parts_and_their_sum(event: DpEvent) -> None:
    both = epsilon_of(Composed((event, Gaussian(2.0))), 2e-6)

    assert both <= epsilon_of(event, 1e-6) + epsilon_of(Gaussian(2.0), 1e-6)
    assert both >= max(epsilon_of(event, 2e-6), epsilon_of(Gaussian(2.0), 2e-6)) * (1 - 1e-9)


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_an_exchanged_unit_counts_twice(event: DpEvent) -> None:
    name, value = (
        ("sensitivity", event.sensitivity)
        if isinstance(event, DiscreteLaplace | DiscreteGaussian)
        else ("epsilon", event.epsilon)  # type: ignore[union-attr]
    )
    twice = replace(event, **{name: 2 * value})  # type: ignore[type-var]

    assert epsilon_of(event, 1e-6, relation=REPLACE) == epsilon_of(twice, 1e-6)
    assert np.array_equal(rdp_curve(event, relation=REPLACE), rdp_curve(twice))


@pytest.mark.parametrize("name", ["pld", "rdp"])
def test_half_a_step_is_a_contribution_where_the_size_is_public_and_nowhere_else(name: str) -> None:
    for event in (DiscreteLaplace(2.0, 0.5), DiscreteGaussian(2.0, 0.5)):
        assert epsilon_of(event, 1e-6, name, relation=REPLACE) > 0
        with pytest.raises(UnsupportedEvent, match="replace_one"):
            epsilon_of(event, 1e-6, name)


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_what_has_no_sound_price_is_refused(event: DpEvent) -> None:
    with pytest.raises(UnsupportedEvent, match="not a Gaussian release"):
        epsilon_of(event, 1e-6, "gdp")
    for sampled in (PoissonSampled(0.1, event), SampledWithoutReplacement(9, 2, event)):
        for name in ("pld", "rdp"):
            with pytest.raises(UnsupportedEvent):
                epsilon_of(sampled, 1e-6, name)


def test_a_pair_with_too_many_losses_is_refused_not_cut() -> None:
    with pytest.raises(UnsupportedEvent, match="coarser lattice"):
        epsilon_of(DiscreteGaussian(1e5, 1), 1e-6)
    with pytest.raises(UnsupportedEvent, match="coarser lattice"):
        epsilon_of(DiscreteLaplace(1e6, 1 << 17), 1e-6)
    assert epsilon_of(DiscreteGaussian(1e5, 1), 1e-6, "rdp") < 3e-3


@pytest.mark.parametrize("epsilon", [50.0, 1e3, 1e6])
def test_a_huge_epsilon_is_reported_not_lost(epsilon: float) -> None:
    for event in (PureDp(epsilon), BoundedRange(epsilon), DiscreteLaplace(1 / epsilon, 1)):
        for name in ("pld", "rdp"):
            assert epsilon_of(event, 1e-6, name) == pytest.approx(epsilon, rel=1e-3)


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_an_event_survives_its_json_form(event: DpEvent) -> None:
    assert from_json(to_json(Composed((event, event)))) == Composed((event, event))


@pytest.mark.parametrize(
    "make",
    [
        lambda: PureDp(0.0), lambda: PureDp(math.inf), lambda: BoundedRange(math.nan),
        lambda: DiscreteLaplace(0.0, 1), lambda: DiscreteLaplace(1.0, 0.3),
        lambda: DiscreteLaplace(1.0, 0), lambda: DiscreteGaussian(-1.0, 1),
        lambda: DiscreteGaussian(1.0, math.inf), lambda: DiscreteGaussian(1.0, math.nan),
    ],
)  # fmt: skip
def test_a_number_outside_its_domain_is_refused(make: object) -> None:
    with pytest.raises(InvalidParameter):
        make()  # type: ignore[operator]
