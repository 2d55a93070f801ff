"""Forecasts: from measured spending, with an interval that keeps its word, or none at all."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from tests.privacy_finetuner.governance.conftest import Office

from privacy_core.errors import BudgetExhausted
from privacy_finetuner.governance.forecast import Forecast, forecast
from privacy_finetuner.governance.spending import Spending
from privacy_runtime.budget_store import Scope

DAY_S = 86_400


def of(office: Office, scope: Scope) -> Forecast:
    spending = Spending(office.ledger)
    return forecast(spending.moments(scope), office.ledger.balance(scope), office.clock.now())


def test_an_account_without_history_gets_no_date(office: Office) -> None:
    scope = office.opened()
    found = of(office, scope)

    assert found.exhausted_at is None
    assert "0 whole days" in found.reason
    assert forecast([], office.ledger.balance(scope), office.clock.now()).reason


def test_spending_on_two_days_is_too_little(office: Office) -> None:
    scope = office.opened()
    for day in range(10):
        office.clock.advance(DAY_S)
        if day in (2, 5):
            office.spend(scope, f"k{day}")
    found = of(office, scope)

    assert found.exhausted_at is None
    assert (found.days, found.spending_days) == (10, 2)
    assert "spending on 2 of 10 days" in found.reason


def test_even_spending_is_forecast_to_the_day(office: Office) -> None:
    scope = office.opened(epsilon=4.0)

    def a_day(number: int) -> None:
        office.clock.advance(DAY_S / 4)
        office.spend(scope, f"k{number}", sigma=16.0)
        office.clock.advance(DAY_S * 3 / 4)

    def until_it_is_refused() -> None:
        for number in range(10, 1000):
            a_day(number)

    for number in range(10):
        a_day(number)
    found = of(office, scope)
    assert found.exhausted_at is not None
    assert found.earliest == found.latest == found.exhausted_at  # every day is alike

    with pytest.raises(BudgetExhausted):
        until_it_is_refused()
    assert abs(office.clock.now() - found.exhausted_at) <= timedelta(days=1)


def test_uneven_spending_has_a_wider_interval(office: Office) -> None:
    scope = office.opened(epsilon=4.0)
    for day in range(14):
        office.spend(scope, f"k{day}", sigma=30.0 if day % 2 else 14.0)
        office.clock.advance(DAY_S)
    found = of(office, scope)

    assert found.earliest is not None
    assert found.exhausted_at is not None
    assert found.earliest < found.exhausted_at
    assert found.latest is None or found.exhausted_at < found.latest
    assert found.share_per_day is not None
    assert 0 < found.share_per_day < 1


def test_an_account_that_nobody_uses_any_more_gets_no_date(office: Office) -> None:
    scope = office.opened()
    for day in range(5):
        office.spend(scope, f"k{day}")
        office.clock.advance(DAY_S)
    office.clock.advance(60 * DAY_S)
    found = of(office, scope)

    assert found.exhausted_at is None
    assert (found.days, found.spending_days) == (28, 0)


@pytest.mark.slow
def test_the_interval_covers_the_mean_rate_as_often_as_it_says() -> None:
    """Of 400 accounts whose days are drawn alike, 95 % of the intervals hold the true mean's date.

    False alarm: fewer than 350 of 400 where each holds with probability 0.95 has probability
    below 1e-9 (binomial); t intervals of skewed days cover less, 0.92 at n = 28 was measured.
    """
    from privacy_finetuner.governance.forecast import _margin

    draws = np.random.Generator(np.random.PCG64(11))  # noqa: TID251 -- a test's, seeded
    held = 0
    for _ in range(400):
        days = draws.gamma(2.0, 1.0, size=(28, 1))
        held += bool(abs(days.mean() - 2.0) <= _margin(days)[0])
    assert held >= 350
