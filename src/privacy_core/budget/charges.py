"""The price of an act in every currency, and the caps that a guarantee sets in each.

========  ==========================================================  =========================
currency  slots                                                       a request fits when
========  ==========================================================  =========================
rdp       Renyi divergence at each of `LEDGER_ORDERS`, then epsilon   one order has room, or
          and delta of basic composition                              both basic slots have
gdp       mu^2                                                        it has room
========  ==========================================================  =========================

An account counts in one currency from its opening on. `gdp` is exact and takes full-batch Gaussian
releases only; `rdp` takes everything that has a price. See `accounting.filters` for the proofs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from privacy_core.accounting.filters import (
    LEDGER_ORDERS,
    ORDER_LIST,
    GdpFilter,
    RdpFilter,
    basic_price,
    gdp_price,
    ledger_curve,
    odometer,
)
from privacy_core.accounting.filters import (
    fits as fits_rdp,
)
from privacy_core.accounting.gdp import gaussian_epsilon
from privacy_core.accounting.normal_form import describe, normal_form
from privacy_core.budget.amounts import (
    DELTA_BITS,
    EPSILON_BITS,
    INFINITE,
    Amounts,
    as_float,
    rounded_down,
    rounded_up,
)
from privacy_core.dp_events import DpEvent
from privacy_core.errors import InvalidParameter, UnsupportedEvent
from privacy_core.guarantee import Guarantee, NeighbouringRelation, PrivacyUnit


class Currency(StrEnum):
    """What an account counts in. Fixed when the account is opened."""

    RDP = "rdp"
    GDP = "gdp"


SLOTS: Final = {Currency.RDP: len(LEDGER_ORDERS) + 2, Currency.GDP: 1}
"""How many amounts each currency has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """An act with its price in every currency, rounded up. The price is never recomputed.

    Args:
        event: what is done, or would be at most.
        relation: the neighbouring relation of the price.
        unit: whose presence the event describes.
        rdp: divergences on the list of orders.
        basic: epsilon and delta of the whole act, fixed before it begins.
        gdp: mu^2, `INFINITE` unless the act is Gaussian.
        orders: the name of the list of orders.
    """

    event: DpEvent
    relation: NeighbouringRelation
    unit: PrivacyUnit
    rdp: Amounts
    basic: Amounts
    gdp: Amounts
    orders: str = ORDER_LIST

    def __post_init__(self) -> None:
        for name, amounts, slots in (
            ("rdp", self.rdp, len(LEDGER_ORDERS)),
            ("basic", self.basic, 2),
            ("gdp", self.gdp, 1),
        ):
            if len(amounts) != slots or any(not 0 <= units <= INFINITE for units in amounts):
                raise InvalidParameter(
                    name, found=amounts, expected=f"{slots} amounts from 0 to INFINITE"
                )
        if self.orders != ORDER_LIST:
            raise InvalidParameter("orders", found=self.orders, expected=repr(ORDER_LIST))

    def in_currency(self, currency: Currency) -> Amounts:
        """The amounts that an account of this currency is charged."""
        match currency:
            case Currency.RDP:
                return self.rdp + self.basic
            case Currency.GDP:
                return self.gdp

    @property
    def has_price(self) -> bool:
        """Something bounds it. False for an unprotected release, which fits nowhere."""
        return any(units < INFINITE for units in (*self.rdp, *self.basic, *self.gdp))

    def is_within(self, other: Charge) -> bool:
        """At every order and in mu^2 it costs at most what `other` costs.

        Basic composition is left out: it prices an act as a whole, before it begins.
        """
        ours, theirs = self.rdp + self.gdp, other.rdp + other.gdp
        same = (self.relation, self.unit) == (other.relation, other.unit)
        return same and all(a <= b for a, b in zip(ours, theirs, strict=True))


@lru_cache(maxsize=4096)
def charge_of(
    event: DpEvent,
    *,
    delta: float | None = None,
    relation: NeighbouringRelation = NeighbouringRelation.ADD_OR_REMOVE_ONE,
    unit: PrivacyUnit = PrivacyUnit.EXAMPLE,
) -> Charge:
    """The price of an act, in every currency. Cached: the same act is priced once.

    An unprotected release costs infinity everywhere; the charge exists and never fits.

    Args:
        event: the whole act, declared before it begins.
        delta: at which basic composition prices it, tightly (`pld`); None leaves that slot at
            infinity, except for acts that are pure at delta 0. See `declared_target`.
        relation: which two data sets are neighbours.
        unit: whose presence the event describes.

    Raises:
        InvalidParameter: `delta` is outside [0, 1].
        UnsupportedEvent: no currency has a sound price for the act.
    """
    epsilon, basic_delta = basic_price(event, delta, relation=relation)
    charge = Charge(
        event=event,
        relation=relation,
        unit=unit,
        rdp=tuple(
            rounded_up(value, EPSILON_BITS) for value in ledger_curve(event, relation=relation)
        ),
        basic=(rounded_up(epsilon, EPSILON_BITS), rounded_up(basic_delta, DELTA_BITS)),
        gdp=(rounded_up(gdp_price(event, relation=relation), EPSILON_BITS),),
    )
    if not charge.has_price and normal_form(event).is_private:
        raise UnsupportedEvent(
            accountant="ledger",
            event=describe(event),
            reason=f"no currency has a sound price for it under {relation.value}",
        )
    return charge


def caps_of(currency: Currency, epsilon: float, delta: float) -> Amounts:
    """The caps of a guarantee, rounded down; negative where nothing ever fits.

    Raises:
        InvalidParameter: `epsilon` is not finite and >= 0, or `delta` is outside [0, 1).
    """
    match currency:
        case Currency.RDP:
            *caps, basic_delta = RdpFilter(epsilon, delta).caps
            return (
                *(rounded_down(cap, EPSILON_BITS) for cap in caps),
                rounded_down(basic_delta, DELTA_BITS),
            )
        case Currency.GDP:
            return (rounded_down(GdpFilter(epsilon, delta).cap, EPSILON_BITS),)


def fits(currency: Currency, total: Amounts, caps: Amounts) -> bool:
    """Whether what was spent and reserved, with a request included, is within the caps."""
    match currency:
        case Currency.RDP:
            return fits_rdp(total, caps)
        case Currency.GDP:
            return total[0] <= caps[0]


def epsilon_of_total(currency: Currency, total: Amounts, caps: Amounts, delta: float) -> float:
    """The epsilon of `total` at the account's delta: the odometer that the filter implies.

    Guarantee: at most the account's epsilon exactly when `fits`; a valid bound at any stopping
    time, also one chosen from the answers (see `accounting.filters`).
    """
    if not any(total):
        return 0.0
    match currency:
        case Currency.RDP:
            return as_float(int(odometer(total, caps)), EPSILON_BITS)
        case Currency.GDP:
            mu = math.sqrt(as_float(total[0], EPSILON_BITS))
            return gaussian_epsilon(mu, delta) if mu < math.inf else math.inf


def declared_target(guarantee: Guarantee) -> tuple[float, float]:
    """The (epsilon, delta) to calibrate one declared plan to, so that it fits an unused account.

    Guarantee: a charge whose event has the `pld` price epsilon at delta, made with
    `charge_of(event, delta=delta)`, fits an account of currency `rdp` with this guarantee that
    nothing was charged to.
    """
    caps = caps_of(Currency.RDP, guarantee.epsilon, guarantee.delta)
    return as_float(caps[-2], EPSILON_BITS), as_float(caps[-1], DELTA_BITS)
