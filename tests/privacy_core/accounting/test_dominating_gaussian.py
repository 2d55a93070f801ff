"""The sound mu against exact single steps, the tight accountant, and the formula it replaces."""

from __future__ import annotations

import math

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_core.accounting import (
    DominatingGaussian,
    delta_of,
    dominating_gaussian,
    epsilon_of,
    gdp_epsilon_bound,
)
from privacy_core.accounting.gdp import gaussian_delta
from privacy_core.dp_events import (
    Composed,
    DpEvent,
    Gaussian,
    Laplace,
    MixtureOfGaussians,
    NonPrivate,
    NoOp,
    PoissonSampled,
    SampledWithoutReplacement,
    SelfComposed,
    TruncatedPoissonSampled,
)
from privacy_core.errors import InvalidParameter, UnsupportedEvent
from privacy_core.guarantee import NeighbouringRelation

ADD_OR_REMOVE = NeighbouringRelation.ADD_OR_REMOVE_ONE
REPLACE = NeighbouringRelation.REPLACE_ONE
EPSILONS = [0.0, *(0.02 * 1.25**k for k in range(28))]


def dp_sgd(sigma: float, q: float, steps: int) -> DpEvent:
    return SelfComposed(PoissonSampled(q, Gaussian(sigma)), steps)


def exact_delta(q: float, sigma: float, epsilon: float) -> float:
    """Delta of one Poisson-sampled Gaussian step, both directions, in sixty digits."""
    with mpmath.workdps(60):
        q, sigma, e = mpmath.mpf(q), mpmath.mpf(sigma), mpmath.exp(mpmath.mpf(epsilon))

        def output(ratio: mpmath.mpf) -> mpmath.mpf:
            return sigma**2 * mpmath.log((ratio - (1 - q)) / q) + mpmath.mpf(1) / 2

        x = output(e)
        up, moved = mpmath.ncdf(-x / sigma), mpmath.ncdf(-(x - 1) / sigma)
        remove = (1 - q) * up + q * moved - e * up
        if 1 / e <= 1 - q:  # the loss is never that low
            return float(remove)
        x = output(1 / e)
        below, short = mpmath.ncdf(x / sigma), mpmath.ncdf((x - 1) / sigma)
        add = below - e * ((1 - q) * below + q * short)
        return float(max(remove, add))


@pytest.mark.parametrize("floor", [1e-3, 1e-6, 1e-10, 1e-14])
@pytest.mark.parametrize(("q", "sigma"), [(0.02, 0.9), (0.5, 0.5), (0.3, 3.0), (1e-3, 0.4)])
def test_one_step_stays_below_its_gaussian_everywhere(q: float, sigma: float, floor: float) -> None:
    found = dominating_gaussian(PoissonSampled(q, Gaussian(sigma)), delta_floor=floor)

    for epsilon in EPSILONS:
        assert exact_delta(q, sigma, epsilon) <= found.delta(epsilon)


@pytest.mark.parametrize("floor", [1e-6, 1e-10, 1e-14])
@pytest.mark.parametrize(("q", "sigma"), [(0.02, 0.9), (0.5, 0.5), (0.3, 3.0), (1e-3, 0.4)])
def test_a_slightly_smaller_mu_would_not_dominate(q: float, sigma: float, floor: float) -> None:
    found = dominating_gaussian(PoissonSampled(q, Gaussian(sigma)), delta_floor=floor)
    smaller = DominatingGaussian(mu=found.mu * 0.995, delta_floor=floor, relation=ADD_OR_REMOVE)

    near = [0.005 * 1.03**k for k in range(290)]
    assert any(exact_delta(q, sigma, epsilon) > smaller.delta(epsilon) for epsilon in near)


EVENTS = [
    (dp_sgd(1.0, 0.01, 1000), ADD_OR_REMOVE),
    (dp_sgd(0.6, 1e-4, 200_000), ADD_OR_REMOVE),
    (dp_sgd(0.5, 0.04, 500), REPLACE),
    (SelfComposed(Laplace(3.0), 20), ADD_OR_REMOVE),
    (
        SelfComposed(MixtureOfGaussians(1.0, (0.0, 1.0, 2.0), (0.98, 0.0198, 0.0002)), 300),
        "add_or_remove_one",
    ),
    (SelfComposed(SampledWithoutReplacement(5000, 50, Gaussian(2.0)), 100), REPLACE),
    (SelfComposed(TruncatedPoissonSampled(5000, 0.1, 520, Gaussian(2.0)), 100), ADD_OR_REMOVE),
    (Composed((SelfComposed(Gaussian(8.0), 5), dp_sgd(1.0, 0.01, 300))), ADD_OR_REMOVE),
]


@pytest.mark.parametrize("floor", [1e-4, 1e-8, 1e-13])
@pytest.mark.parametrize(("event", "relation"), EVENTS)
def test_a_run_stays_below_its_gaussian(event: DpEvent, relation: str, floor: float) -> None:
    relation = NeighbouringRelation(relation)
    found = dominating_gaussian(event, delta_floor=floor, relation=relation)

    for epsilon in EPSILONS[::3]:
        # Both stand on a lattice that moves epsilon by up to a few 1e-4.
        tight = delta_of(event, epsilon * 1.001, relation=relation)
        assert tight <= found.delta(epsilon) * (1 + 1e-3)
    for delta in (10 * floor, 2 * floor):
        assert found.epsilon(delta) >= epsilon_of(event, delta, relation=relation) * (1 - 1e-3)


