from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from privacy_core.accounting import epsilon_of
from privacy_core.budget import INFINITE, Currency, caps_of, charge_of, declared_target
from privacy_core.budget.charges import epsilon_of_total, fits
from privacy_core.dp_events import (
    Gaussian,
    Laplace,
    NonPrivate,
    PoissonSampled,
    SelfComposed,
    TruncatedPoissonSampled,
)
from privacy_core.errors import InvalidParameter, UnsupportedEvent
from privacy_core.guarantee import Guarantee


def test_a_gaussian_has_a_price_in_every_currency() -> None:
    charge = charge_of(Gaussian(2.0), delta=1e-6)

    assert charge.gdp[0] == pytest.approx(0.25 * 2**40)
    assert charge.rdp[0] == pytest.approx(2.4 / 8 * 2**40)
    assert charge.basic[0] / 2**40 >= epsilon_of(Gaussian(2.0), 1e-6)
    assert charge.in_currency(Currency.RDP) == charge.rdp + charge.basic


def test_what_has_no_price_in_one_currency_may_have_one_in_another() -> None:
    assert charge_of(PoissonSampled(0.1, Gaussian(2.0))).gdp == (INFINITE,)
    assert charge_of(Laplace(2.0)).gdp == (INFINITE,)
    assert charge_of(Gaussian(2.0)).basic == (INFINITE, INFINITE)
    assert charge_of(Laplace(2.0)).basic[1] == 0


def test_an_unprotected_release_costs_infinity_and_an_unknown_one_is_refused() -> None:
    assert not charge_of(NonPrivate()).has_price
    with pytest.raises(UnsupportedEvent, match="no currency has a sound price"):
        charge_of(TruncatedPoissonSampled(100, 0.1, 20, Laplace(2.0)))


@pytest.mark.parametrize("delta", [-1e-9, 1.5, math.nan])
def test_a_delta_outside_its_domain_is_refused(delta: float) -> None:
    with pytest.raises(InvalidParameter):
        charge_of(Gaussian(2.0), delta=delta)


@pytest.mark.parametrize(
    "change", [{"orders": "renyi-13"}, {"rdp": (1,)}, {"gdp": (-1,)}, {"basic": (1, INFINITE + 1)}]
)
def test_a_charge_outside_its_domain_cannot_be_made(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        replace(charge_of(Gaussian(2.0)), **change)


def test_a_part_of_a_run_is_within_the_run() -> None:
    whole, part = (
        charge_of(SelfComposed(PoissonSampled(0.01, Gaussian(1.0)), n)) for n in (90, 89)
    )

    assert part.is_within(whole)
    assert not whole.is_within(part)


@pytest.mark.parametrize("currency", list(Currency))
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 2.0, 20.0])
def test_the_odometer_and_the_filter_agree(currency: Currency, epsilon: float) -> None:
    caps = caps_of(currency, epsilon, 1e-6)
    for sigma in (0.5, 1.7, 3.0, 10.0, 40.0, 300.0):
        total = charge_of(Gaussian(sigma), delta=4e-7).in_currency(currency)
        found = epsilon_of_total(currency, total, caps, 1e-6)

        assert (found <= epsilon) == fits(currency, total, caps)
        assert found >= epsilon_of(Gaussian(sigma), 1e-6) * (1 - 1e-9)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.1, 1e-8), (1 / 3, 1e-5), (8.0, 1e-13)])
def test_the_declared_target_fits_to_the_last_unit(epsilon: float, delta: float) -> None:
    target, share = declared_target(Guarantee(epsilon=epsilon, delta=delta))
    caps = caps_of(Currency.RDP, epsilon, delta)

    assert epsilon - 2**-40 < target <= epsilon
    assert share == delta / 2
    assert math.ceil(target * 2**40) <= caps[-2]
