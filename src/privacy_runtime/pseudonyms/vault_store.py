"""The SQLite file of a vault: ciphertexts under keyed names, until their time is over."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from privacy_runtime.files import reason_of
from privacy_runtime.pseudonyms.errors import VaultRefused
from privacy_runtime.world import Clock

_VERSION: Final = 1
_BUSY_S: Final = 10.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS vault (
    session BLOB NOT NULL, token TEXT NOT NULL, key_id TEXT NOT NULL, sealed BLOB NOT NULL,
    subject BLOB NOT NULL, ends_us INTEGER NOT NULL, PRIMARY KEY (session, token)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS vault_subject ON vault (subject);
CREATE INDEX IF NOT EXISTS vault_ends ON vault (ends_us);
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One value of a vault.

    Attributes:
        session: keyed hash of the session's name.
        token: without its brackets.
        key_id: the master whose key sealed it.
        sealed: ciphertext.
        subject: keyed hash of the person's name, or empty.
    """

    session: bytes = field(repr=False)
    token: str
    key_id: str
    sealed: bytes = field(repr=False)
    subject: bytes = field(repr=False)


class VaultStore:
    """A vault's file, mode 0600; any number of threads and processes of one machine may share it.

    A child process opens the file anew. Expired rows are never returned; `purge` deletes them.

    Args:
        path: the file; made if missing.
        clock: says when a row's time is over.

    Raises:
        VaultRefused: the file cannot be made, others than its owner may read it, or it holds
            something else.
    """

    def __init__(self, path: Path | str, clock: Clock) -> None:
        self.path, self._clock = Path(path).absolute(), clock
        self._lock = threading.RLock()
        self._process = -1
        self._connection: sqlite3.Connection | None = None
        self._require_private()
        with self._session() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in {0, _VERSION}:
                raise VaultRefused(
                    f"{self.path} has version {version}, expected {_VERSION}; it was not changed"
                )
            connection.executescript(f"{_SCHEMA}PRAGMA user_version = {_VERSION};")

    def now(self) -> datetime:
        """Return the clock's time."""
        return self._clock.now()

    def row(self, sessions: Sequence[bytes], token: str) -> Row | None:
        """Return a row of one of the sessions that has not ended."""
        query = (
            "SELECT session, token, key_id, sealed, subject FROM vault "
            "WHERE session = ? AND token = ? AND ends_us > ?"
        )
        now = _us(self.now())
        with self._session() as connection:
            for session in sessions:
                found = connection.execute(query, (session, token, now)).fetchone()
                if found is not None:
                    return Row(*found)
        return None

    def rows(self, sessions: Sequence[bytes], prefix: str) -> list[Row]:
        """Return the rows of the sessions that have not ended and whose token begins so."""
        query = (
            "SELECT session, token, key_id, sealed, subject FROM vault "
            "WHERE session = ? AND token >= ? AND token < ? AND ends_us > ? ORDER BY token"
        )
        span, now = (prefix, prefix + "\U0010ffff"), _us(self.now())
        with self._session() as connection:
            return [
                Row(*found)
                for session in sessions
                for found in connection.execute(query, (session, *span, now)).fetchall()
            ]

    def add(self, row: Row, *, ends: datetime) -> bool:
        """Keep a row, unless there is one that has not ended; say whether it was kept."""
        values = (row.session, row.token, row.key_id, row.sealed, row.subject, _us(ends))
        with self._session() as connection:
            done = connection.execute(
                "INSERT INTO vault VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                "key_id = excluded.key_id, sealed = excluded.sealed, subject = excluded.subject, "
                "ends_us = excluded.ends_us WHERE vault.ends_us <= ?",
                (*values, _us(self.now())),
            )
            return done.rowcount == 1

    def prolong(self, sessions: Sequence[bytes], token: str, *, ends: datetime) -> None:
        """Let a row end later, by at least a hundredth of what it had left."""
        slack = (_us(ends) - _us(self.now())) // 100
        query = "UPDATE vault SET ends_us = ? WHERE session = ? AND token = ? AND ends_us < ?"
        with self._session() as connection:
            for session in sessions:
                connection.execute(query, (_us(ends), session, token, _us(ends) - slack))

    def delete(self, *, sessions: Sequence[bytes] = (), subjects: Sequence[bytes] = ()) -> int:
        """Delete the rows of sessions and of subjects; return how many there were."""
        with self._session() as connection:
            before = connection.total_changes
            connection.executemany("DELETE FROM vault WHERE session = ?", [(s,) for s in sessions])
            connection.executemany("DELETE FROM vault WHERE subject = ?", [(s,) for s in subjects])
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return connection.total_changes - before

    def purge(self) -> int:
        """Delete the rows whose time is over; return how many there were."""
        with self._session() as connection:
            done = connection.execute("DELETE FROM vault WHERE ends_us <= ?", (_us(self.now()),))
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return done.rowcount

    def close(self) -> None:
        """Close the file. Another call opens it again."""
        with self._lock:
            if self._connection is not None and self._process == os.getpid():
                self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"VaultStore({str(self.path)!r})"

    def __reduce__(self) -> tuple[type[Self], tuple[Path, Clock]]:
        return type(self), (self.path, self._clock)

    @contextmanager
    def _session(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._open()
            except sqlite3.Error as error:
                reason = getattr(error, "sqlite_errorname", type(error).__name__)
            else:
                return
        raise VaultRefused(f"{self.path}: {reason}; nothing was read or written")

    def _open(self) -> sqlite3.Connection:
        if self._connection is None or self._process != os.getpid():
            self._connection = sqlite3.connect(
                self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._process = os.getpid()
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("PRAGMA secure_delete = ON")
        return self._connection

    def _require_private(self) -> None:
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            mode = os.fstat(descriptor).st_mode & 0o777
            os.close(descriptor)
        except OSError as error:
            raise VaultRefused(f"{self.path}: {reason_of(error)}; no vault was opened") from None
        if mode & 0o077:
            raise VaultRefused(
                f"{self.path} has mode {mode:04o}, expected 0600: its owner alone; "
                "no vault was opened"
            )


def _us(instant: datetime) -> int:
    return int(instant.timestamp() * 1_000_000)
