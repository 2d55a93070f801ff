"""What an accountant is, and which there are.

An accountant prices events. Its figures are upper bounds: never below the truth. What it has no
sound price for it refuses with `UnsupportedEvent`; `NonPrivate` costs infinity under every one.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from privacy_core.accounting.gdp import GdpAccountant
from privacy_core.accounting.normal_form import NormalForm, normal_form
from privacy_core.accounting.pld import PldAccountant
from privacy_core.accounting.rdp import RdpAccountant
from privacy_core.dp_events import DpEvent
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import NeighbouringRelation


class Accountant(Protocol):
    """Prices normal forms that are private and not free; the rest is answered before it is asked.

    Guarantee: `epsilon` and `delta` are upper bounds of the true values.
    Raises `UnsupportedEvent` for what it has no sound price for.
    """

    @property
    def name(self) -> str:
        """The name under which it is registered."""

    def epsilon(self, form: NormalForm, delta: float, relation: NeighbouringRelation) -> float:
        """An epsilon for which the act is (epsilon, delta)-private. `delta` is in [0, 1)."""

    def delta(self, form: NormalForm, epsilon: float, relation: NeighbouringRelation) -> float:
        """A delta for which the act is (epsilon, delta)-private. `epsilon` is finite and >= 0."""

    def rough_epsilon(
        self, form: NormalForm, delta: float, relation: NeighbouringRelation
    ) -> float:
        """A quick figure near `epsilon`, to start a search from. Not a bound; never reported."""


_ACCOUNTANTS: Final[Mapping[str, Callable[[], Accountant]]] = {
    "gdp": GdpAccountant,
    "pld": PldAccountant,
    "rdp": RdpAccountant,
}
_ALIASES: Final[Mapping[str, str]] = {"prv": "pld", "moments": "rdp"}


def accountant_names() -> tuple[str, ...]:
    """The names that `epsilon_of` and the calibrators accept, other spellings left out."""
    return tuple(sorted(_ACCOUNTANTS))


def accountant_named(name: str) -> Accountant:
    """The accountant registered under a name or one of its other spellings.

    =========  =============================================================
    name       which
    =========  =============================================================
    `pld`      numerical composition of privacy losses; tight; the default
    `rdp`      Renyi curves on a fixed list of orders; the ledger's currency
    `gdp`      the exact Gaussian; refuses sampled events
    `prv`      another name for `pld`
    `moments`  another name for `rdp`
    =========  =============================================================

    Raises:
        InvalidParameter: there is no such accountant; the message lists those there are.
    """
    make = _ACCOUNTANTS.get(_ALIASES.get(name, name))
    if make is None:
        known = [*accountant_names(), *sorted(_ALIASES)]
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise InvalidParameter("accountant", found=name, expected=f"one of {known}{hint}")
    return make()


def epsilon_of(
    event: DpEvent,
    delta: float,
    accountant: str = "pld",
    *,
    relation: NeighbouringRelation = NeighbouringRelation.ADD_OR_REMOVE_ONE,
) -> float:
    """The epsilon that `event` costs at `delta`.

    Guarantee: the act is (epsilon, delta)-differentially private for `relation`; the figure is
    never below the true value. It does not increase with `delta`.

    ==================================  ======================
    event                               epsilon
    ==================================  ======================
    releases nothing                    0
    has an unprotected release          inf
    `delta` is 1                        0
    `delta` is 0, the noise is Laplace  the pure epsilon
    `delta` is 0, the noise is Gaussian inf
    ==================================  ======================

    Args:
        event: what was done.
        delta: in [0, 1].
        accountant: see `accountant_named`.
        relation: which two data sets are neighbours. The answer belongs to this relation only.

    Raises:
        InvalidParameter: `delta` or `accountant` is outside its domain.
        UnsupportedEvent: the accountant has no sound price for the event.
    """
    chosen = accountant_named(accountant)
    require_delta(delta)
    form = normal_form(event)
    if not form.is_private:
        return math.inf
    if form.is_free or delta == 1:
        return 0.0
    return chosen.epsilon(form, float(delta), NeighbouringRelation(relation))


def delta_of(
    event: DpEvent,
    epsilon: float,
    accountant: str = "pld",
    *,
    relation: NeighbouringRelation = NeighbouringRelation.ADD_OR_REMOVE_ONE,
) -> float:
    """The delta that `event` costs at `epsilon`.

    Guarantee: the act is (epsilon, delta)-differentially private for `relation`; the figure is
    never below the true value. It is 0 for an event that releases nothing and 1 for an unprotected
    release.

    Args:
        event: what was done.
        epsilon: >= 0.
        accountant: see `accountant_named`.
        relation: which two data sets are neighbours.

    Raises:
        InvalidParameter: `epsilon` or `accountant` is outside its domain.
        UnsupportedEvent: the accountant has no sound price for the event.
    """
    chosen = accountant_named(accountant)
    require_epsilon(epsilon)
    form = normal_form(event)
    if not form.is_private:
        return 1.0
    if form.is_free or epsilon == math.inf:
        return 0.0
    return chosen.delta(form, float(epsilon), NeighbouringRelation(relation))


def require_delta(delta: float) -> None:
    """Refuse a delta outside [0, 1]."""
    if not 0 <= delta <= 1:
        raise InvalidParameter("delta", found=delta, expected="a number in [0, 1]")


def require_epsilon(epsilon: float) -> None:
    """Refuse an epsilon that is negative or not a number."""
    if not epsilon >= 0:
        raise InvalidParameter("epsilon", found=epsilon, expected="a number >= 0")
