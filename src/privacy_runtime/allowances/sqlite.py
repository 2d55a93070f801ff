"""Allowances in one SQLite file: a group is a handful of statements.

WAL, `synchronous=FULL`, `BEGIN IMMEDIATE`. A statement reads or writes many rows in one step: the
interpreter's lock is given up at every step, and beside a busy event loop it comes back late.
Amounts and open reservations are remembered between groups as long as `PRAGMA data_version` says
that no other connection wrote.

Source: SQLite documentation, "PRAGMA data_version", "Write-Ahead Logging", "ON CONFLICT clause".
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final, NoReturn

from privacy_runtime.allowances.errors import (
    NOT_KNOWN,
    NOTHING_CHANGED,
    AllowancesUnavailable,
)
from privacy_runtime.allowances.rows import (
    Account,
    Changes,
    Loaded,
    Rejected,
    Reservation,
    Transient,
    added_row,
    decoded_accounts,
    decoded_reservations,
    encoded,
    ended_row,
)
from privacy_runtime.allowances.schema import Books

BUSY_S: Final = 10.0
"""How long SQLite itself waits for another writer, in seconds."""
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_REMEMBERED_MOST: Final = 100_000
_LOG_PAGES: Final = 8_000  # 32 MB: a page that many groups change is copied back once

_KEYS: Final = (
    "SELECT json_group_array(json_array("
    "key, kind, json(held), json(asked), deadline_us, ended_us, json(spent), expired))"
    " FROM allowance_reservations WHERE key IN (SELECT value FROM json_each(?))"
)
_NAMES: Final = (
    "SELECT json_group_array(json_array(name, cap, spent, reserved))"
    " FROM allowance_accounts WHERE name IN (SELECT value FROM json_each(?))"
)
# A statement names its rows one by one, and is kept for each number of rows: it is one step, and
# OR ROLLBACK spares SQLite a copy of every page that a refused row would need.
_CHUNK: Final = 64
_ADD: Final = (
    "INSERT OR ROLLBACK INTO allowance_reservations"
    " (key, kind, held, asked, deadline_us, ended_us, spent, expired) VALUES {rows}"
)
_END: Final = (
    "UPDATE OR ROLLBACK allowance_reservations SET ended_us = row.column2, spent = row.column3,"
    " expired = row.column4 FROM (VALUES {rows}) AS row WHERE key = row.column1"
)
_MOVE: Final = (
    "UPDATE OR ROLLBACK allowance_accounts SET spent = row.column2, reserved = row.column3"
    " FROM (VALUES {rows}) AS row WHERE name = row.column1"
)
_DUE: Final = (
    "SELECT json_group_array(key) FROM (SELECT key FROM allowance_reservations"
    " WHERE ended_us IS NULL AND deadline_us <= ? ORDER BY deadline_us LIMIT ?)"
)
_FORGET: Final = (
    "DELETE FROM allowance_reservations WHERE key IN (SELECT key FROM allowance_reservations"
    " WHERE ended_us IS NOT NULL AND ended_us < ? ORDER BY ended_us LIMIT ?)"
)


class SqliteHome:
    """The rows in one SQLite file.

    ===========================================  ==========================================
    when the file                                then
    ===========================================  ==========================================
    does not exist                               it is created, readable by its owner only
    may be read by others                        `AllowancesUnavailable`, not opened
    is removed or replaced while it is open      `AllowancesUnavailable`, checked before and
                                                 after every commit
    is held by another writer for 10 s           `AllowancesUnavailable`, nothing changed
    ===========================================  ==========================================

    Args:
        path: the file; its directory exists.
        busy_s: how long to wait for another writer.
    """

    def __init__(self, path: str | Path, *, busy_s: float = BUSY_S) -> None:
        self._busy_s = busy_s
        self._books = Books(path)
        self.name = self._books.name
        self.look, self.open_accounts = self._books.look, self._books.open_accounts
        self.raise_caps, self.raises = self._books.raise_caps, self._books.raises
        self.reservations = self._books.reservations
        self._path = Path(self.name)
        self._identity = _identity(self._path)
        self._accounts: dict[str, Account] = {}
        self._open: dict[str, Reservation] = {}  # that this connection added
        self._version = -1
        try:
            self._connection = self._connected()
        except sqlite3.Error as error:
            self._books.database.close()
            self._refuse(error, NOTHING_CHANGED)

    def load(self, keys: Sequence[str], names: Sequence[str]) -> Loaded:
        """Take the write lock, and read."""
        self._require_same_file(NOTHING_CHANGED)
        try:
            execute = self._connection.execute
            execute("BEGIN IMMEDIATE")
            (version,) = execute("PRAGMA data_version").fetchone()
            if version != self._version or len(self._accounts) > _REMEMBERED_MOST:
                self._forget()
                self._version = version
            reservations, unknown = {}, []
            for key in keys:
                found = self._open.get(key)
                if found is None:
                    unknown.append(key)
                else:
                    reservations[key] = found
            if unknown:
                (text,) = execute(_KEYS, (encoded(unknown),)).fetchone()
                reservations |= decoded_reservations(text)
            missing = {name for name in names if name not in self._accounts}
            for reservation in reservations.values():
                missing.update(name for name in reservation.held if name not in self._accounts)
            if missing:
                (text,) = execute(_NAMES, (encoded(list(missing)),)).fetchone()
                self._accounts.update(decoded_accounts(text))
        except sqlite3.Error as error:
            self._refuse(error, NOTHING_CHANGED)
        return Loaded(reservations, self._accounts)

    def commit(self, changes: Changes) -> None:
        """Write, and wait for the disk."""
        try:
            execute = self._connection.execute
            self._write(_ADD, [added_row(changes.added[key]) for key in sorted(changes.added)])
            self._write(_END, [ended_row(changes.ended[key]) for key in sorted(changes.ended)])
            moved = sorted(changes.accounts.items())
            self._write(_MOVE, [(name, row.spent, row.reserved) for name, row in moved])
            execute(_FORGET, (changes.forget_before_us, changes.forget_most))
            self._require_same_file(NOTHING_CHANGED)
        except sqlite3.Error as error:
            self._refuse(error, NOTHING_CHANGED)
        try:
            execute("COMMIT")
        except sqlite3.Error as error:
            self._refuse(error, NOT_KNOWN)
        self._require_same_file(NOT_KNOWN)
        for key in changes.ended:
            self._open.pop(key, None)
        if len(self._open) < _REMEMBERED_MOST:
            self._open.update(
                (key, row) for key, row in changes.added.items() if row.ended_us is None
            )

    def rollback(self, *, unchanged: bool = False) -> None:
        """End the transaction, if it is still there; amounts in memory may be ahead of it."""
        if self._connection.in_transaction:
            if not unchanged:
                self._forget()
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def due(self, now_us: int, most: int) -> list[str]:
        """Return keys of open reservations whose deadline is not after `now_us`."""
        try:
            (text,) = self._connection.execute(_DUE, (now_us, most)).fetchone()
        except sqlite3.Error as error:
            self._refuse(error, NOTHING_CHANGED)
        return list(json.loads(text))

    def close(self) -> None:
        """Let go of the connections."""
        self._connection.close()
        self._books.database.close()

    def _forget(self) -> None:
        """Believe nothing that is not read again."""
        self._accounts.clear()
        self._open.clear()

    def _write(self, statement: str, rows: Sequence[tuple[str | int | None, ...]]) -> None:
        """Write rows in the order of their keys, which is that of the pages."""
        for start in range(0, len(rows), _CHUNK):
            some = rows[start : start + _CHUNK]
            text = _for_rows(statement, len(some), len(some[0]))
            self._connection.execute(text, [value for row in some for value in row])

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=self._busy_s,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=4 * _CHUNK,
        )
        for pragma in (
            "synchronous=FULL",
            "fullfsync=ON",
            "secure_delete=ON",
            f"wal_autocheckpoint={_LOG_PAGES}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _require_same_file(self, state: str) -> None:
        """SQLite itself would go on writing to a file that has no name any more."""
        if _identity(self._path) != self._identity:
            reason = "the file was removed or replaced while it was open"
            raise AllowancesUnavailable(self.name, reason=reason, state=state)

    def _refuse(self, error: sqlite3.Error, state: str) -> NoReturn:
        """Say what was refused. SQLite's own words may quote values: they stay out."""
        self._forget()
        reason = getattr(error, "sqlite_errorname", None) or type(error).__name__
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY and state is NOTHING_CHANGED:
            raise Transient(reason) from None
        kind = Rejected if isinstance(error, sqlite3.IntegrityError) else AllowancesUnavailable
        raise kind(self.name, reason=reason, state=state) from None


@cache
def _for_rows(statement: str, rows: int, columns: int) -> str:
    return statement.format(rows=", ".join([f"({', '.join('?' * columns)})"] * rows))


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells two files apart that had the same name."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
