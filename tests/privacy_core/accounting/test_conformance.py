"""What holds for every accountant. One suite, run over all of them."""

from __future__ import annotations

import math

import pytest

from privacy_core.accounting import accountant_names, delta_of, epsilon_of
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

REPLACE = NeighbouringRelation.REPLACE_ONE
ACCOUNTANTS = accountant_names()
RELATIONS = tuple(NeighbouringRelation)


def sampled(noise: float, rate: float, steps: int) -> DpEvent:
    return SelfComposed(PoissonSampled(rate, Gaussian(noise)), steps)


def full_batch(noise: float, rate: float, steps: int) -> DpEvent:
    del rate
    return SelfComposed(Gaussian(noise), steps)


PRICED = [("pld", sampled), ("rdp", sampled), ("gdp", full_batch), ("pld", full_batch)]


@pytest.fixture(params=ACCOUNTANTS)
def accountant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize(
    "event",
    [
        NonPrivate(),
        Composed((Gaussian(1.0), NonPrivate())),
        PoissonSampled(0.1, NonPrivate()),
        TruncatedPoissonSampled(100, 0.1, 5, NonPrivate()),
        SampledWithoutReplacement(100, 5, NonPrivate()),
        SelfComposed(NonPrivate(), 3),
    ],
)
def test_an_unprotected_release_costs_infinity(
    accountant: str, event: DpEvent, relation: NeighbouringRelation
) -> None:
    assert epsilon_of(event, 1e-5, accountant, relation=relation) == math.inf
    assert delta_of(event, 5.0, accountant, relation=relation) == 1.0


@pytest.mark.parametrize(
    "event",
    [
        NoOp(),
        Composed(()),
        SelfComposed(Gaussian(1.0), 0),
        SelfComposed(NonPrivate(), 0),
        PoissonSampled(0.0, Gaussian(1.0)),
        PoissonSampled(0.0, NonPrivate()),
        SampledWithoutReplacement(10, 0, Gaussian(1.0)),
        MixtureOfGaussians(1.0, (0.0,), (1.0,)),
    ],
)
def test_nothing_released_costs_nothing(accountant: str, event: DpEvent) -> None:
    assert epsilon_of(event, 0.0, accountant) == 0.0
    assert delta_of(event, 0.0, accountant) == 0.0


@pytest.mark.parametrize("delta", [-0.1, 1.1, math.nan])
def test_a_delta_outside_its_domain_is_refused(accountant: str, delta: float) -> None:
    with pytest.raises(InvalidParameter, match="delta"):
        epsilon_of(Gaussian(1.0), delta, accountant)


@pytest.mark.parametrize("epsilon", [-0.1, math.nan])
def test_an_epsilon_outside_its_domain_is_refused(accountant: str, epsilon: float) -> None:
    with pytest.raises(InvalidParameter, match="epsilon"):
        delta_of(Gaussian(1.0), epsilon, accountant)


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize(("name", "make"), PRICED)
def test_epsilon_does_not_increase_with_delta(
    name: str, make: type[DpEvent], relation: NeighbouringRelation
) -> None:
    event = make(1.0, 0.01, 200)
    deltas = [0.0, *(10.0**-k for k in range(14, 0, -1)), 0.3, 1.0]

    prices = [epsilon_of(event, delta, name, relation=relation) for delta in deltas]

    assert prices == sorted(prices, reverse=True)
    assert prices[0] == math.inf
    assert prices[-1] == 0


@pytest.mark.parametrize(("name", "make"), PRICED)
def test_close_deltas_are_in_order_too(name: str, make: type[DpEvent]) -> None:
    event = make(0.7, 0.001, 3000)

    prices = [epsilon_of(event, 1e-6 * 1.003**k, name) for k in range(12)]

    assert prices == sorted(prices, reverse=True)


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize(("name", "make"), PRICED)
def test_more_noise_costs_less(
    name: str, make: type[DpEvent], relation: NeighbouringRelation
) -> None:
    noises = (0.5, 0.7, 1.0, 1.01, 2.0, 10.0, 100.0)

    prices = [epsilon_of(make(s, 0.02, 50), 1e-6, name, relation=relation) for s in noises]

    assert prices == sorted(prices, reverse=True)
    assert len(set(prices)) == len(prices)


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize(("name", "make"), PRICED)
def test_more_steps_cost_more(
    name: str, make: type[DpEvent], relation: NeighbouringRelation
) -> None:
    prices = [
        epsilon_of(make(1.0, 0.02, n), 1e-6, name, relation=relation)
        for n in (1, 2, 10, 100, 101, 1000)
    ]

    assert prices == sorted(prices)
    assert len(set(prices)) == len(prices)


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("name", ["pld", "rdp"])
def test_a_larger_sample_costs_more(name: str, relation: NeighbouringRelation) -> None:
    prices = [
        epsilon_of(sampled(1.0, q, 50), 1e-6, name, relation=relation)
        for q in (1e-4, 1e-3, 0.01, 0.1, 0.5, 0.99, 1.0)
    ]

    assert prices == sorted(prices)


