"""Admission under full adaptivity: may one more act be added, when all earlier answers were seen?

A *filter* says yes or no before every act, where the act and its price may depend on everything
that was released so far, and promises (epsilon, delta) for whatever was admitted in the end. An
*odometer* says afterwards what was spent, at a time that may depend on the answers as well.

**The filter.** There are *slots*: every order a of `LEDGER_ORDERS`, and basic composition. Slot s
has a share delta_s of delta, all shares together at most delta. An act is admitted if, with it,
*some* slot is within its cap:

==========  ==================================  ================================================
slot        what adds up                        cap
==========  ==================================  ================================================
order a     Renyi divergences at a              epsilon + log(a delta_a)/(a-1) - log(1 - 1/a)
basic       (epsilon_i, delta_i) of whole acts  (epsilon, delta_basic)
==========  ==================================  ================================================

**Proof.** Let P, Q be the laws of all that is released on two neighbouring data sets, L = log dP/dQ
the privacy loss, S_s what was consumed in slot s. At the end some slot is within its cap; let E_s
be the event that s is the first such slot. Let A_s be the same interaction, halted before the first
act that would take slot s above its cap. Consumption never falls, so on E_s nothing was halted, and
A_s and the whole agree there. For every event T,

    P(T) - e^eps Q(T) <= sum_s integral over E_s of (p - e^eps q)_+ <= sum_s H_s,

where H_s is the hockey-stick divergence of A_s at e^eps. It remains that H_s <= delta_s.

* Order a: N = exp((a-1)(L - S_a)) is a supermartingale under P and starts at 1, because each act's
  divergence is known before it begins and bounds its moment given the past. A_s keeps S_a <= cap.
  With sup over y of (1 - e^-y) e^-(a-1)y = (1/a) (1 - 1/a)^(a-1),

      H_s = E_P[(1 - e^(eps - L))_+] <= (1/a) (1-1/a)^(a-1) e^((a-1)(cap - eps)) E_P[N] = delta_a.

* Basic: adding up chosen (epsilon_i, delta_i) is a valid filter, Rogers et al. 2016
  (arXiv:1605.08294).

Three remarks carry over to the ledger. *Refunds*: the argument is about what was consumed; what is
committed or reserved is never less. In basic composition an act is consumed whole when it begins,
so an early stop, which may depend on what was seen, gives nothing back there (a tight epsilon at a
data-dependent stopping time is no bound); at the orders it does. *Interleaving*: an act that
answers several times is a supermartingale of its own, with its remaining worst-case divergence as
the compensator; products of these are supermartingales however the acts are interleaved (for one
order: Haney et al. 2023, arXiv:2309.05901). *Raising epsilon* later is a new promise: all that was
admitted was within the smaller caps, which are within the larger ones, order by order.

**The odometer** of the same shares: min over slots of epsilon - (cap - S_s). It is what epsilon
would have to be for the filter to admit exactly this. The proof holds for it at any stopping time,
with the random epsilon inside the integral: P(T) <= E_Q[e^epsilon; T] + delta. It does not cover
the choice of delta or of the shares, which are fixed when an account is opened.

**Sources.** One order: Feldman & Zrnic 2021 (arXiv:2008.11193); Lecuyer 2021 (arXiv:2103.01379).
Approximate zCDP and constants: Whitehouse et al. 2023 (arXiv:2203.05481). Gaussian: Koskela,
Tobaben & Honkela 2023 (arXiv:2209.15596); Smith & Thakurta 2022 (arXiv:2210.17520). The union over
slots is derived above and checked in the tests by an exact game against the worst adversary.
Composing privacy loss distributions or trade-off curves until they cross a limit is *not* a valid
filter (arXiv:2602.06756), so it is not offered: `pld` prices one declared act, here as one basic
act.

**Shares.** Half of delta is basic's: a single plan priced by `pld` then needs 1.3 to 4 % more noise
than with all of delta, and plans counted at the orders as much again. The orders' half is not
divided evenly: for releases of many kinds the best order lies at or a little below that of the
plain Gaussian, so that one has the largest share, shares below it fall by 0.4 and above it by 0.1.
Over ten kinds of events, epsilon 0.1 to 10 and delta 1e-5 to 1e-8 the median loss in epsilon
against all orders at the whole delta is 6 %; with even shares it would be 13 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from privacy_core.accounting.accountant import epsilon_of
from privacy_core.accounting.gdp import gaussian_delta, gaussian_epsilon, sensitivity_under
from privacy_core.accounting.normal_form import normal_form
from privacy_core.accounting.rdp import ORDERS, pure_epsilon, rdp_curve
from privacy_core.dp_events import DpEvent
from privacy_core.errors import InvalidParameter, UnsupportedEvent
from privacy_core.guarantee import NeighbouringRelation

ORDER_LIST: Final = "renyi-12"
"""The name of `LEDGER_ORDERS`; another list would be another currency."""
LEDGER_ORDERS: Final[tuple[float, ...]] = (
    *(2.4, 3.4, 4.4, 5.6, 8.0, 9.0),
    *(14.0, 20.0, 32.0, 60.0, 112.0, 192.0),
)
"""Chosen by search for epsilon 0.1 to 10; tiny pure acts, whose best order is higher, use basic."""
BASIC_SHARE: Final = 0.5
"""The part of delta that belongs to basic composition."""

_BELOW: Final = 0.4
_ABOVE: Final = 0.1
_INDEX: Final = [ORDERS.index(order) for order in LEDGER_ORDERS]
_ROUNDING: Final = 1e-12


@dataclass(frozen=True, slots=True)
class RdpFilter:
    """Admits while one of `LEDGER_ORDERS` has room, or basic composition has.

    Guarantee: whatever is admitted is (epsilon, delta)-differentially private together, under full
    adaptivity.

    Args:
        epsilon: finite and >= 0.
        delta: in [0, 1). At 0 only acts with a pure price fit.

    Raises:
        InvalidParameter: a number is outside its domain.
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        _require_target(self.epsilon, self.delta)

    @property
    def basic_delta(self) -> float:
        """The share of basic composition."""
        return self.delta * BASIC_SHARE

    @property
    def order_deltas(self) -> tuple[float, ...]:
        """The share of each order; together with `basic_delta` at most delta."""
        rest = self.delta * (1 - BASIC_SHARE)
        if rest == 0:
            return (0.0,) * len(LEDGER_ORDERS)
        room = [_cap(self.epsilon, rest, order) / order for order in LEDGER_ORDERS]
        best = room.index(max(room))
        weights = [
            _BELOW ** (best - i) if i <= best else _ABOVE ** (i - best)
            for i in range(len(LEDGER_ORDERS))
        ]
        total = math.fsum(weights) * (1 + _ROUNDING)
        return tuple(rest * weight / total for weight in weights)

    @property
    def caps(self) -> tuple[float, ...]:
        """One per order, negative where nothing ever fits, then epsilon and delta of basic."""
        orders = (
            _cap(self.epsilon, delta, order)
            for order, delta in zip(LEDGER_ORDERS, self.order_deltas, strict=True)
        )
        return (*orders, self.epsilon, self.basic_delta)

    def admits(self, spent: Sequence[float]) -> bool:
        """Whether what was spent, with the next act added, is within the guarantee."""
        return fits(spent, self.caps)

    def epsilon_of(self, spent: Sequence[float]) -> float:
        """The odometer: the epsilon of what was spent, at this delta and these shares."""
        return odometer(spent, self.caps)


