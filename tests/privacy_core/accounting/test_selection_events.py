"""The price of a selection against its exact distribution, computed outcome by outcome."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import dp_accounting
import numpy as np
import pytest
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_core.accounting import (
    ORDERS,
    calibrate,
    delta_of,
    dp_sgd_event,
    epsilon_of,
    rdp_curve,
)
from privacy_core.accounting.filters import basic_price, ledger_curve
from privacy_core.accounting.normal_form import normal_form
from privacy_core.accounting.selection import (
    mean_runs,
    runs_at,
    selection_curve,
    selection_with_mean,
)
from privacy_core.dp_events import (
    Composed,
    DpEvent,
    Gaussian,
    Laplace,
    NonPrivate,
    NoOp,
    PoissonSampled,
    PoissonSelection,
    PureDp,
    Selection,
    SelfComposed,
)
from privacy_core.errors import InvalidParameter, UnsupportedEvent

ANY_ORDERS = np.array(ORDERS)

Law = Selection | PoissonSelection


def law(shape: float, parameter: float, event: DpEvent | None = None) -> Law:
    """A selection; shape inf is Poisson with the mean `1 / parameter`."""
    inner = event or PureDp(1.0)
    if shape == math.inf:
        return PoissonSelection(inner, 1 / parameter)
    return Selection(inner, shape, parameter)


LAWS = [(-0.5, 0.1), (0, 0.05), (0, 0.5), (1, 0.1), (1, 0.7), (3, 0.2)]
LAWS += [(math.inf, 0.1), (math.inf, 0.9), (math.inf, 5.0)]


@cache
def pmf(event: Law, most: int = 20_000) -> np.ndarray:
    """P(K = k) for k = 0, 1, ...: by the definition's recursion, normalised by its sum."""
    k = np.arange(most)
    if isinstance(event, PoissonSelection):
        logs = -event.mean + k * math.log(event.mean) - np.array([math.lgamma(i + 1) for i in k])
        return np.exp(logs)
    h, g = event.shape, event.stopping_probability
    logs = np.array(
        [
            i * math.log1p(-g) + math.lgamma(i + h) - math.lgamma(i + 1) if i else -math.inf
            for i in k
        ]
    )
    weights = np.exp(logs - logs.max())
    return weights / weights.sum()


def best_of(event: Law, one_run: Sequence[float]) -> np.ndarray:
    """The exact chance of each outcome, worst first, to be released; at the end of none at all.

    By total probability over the number of runs, with no generating function.
    """
    chances = pmf(event)
    k = np.arange(len(chances))
    below = np.concatenate(([0.0], np.cumsum(one_run)))
    at_most = np.array([float(chances[1:] @ (min(b, 1.0) ** k[1:])) for b in below])
    return np.append(np.diff(at_most), chances[0])


