"""What the entries so far add up to, scope by scope and reservation by reservation.

A decision needs only the scopes it involves, the reservation it is about, the entry under its key
and the ledger's time. So a `LedgerState` may be a part of the whole: a store loads those rows,
decides, and writes back what `after` changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import assert_never

from privacy_core.budget.amounts import Amounts, minus, plus
from privacy_core.budget.charges import (
    SLOTS,
    Charge,
    Currency,
    epsilon_of_total,
    fits,
)
from privacy_core.budget.commands import Window
from privacy_core.budget.entries import (
    AccountOpened,
    ClockReset,
    Committed,
    Entry,
    Expired,
    Granted,
    Refunded,
    Reserved,
    Voided,
    VoidProposed,
    Watermarked,
)
from privacy_core.budget.scopes import Scope
from privacy_core.errors import MalformedEntry
from privacy_core.guarantee import Guarantee


class Status(StrEnum):
    """How a reservation stands. Only OPEN can change, and COMMITTED or EXPIRED into VOIDED."""

    OPEN = "open"
    COMMITTED = "committed"
    REFUNDED = "refunded"
    EXPIRED = "expired"
    VOIDED = "voided"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeState:
    """One account: what it promised, what was spent, what is set aside.

    Invariant: `fits(currency, committed + reserved, caps)` after every entry.

    Args:
        scope: whose account.
        guarantee: epsilon with all grants, delta, relation and unit.
        currency: what the amounts below count.
        caps: rounded down.
        committed: spent, rounded up.
        reserved: set aside by open reservations.
        window: the throttle, if any.
        window_caps: its caps, empty without one.
        window_index: which window the counter below belongs to.
        window_used: what was reserved in that window, empty without one.
        authorisers: who may grant and void here; empty: no list.
        version: how many entries changed this account.
    """

    scope: Scope
    guarantee: Guarantee
    currency: Currency
    caps: Amounts
    committed: Amounts
    reserved: Amounts
    window: Window | None = None
    window_caps: Amounts = ()
    window_index: int = 0
    window_used: Amounts = ()
    authorisers: tuple[str, ...] = ()
    version: int = 1

    @property
    def total(self) -> Amounts:
        """Spent and set aside."""
        return plus(self.committed, self.reserved)

    @property
    def epsilon_committed(self) -> float:
        """What was spent, at the account's delta; valid at any stopping time."""
        return self._epsilon(self.committed)

    @property
    def epsilon_if_all_commit(self) -> float:
        """The same, if every open reservation commits in full."""
        return self._epsilon(self.total)

    @property
    def epsilon_remaining(self) -> float:
        """How far the epsilon may still rise."""
        return max(0.0, self.guarantee.epsilon - self.epsilon_if_all_commit)

    def has_room_for(self, charge: Charge) -> bool:
        """Whether the lifetime cap admits the charge."""
        return fits(self.currency, plus(self.total, charge.in_currency(self.currency)), self.caps)

    def used_in_window(self, now_us: int) -> Amounts:
        """What counts in the window of `now_us`; a clock that goes back refills nothing."""
        if self.window is not None and window_index(self.window, now_us) > self.window_index:
            return (0,) * SLOTS[self.currency]
        return self.window_used

    def window_has_room_for(self, charge: Charge, now_us: int) -> bool:
        """Whether the throttle admits the charge now."""
        if self.window is None:
            return True
        used = plus(self.used_in_window(now_us), charge.in_currency(self.currency))
        return fits(self.currency, used, self.window_caps)

    def _epsilon(self, total: Amounts) -> float:
        return epsilon_of_total(self.currency, total, self.caps, self.guarantee.delta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Budget set aside for one act, and what became of it.

    Args:
        key: its name, the key of its `Reserve`.
        scopes: all that are charged, sorted.
        charge: the declared act.
        at_us: when it was made, microseconds since the epoch.
        expires_at_us: when it is committed unless it lives on.
        status: how it stands.
        watermark: what was certainly consumed; None while nothing was released.
        settled: what was committed; None before that and after a refund.
        void_proposed_by: the first of the two persons, if one proposed.
    """

    key: str
    scopes: tuple[Scope, ...]
    charge: Charge
    at_us: int
    expires_at_us: int
    status: Status = Status.OPEN
    watermark: Charge | None = None
    settled: Charge | None = None
    void_proposed_by: str | None = None

    def status_at(self, now_us: int) -> Status:
        """Its status, where an open one whose time ran out is as good as expired."""
        if self.status is Status.OPEN and now_us >= self.expires_at_us:
            return Status.EXPIRED
        return self.status


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerState:
    """All that decisions read: the whole ledger, or the part that one command involves.

    Args:
        scopes: accounts by scope.
        reservations: by key.
        entries: by idempotency key.
        clock_us: the time of the latest entry; 0 before the first.
    """

    scopes: Mapping[Scope, ScopeState] = field(default_factory=dict)
    reservations: Mapping[str, Reservation] = field(default_factory=dict)
    entries: Mapping[str, Entry] = field(default_factory=dict)
    clock_us: int = 0

    def after(self, entry: Entry) -> LedgerState:
        """The state once `entry` is in the ledger.

        Raises:
            MalformedEntry: the entry cannot follow those before it.
        """
        return _folded(self, (entry,))


def fold(entries: Iterable[Entry], start: LedgerState | None = None) -> LedgerState:
    """What entries add up to, in the order of the ledger.

    Raises:
        MalformedEntry: an entry cannot follow those before it.
    """
    return _folded(start or LedgerState(), entries)


def window_index(window: Window, now_us: int) -> int:
    """Which window an instant is in."""
    return now_us // (window.length_s * 1_000_000)


def _folded(start: LedgerState, entries: Iterable[Entry]) -> LedgerState:
    scopes, reservations = dict(start.scopes), dict(start.reservations)
    by_key, clock_us = dict(start.entries), start.clock_us
    for entry in entries:
        if entry.key in by_key:
            raise MalformedEntry(f"key {entry.key!r} occurs twice")
        try:
            _apply(entry, clock_us, scopes, reservations)
        except KeyError as error:
            raise MalformedEntry(f"entry {entry.key!r} names {error}, which is unknown") from None
        by_key[entry.key] = entry
        clock_us = entry.at_us if isinstance(entry, ClockReset) else max(clock_us, entry.at_us)
    return LedgerState(scopes=scopes, reservations=reservations, entries=by_key, clock_us=clock_us)


def _apply(  # noqa: C901, PLR0912  # one case per entry
    entry: Entry,
    clock_us: int,
    scopes: dict[Scope, ScopeState],
    reservations: dict[str, Reservation],
) -> None:
    match entry:
        case AccountOpened():
            _open(entry, scopes)
        case Granted(command=command):
            scopes[command.scope] = _granted(scopes[command.scope], command.epsilon, entry.caps)
        case Reserved(command=command):
            if command.key in reservations:
                raise MalformedEntry(f"reservation {command.key!r} exists")
            reservations[command.key] = Reservation(
                key=command.key,
                scopes=command.scopes,
                charge=command.charge,
                at_us=entry.at_us,
                expires_at_us=entry.expires_at_us,
            )
            for scope in command.scopes:
                scopes[scope] = _with_reserved(scopes[scope], command.charge, entry.at_us)
        case Watermarked(command=command):
            reservations[command.reservation] = replace(
                _expect(reservations[command.reservation], Status.OPEN),
                watermark=command.consumed,
                expires_at_us=entry.expires_at_us,
            )
        case Committed(command=command):
            actual = command.actual or reservations[command.reservation].charge
            _end(command.reservation, Status.COMMITTED, actual, scopes, reservations)
        case Expired(command=command):
            actual = reservations[command.reservation].charge
            _end(command.reservation, Status.EXPIRED, actual, scopes, reservations)
        case Refunded(command=command):
            _end(command.reservation, Status.REFUNDED, None, scopes, reservations)
        case VoidProposed(command=command):
            reservations[command.reservation] = replace(
                _expect(reservations[command.reservation], Status.COMMITTED, Status.EXPIRED),
                void_proposed_by=command.signature.person,
            )
        case Voided(command=command):
            _void(command.reservation, scopes, reservations)
        case ClockReset():
            _reset_clock(entry.at_us, clock_us, scopes, reservations)
        case _:
            assert_never(entry)


def _open(entry: AccountOpened, scopes: dict[Scope, ScopeState]) -> None:
    command = entry.command
    if command.scope in scopes:
        raise MalformedEntry(f"account {command.scope} is open already")
    free = (0,) * SLOTS[command.currency]
    window = command.window
    scopes[command.scope] = ScopeState(
        scope=command.scope,
        guarantee=command.guarantee,
        currency=command.currency,
        caps=entry.caps,
        committed=free,
        reserved=free,
        window=window,
        window_caps=entry.window_caps,
        window_index=window_index(window, entry.at_us) if window else 0,
        window_used=free if window else (),
        authorisers=command.authorisers,
    )


def _granted(state: ScopeState, epsilon: float, caps: Amounts) -> ScopeState:
    guarantee = replace(state.guarantee, epsilon=state.guarantee.epsilon + epsilon)
    return replace(state, guarantee=guarantee, caps=caps, version=state.version + 1)


def _with_reserved(state: ScopeState, charge: Charge, at_us: int) -> ScopeState:
    amounts = charge.in_currency(state.currency)
    index, used = state.window_index, state.window_used
    if state.window is not None:
        used = plus(state.used_in_window(at_us), amounts)
        index = max(index, window_index(state.window, at_us))
    return replace(
        state,
        reserved=plus(state.reserved, amounts),
        window_index=index,
        window_used=used,
        version=state.version + 1,
    )


def _end(
    key: str,
    status: Status,
    actual: Charge | None,
    scopes: dict[Scope, ScopeState],
    reservations: dict[str, Reservation],
) -> None:
    """Give the reservation back and charge what happened, with basic composition as declared."""
    held = _expect(reservations[key], Status.OPEN)
    settled = replace(actual, basic=held.charge.basic) if actual else None
    reservations[key] = replace(held, status=status, settled=settled)
    for scope in held.scopes:
        state = scopes[scope]
        spent = settled.in_currency(state.currency) if settled else (0,) * SLOTS[state.currency]
        scopes[scope] = replace(
            state,
            reserved=minus(state.reserved, held.charge.in_currency(state.currency)),
            committed=plus(state.committed, spent),
            version=state.version + 1,
        )


def _void(key: str, scopes: dict[Scope, ScopeState], reservations: dict[str, Reservation]) -> None:
    held = _expect(reservations[key], Status.COMMITTED, Status.EXPIRED)
    if held.settled is None or held.void_proposed_by is None:
        raise MalformedEntry(f"reservation {key!r} is voided without a proposal")
    reservations[key] = replace(held, status=Status.VOIDED)
    for scope in held.scopes:
        state = scopes[scope]
        scopes[scope] = replace(
            state,
            committed=minus(state.committed, held.settled.in_currency(state.currency)),
            version=state.version + 1,
        )


def _reset_clock(
    at_us: int,
    clock_us: int,
    scopes: dict[Scope, ScopeState],
    reservations: dict[str, Reservation],
) -> None:
    """Carry every counter and every remaining lifetime over to the new time; refill nothing."""
    for scope, state in scopes.items():
        if state.window is not None:
            index = window_index(state.window, at_us)
            scopes[scope] = replace(state, window_index=index, version=state.version + 1)
    for key, held in reservations.items():
        if held.status is Status.OPEN:
            left_us = max(0, held.expires_at_us - clock_us)
            reservations[key] = replace(held, expires_at_us=at_us + left_us)


def _expect(held: Reservation, *statuses: Status) -> Reservation:
    if held.status not in statuses:
        raise MalformedEntry(f"reservation {held.key!r} is {held.status.value}")
    return held
