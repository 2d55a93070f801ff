"""The tables, and what is seldom done with them: open accounts, raise caps, read.

==========================  ========================================================
table                       a row
==========================  ========================================================
`allowance_accounts`        name, cap, spent, reserved; the database itself refuses
                            a row with `spent + reserved > cap`
`allowance_reservations`    key, kind, what was held and asked, deadline, how it ended
`allowance_raises`          key, instant, by how much, who signed, why; never removed
`allowance_schema`          the version of these tables
==========================  ========================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from privacy_runtime.allowances.contract import AMOUNT_MAX
from privacy_runtime.allowances.errors import (
    AllowancesUnavailable,
    InvalidAmount,
    KeyReused,
    UnknownAccount,
)
from privacy_runtime.allowances.requests import Kind
from privacy_runtime.allowances.rows import Account, CapRaise, Reservation
from privacy_runtime.database import Database, Tables, creation

_METADATA: Final = sa.MetaData()
_NAME: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_CHUNK: Final = 500
_LAST: Final = "\U0010ffff"
"""Sorts behind every character that a key can have, in UTF-8 as by number."""

SCHEMA: Final = sa.Table(
    "allowance_schema", _METADATA, sa.Column("version", sa.Integer, nullable=False)
)
ACCOUNTS: Final = sa.Table(
    "allowance_accounts",
    _METADATA,
    sa.Column("name", _NAME, primary_key=True),
    sa.Column("cap", sa.BigInteger, nullable=False),
    sa.Column("spent", sa.BigInteger, nullable=False),
    sa.Column("reserved", sa.BigInteger, nullable=False),
    sa.CheckConstraint(
        "spent >= 0 AND reserved >= 0 AND spent + reserved <= cap", name="allowance_never_overspent"
    ),
    sqlite_with_rowid=False,
    postgresql_with={"fillfactor": 50},  # a hot row is rewritten on its own page
)
RESERVATIONS: Final = sa.Table(
    "allowance_reservations",
    _METADATA,
    sa.Column("key", _NAME, primary_key=True),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("held", sa.Text, nullable=False),
    sa.Column("asked", sa.Text),
    sa.Column("deadline_us", sa.BigInteger, nullable=False),
    sa.Column("ended_us", sa.BigInteger),
    sa.Column("spent", sa.Text),
    sa.Column("expired", sa.SmallInteger, nullable=False),
    sqlite_with_rowid=False,
)
sa.Index(
    "allowance_open_reservations",
    RESERVATIONS.c.deadline_us,
    sqlite_where=RESERVATIONS.c.ended_us.is_(None),
    postgresql_where=RESERVATIONS.c.ended_us.is_(None),
)
sa.Index(
    "allowance_ended_reservations",
    RESERVATIONS.c.ended_us,
    sqlite_where=RESERVATIONS.c.ended_us.is_not(None),
    postgresql_where=RESERVATIONS.c.ended_us.is_not(None),
)
RAISES: Final = sa.Table(
    "allowance_raises",
    _METADATA,
    sa.Column("key", _NAME, primary_key=True),
    sa.Column("at_us", sa.BigInteger, nullable=False),
    sa.Column("more", sa.Text, nullable=False),
    sa.Column("signed_by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)


def _refused(store: str, reason: str) -> AllowancesUnavailable:
    return AllowancesUnavailable(store, reason=reason)


TABLES: Final = Tables(
    schema=SCHEMA,
    migrations=(creation(_METADATA, SCHEMA),),
    lock=0x616C6C77,  # "allw"
    refused=_refused,
    repeats_conflicts=True,
    reads_alone=True,
)


class Books:
    """The tables of one database, for what is not done a thousand times a second.

    Args:
        where: as `privacy_runtime.database.Database` takes it.

    Raises:
        AllowancesUnavailable: it cannot be opened, others may read it, a newer version wrote it.
    """

    def __init__(self, where: str | Path) -> None:
        self.database = Database(where, TABLES, pool_size=1)
        self.name = self.database.name

    def look(self, names: Sequence[str]) -> dict[str, Account]:
        """Read accounts as last committed."""
        found: dict[str, Account] = {}
        columns = sa.select(*ACCOUNTS.c)
        for start in range(0, len(names), _CHUNK):
            some = columns.where(ACCOUNTS.c.name.in_(names[start : start + _CHUNK]))
            for row in self.database.read(lambda c, some=some: c.execute(some).fetchall()):  # type: ignore[misc]
                found[row.name] = Account(row.cap, row.spent, row.reserved)
        return found

    def reservations(self, prefix: str) -> list[Reservation]:
        """Read reservations as last committed, in the order of their keys."""
        key = RESERVATIONS.c.key
        some = sa.select(*RESERVATIONS.c).where(key >= prefix, key < prefix + _LAST).order_by(key)
        rows = self.database.read(lambda connection: connection.execute(some).fetchall())
        return [_reservation_of(row) for row in rows]

    def open_accounts(self, caps: Mapping[str, int]) -> None:
        """Add the accounts that are missing."""
        rows = [
            {"name": name, "cap": cap, "spent": 0, "reserved": 0}
            for name, cap in sorted(caps.items())
        ]
        add = self.database.insert(ACCOUNTS).on_conflict_do_nothing()

        def work(connection: sa.Connection) -> None:
            for start in range(0, len(rows), _CHUNK):
                connection.execute(add, rows[start : start + _CHUNK])

        self.database.change(work)

    def raise_caps(self, raised: CapRaise) -> None:
        """Add to caps and keep the raise, once for its key."""
        names = sorted(raised.more)

        def work(connection: sa.Connection) -> None:
            earlier = connection.execute(
                sa.select(RAISES).where(RAISES.c.key == raised.key)
            ).first()
            if earlier is not None:
                require_same(_raise_of(earlier), raised)
                return
            caps: dict[str, int] = {}
            for name in names:
                one = sa.select(ACCOUNTS.c.cap).where(ACCOUNTS.c.name == name).with_for_update()
                cap = connection.execute(one).scalar_one_or_none()
                if cap is not None:
                    caps[name] = cap
            for name, cap in raised_caps(caps, raised).items():
                changed = sa.update(ACCOUNTS).where(ACCOUNTS.c.name == name).values(cap=cap)
                connection.execute(changed)
            row = {
                "key": raised.key,
                "at_us": int(raised.at.timestamp() * 1e6),
                "more": msgspec.json.encode(raised.more).decode(),
                "signed_by": raised.signed_by,
                "reason": raised.reason,
            }
            connection.execute(sa.insert(RAISES).values(row))

        self.database.change(work)

    def raises(self) -> list[CapRaise]:
        """Every raise, the oldest first."""
        query = sa.select(RAISES).order_by(RAISES.c.at_us, RAISES.c.key)
        return [_raise_of(row) for row in self.database.read(lambda c: c.execute(query).fetchall())]


def raised_caps(caps: Mapping[str, int], raised: CapRaise) -> dict[str, int]:
    """Return the caps after a raise.

    Raises:
        UnknownAccount: one of them has no cap yet.
        InvalidAmount: a cap would leave the range.
    """
    if unknown := [name for name in raised.more if name not in caps]:
        raise UnknownAccount(unknown)
    after = {name: caps[name] + more for name, more in raised.more.items()}
    if any(cap > AMOUNT_MAX for cap in after.values()):
        raise InvalidAmount("a raised cap is too large", expected=f"at most {AMOUNT_MAX}")
    return after


def require_same(earlier: CapRaise, raised: CapRaise) -> None:
    """Refuse another raise under a key that was used.

    Raises:
        KeyReused: amounts, signer or reason differ.
    """
    if (dict(earlier.more), earlier.signed_by, earlier.reason) != (
        dict(raised.more),
        raised.signed_by,
        raised.reason,
    ):
        raise KeyReused(raised.key)


def _reservation_of(row: sa.Row[Any]) -> Reservation:
    held, asked, spent = (
        None if text is None else msgspec.json.decode(text, type=dict[str, int])
        for text in (row.held, row.asked, row.spent)
    )
    return Reservation(
        row.key,
        Kind(row.kind),
        held or {},
        asked,
        row.deadline_us,
        row.ended_us,
        spent,
        expired=bool(row.expired),
    )


def _raise_of(row: sa.Row[tuple[str, int, str, str, str]]) -> CapRaise:
    return CapRaise(
        key=row.key,
        at=datetime.fromtimestamp(row.at_us / 1e6, UTC),
        more=msgspec.json.decode(row.more, type=dict[str, int]),
        signed_by=row.signed_by,
        reason=row.reason,
    )