def renyi(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The exact divergence at every order of ORDERS, the larger of both directions."""
    keep = (p > 0) & (q > 0)
    p, q = p[keep], q[keep]
    a = ANY_ORDERS[:, None]
    both = [
        np.logaddexp.reduce(a * np.log(x) + (1 - a) * np.log(y), axis=1) / (ANY_ORDERS - 1)
        for x, y in ((p, q), (q, p))
    ]
    return np.maximum(np.max(both, axis=0), 0)


def hockey_stick(p: np.ndarray, q: np.ndarray, epsilon: float) -> float:
    forth, back = (np.maximum(x - math.exp(epsilon) * y, 0).sum() for x, y in ((p, q), (q, p)))
    return float(max(forth, back))


def randomised_response(epsilon: float) -> tuple[list[float], list[float]]:
    up = 1 / (1 + math.exp(-epsilon))
    return [1 - up, up], [up, 1 - up]


@pytest.mark.parametrize(("shape", "parameter"), LAWS)
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0])
def test_two_outcomes_cost_no_more_than_the_price(
    shape: float, parameter: float, epsilon: float
) -> None:
    event = law(shape, parameter, PureDp(epsilon))
    p, q = (best_of(event, one) for one in randomised_response(epsilon))

    assert np.all(renyi(p, q) <= rdp_curve(event) * (1 + 1e-9) + 1e-9)
    for delta in (0.0, 1e-6, 1e-3, 0.1):
        assert hockey_stick(p, q, epsilon_of(event, delta, "rdp")) <= delta + 1e-9
    for loss in (0.1, 1.0, 3.0):
        assert hockey_stick(p, q, loss) <= delta_of(event, loss, "rdp") + 1e-9


chance = st.floats(1e-4, 1.0)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    one=st.tuples(chance, chance, chance),
    other=st.tuples(chance, chance, chance),
    which=st.sampled_from(LAWS),
)
def test_any_three_outcomes_cost_no_more_than_the_bound(
    one: tuple[float, ...], other: tuple[float, ...], which: tuple[float, float]
) -> None:
    """The bound from the exact curve of one run, whatever the mechanism."""
    base, neighbour = (np.array(weights) / sum(weights) for weights in (one, other))
    event = law(*which)
    exact = renyi(best_of(event, base), best_of(event, neighbour))
    pure = float(np.abs(np.log(base / neighbour)).max())

    bound = selection_curve(
        event,
        ANY_ORDERS,
        renyi(base, neighbour),
        pure,
        lambda epsilon: hockey_stick(base, neighbour, epsilon),
    )
    without_pure = selection_curve(
        event,
        ANY_ORDERS,
        renyi(base, neighbour),
        math.inf,
        lambda epsilon: hockey_stick(base, neighbour, epsilon),
    )

    assert np.all(exact <= bound + 1e-8)
    assert np.all(bound <= without_pure + 1e-12)


@pytest.mark.parametrize(("shape", "parameter"), LAWS)
@pytest.mark.parametrize("epsilon", [0.2, 1.5])
def test_the_pure_price_is_attained(shape: float, parameter: float, epsilon: float) -> None:
    """By a rare outcome between two that are not: so no smaller figure would be sound."""
    up, rare = 1 / (1 + math.exp(-epsilon)), 1e-6
    event = law(shape, parameter, PureDp(epsilon))
    one = [up - rare * math.exp(epsilon), rare * math.exp(epsilon), 1 - up]
    other = [1 - up, rare, up - rare]

    p, q = best_of(event, one), best_of(event, other)
    loss = math.log(p[1] / q[1])

    price = epsilon_of(event, 0.0, "rdp")
    assert loss <= price * (1 + 1e-9)
    assert loss >= price * (1 - 1e-3)


def test_the_pure_price_is_within_that_of_the_paper() -> None:
    """Corollary 3: (2 + shape) times one run."""
    for shape, parameter in LAWS[:6]:
        assert epsilon_of(law(shape, parameter), 0.0, "rdp") <= 2 + shape
    many = Selection(PureDp(0.5), 1, 1e-9)
    assert epsilon_of(many, 0.0, "rdp") == pytest.approx(1.5, rel=1e-6)


@pytest.mark.parametrize(("shape", "mean"), [(0, 5), (1, 10), (2.5, 30), (1, 1.5), (math.inf, 10)])
def test_google_prices_it_alike(shape: float, mean: float) -> None:
    noise, rate, steps = 1.1, 0.02, 300
    base = dp_sgd_event(noise_multiplier=noise, sample_rate=rate, steps=steps)
    ours: DpEvent
    if shape == math.inf:
        ours = PoissonSelection(base, mean)
    else:
        ours = selection_with_mean(base, shape=shape, mean=mean)
    theirs = RdpAccountant(list(ORDERS))
    theirs.compose(
        dp_accounting.dp_event.RepeatAndSelectDpEvent(
            dp_accounting.SelfComposedDpEvent(
                dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise)),
                steps,
            ),
            mean,
            shape,
        )
    )

    # At no runs Google's price leaves out the chance of the constant: ours may be that much above.
    assert epsilon_of(ours, 1e-5, "rdp") == pytest.approx(theirs.get_epsilon(1e-5), rel=2e-3)


def test_the_zcdp_form_of_the_paper() -> None:
    """Corollary 4: the least of Theorem 2 is (1 + shape) (2 sqrt(rho log(1/g)) - rho)."""
    rho, g = 0.05, 0.01
    event = Selection(Gaussian(1 / math.sqrt(2 * rho)), 1, g)
    spread = 2 * (2 * math.sqrt(rho * math.log(1 / g)) - rho)
    orders = ANY_ORDERS
    expected = rho * orders + spread + math.log(1 / g) / (orders - 1)

    above = orders > 20  # below it the bound is that of a higher order
    assert rdp_curve(event)[above] == pytest.approx(expected[above], rel=1e-3)


def test_one_run_for_certain_is_the_run_itself() -> None:
    base = dp_sgd_event(noise_multiplier=1.0, sample_rate=0.01, steps=10)

    assert normal_form(Selection(base, 1, 1.0)) == normal_form(base)
    assert epsilon_of(Selection(NoOp(), 0, 0.5), 1e-5) == 0
    assert epsilon_of(PoissonSelection(NonPrivate(), 3), 1e-5) == math.inf
    twice = Composed((Gaussian(2.0), Gaussian(2.0)))
    assert normal_form(Selection(twice, 0, 0.5)) == normal_form(
        Selection(SelfComposed(Gaussian(2.0), 2), 0, 0.5)
    )


@pytest.mark.parametrize(
    "event", [Selection(Laplace(1.0), 1, 0.5), PoissonSelection(Laplace(1), 2)]
)
def test_the_other_accountants_refuse_by_name(event: DpEvent) -> None:
    for accountant in ("pld", "gdp"):
        with pytest.raises(UnsupportedEvent, match=rf"{type(event).__name__}\(Laplace\).*'rdp'"):
            epsilon_of(event, 1e-5, accountant)
    with pytest.raises(UnsupportedEvent):
        epsilon_of(PoissonSampled(0.1, event), 1e-5, "rdp")


def test_the_ledger_prices_it() -> None:
    event = Selection(dp_sgd_event(noise_multiplier=2.0, sample_rate=0.02, steps=100), 0, 0.1)

    assert all(map(math.isfinite, ledger_curve(event)))
    assert basic_price(event, 1e-5) == (epsilon_of(event, 1e-5, "rdp"), 1e-5)


def test_noise_can_be_calibrated_to_a_selection() -> None:
    def event_at(noise: float) -> DpEvent:
        base = dp_sgd_event(noise_multiplier=noise, sample_rate=0.05, steps=60)
        return Selection(Composed((base, Gaussian(10.0))), 0, 0.1)

    noise = calibrate(
        event_at,
        epsilon=4.0,
        delta=1e-5,
        lowest=0.1,
        highest=100,
        increasing=False,
        accountant="rdp",
    )

    assert 3.999 <= epsilon_of(event_at(noise), 1e-5, "rdp") <= 4.0


@pytest.mark.parametrize(("shape", "parameter"), LAWS)
def test_the_number_of_runs_has_its_law(shape: float, parameter: float) -> None:
    event = law(shape, parameter)
    chances = pmf(event)
    least = 0 if shape == math.inf else 1

    assert mean_runs(event) == pytest.approx(float(chances @ np.arange(len(chances))), rel=1e-9)
    reached = np.cumsum(chances)
    for k in range(least, 40):
        if chances[k] < 1e-9:
            continue
        middle = reached[k] - chances[k] / 2
        assert runs_at(event, float(middle)) == k


@pytest.mark.parametrize("shape", [-0.9, -0.5, -1e-10, 0, 1e-10, 0.3, 1, 8])
@pytest.mark.parametrize("mean", [1, 1.2, 3, 100])
def test_the_stopping_probability_meets_a_mean(shape: float, mean: float) -> None:
    event = selection_with_mean(PureDp(1.0), shape=shape, mean=mean)

    assert mean_runs(event) == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize(
    ("shape", "stopping"), [(-1, 0.5), (math.nan, 0.5), (math.inf, 0.5), (1, 0), (1, 1.1), (1, -1)]
)
def test_a_law_outside_its_domain_is_refused(shape: float, stopping: float) -> None:
    with pytest.raises(InvalidParameter):
        Selection(PureDp(1.0), shape, stopping)
    for mean in (0, -1, math.inf, math.nan):
        with pytest.raises(InvalidParameter):
            PoissonSelection(PureDp(1.0), mean)
    for mean in (0.9, 2e6, math.nan):
        with pytest.raises(InvalidParameter):
            selection_with_mean(PureDp(1.0), shape=1, mean=mean)
    for place in (0.0, 1.0, math.nan):
        with pytest.raises(InvalidParameter):
            runs_at(law(1, 0.5), place)
