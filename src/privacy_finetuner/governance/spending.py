"""How accounts came to stand where they stand: the ledger's entries, folded once and kept.

Entries are never changed, so what was folded stays folded: a question costs the entries that came
since the last one. Nothing is read that the ledger does not already state to its users.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from privacy_runtime.budget_store import (
    Amounts,
    BudgetStore,
    Charge,
    ClockReset,
    Currency,
    Fact,
    Reservation,
    Scope,
    ScopeKind,
    ScopeState,
    Standing,
    Status,
)
from privacy_runtime.budget_store.projection import state_of

BASIC_SLOTS: Final = 2
"""The last slots of the currency `rdp`: epsilon and delta of basic composition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One account after one entry that changed it."""

    seq: int
    at: datetime
    kind: str
    key: str
    by: str
    reason: str
    hash: str
    state: ScopeState

    def standing(self) -> Standing:
        """The same in epsilon."""
        return Standing(
            seq=self.seq,
            at=self.at,
            kind=self.kind,
            key=self.key,
            by=self.by,
            reason=self.reason,
            epsilon_cap=self.state.guarantee.epsilon,
            epsilon_committed=self.state.epsilon_committed,
            epsilon_if_all_commit=self.state.epsilon_if_all_commit,
            hash=self.hash,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One private act that an account was charged for.

    Attributes:
        reservation: its name in the ledger.
        at: when it was set aside.
        status: how it stands.
        quota: the narrowest quota that was charged besides, if any.
        share: of the account's cap that it uses, at the order that decides now; shares add up.
        epsilon_alone: what the account would show had it been charged for this alone.
    """

    reservation: str
    at: datetime
    status: Status
    quota: Scope | None
    share: float
    epsilon_alone: float


class Spending:
    """The story of every account, for any number of threads.

    Args:
        ledger: whose entries.

    Raises, in every method:
        MalformedEntry: an entry cannot be read, or does not follow the one before (a damaged
            ledger that was repaired); balances can still be read from the ledger itself.
        JournalError: the database is away.
    """

    def __init__(self, ledger: BudgetStore) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._seq = 0
        self._state = state_of({})
        self._moments: dict[Scope, list[Moment]] = {}

    def moments(self, scope: Scope) -> list[Moment]:
        """What changed an account, in order; empty where no account was opened."""
        with self._lock:
            self._catch_up()
            return list(self._moments.get(scope, ()))

    def acts(self, scope: Scope) -> list[Act]:
        """What an account was charged for, oldest first; refunded and voided acts cost nothing."""
        with self._lock:
            self._catch_up()
            account = self._state.scopes.get(scope)
            held = [r for r in self._state.reservations.values() if scope in r.scopes]
        if account is None:
            return []
        slots = deciding_slots(account)
        return [_act(account, each, slots) for each in sorted(held, key=lambda r: (r.at_us, r.key))]

    def _catch_up(self) -> None:
        for fact in self._ledger.history(after=self._seq):
            self._add(fact)
            self._seq = fact.seq

    def _add(self, fact: Fact) -> None:
        """Fold one entry over the part of the state that it involves: the rest is not copied."""
        command: Any = fact.entry.command
        whole = self._state
        if isinstance(fact.entry, ClockReset):
            scopes, reservations = dict(whole.scopes), dict(whole.reservations)
        else:
            held = whole.reservations.get(getattr(command, "reservation", ""))
            named = held.scopes if held else getattr(command, "scopes", ()) or (command.scope,)
            scopes = {s: whole.scopes[s] for s in named if s in whole.scopes}
            reservations = {held.key: held} if held else {}
        part = replace(whole, scopes=scopes, reservations=reservations, entries={})
        after = part.after(fact.entry)
        for scope, account in after.scopes.items():
            before = whole.scopes.get(scope)
            if before is None or before.version != account.version:
                self._moments.setdefault(scope, []).append(_moment(fact, account))
        # The maps below are ours alone, so they are changed in place and never copied.
        _in_place(whole.scopes).update(after.scopes)
        _in_place(whole.reservations).update(after.reservations)
        self._state = replace(
            whole, scopes=whole.scopes, reservations=whole.reservations, clock_us=after.clock_us
        )


def share_used(state: ScopeState, amounts: Amounts, slots: tuple[int, ...]) -> float:
    """The share of the cap that `amounts` are at some slots; at several, the fullest of them."""
    return max((amounts[slot] / state.caps[slot] for slot in slots), default=0.0)


def candidates(state: ScopeState) -> list[tuple[int, ...]]:
    """The ways in which an account may have room: each order alone, or basic composition as a pair.

    A slot whose cap is not positive never has room.
    """
    if state.currency is not Currency.RDP:
        return [(0,)] if state.caps[0] > 0 else []
    orders = len(state.caps) - BASIC_SLOTS
    ways = [(slot,) for slot in range(orders) if state.caps[slot] > 0]
    pair = tuple(range(orders, len(state.caps)))
    return [*ways, pair] if all(state.caps[slot] > 0 for slot in pair) else list(ways)


def deciding_slots(state: ScopeState) -> tuple[int, ...]:
    """The slots at which the account has most room left: those decide what still fits."""
    ways = candidates(state)
    if not ways:
        return ()
    return min(ways, key=lambda slots: share_used(state, state.total, slots))


def _act(account: ScopeState, held: Reservation, slots: tuple[int, ...]) -> Act:
    cost: Charge | None = held.settled or held.charge
    if held.status in {Status.REFUNDED, Status.VOIDED}:
        cost = None
    share = alone = 0.0
    if cost is not None:
        amounts = cost.in_currency(account.currency)
        share = share_used(account, amounts, slots)
        nothing = (0,) * len(amounts)
        alone = replace(account, committed=amounts, reserved=nothing).epsilon_committed
    quotas = [scope for scope in held.scopes if scope.kind is ScopeKind.QUOTA]
    return Act(
        reservation=held.key,
        at=_instant(held.at_us),
        status=held.status,
        quota=max(quotas, key=lambda scope: len(scope.path), default=None),
        share=share,
        epsilon_alone=alone,
    )


def _moment(fact: Fact, account: ScopeState) -> Moment:
    signature = getattr(fact.entry.command, "signature", None)
    return Moment(
        seq=fact.seq,
        at=_instant(fact.entry.at_us),
        kind=type(fact.entry).__name__,
        key=fact.entry.key,
        by=signature.person if signature else "",
        reason=signature.reason if signature else "",
        hash=fact.hash,
        state=account,
    )


def _instant(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / 1e6, UTC)


def _in_place(mapping: Mapping[Any, Any]) -> dict[Any, Any]:
    assert isinstance(mapping, dict)  # noqa: S101  made by `state_of` for this object
    return mapping
