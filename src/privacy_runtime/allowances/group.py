"""The rules of a group of requests, one after the other. Pure: no clock, no disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from privacy_runtime.allowances.contract import Balance
from privacy_runtime.allowances.errors import (
    AllowanceExhausted,
    AllowancesError,
    InvalidAmount,
    KeyReused,
    ReservationEnded,
    UnknownAccount,
    UnknownReservation,
)
from privacy_runtime.allowances.requests import Expire, Hold, Kind, Look, Request, Settle
from privacy_runtime.allowances.rows import Changes, Loaded, Reservation

Answer = None | int | frozenset[str] | dict[str, Balance] | AllowancesError
"""What a request gets: a value, or the error to raise."""


class Group:
    """Answers requests in turn; each sees what those before it changed, and a refusal is its own.

    Args:
        loaded: the rows; changed in place.
        now_us: the instant of all of them, microseconds since 1970.
        due: keys of reservations that may be past their deadline, for `Expire`.
    """

    def __init__(self, loaded: Loaded, now_us: int, due: Sequence[str] = ()) -> None:
        self._reservations, self._accounts = loaded.reservations, loaded.accounts
        self._now_us = now_us
        self._due = due
        self.changes = Changes()

    def answer(self, request: Request) -> Answer:
        """Decide one request."""
        match request:
            case Hold():
                return self._hold(request)
            case Settle():
                return self._settle(request)
            case Expire():
                return self._expire(request.most)
            case Look(names):
                found = ((name, self._accounts.get(name)) for name in names)
                return {name: account.balance() for name, account in found if account is not None}
            case _:
                assert_never(request)

    def _hold(self, request: Hold) -> Answer:
        earlier = self._reservations.get(request.key)
        if earlier is not None:
            return self._repeated(request, earlier)
        accounts, debits = self._accounts, request.debits
        short: dict[str, tuple[int, int]] = {}
        unknown: list[str] = []
        for name, amount in debits.items():
            account = accounts.get(name)
            if account is None:
                unknown.append(name)
                continue
            remaining = account.cap - account.spent - account.reserved
            if remaining < amount:
                short[name] = (amount, remaining)
        if not short and not unknown:
            held, asked = debits, None
        elif request.kind is Kind.EACH:
            without = short.keys() | set(unknown)
            held, asked = {n: a for n, a in debits.items() if n not in without}, debits
        else:
            return UnknownAccount(unknown) if unknown else AllowanceExhausted(short)
        for name, amount in held.items():
            account = accounts[name]
            account.reserved += amount
            self.changes.accounts[name] = account
        made = Reservation(request.key, request.kind, held, asked, self._now_us + request.ttl_us)
        self._reservations[request.key] = self.changes.added[request.key] = made
        if request.kind is Kind.SPENT:
            self._end(made, None)
        return frozenset(held) if request.kind is Kind.EACH else None

    def _repeated(self, request: Hold, earlier: Reservation) -> Answer:
        asked = earlier.held if earlier.asked is None else earlier.asked
        if request.kind is not earlier.kind or request.debits != asked:
            return KeyReused(request.key)
        if request.kind is Kind.SPENT:
            return None
        self._expire_if_due(earlier)
        if earlier.ended_us is not None:
            return ReservationEnded(request.key)
        return frozenset(earlier.held) if request.kind is Kind.EACH else None

    def _settle(self, request: Settle) -> Answer:
        found = self._reservations.get(request.key)
        if found is None or found.kind is Kind.SPENT:
            return UnknownReservation(request.key)
        self._expire_if_due(found)
        if found.expired:
            return UnknownReservation(request.key, expired=True)
        spent = None
        if request.spent is not None:
            held = found.held
            for name, amount in request.spent.items():
                if amount > held.get(name, -1):
                    return InvalidAmount(
                        "more is said to be spent than was held", expected="at most what was held"
                    )
            spent = {**held, **request.spent}
            if spent == held:
                spent = None
        if found.ended_us is not None:
            return None if spent == found.spent else KeyReused(request.key)
        self._end(found, spent)
        return None

    def _expire(self, most: int) -> int:
        ended = 0
        for key in self._due[:most]:
            found = self._reservations.get(key)
            if found is not None and found.ended_us is None:
                self._expire_if_due(found)
                ended += found.expired
        return ended

    def _expire_if_due(self, reservation: Reservation) -> None:
        """Count it as spent. Nobody gains room by it: what is held and what is spent both fill."""
        if reservation.ended_us is None and reservation.deadline_us <= self._now_us:
            reservation.expired = True
            self._end(reservation, None)

    def _end(self, reservation: Reservation, spent: dict[str, int] | None) -> None:
        for name, amount in reservation.held.items():
            account = self._accounts[name]
            account.reserved -= amount
            account.spent += amount if spent is None else spent[name]
            self.changes.accounts[name] = account
        reservation.ended_us, reservation.spent = self._now_us, spent
        if reservation.key not in self.changes.added:
            self.changes.ended[reservation.key] = reservation
