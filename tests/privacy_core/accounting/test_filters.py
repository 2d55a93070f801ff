from __future__ import annotations

import functools
import math

import dp_accounting.rdp
import mpmath
import numpy as np
import pytest

from privacy_core.accounting import ORDERS, dp_sgd_event, epsilon_of, rdp_curve
from privacy_core.accounting.filters import (
    BASIC_SHARE,
    LEDGER_ORDERS,
    GdpFilter,
    RdpFilter,
    basic_price,
    fits,
    gdp_price,
    ledger_curve,
    odometer,
)
from privacy_core.dp_events import (
    Composed,
    DpEvent,
    Gaussian,
    Laplace,
    NonPrivate,
    NoOp,
    PoissonSampled,
    SelfComposed,
    TruncatedPoissonSampled,
)
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import NeighbouringRelation

TARGETS = [(0.1, 1e-8), (1.0, 1e-6), (3.0, 1e-5), (8.0, 1e-10), (30.0, 1e-6)]
NO_BASIC = (math.inf, math.inf)


@pytest.mark.parametrize(("epsilon", "delta"), TARGETS)
def test_the_shares_of_delta_add_to_at_most_delta(epsilon: float, delta: float) -> None:
    limit = RdpFilter(epsilon, delta)

    shares = [mpmath.mpf(share) for share in (*limit.order_deltas, limit.basic_delta)]
    assert all(share > 0 for share in shares)
    assert delta * (1 - 1e-9) <= mpmath.fsum(shares) <= delta


@pytest.mark.parametrize(("epsilon", "delta"), TARGETS)
def test_every_cap_is_the_largest_that_the_inequality_allows(epsilon: float, delta: float) -> None:
    limit = RdpFilter(epsilon, delta)

    for order, share, cap in zip(LEDGER_ORDERS, limit.order_deltas, limit.caps, strict=False):
        # The largest (1 - e^-y) e^(-(a-1) y), found by search and not by its formula.
        y = np.linspace(1 / (2 * order), 3 / (order - 1), 100_001)
        peak = mpmath.mpf(np.max(-np.expm1(-y) * np.exp(-(order - 1) * y)))
        bound = peak * mpmath.exp((order - 1) * (mpmath.mpf(cap) - epsilon))
        assert share * (1 - 1e-7) <= bound <= share


class Game:
    """The worst adaptive adversary against a filter, by an exact dynamic programme.

    Acts have two outcomes whose privacy losses are multiples of `step`, so a state is how often
    each act was used and the loss so far. Before every act the adversary may stop, or choose any
    act that the filter admits. Its value is the largest E_P[(1 - e^(eps - L))_+].
    """

    step = 0.2

    def __init__(self, epsilon: float, delta: float, caps: tuple[float, ...], swap: bool) -> None:
        self.epsilon, self.delta, self.caps = epsilon, delta, caps
        # (up, down, probability of up under P): randomised response, a strong one, a rare jump.
        pairs = [(1, -1), (3, -3), (8, -1)]
        self.acts = []
        self.prices = []
        for up, down in pairs:
            q = (1 - math.exp(down * self.step)) / (
                math.exp(up * self.step) - math.exp(down * self.step)
            )
            p = q * math.exp(up * self.step)
            assert math.isclose((1 - p) / (1 - q), math.exp(down * self.step))
            self.prices.append(self.price(p, q))
            self.acts.append((-up, -down, q) if swap else (up, down, p))

    def price(self, p: float, q: float) -> np.ndarray:
        curve = [
            max(
                math.log(x**a * y ** (1 - a) + (1 - x) ** a * (1 - y) ** (1 - a)) / (a - 1)
                for x, y in ((p, q), (q, p))
            )
            for a in LEDGER_ORDERS
        ]
        pure = max(abs(math.log(p / q)), abs(math.log((1 - p) / (1 - q))))
        return np.array([*curve, pure, 0.0])

    @functools.cache  # noqa: B019  # the game lives as long as its test
    def admits(self, *used: int) -> bool:
        spent = sum(n * price for n, price in zip(used, self.prices, strict=True))
        return fits(spent.tolist(), self.caps)

    @functools.cache  # noqa: B019  # as above
    def value(self, loss: int, *used: int) -> float:
        best = max(0.0, -math.expm1(self.epsilon - loss * self.step))
        for i, (up, down, p) in enumerate(self.acts):
            after = (*used[:i], used[i] + 1, *used[i + 1 :])
            if self.admits(*after):
                best = max(
                    best,
                    p * self.value(loss + up, *after) + (1 - p) * self.value(loss + down, *after),
                )
        return best


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize(("epsilon", "delta"), [(1.5, 0.05), (2.5, 0.01), (0.9, 0.2)])
def test_the_worst_adaptive_adversary_does_not_exceed_delta(
    epsilon: float, delta: float, swap: bool
) -> None:
    game = Game(epsilon, delta, RdpFilter(epsilon, delta).caps, swap)

    worst = game.value(0, 0, 0, 0)

    assert worst <= delta
    # It is an adversary: it does pass epsilon sometimes, and by composing, not by one act.
    assert worst > delta / 1000