@settings(deadline=None, max_examples=12, derandomize=True)
@given(
    sigma=st.floats(0.5, 20),
    log_q=st.floats(-4, -0.01),
    steps=st.integers(1, 5000),
    log_floor=st.floats(-14, -3),
)
def test_whatever_the_run_its_gaussian_is_above_it(
    sigma: float, log_q: float, steps: int, log_floor: float
) -> None:
    event = dp_sgd(sigma, 10**log_q, steps)

    found = dominating_gaussian(event, delta_floor=10**log_floor)

    for epsilon in (0.0, 0.1, 1.0, 5.0):
        assert delta_of(event, epsilon * 1.001) <= found.delta(epsilon) * (1 + 1e-3)
    # It cannot be above the run without sampling, which is Gaussian.
    assert found.mu <= math.sqrt(steps) / sigma * (1 + 1e-3)


def test_full_batches_keep_their_exact_mu_and_have_no_floor() -> None:
    found = dominating_gaussian(SelfComposed(Gaussian(4.0), 100), delta_floor=1e-6)

    assert (found.mu, found.delta_floor) == (2.5, 0.0)
    assert found.epsilon(1e-6) == pytest.approx(14.4507770, abs=1e-7)
    exchanged = dominating_gaussian(Gaussian(4.0), delta_floor=1e-6, relation=REPLACE)
    assert exchanged.mu == 0.5


def test_nearly_full_batches_have_nearly_that_mu() -> None:
    found = dominating_gaussian(dp_sgd(4.0, 1 - 1e-9, 100), delta_floor=1e-12)

    assert 2.5 * (1 - 1e-6) <= found.mu <= 2.5 * (1 + 1e-3)


def test_the_central_limit_mu_is_not_a_bound_and_this_one_is() -> None:
    sigma, q, steps, delta = 0.7, 1024 / 1e6, 3000, 1e-7
    limit = q * math.sqrt(steps * math.expm1(1 / sigma**2))
    event = dp_sgd(sigma, q, steps)
    truth = epsilon_of(event, delta)

    assert gaussian_delta(limit, 0.9 * truth) < 1e-4 * delta  # it promises far too much
    assert truth <= gdp_epsilon_bound(event, delta) <= 1.2 * truth


def test_a_lower_floor_asks_for_a_larger_mu() -> None:
    event = dp_sgd(0.7, 0.001, 3000)

    found = [dominating_gaussian(event, delta_floor=10.0**-k).mu for k in range(3, 16)]

    assert found == sorted(found)
    assert found[0] < found[-1]


def test_two_runs_compose_to_an_upper_bound_of_both() -> None:
    one, other = dp_sgd(0.8, 0.01, 400), dp_sgd(1.5, 0.1, 100)
    whole = dominating_gaussian(one, delta_floor=1e-8).composed_with(
        dominating_gaussian(other, delta_floor=2e-8)
    )

    assert whole.delta_floor == pytest.approx(3e-8)
    for delta in (1e-7, 1e-5):
        assert whole.epsilon(delta) >= epsilon_of(Composed((one, other)), delta)
    with pytest.raises(InvalidParameter, match="relation"):
        whole.composed_with(dominating_gaussian(one, delta_floor=1e-8, relation=REPLACE))


def test_the_ends() -> None:
    nothing = dominating_gaussian(NoOp(), delta_floor=1e-6)
    everything = dominating_gaussian(NonPrivate(), delta_floor=1e-6)
    hidden = dominating_gaussian(dp_sgd(1.0, 1e-9, 1), delta_floor=1e-3)

    assert (nothing.mu, nothing.epsilon(0.0)) == (0.0, 0.0)
    assert (everything.mu, everything.delta(5.0)) == (math.inf, 1.0)
    assert everything.epsilon(0.5) == math.inf
    assert hidden.mu == 0.0
    assert dominating_gaussian(dp_sgd(1.0, 0.1, 9), delta_floor=1e-6).epsilon(1e-7) == math.inf


@pytest.mark.parametrize("floor", [0.0, 1e-16, 1.0, -1.0, math.nan])
def test_a_floor_outside_its_domain_is_refused(floor: float) -> None:
    with pytest.raises(InvalidParameter, match="delta_floor"):
        dominating_gaussian(dp_sgd(1.0, 0.1, 9), delta_floor=floor)


def test_what_has_no_pair_is_refused_and_gdp_names_the_bound() -> None:
    with pytest.raises(UnsupportedEvent, match="SampledWithoutReplacement"):
        dominating_gaussian(SampledWithoutReplacement(9, 3, Gaussian(1.0)), delta_floor=1e-6)
    with pytest.raises(UnsupportedEvent, match="dominating_gaussian"):
        epsilon_of(dp_sgd(1.0, 0.1, 9), 1e-5, "gdp")