@dataclass(frozen=True, slots=True)
class GdpFilter:
    """Admits while the sum of mu^2 is at most `cap`: exact for full-batch Gaussian releases.

    Guarantee: as `RdpFilter`. No admitted release can be larger: the bound is attained.

    Source: Smith & Thakurta 2022 (arXiv:2210.17520), Koskela et al. 2023 (arXiv:2209.15596).

    Args:
        epsilon: finite and >= 0.
        delta: in [0, 1).

    Raises:
        InvalidParameter: a number is outside its domain.
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        _require_target(self.epsilon, self.delta)

    @property
    def cap(self) -> float:
        """The largest sum of mu^2 whose delta at `epsilon` is at most `delta`, rounded down."""
        if self.delta == 0:
            return 0.0
        low, high = 0.0, 1.0
        while gaussian_delta(high, self.epsilon) <= self.delta:
            low, high = high, 2 * high
        while high - low > _ROUNDING * high / 4 and high > 1e-150:
            middle = (low + high) / 2
            if gaussian_delta(middle, self.epsilon) <= self.delta:
                low = middle
            else:
                high = middle
        return low * low * (1 - _ROUNDING)

    def admits(self, mu_squared: float) -> bool:
        """Whether what was spent, with the next act added, is within the guarantee."""
        return mu_squared <= self.cap

    def epsilon_of(self, mu_squared: float) -> float:
        """The odometer: the exact epsilon of what was spent."""
        if mu_squared == math.inf:
            return math.inf
        return gaussian_epsilon(math.sqrt(mu_squared), self.delta)


def fits(spent: Sequence[float], caps: Sequence[float]) -> bool:
    """Whether some order is within its cap, or both of the two last, basic slots are."""
    within = [used <= cap for used, cap in zip(spent, caps, strict=True)]
    return any(within[:-2]) or all(within[-2:])


def odometer(spent: Sequence[float], caps: Sequence[float]) -> float:
    """The least epsilon at which `fits` would hold, by the same shares; 0 if nothing was spent.

    Exact for whole numbers: it is at most the filter's epsilon if and only if `fits`.
    """
    if not any(spent):
        return 0
    epsilon = caps[-2]
    found = [epsilon - (cap - used) for used, cap in zip(spent[:-2], caps[:-2], strict=True)]
    if spent[-1] <= caps[-1]:
        found.append(spent[-2])
    return max(0, min(found))


def ledger_curve(
    event: DpEvent,
    *,
    relation: NeighbouringRelation = NeighbouringRelation.ADD_OR_REMOVE_ONE,
) -> tuple[float, ...]:
    """Upper bounds of the event's Renyi divergence on `LEDGER_ORDERS`; inf where none is known."""
    try:
        curve = rdp_curve(event, relation=relation)
    except UnsupportedEvent:
        return (math.inf,) * len(LEDGER_ORDERS)
    return tuple(float(value) for value in curve[_INDEX])