def test_the_adversary_wins_against_caps_that_are_too_large() -> None:
    epsilon, delta = 1.5, 0.05
    caps = tuple(cap + 1.0 for cap in RdpFilter(epsilon, delta).caps)

    assert Game(epsilon, delta, caps, swap=False).value(0, 0, 0, 0) > delta


@pytest.mark.parametrize(("epsilon", "delta"), TARGETS)
@pytest.mark.parametrize(
    "event",
    [Gaussian(30.0), PoissonSampled(0.01, Gaussian(1.0)), PoissonSampled(0.2, Gaussian(9.0))],
    ids=["gaussian", "sampled", "large sample"],
)
def test_the_odometer_agrees_with_the_conversion_of_dp_accounting(
    event: DpEvent, epsilon: float, delta: float
) -> None:
    limit, curve = RdpFilter(epsilon, delta), np.array(ledger_curve(event))
    expected = min(
        dp_accounting.rdp.compute_epsilon([order], [37 * rdp], share)[0]
        for order, rdp, share in zip(LEDGER_ORDERS, curve, limit.order_deltas, strict=True)
    )

    assert limit.epsilon_of([*(37 * curve), *NO_BASIC]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("epsilon", "delta"), [(1.0, 1e-6), (3.0, 1e-5), (8.0, 1e-6)])
@pytest.mark.parametrize(
    ("event", "loss"),
    [(Gaussian(30.0), 0.25), (PoissonSampled(0.01, Gaussian(2.0)), 0.25)],
    ids=["gaussian", "sampled"],
)
def test_the_most_that_is_admitted_is_within_epsilon_and_not_far_below(
    event: DpEvent, loss: float, epsilon: float, delta: float
) -> None:
    limit, curve = RdpFilter(epsilon, delta), np.array(ledger_curve(event))
    most = max(math.floor(cap / rdp) for cap, rdp in zip(limit.caps, curve, strict=False))

    assert limit.admits([*(most * curve), *NO_BASIC])
    assert not limit.admits([*((most + 1) * curve), *NO_BASIC])
    true = epsilon_of(SelfComposed(event, most), delta)
    assert epsilon * (1 - loss) <= true <= epsilon


def test_the_odometer_is_at_most_epsilon_exactly_when_the_filter_admits() -> None:
    generator = np.random.default_rng(4)  # noqa: TID251  # a test's own, fixed chance
    caps = (*(int(c) for c in generator.integers(-50, 500, 12)), 300, 40)

    for _ in range(2000):
        spent = [int(c) for c in generator.integers(0, 700, 14)]
        assert (odometer(spent, caps) <= 300) == fits(spent, caps)


def test_nothing_spent_costs_nothing() -> None:
    assert RdpFilter(1.0, 1e-6).epsilon_of([0.0] * 14) == 0
    assert GdpFilter(1.0, 1e-6).epsilon_of(0.0) == 0