@pytest.mark.parametrize(("name", "make"), PRICED)
def test_two_descriptions_of_one_act_have_one_price(name: str, make: type[DpEvent]) -> None:
    step = make(1.5, 0.1, 1)
    descriptions = [
        SelfComposed(step, 6),
        Composed((step,) * 6),
        Composed((SelfComposed(step, 2), NoOp(), SelfComposed(SelfComposed(step, 2), 2))),
    ]

    prices = {epsilon_of(event, 1e-6, name) for event in descriptions}

    assert max(prices) - min(prices) <= 1e-9 * max(prices)


@pytest.mark.parametrize(("name", "make"), PRICED)
def test_composition_is_not_dearer_than_the_sum_and_not_cheaper_than_a_part(
    name: str, make: type[DpEvent]
) -> None:
    one, other = make(1.0, 0.05, 20), make(2.0, 0.2, 20)

    both = epsilon_of(Composed((one, other)), 2e-6, name)

    assert both <= epsilon_of(one, 1e-6, name) + epsilon_of(other, 1e-6, name) + 1e-9
    assert both >= max(epsilon_of(one, 2e-6, name), epsilon_of(other, 2e-6, name))


@pytest.mark.parametrize(("name", "make"), PRICED)
def test_the_relation_is_part_of_the_answer(name: str, make: type[DpEvent]) -> None:
    event = make(1.0, 0.05, 20)

    assert epsilon_of(event, 1e-6, name, relation=REPLACE) > epsilon_of(event, 1e-6, name)


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize(("name", "make"), PRICED)
def test_delta_and_epsilon_are_inverse(
    name: str, make: type[DpEvent], relation: NeighbouringRelation
) -> None:
    event = make(1.0, 0.02, 300)

    epsilon = epsilon_of(event, 1e-6, name, relation=relation)

    assert delta_of(event, epsilon, name, relation=relation) == pytest.approx(1e-6, rel=1e-3)


def test_releases_about_one_sample_are_one_release(accountant: str) -> None:
    joint = Composed((Gaussian(2.0), Gaussian(3.0), SelfComposed(Gaussian(4.0), 2)))
    single = Gaussian((1 / 4 + 1 / 9 + 2 / 16) ** -0.5)
    rate = 1.0 if accountant == "gdp" else 0.03

    prices = [
        epsilon_of(SelfComposed(PoissonSampled(rate, act), 50), 1e-6, accountant)
        for act in (joint, single)
    ]

    assert prices[0] == pytest.approx(prices[1], rel=1e-9)


UNPRICED = [
    ("gdp", PoissonSampled(0.5, Gaussian(1.0)), NeighbouringRelation.ADD_OR_REMOVE_ONE),
    ("gdp", Laplace(1.0), NeighbouringRelation.ADD_OR_REMOVE_ONE),
    ("gdp", SampledWithoutReplacement(10, 5, Gaussian(1.0)), REPLACE),
    ("gdp", MixtureOfGaussians(1.0, (1.0, 2.0), (0.5, 0.5)), RELATIONS[0]),
    ("pld", SampledWithoutReplacement(10, 5, Gaussian(1.0)), RELATIONS[0]),
    ("rdp", SampledWithoutReplacement(10, 5, Gaussian(1.0)), RELATIONS[0]),
    ("pld", PoissonSampled(0.5, Composed((Gaussian(1.0), Laplace(1.0)))), RELATIONS[0]),
    ("pld", PoissonSampled(0.5, Laplace(1.0)), REPLACE),
    ("rdp", PoissonSampled(0.5, Laplace(1.0)), REPLACE),
    ("pld", MixtureOfGaussians(1.0, (0.0, 1.0, 2.0), (0.5, 0.3, 0.2)), REPLACE),
    ("rdp", MixtureOfGaussians(1.0, (0.0, 1.0, 2.0), (0.5, 0.3, 0.2)), REPLACE),
    ("pld", TruncatedPoissonSampled(10, 0.5, 3, Laplace(1.0)), RELATIONS[0]),
    ("rdp", PoissonSampled(0.5, SampledWithoutReplacement(9, 3, Gaussian(1.0))), RELATIONS[0]),
]


@pytest.mark.parametrize(("name", "event", "relation"), UNPRICED)
def test_what_has_no_sound_price_is_refused_by_name(
    name: str, event: DpEvent, relation: NeighbouringRelation
) -> None:
    for whole in (event, Composed((Gaussian(1.0), SelfComposed(event, 3)))):
        with pytest.raises(UnsupportedEvent) as refusal:
            epsilon_of(whole, 1e-5, name, relation=relation)
        assert refusal.value.accountant == name
        assert refusal.value.event
        with pytest.raises(UnsupportedEvent):
            delta_of(whole, 1.0, name, relation=relation)


def test_the_refusal_of_the_central_limit_names_the_way_out() -> None:
    with pytest.raises(UnsupportedEvent, match=r"central-limit formula is not a bound.*'pld'"):
        epsilon_of(sampled(1.0, 0.01, 1000), 1e-5, "gdp")


def test_an_unknown_accountant_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidParameter, match=r"gdp.*pld.*rdp.*prv.*did you mean 'pld'"):
        epsilon_of(Gaussian(1.0), 1e-5, "pdl")


@pytest.mark.parametrize(("other", "name"), [("prv", "pld"), ("moments", "rdp")])
def test_other_spellings_give_the_same_answer(other: str, name: str) -> None:
    event = sampled(1.0, 0.01, 100)

    assert epsilon_of(event, 1e-5, other) == epsilon_of(event, 1e-5, name)