def basic_price(
    event: DpEvent,
    delta: float | None = None,
    *,
    relation: NeighbouringRelation = NeighbouringRelation.ADD_OR_REMOVE_ONE,
) -> tuple[float, float]:
    """(epsilon, delta) of the whole event, fixed before it begins, for basic composition.

    At `delta` = None: the pure price where there is one, (inf, inf) otherwise.
    """
    form = normal_form(event)
    if not form.is_private:
        return math.inf, math.inf
    if form.is_free:
        return 0.0, 0.0
    if delta is None:
        pure = pure_epsilon(form, relation)
        return (pure, 0.0) if pure < math.inf else (math.inf, math.inf)
    for accountant in ("pld", "rdp"):  # the tighter one refuses more
        try:
            return epsilon_of(event, delta, accountant, relation=relation), delta
        except UnsupportedEvent:
            continue
    return math.inf, math.inf


def gdp_price(
    event: DpEvent,
    *,
    relation: NeighbouringRelation = NeighbouringRelation.ADD_OR_REMOVE_ONE,
) -> float:
    """mu^2 of a composition of full-batch Gaussian releases; inf for everything else."""
    form = normal_form(event)
    if not form.is_private or form.phases:
        return math.inf
    return form.gaussian_mu_squared * sensitivity_under(relation) ** 2 * (1 + _ROUNDING)


def _cap(epsilon: float, delta: float, order: float) -> float:
    if delta == 0:
        return -math.inf
    cap = epsilon + math.log(delta * order) / (order - 1) - math.log1p(-1 / order)
    return cap - _ROUNDING * (1 + abs(cap))


def _require_target(epsilon: float, delta: float) -> None:
    if not 0 <= epsilon < math.inf:
        raise InvalidParameter("epsilon", found=epsilon, expected="a finite number >= 0")
    if not 0 <= delta < 1:
        raise InvalidParameter("delta", found=delta, expected="a number in [0, 1)")