@pytest.mark.parametrize(("epsilon", "delta"), TARGETS)
def test_the_gaussian_filter_is_exact(epsilon: float, delta: float) -> None:
    limit = GdpFilter(epsilon, delta)

    def exact(mu: mpmath.mpf) -> mpmath.mpf:
        b = epsilon / mu
        return mpmath.ncdf(mu / 2 - b) - mpmath.exp(epsilon) * mpmath.ncdf(-mu / 2 - b)

    with mpmath.workdps(50):
        mu_squared = mpmath.mpf(limit.cap)
        assert exact(mpmath.sqrt(mu_squared)) <= delta
        assert exact(mpmath.sqrt(mu_squared * (1 + mpmath.mpf(10) ** -9))) > delta
    assert limit.admits(limit.cap)
    assert not limit.admits(limit.cap * (1 + 1e-12))


def test_the_gaussian_filter_knows_the_published_points() -> None:
    # mu = 1 at delta 1e-5 and mu = 2.5 at delta 1e-6 (closed form, Balle & Wang 2018).
    assert GdpFilter(4.3771781, 1e-5).cap == pytest.approx(1.0, rel=1e-7)
    assert GdpFilter(14.450777, 1e-6).cap == pytest.approx(6.25, rel=1e-7)


def test_at_delta_zero_only_pure_acts_fit() -> None:
    limit = RdpFilter(1.0, 0.0)

    assert limit.admits([*ledger_curve(Laplace(2.0)), *basic_price(Laplace(2.0))])
    assert not limit.admits([*ledger_curve(Gaussian(1e6)), *basic_price(Gaussian(1e6))])
    assert GdpFilter(1.0, 0.0).cap == 0


def test_the_curve_is_the_accountants_at_the_ledgers_orders() -> None:
    event = dp_sgd_event(noise_multiplier=1.0, sample_rate=0.01, steps=100)
    full = dict(zip(ORDERS, rdp_curve(event), strict=True))

    assert len(LEDGER_ORDERS) == 12
    assert ledger_curve(event) == tuple(full[order] for order in LEDGER_ORDERS)


def test_what_is_unknown_costs_infinity() -> None:
    unknown = TruncatedPoissonSampled(100, 0.1, 20, Laplace(2.0))

    assert set(ledger_curve(unknown)) == {math.inf}
    assert set(ledger_curve(NonPrivate())) == {math.inf}
    assert basic_price(unknown, 1e-6) == NO_BASIC
    assert basic_price(Gaussian(1.0)) == NO_BASIC
    assert basic_price(NonPrivate(), 0.1) == NO_BASIC
    assert gdp_price(NonPrivate()) == math.inf
    assert gdp_price(PoissonSampled(0.5, Gaussian(1.0))) == math.inf
    assert GdpFilter(1.0, 1e-6).epsilon_of(math.inf) == math.inf


def test_prices_of_basic_composition_are_the_tight_ones() -> None:
    event = dp_sgd_event(noise_multiplier=1.0, sample_rate=0.01, steps=100)

    assert basic_price(event, 1e-6) == (epsilon_of(event, 1e-6), 1e-6)
    assert basic_price(Laplace(2.0)) == (pytest.approx(0.5), 0.0)
    assert basic_price(NoOp()) == (0.0, 0.0)


def test_gaussian_prices_add_and_double_under_exchange() -> None:
    event = Composed((Gaussian(2.0), SelfComposed(Gaussian(4.0), 3)))

    assert gdp_price(event) == pytest.approx(1 / 4 + 3 / 16, rel=1e-9)
    exchanged = gdp_price(event, relation=NeighbouringRelation.REPLACE_ONE)
    assert exchanged == pytest.approx(4 * gdp_price(event))


@pytest.mark.parametrize("kind", [RdpFilter, GdpFilter])
@pytest.mark.parametrize(
    ("epsilon", "delta"), [(-1.0, 0.1), (math.inf, 0.1), (math.nan, 0.1), (1.0, 1.0), (1.0, -1e-9)]
)
def test_a_target_outside_its_domain_is_refused(kind: type, epsilon: float, delta: float) -> None:
    with pytest.raises(InvalidParameter):
        kind(epsilon, delta)


def test_half_of_delta_is_for_declared_plans() -> None:
    assert BASIC_SHARE == 0.5
    assert RdpFilter(1.0, 1e-6).basic_delta == 5e-7
