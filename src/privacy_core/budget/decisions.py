"""What the ledger answers: from a state, a command and a time to an entry, or to a refusal.

Nothing is written and no clock is read here. Whoever calls appends the entry before acting on it.

| command      | refused with, besides `IdempotencyConflict`                                     |
|--------------|---------------------------------------------------------------------------------|
| open account | `AccountExists`                                                                 |
| grant        | `UnknownScope`, `NotAuthorised`                                                 |
| reserve      | `UnknownScope`, `ScopeMismatch`, `UnsupportedEvent`, `ClockWentBack`,           |
|              | `BudgetExhausted`                                                               |
| watermark    | `UnknownReservation`, `ReservationClosed`, `CommitOutOfBounds`                  |
| commit       | `UnknownReservation`, `ReservationClosed`, `CommitOutOfBounds`                  |
| refund       | `UnknownReservation`, `ReservationClosed`, `RefundAfterRelease`                 |
| expire       | `UnknownReservation`, `ReservationClosed`                                       |
| propose void | `UnknownReservation`, `ReservationClosed`, `NotAuthorised`                      |
| approve void | the same                                                                        |
| reset clock  | nothing                                                                         |

A refusal says nothing about the data: prices and caps do not depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, assert_never

from privacy_core.accounting.normal_form import describe
from privacy_core.budget.amounts import EPSILON_BITS, INFINITE, Amounts, plus, rounded_down
from privacy_core.budget.charges import (
    Charge,
    Currency,
    caps_of,
    epsilon_of_total,
)
from privacy_core.budget.commands import (
    ApproveVoid,
    Command,
    Commit,
    Expire,
    Grant,
    OpenAccount,
    ProposeVoid,
    Refund,
    Reserve,
    ResetClock,
    Signature,
    Watermark,
)
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
from privacy_core.budget.scopes import Scope, ScopeKind
from privacy_core.budget.states import LedgerState, Reservation, ScopeState, Status
from privacy_core.errors import (
    AccountExists,
    BudgetExhausted,
    ClockWentBack,
    CommitOutOfBounds,
    IdempotencyConflict,
    NotAuthorised,
    RefundAfterRelease,
    ReservationClosed,
    ScopeMismatch,
    Shortage,
    UnknownReservation,
    UnknownScope,
    UnsupportedEvent,
)

CLOCKS_DIFFER_US: Final = 300 * 1_000_000
"""How far two honest clocks may be apart; a clock further behind the ledger may not reserve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The entry that answers a command.

    Args:
        entry: to append, or the one that was appended when the command came first.
        is_replay: it is in the ledger already; append nothing.
    """

    entry: Entry
    is_replay: bool


def decide(state: LedgerState, command: Command, now_us: int) -> Decision:
    """Answer a command.

    Guarantee: after the entry, every scope that it involves keeps its invariant (`ScopeState`), and
    a command under a key that is known changes nothing. Where `now_us` is behind the ledger, the
    ledger's time counts.

    Args:
        state: everything, or at least: the scopes that the command involves (`involved_scopes`),
            the reservation that it names, the entry under its key, and the ledger's time.
        command: what is asked for.
        now_us: microseconds since the epoch, UTC.

    Raises:
        BudgetError: see the table above; nothing changes.
        UnsupportedEvent: a scope's currency has no sound price for the act.
    """
    earlier = state.entries.get(command.key)
    if earlier is not None:
        if earlier.command != command:
            raise IdempotencyConflict(
                command.key,
                earlier=type(earlier.command).__name__,
                found=f"{type(command).__name__} with other contents",
            )
        return Decision(entry=earlier, is_replay=True)
    return Decision(entry=_decided(state, command, now_us), is_replay=False)


def involved_scopes(command: Command, reservation: Reservation | None = None) -> tuple[Scope, ...]:
    """The accounts that must be known and locked to decide a command, sorted.

    `ResetClock` involves every account and every open reservation; the answer here is empty.

    Args:
        command: what is asked for.
        reservation: the one that it names, if it names one that exists.
    """
    match command:
        case OpenAccount(scope=scope) | Grant(scope=scope):
            return (scope,)
        case Reserve():
            return command.scopes
        case ResetClock():
            return ()
        case _:
            return reservation.scopes if reservation else ()


def _decided(state: LedgerState, command: Command, now_us: int) -> Entry:  # noqa: C901, PLR0911, PLR0912  # one case per command
    at_us = max(now_us, state.clock_us)
    match command:
        case OpenAccount():
            return _open(state, command, at_us)
        case Grant():
            return _grant(state, command, at_us)
        case Reserve():
            return _reserve(state, command, at_us, now_us)
        case Watermark():
            return _watermark(state, command, at_us)
        case Commit():
            held = _open_reservation(state, command.reservation, at_us)
            if command.actual is not None:
                _require_bounds(held, command.actual)
            return Committed(command=command, at_us=at_us)
        case Refund():
            held = _open_reservation(state, command.reservation, at_us)
            if held.watermark is not None:
                raise RefundAfterRelease(held.key)
            return Refunded(command=command, at_us=at_us)
        case Expire():
            held = _reservation(state, command.reservation)
            if held.status is not Status.OPEN or at_us < held.expires_at_us:
                raise ReservationClosed(held.key, status=_standing(held, at_us))
            return Expired(command=command, at_us=at_us)
        case ProposeVoid():
            _voidable(state, command.reservation, command.signature, at_us)
            return VoidProposed(command=command, at_us=at_us)
        case ApproveVoid():
            return _approve_void(state, command, at_us)
        case ResetClock():
            return ClockReset(command=command, at_us=now_us)
        case _:
            assert_never(command)


def _open(state: LedgerState, command: OpenAccount, at_us: int) -> AccountOpened:
    if command.scope in state.scopes:
        raise AccountExists(str(command.scope))
    delta = command.guarantee.delta
    window = command.window
    return AccountOpened(
        command=command,
        at_us=at_us,
        caps=command.caps or caps_of(command.currency, command.guarantee.epsilon, delta),
        window_caps=caps_of(command.currency, window.epsilon, delta) if window else (),
    )


def _grant(state: LedgerState, command: Grant, at_us: int) -> Granted:
    account = _account(state, command.scope)
    _require_authority(account, command.signature, act="grant")
    match account.currency:
        case Currency.RDP:
            # Every cap of an order is linear in epsilon; the last slot is delta and stays.
            more = rounded_down(command.epsilon, EPSILON_BITS)
            caps = (*(cap + more for cap in account.caps[:-1]), account.caps[-1])
        case Currency.GDP:
            epsilon = account.guarantee.epsilon + command.epsilon
            caps = caps_of(Currency.GDP, epsilon, account.guarantee.delta)
    return Granted(command=command, at_us=at_us, caps=caps)


def _reserve(state: LedgerState, command: Reserve, at_us: int, now_us: int) -> Reserved:
    if now_us < state.clock_us - CLOCKS_DIFFER_US:
        raise ClockWentBack(now_us=now_us, latest_us=state.clock_us)
    accounts = [_account(state, scope) for scope in command.scopes]
    for account in accounts:
        _require_same_terms(account, command.charge)
    shortages = [
        shortage for account in accounts for shortage in _shortages(account, command.charge, at_us)
    ]
    if shortages:
        raise BudgetExhausted(tuple(shortages))
    return Reserved(command=command, at_us=at_us, expires_at_us=at_us + command.ttl_s * 1_000_000)


def _watermark(state: LedgerState, command: Watermark, at_us: int) -> Watermarked:
    held = _open_reservation(state, command.reservation, at_us)
    _require_bounds(held, command.consumed)
    lives_until_us = at_us + command.ttl_s * 1_000_000 if command.ttl_s else 0
    return Watermarked(
        command=command, at_us=at_us, expires_at_us=max(held.expires_at_us, lives_until_us)
    )


def _approve_void(state: LedgerState, command: ApproveVoid, at_us: int) -> Voided:
    held = _voidable(state, command.reservation, command.signature, at_us)
    person = command.signature.person
    if held.void_proposed_by is None:
        raise NotAuthorised(person, act="approve a void", reason="nobody has proposed it")
    if _same_person(held.void_proposed_by, person):
        raise NotAuthorised(person, act="approve a void", reason="it takes a second person")
    return Voided(command=command, at_us=at_us)


def _account(state: LedgerState, scope: Scope) -> ScopeState:
    account = state.scopes.get(scope)
    if account is None:
        raise UnknownScope(str(scope))
    return account


def _reservation(state: LedgerState, key: str) -> Reservation:
    held = state.reservations.get(key)
    if held is None:
        raise UnknownReservation(key)
    return held


def _open_reservation(state: LedgerState, key: str, at_us: int) -> Reservation:
    held = _reservation(state, key)
    if held.status_at(at_us) is not Status.OPEN:
        raise ReservationClosed(key, status=held.status_at(at_us).value)
    return held


def _voidable(state: LedgerState, key: str, signature: Signature, at_us: int) -> Reservation:
    held = _reservation(state, key)
    if held.status not in {Status.COMMITTED, Status.EXPIRED}:
        raise ReservationClosed(key, status=_standing(held, at_us))
    for scope in held.scopes:
        _require_authority(_account(state, scope), signature, act="void")
    return held


def _standing(held: Reservation, at_us: int) -> str:
    """What to say of a reservation that is not in the right state."""
    standing = held.status_at(at_us)
    if standing is Status.EXPIRED and held.status is Status.OPEN:
        return "expired, not yet swept"
    return "still open" if standing is Status.OPEN else standing.value


def _require_bounds(held: Reservation, charge: Charge) -> None:
    if not charge.is_within(held.charge):
        raise CommitOutOfBounds(held.key, bound="more than was reserved, or in other terms")
    if held.watermark is not None and not held.watermark.is_within(charge):
        raise CommitOutOfBounds(held.key, bound="less than the watermark")


def _require_same_terms(account: ScopeState, charge: Charge) -> None:
    """A guarantee is about one relation and one unit; a price of another is no price for it."""
    promised = account.guarantee
    if account.scope.kind is ScopeKind.PROTECTION and (
        (charge.relation, charge.unit) != (promised.relation, promised.unit)
    ):
        raise ScopeMismatch(
            str(account.scope),
            found=f"{charge.unit.value}, {charge.relation.value}",
            expected=f"{promised.unit.value}, {promised.relation.value}",
        )
    amounts = charge.in_currency(account.currency)
    if charge.has_price and min(amounts) >= INFINITE:
        raise UnsupportedEvent(
            accountant=account.currency.value,
            event=describe(charge.event),
            reason=f"{account.scope} counts in that currency; nothing was spent",
        )


def _shortages(account: ScopeState, charge: Charge, at_us: int) -> list[Shortage]:
    """The limits of one account that the charge would pass."""
    short = []
    if not account.has_room_for(charge):
        short.append(_shortage(account, charge, "lifetime", account.total, account.caps))
    if not account.window_has_room_for(charge, at_us):
        used = account.used_in_window(at_us)
        short.append(_shortage(account, charge, "window", used, account.window_caps))
    return short


def _shortage(
    account: ScopeState, charge: Charge, limit: str, before: Amounts, caps: Amounts
) -> Shortage:
    after = plus(before, charge.in_currency(account.currency))
    cap = account.guarantee.epsilon
    if limit == "window" and account.window is not None:
        cap = account.window.epsilon
    now, then = (
        epsilon_of_total(account.currency, total, caps, account.guarantee.delta)
        for total in (before, after)
    )
    return Shortage(
        scope=str(account.scope),
        limit=limit,
        epsilon_requested=then - now,
        epsilon_remaining=max(0.0, cap - now),
    )


def _require_authority(account: ScopeState, signature: Signature, *, act: str) -> None:
    if account.authorisers and not any(
        _same_person(name, signature.person) for name in account.authorisers
    ):
        raise NotAuthorised(
            signature.person, act=act, reason=f"not an authoriser of {account.scope}"
        )


def _same_person(name: str, other: str) -> bool:
    return name.strip().casefold() == other.strip().casefold()
