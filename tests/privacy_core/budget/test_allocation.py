from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.accounting import dp_sgd_event
from privacy_core.budget import (
    USUAL_SHARES,
    Currency,
    caps_of,
    charge_of,
    divide,
    protection,
    quota,
    shares_of,
    steps_by_epoch,
    steps_within,
)
from privacy_core.budget.charges import fits
from privacy_core.dp_events import Gaussian, Laplace, NoOp
from privacy_core.errors import BudgetExhausted, InvalidParameter
from privacy_core.guarantee import Guarantee

PROJECT = quota("clinic", "research", "ada", "triage")
TOTAL = Guarantee(epsilon=3.0, delta=1e-6)
WEIGHTS = st.lists(st.integers(0, 1000), min_size=1, max_size=8).filter(any)


@given(st.lists(st.integers(-(2**110), 2**110), min_size=1, max_size=14).map(tuple), WEIGHTS)
def test_parts_add_up_exactly_and_are_within_a_unit_of_their_due(
    total: tuple[int, ...], weights: list[int]
) -> None:
    parts = divide(total, weights)

    assert tuple(sum(column) for column in zip(*parts, strict=True)) == total
    for part, weight in zip(parts, weights, strict=True):
        for units, whole in zip(part, total, strict=True):
            assert abs(units * sum(weights) - whole * weight) < sum(weights)


@pytest.mark.parametrize("weights", [(), (0, 0), (1, -1), (1.5,), (True,)])
def test_weights_outside_their_domain_are_refused(weights: Any) -> None:
    with pytest.raises(InvalidParameter):
        divide((10,), weights)


@pytest.mark.parametrize("currency", list(Currency))
def test_the_shares_compose_exactly_to_the_total(currency: Currency, signed: Any) -> None:
    opened = shares_of(PROJECT, TOTAL, key="k", signature=signed, currency=currency)
    total = caps_of(currency, 3.0, 1e-6)

    assert [command.scope.path[-1] for command in opened] == list(USUAL_SHARES)
    assert tuple(sum(c) for c in zip(*(command.caps for command in opened), strict=True)) == total
    if currency is Currency.RDP:
        assert math.fsum(command.guarantee.epsilon for command in opened) == pytest.approx(3.0)


@pytest.mark.parametrize("currency", list(Currency))
def test_shares_that_are_used_up_use_up_the_guarantee(
    empty_book: Any, signed: Any, currency: Currency, block: Any
) -> None:
    book = empty_book
    book.open(block, 3.0, currency=currency)
    for scope in PROJECT.with_ancestors:
        book.open(scope, 3.0, currency=currency)
    step = charge_of(Gaussian(60.0))
    for command in shares_of(PROJECT, TOTAL, key="k", signature=signed, currency=currency):
        book.do(command)
        most = steps_within(step, currency, command.caps)
        for i in range(most):
            book.reserve(f"{command.scope} {i}", step, quota=(command.scope,))
        with pytest.raises(BudgetExhausted) as refusal:
            book.reserve("one more", step, quota=(command.scope,))
        assert str(command.scope) in {s.scope for s in refusal.value.shortages}
        assert book.state.scopes[command.scope].epsilon_remaining < command.guarantee.epsilon / 3

    assert book.block.epsilon_remaining < 0.1
    assert steps_within(step, currency, book.block.caps) - len(book.state.reservations) <= 2


@pytest.mark.parametrize("currency", list(Currency))
def test_the_number_of_steps_is_the_largest_that_fits(currency: Currency) -> None:
    caps = caps_of(currency, 2.0, 1e-6)
    step = charge_of(Gaussian(30.0))
    most = steps_within(step, currency, caps)

    one = step.in_currency(currency)
    assert most > 0
    assert fits(currency, tuple(most * u for u in one), caps)
    assert not fits(currency, tuple((most + 1) * u for u in one), caps)


def test_pure_steps_count_by_basic_composition() -> None:
    caps = caps_of(Currency.RDP, 1.0, 0.0)

    assert steps_within(charge_of(Laplace(10.0)), Currency.RDP, caps) in {9, 10}
    assert steps_within(charge_of(Gaussian(10.0)), Currency.RDP, caps) == 0


def test_a_free_step_has_no_largest_number() -> None:
    with pytest.raises(InvalidParameter):
        steps_within(charge_of(NoOp()), Currency.RDP, caps_of(Currency.RDP, 1.0, 1e-6))


def test_a_training_share_counts_real_steps(signed: Any) -> None:
    training = shares_of(PROJECT, TOTAL, key="k", signature=signed)[0]
    assert training.caps is not None
    step = charge_of(dp_sgd_event(noise_multiplier=1.0, sample_rate=0.01, steps=1))
    steps = steps_within(step, Currency.RDP, training.caps)

    run = charge_of(dp_sgd_event(noise_multiplier=1.0, sample_rate=0.01, steps=steps))
    assert fits(Currency.RDP, run.in_currency(Currency.RDP), training.caps)


@given(st.integers(0, 10**6), st.integers(1, 500))
def test_epochs_add_up_to_the_steps_and_differ_by_one(steps: int, epochs: int) -> None:
    spread = steps_by_epoch(steps, epochs)

    assert (sum(spread), len(spread)) == (steps, epochs)
    assert max(spread) - min(spread) <= 1


@pytest.mark.parametrize(("steps", "epochs"), [(-1, 1), (1, 0)])
def test_a_spread_outside_its_domain_is_refused(steps: int, epochs: int) -> None:
    with pytest.raises(InvalidParameter):
        steps_by_epoch(steps, epochs)


def test_shares_belong_below_a_project(signed: Any) -> None:
    with pytest.raises(InvalidParameter):
        shares_of(protection("a", "b"), TOTAL, key="k", signature=signed)
