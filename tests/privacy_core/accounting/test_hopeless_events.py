"""Events that hide nothing: a number or infinity at once; no crash, no hang, no small price."""

from __future__ import annotations

import itertools
import math

import pytest

from privacy_core.accounting import delta_of, dominating_gaussian, epsilon_of, gdp_epsilon_bound
from privacy_core.dp_events import (
    BoundedRange,
    DiscreteGaussian,
    DiscreteLaplace,
    DpEvent,
    Gaussian,
    Laplace,
    MixtureOfGaussians,
    PoissonSampled,
    PureDp,
    SampledWithoutReplacement,
    SelfComposed,
    TruncatedPoissonSampled,
)
from privacy_core.errors import UnsupportedEvent
from privacy_core.guarantee import NeighbouringRelation

DELTA = 1e-5
EVENTS: list[DpEvent] = [
    PoissonSampled(0.01, Gaussian(0.001)),
    PoissonSampled(0.5, Gaussian(0.01)),
    Laplace(1e-12),
    Laplace(1e-200),
    PoissonSampled(0.3, Laplace(1e-12)),
    DiscreteGaussian(1e-200, 1.0),
    DiscreteGaussian(0.05, 1.0),
    DiscreteLaplace(0.01, 1.0),
    TruncatedPoissonSampled(1000, 0.3, 20, Gaussian(0.001)),
    MixtureOfGaussians(0.01, (0.0, 1.0, 2.0), (0.5, 0.25, 0.25)),
    SampledWithoutReplacement(100, 3, Gaussian(0.01)),
    PureDp(1e6),
    BoundedRange(1e6),
    PureDp(1e300),
    DiscreteLaplace(1e-320, 1.0),
]


@pytest.mark.parametrize("count", [1000, 10**7])
@pytest.mark.parametrize("relation", list(NeighbouringRelation))
@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_nothing_is_hidden_and_the_price_says_so(
    event: DpEvent, relation: NeighbouringRelation, count: int
) -> None:
    act = SelfComposed(event=event, count=count)
    try:
        found = [epsilon_of(act, delta, "pld", relation=relation) for delta in (1e-12, DELTA, 0.1)]
    except UnsupportedEvent:
        return

    assert all(epsilon > 100 for epsilon in found)
    assert found == sorted(found, reverse=True)
    for epsilon in (0.0, 1.0):
        assert delta_of(act, epsilon, "pld", relation=relation) == 1.0


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_a_batch_that_is_surely_cut_has_a_price(accountant: str) -> None:
    """Its probability rounds to 1, and the logarithm of what is missing was taken."""
    event = TruncatedPoissonSampled(1000, 0.3, 20, Gaussian(2.0))
    cut = epsilon_of(SelfComposed(event=event, count=10), DELTA, accountant)
    halved = PoissonSampled(0.02, Gaussian(1.0))

    assert cut >= epsilon_of(SelfComposed(event=halved, count=10), DELTA, "pld") * (1 - 1e-6)
    assert cut < 20


@pytest.mark.parametrize(
    ("noise", "rate", "steps"),
    [(0.01, 1e-4, 10**6), (0.01, 0.01, 1000), (0.03, 0.01, 10**6), (0.001, 0.5, 10**6)],
)
def test_the_gaussian_that_dominates_a_hopeless_run_is_large(
    noise: float, rate: float, steps: int
) -> None:
    """It ended in an OverflowError."""
    run = SelfComposed(event=PoissonSampled(rate, Gaussian(noise)), count=steps)
    found = dominating_gaussian(run, delta_floor=0.1 * DELTA)

    assert found.mu >= math.sqrt(rate * steps)
    assert min(gdp_epsilon_bound(run, DELTA), epsilon_of(run, DELTA, "pld")) > 100


@pytest.mark.parametrize("noise", [0.05, 0.1, 0.2])
def test_the_quick_bound_takes_over_without_a_jump(noise: float) -> None:
    """On both sides of the switch at a thousand the price rises with the steps."""
    prices = [
        epsilon_of(SelfComposed(event=PoissonSampled(0.5, Gaussian(noise)), count=steps), DELTA)
        for steps in (4, 8, 16, 32, 64, 128, 256)
    ]

    assert prices == sorted(prices)
    assert all(later < 2.2 * first for first, later in itertools.pairwise(prices))
