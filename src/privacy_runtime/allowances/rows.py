"""What a home stores, and the home's own contract: the rows of one group, read and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import msgspec

from privacy_runtime.allowances.contract import Balance, Reserved
from privacy_runtime.allowances.errors import AllowancesUnavailable
from privacy_runtime.allowances.requests import Kind

_encode = msgspec.json.Encoder().encode
_decode_reservations = msgspec.json.Decoder(
    list[
        tuple[
            str,
            int,
            dict[str, int],
            dict[str, int] | None,
            int,
            int | None,
            dict[str, int] | None,
            int,
        ]
    ]
).decode
_decode_accounts = msgspec.json.Decoder(list[tuple[str, int, int, int]]).decode


class Account(msgspec.Struct):
    """One account's row; a group changes it in place."""

    cap: int
    spent: int = 0
    reserved: int = 0

    def balance(self) -> Balance:
        """As the callers see it."""
        return Balance(self.cap, self.spent, self.reserved)


class Reservation(msgspec.Struct):
    """One reservation's row.

    Attributes:
        key: its name, unique.
        kind: how it came to be.
        held: by account, in the order of the names.
        asked: what was asked for, where that is not what was held.
        deadline_us: when it counts as spent, microseconds since 1970.
        ended_us: when it ended; `None` while it is open.
        spent: by account where less was spent than held; `None`: all of it.
        expired: whether it ended at its deadline.
    """

    key: str
    kind: Kind
    held: dict[str, int]
    asked: dict[str, int] | None
    deadline_us: int
    ended_us: int | None = None
    spent: dict[str, int] | None = None
    expired: bool = False

    def seen(self) -> Reserved:
        """As the callers see it."""
        spent = self.held if self.spent is None else self.spent
        return Reserved(self.key, self.held, None if self.ended_us is None else spent)


def added_row(row: Reservation) -> tuple[str | int | None, ...]:
    """As it is stored when it is new."""
    asked = None if row.asked is None else encoded(row.asked)
    ended = ended_row(row)
    return row.key, int(row.kind), encoded(row.held), asked, row.deadline_us, *ended[1:]


def ended_row(row: Reservation) -> tuple[str | int | None, ...]:
    """What is stored when it ends."""
    spent = None if row.spent is None else encoded(row.spent)
    return row.key, row.ended_us, spent, int(row.expired)


def encoded(rows: object) -> str:
    """Rows as one JSON text."""
    return _encode(rows).decode()


def decoded_reservations(text: str) -> dict[str, Reservation]:
    """Rows as `added_row` made them, by key."""
    return {
        key: Reservation(
            key, Kind(kind), held, asked, deadline, ended, spent, expired=bool(expired)
        )
        for key, kind, held, asked, deadline, ended, spent, expired in _decode_reservations(text)
    }


def decoded_accounts(text: str) -> dict[str, Account]:
    """Rows of name, cap, spent, reserved; by name."""
    return {
        name: Account(cap, spent, reserved) for name, cap, spent, reserved in _decode_accounts(text)
    }


@dataclass(slots=True)
class Loaded:
    """What a group works on: the rows it asked for that exist."""

    reservations: dict[str, Reservation]
    accounts: dict[str, Account]


@dataclass(slots=True)
class Changes:
    """What a group has to write.

    Attributes:
        added: new reservations, some of them ended already.
        ended: reservations that were stored open.
        accounts: whose amounts moved.
        forget_before_us: reservations that ended before this may go.
        forget_most: how many of them.
    """

    added: dict[str, Reservation] = field(default_factory=dict)
    ended: dict[str, Reservation] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    forget_before_us: int = 0
    forget_most: int = 0

    def __bool__(self) -> bool:
        return bool(self.added or self.ended)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapRaise:
    """One raise of caps, as it is kept.

    Attributes:
        key: of the raise.
        at: when.
        more: by account, in the order of the names.
        signed_by: who answers for it; the caller has checked who they are.
        reason: why.
    """

    key: str
    at: datetime
    more: Mapping[str, int]
    signed_by: str
    reason: str


class Transient(Exception):
    """The database asks to be asked again; nothing was changed."""


class Rejected(AllowancesUnavailable):
    """The database refuses a row of the group: each request is tried alone."""


class ConnectionLost(Exception):
    """The connection is gone; `maybe_written`: it broke during the commit."""

    def __init__(self, reason: str, *, maybe_written: bool) -> None:
        super().__init__(reason)
        self.maybe_written = maybe_written


class Home(Protocol):
    """Where the rows live. One thread at a time uses `load` to `due`; the rest may be shared.

    Errors: `Transient`, `ConnectionLost`, `AllowancesUnavailable`.
    """

    name: str

    def load(self, keys: Sequence[str], names: Sequence[str]) -> Loaded:
        """Begin a transaction that excludes others from these rows, and read them.

        Read are the reservations of `keys`, the accounts of `names` and those that the
        reservations hold amounts of. What is returned may be changed in place.
        """
        ...

    def commit(self, changes: Changes) -> None:
        """Write, and wait for the disk."""
        ...

    def rollback(self, *, unchanged: bool = False) -> None:
        """End the transaction that `load` began, if it is still there.

        `unchanged`: the rows that `load` returned are as it returned them.
        """
        ...

    def due(self, now_us: int, most: int) -> list[str]:
        """Return keys of open reservations whose deadline is not after `now_us`."""
        ...

    def look(self, names: Sequence[str]) -> dict[str, Account]:
        """Read accounts as last committed, without a transaction."""
        ...

    def reservations(self, prefix: str) -> list[Reservation]:
        """Read reservations as last committed, in the order of their keys."""
        ...

    def open_accounts(self, caps: Mapping[str, int]) -> None:
        """Add the accounts that are missing."""
        ...

    def raise_caps(self, raised: CapRaise) -> None:
        """Add to caps and keep the raise, once for its key."""
        ...

    def raises(self) -> list[CapRaise]:
        """Every raise, the oldest first."""
        ...

    def close(self) -> None:
        """Let go of every connection."""
        ...
