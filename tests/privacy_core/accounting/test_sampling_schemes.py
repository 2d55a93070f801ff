"""How batches are made decides the price; each scheme against enumeration or a simpler one."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from privacy_core.accounting import (
    SamplingScheme,
    Schedule,
    accountant_names,
    delta_of,
    dp_sgd_event,
    epsilon_of,
    scheme_event,
)
from privacy_core.dp_events import Gaussian, SelfComposed
from privacy_core.errors import InvalidParameter, UnsupportedEvent
from privacy_core.guarantee import NeighbouringRelation

REPLACE = NeighbouringRelation.REPLACE_ONE
RUN = Schedule(examples=5000, batch_size=100, steps=200)


def price(
    scheme: SamplingScheme,
    schedule: Schedule = RUN,
    relation: NeighbouringRelation = NeighbouringRelation.ADD_OR_REMOVE_ONE,
    accountant: str = "pld",
) -> float:
    event = scheme_event(scheme, schedule, noise_multiplier=1.0)
    return epsilon_of(event, 1e-6, accountant, relation=relation)


def test_poisson_is_what_the_trainer_prices() -> None:
    event = scheme_event(SamplingScheme.POISSON, RUN, noise_multiplier=1.5)

    assert event == dp_sgd_event(noise_multiplier=1.5, sample_rate=0.02, steps=200)


def test_one_group_is_poisson_and_groups_of_one_batch_are_a_shuffle() -> None:
    most = replace(RUN, groups=50)

    assert price(SamplingScheme.CYCLIC_POISSON) == price(SamplingScheme.POISSON)
    assert price(SamplingScheme.CYCLIC_POISSON, most) == pytest.approx(
        price(SamplingScheme.SHUFFLE)
    )


@pytest.mark.parametrize("relation", list(NeighbouringRelation))
def test_more_groups_cost_more_and_never_more_than_no_sampling(
    relation: NeighbouringRelation,
) -> None:
    prices = [
        price(SamplingScheme.CYCLIC_POISSON, replace(RUN, groups=groups), relation)
        for groups in (1, 2, 5, 10, 50)
    ]

    assert prices == sorted(prices)
    assert prices[-1] <= price(SamplingScheme.SHUFFLE, RUN, relation) * (1 + 1e-9)


def hockey_stick(p: np.ndarray, q: np.ndarray, epsilon: float) -> float:
    e = math.exp(epsilon)
    return float(max(np.maximum(p - e * q, 0).sum(), np.maximum(q - e * p, 0).sum()))


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0, 2.0])
def test_a_cyclic_run_is_exact_for_a_unit_in_a_group_of_its_own(epsilon: float) -> None:
    """Two groups, three steps: the unit's group has steps 0 and 2. The joint law by quadrature."""
    sigma, rate = 1.0, 0.25
    x = np.linspace(-9.0, 10.0, 1901)
    width = x[1] - x[0]
    noise = np.exp(-0.5 * (x / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi)) * width
    moved = np.exp(-0.5 * ((x - 1) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi)) * width
    taken = (1 - 2 * rate) * noise + 2 * rate * moved  # in its turn the rate is doubled
    truth = hockey_stick(np.outer(taken, taken), np.outer(noise, noise), epsilon)

    schedule = Schedule(examples=8, batch_size=2, steps=3, groups=2)
    event = scheme_event(SamplingScheme.CYCLIC_POISSON, schedule, noise_multiplier=sigma)

    assert truth * (1 - 1e-3) <= delta_of(event, epsilon) <= truth * 1.02 + 1e-9


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0, 2.0])
def test_a_shuffle_never_costs_more_than_its_price(epsilon: float) -> None:
    """Four places, batches of two, one epoch of two steps; a unit is absent or of size 1."""
    sigma, others = 1.0, (-1.0, 1.0, 0.5)
    x = np.linspace(-10.0, 10.0, 801)
    width = x[1] - x[0]

    def law(target: float) -> np.ndarray:
        total = np.zeros((len(x), len(x)))
        orders = list(itertools.permutations([*others, target]))
        for order in orders:
            sums = (order[0] + order[1], order[2] + order[3])
            one, two = (
                np.exp(-0.5 * ((x - s) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi)) * width
                for s in sums
            )
            total += np.outer(one, two) / len(orders)
        return total

    schedule = Schedule(examples=4, batch_size=2, steps=2)
    event = scheme_event(SamplingScheme.SHUFFLE, schedule, noise_multiplier=sigma)

    assert event == SelfComposed(Gaussian(sigma), 1)
    assert hockey_stick(law(1.0), law(0.0), epsilon) <= delta_of(event, epsilon)
    exchanged = delta_of(event, epsilon, relation=REPLACE)
    assert hockey_stick(law(1.0), law(-1.0), epsilon) <= exchanged


