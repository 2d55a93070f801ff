"""The journal's default home: one SQLite file, private to its owner, durable at every commit.

WAL, `synchronous=FULL`, `BEGIN IMMEDIATE`: readers never wait, writers wait for each other, and a
commit is on the disk (`fsync`) before it returns. Local file systems only, as SQLite itself says.

Source: SQLite documentation, "Write-Ahead Logging" and "How To Corrupt An SQLite Database File".
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from privacy_runtime.files import fsync_directory, reason_of
from privacy_runtime.journal.contract import Rows, StreamRow, Transient
from privacy_runtime.journal.entries import Entry
from privacy_runtime.journal.errors import (
    NOT_KNOWN,
    NOTHING_WRITTEN,
    KeyTaken,
    StoreUnavailable,
)
from privacy_runtime.journal.schema import (
    VERSION,
    entry_values,
    migrate,
    stream_of,
    stream_values,
    version_of,
)

BUSY_S: Final = 5.0
"""How long SQLite itself waits for another writer, in seconds."""
_BUSY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


_ROW: Final = "SELECT seq, hash, at, halt, projection FROM journal_streams WHERE stream = :stream"
_MAKE_ROW: Final = (
    "INSERT INTO journal_streams (stream, seq, hash, at, halt, projection)"
    " VALUES (:stream, :seq, :hash, :at, :halt, :projection) ON CONFLICT DO NOTHING"
)
_MOVE_ROW: Final = (
    "UPDATE journal_streams SET seq = :seq, hash = :hash, at = :at, halt = :halt,"
    " projection = :projection WHERE stream = :stream"
)
_LAST_HASH: Final = (
    "SELECT hash FROM journal_entries WHERE stream = :stream ORDER BY seq DESC LIMIT 1"
)
_ENTRY_BY_KEY: Final = (
    "SELECT stream, seq, at, type, version, key, body_text, prev_hash, hash"
    " FROM journal_entries WHERE stream = ? AND key = ?"
)
_PAGE: Final = (
    "SELECT stream, seq, at, type, version, key, body_text, prev_hash, hash"
    " FROM journal_entries WHERE stream = ? AND seq > ? ORDER BY seq LIMIT ?"
)
_APPEND: Final = (
    "INSERT INTO journal_entries (stream, seq, at, type, version, key, body_text, prev_hash, hash)"
    " VALUES (:stream, :seq, :at, :type, :version, :key, :body_text, :prev_hash, :hash)"
)
_DOCUMENT: Final = "SELECT body_text FROM journal_documents WHERE stream = ? AND name = ?"
_DOCUMENTS: Final = (
    "SELECT name, body_text FROM journal_documents"
    " WHERE stream = ? AND name > ? AND name >= ? AND name < ? ORDER BY name LIMIT ?"
)
_SAVE: Final = (
    "INSERT INTO journal_documents (stream, name, body_text) VALUES (?, ?, ?)"
    " ON CONFLICT (stream, name) DO UPDATE SET body_text = excluded.body_text"
)
_REMOVE: Final = "DELETE FROM journal_documents WHERE stream = ? AND name = ?"
_CLEAR: Final = "DELETE FROM journal_documents WHERE stream = ?"


class SqliteHome:
    """A journal's rows in one SQLite file.

    ===========================================  ==========================================
    when the file                                then
    ===========================================  ==========================================
    does not exist                               it is created, readable by its owner only
    is removed or replaced while it is open      `StoreUnavailable`, checked before and
                                                 after every commit: SQLite itself would go
                                                 on writing to the file that has no name
    is not a database, or is damaged             `StoreUnavailable`
    was written by a newer version               `ForeignSchema`; not a byte is changed
    ===========================================  ==========================================

    Args:
        path: the file; its directory exists.
        busy_s: how long to wait for another writer before the transaction is repeated.
    """

    def __init__(self, path: Path | str, *, busy_s: float = BUSY_S) -> None:
        self.path = Path(path)
        self._busy_s = busy_s
        self.name = str(path)
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    def begin(self, stream: str, keys: Sequence[str], names: Sequence[str]) -> Rows:
        """Take the database's write lock, and read."""
        with _Refusals(self.name):
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
            row = connection.execute(_ROW, {"stream": stream}).fetchone()
            if row is None:
                connection.execute(_MAKE_ROW, stream_values(stream, StreamRow()))
                row = connection.execute(_ROW, {"stream": stream}).fetchone()
            last = connection.execute(_LAST_HASH, {"stream": stream}).fetchone()
            entries, documents = {}, {}
            for key in keys:
                if found := connection.execute(_ENTRY_BY_KEY, (stream, key)).fetchone():
                    entries[key] = Entry(*found)
            for name in names:
                if found := connection.execute(_DOCUMENT, (stream, name)).fetchone():
                    documents[name] = found[0]
            return Rows(stream_of(row), last[0] if last else None, entries, documents)

    def commit(
        self,
        stream: str,
        row: StreamRow,
        entries: Sequence[Entry],
        documents: Mapping[str, str | None],
        *,
        clear: bool = False,
    ) -> None:
        """Write, and wait for the disk."""
        with _Refusals(self.name, stream=stream, entries=entries):
            connection = self._connected()
            if clear:
                connection.execute(_CLEAR, (stream,))
            connection.executemany(_APPEND, map(entry_values, entries))
            for name, text in documents.items():
                if text is None:
                    connection.execute(_REMOVE, (stream, name))
                else:
                    connection.execute(_SAVE, (stream, name, text))
            connection.execute(_MOVE_ROW, stream_values(stream, row))
            self._require_same_file(NOTHING_WRITTEN)
        with _Refusals(self.name, state=NOT_KNOWN):
            connection.execute("COMMIT")
            self._require_same_file(NOT_KNOWN)

    def rollback(self) -> None:
        """End the transaction, if there is one."""
        if self._connection is not None and self._connection.in_transaction:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def entries(self, stream: str, *, after: int, limit: int) -> Sequence[Entry]:
        """Return one page of entries."""
        with _Refusals(self.name):
            rows = self._connected().execute(_PAGE, (stream, after, limit))
            return [Entry(*row) for row in rows]

    def documents(
        self, stream: str, *, prefix: str, after: str, limit: int
    ) -> Sequence[tuple[str, str]]:
        """Return one page of documents."""
        with _Refusals(self.name):
            bounds = (stream, after, prefix, prefix + "\U0010ffff", limit)
            return self._connected().execute(_DOCUMENTS, bounds).fetchall()

    def row(self, stream: str) -> StreamRow:
        """Return what is recorded about the stream."""
        with _Refusals(self.name):
            found = self._connected().execute(_ROW, {"stream": stream}).fetchone()
            return stream_of(found) if found else StreamRow()

    def disconnect(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _connected(self) -> sqlite3.Connection:
        """Return a connection to the file that was first opened, with its tables in place."""
        if self._connection is None:
            if self._identity is None:
                self._create_if_missing()
            else:
                self._require_same_file(NOTHING_WRITTEN)
            self._prepare()
            self._connection = self._connect()
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute("PRAGMA fullfsync=ON")  # macOS: fsync alone is not enough
            self._identity = self._identity or _identity(self.path)
        self._require_same_file(NOTHING_WRITTEN)
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self.path, timeout=self._busy_s, isolation_level=None, check_same_thread=False
        )

    def _create_if_missing(self) -> None:
        """Create the file for its owner alone, before SQLite would create it for everybody."""
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            fsync_directory(self.path.parent)

    def _prepare(self) -> None:
        """Bring the tables to this version, over a connection that SQLAlchemy has for itself.

        (Its pool rolls back whatever is under way on a connection that it lets go of.)
        """
        engine = sa.create_engine("sqlite://", creator=self._connect, poolclass=NullPool)
        with engine.connect() as session:
            if version_of(session, home=self.name) == VERSION:
                return
            session.exec_driver_sql("PRAGMA journal_mode=WAL")  # kept by the file from now on
            session.exec_driver_sql("BEGIN IMMEDIATE")
            migrate(session, home=self.name)
            session.exec_driver_sql("COMMIT")

    def _require_same_file(self, state: str) -> None:
        if self._identity is not None and _identity(self.path) != self._identity:
            raise StoreUnavailable(
                self.name, reason="the file was removed or replaced while it was open", state=state
            )


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells two files apart that had the same name."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


class _Refusals:
    """Says what an error of the database means for the journal."""

    def __init__(
        self,
        name: str,
        *,
        stream: str = "",
        entries: Sequence[Entry] = (),
        state: str = NOTHING_WRITTEN,
    ) -> None:
        self._name, self._stream, self._entries, self._state = name, stream, entries, state

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Raise the journal's error in place of the database's."""
        if isinstance(error, sa.exc.DBAPIError):
            error = error.orig
        if isinstance(error, sqlite3.IntegrityError) and self._entries:
            raise KeyTaken(self._stream, key=", ".join(e.key for e in self._entries)) from error
        if isinstance(error, sqlite3.Error):
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY:
                raise Transient(str(error)) from error
            raise StoreUnavailable(self._name, reason=str(error), state=self._state) from error
        if isinstance(error, OSError):
            raise StoreUnavailable(
                self._name, reason=reason_of(error), state=self._state
            ) from error