def test_a_shuffle_priced_as_poisson_would_be_far_too_cheap() -> None:
    assert price(SamplingScheme.SHUFFLE) > 3 * price(SamplingScheme.POISSON)


@pytest.mark.parametrize(
    ("steps", "epochs"), [(1, 1), (50, 1), (51, 2), (100, 2), (199, 4), (200, 4), (201, 5)]
)
def test_a_started_epoch_counts_as_a_whole_one(steps: int, epochs: int) -> None:
    assert replace(RUN, steps=steps).epochs_at_most == epochs


def test_an_epoch_with_a_short_last_batch_has_one_step_more() -> None:
    assert Schedule(examples=5001, batch_size=100, steps=102).epochs_at_most == 2
    assert Schedule(examples=5001, batch_size=100, steps=103).epochs_at_most == 3


def test_a_cap_that_cuts_costs_more_and_a_generous_one_nothing() -> None:
    cut = price(SamplingScheme.TRUNCATED_POISSON, replace(RUN, batch_cap=105))
    free = price(SamplingScheme.TRUNCATED_POISSON, replace(RUN, batch_cap=400))

    assert cut > 1.5 * free
    assert free == pytest.approx(price(SamplingScheme.POISSON), rel=1e-6)


def test_a_full_batch_is_not_amplified() -> None:
    everyone = Schedule(examples=50, batch_size=50, steps=4)

    assert price(SamplingScheme.FULL_BATCH, everyone, accountant="gdp") == pytest.approx(
        epsilon_of(Gaussian(0.5), 1e-6)
    )


@pytest.mark.parametrize("accountant", accountant_names())
def test_a_fixed_size_has_no_price_when_units_join_or_leave(accountant: str) -> None:
    with pytest.raises(UnsupportedEvent, match="SampledWithoutReplacement"):
        price(SamplingScheme.FIXED_SIZE, accountant=accountant)
    assert price(SamplingScheme.FIXED_SIZE, relation=REPLACE) > price(
        SamplingScheme.POISSON, relation=REPLACE
    )


SAMPLED = [
    s for s in SamplingScheme if s not in {SamplingScheme.FULL_BATCH, SamplingScheme.SHUFFLE}
]


@pytest.mark.parametrize("scheme", SAMPLED)
def test_gdp_refuses_every_sampled_scheme(scheme: SamplingScheme) -> None:
    schedule = replace(RUN, batch_cap=120) if scheme is SamplingScheme.TRUNCATED_POISSON else RUN

    with pytest.raises(UnsupportedEvent):
        price(scheme, schedule, accountant="gdp")


@pytest.mark.parametrize(
    ("scheme", "change", "named"),
    [
        ("poisson", {"batch_cap": 120}, "batch_cap"),
        ("truncated_poisson", {}, "batch_cap"),
        ("shuffle", {"groups": 2}, "groups"),
        ("poisson", {"groups": 2}, "groups"),
        ("cyclic_poisson", {"groups": 51}, "groups"),
        ("full_batch", {}, "batch_size"),
    ],
)
def test_a_schedule_made_for_another_scheme_is_refused(
    scheme: str, change: dict[str, int], named: str
) -> None:
    with pytest.raises(InvalidParameter, match=named):
        scheme_event(SamplingScheme(scheme), replace(RUN, **change), noise_multiplier=1.0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"examples": 0}, "examples"),
        ({"batch_size": 5001}, "batch_size"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"steps": True}, "steps"),
        ({"batch_cap": 0}, "batch_cap"),
        ({"groups": 0}, "groups"),
    ],
)
def test_a_size_outside_its_domain_is_refused_by_name(
    change: dict[str, object], named: str
) -> None:
    with pytest.raises(InvalidParameter, match=named):
        replace(RUN, **change)  # type: ignore[arg-type]
