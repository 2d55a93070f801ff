"""The journal's home for several machines: PostgreSQL, two round trips a transaction.

The stream's row is locked (`SELECT ... FOR UPDATE`) and everything else is read in the same message
by a statement of its own: under READ COMMITTED it sees what the lock's last holder wrote. The
writes and the COMMIT share the second message. `synchronous_commit` is set on for the session, so
a commit is on the server's disk before it returns. Statements are prepared and settings made for
the session: a pooler between must keep sessions.

Source: PostgreSQL documentation, sections 13.2.1 (Read Committed) and 20.5.1 (synchronous_commit).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from psycopg import errors as refusals
from sqlalchemy.pool import NullPool

from privacy_runtime.database import POSTGRES_CONNECTION
from privacy_runtime.journal.contract import ConnectionLost, Rows, StreamRow, Transient
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

_SESSION: Final = (
    "SET synchronous_commit = on",
    "SET default_transaction_isolation = 'read committed'",
    "SET lock_timeout = '5s'",
    "SET idle_in_transaction_session_timeout = '30s'",  # a frozen client must not keep the lock
)
_MIGRATION_LOCK: Final = 0x6A6F7572  # "jour": an advisory lock while tables are made
_REPEATABLE: Final = (
    refusals.SerializationFailure,
    refusals.DeadlockDetected,
    refusals.LockNotAvailable,
)


# Prepared once a session, so that one message can carry several of them: each statement in it
# has its own snapshot and its plan is kept; a message for each would cost a wait each. Rows travel
# as JSON, which the driver quotes ten times as fast as an array.
_PREPARED: Final = (
    """PREPARE journal_lock (text) AS
    SELECT seq, hash, at, halt, projection FROM journal_streams WHERE stream = $1 FOR UPDATE""",
    """PREPARE journal_read (text, text[], text[]) AS
    (SELECT 0 AS kind, hash, NULL::bigint, NULL, NULL, NULL::integer, NULL, NULL, NULL, NULL
       FROM journal_entries WHERE stream = $1 ORDER BY seq DESC LIMIT 1)
    UNION ALL
    SELECT 1, stream, seq, at, type, version, key, body_text, prev_hash, hash
      FROM journal_entries WHERE stream = $1 AND key = ANY ($2)
    UNION ALL
    SELECT 2, name, NULL, NULL, NULL, NULL, NULL, body_text, NULL, NULL
      FROM journal_documents WHERE stream = $1 AND name = ANY ($3)""",
    """PREPARE journal_append (json) AS
    INSERT INTO journal_entries
        (stream, seq, at, type, version, key, body_text, prev_hash, hash)
    SELECT * FROM json_to_recordset($1) AS entry (
        stream text, seq bigint, at text, type text, version integer, key text,
        body_text text, prev_hash text, hash text)""",
    """PREPARE journal_save (text, json) AS
    INSERT INTO journal_documents (stream, name, body_text)
    SELECT $1, key, value FROM json_each_text($2)
    ON CONFLICT (stream, name) DO UPDATE SET body_text = excluded.body_text""",
    """PREPARE journal_move (text, bigint, text, text, text, text) AS
    UPDATE journal_streams SET seq = $2, hash = $3, at = $4, halt = $5, projection = $6
    WHERE stream = $1""",
)
_BEGIN: Final = "BEGIN; EXECUTE journal_lock(%s); EXECUTE journal_read(%s, %s, %s)"
_ROW: Final = "SELECT seq, hash, at, halt, projection FROM journal_streams WHERE stream = %s"
_MAKE_ROW: Final = (
    "INSERT INTO journal_streams (stream, seq, hash, at, halt, projection)"
    " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING; COMMIT"
)
_APPEND: Final = "EXECUTE journal_append(%s);"
_SAVE: Final = "EXECUTE journal_save(%s, %s);"
_MOVE: Final = "EXECUTE journal_move(%s, %s, %s, %s, %s, %s); COMMIT"
_REMOVE: Final = "DELETE FROM journal_documents WHERE stream = %s AND name = ANY (%s);"
_CLEAR: Final = "DELETE FROM journal_documents WHERE stream = %s;"
_PAGE: Final = (
    "SELECT stream, seq, at, type, version, key, body_text, prev_hash, hash FROM journal_entries"
    " WHERE stream = %s AND seq > %s ORDER BY seq LIMIT %s"
)
_DOCUMENTS: Final = (
    "SELECT name, body_text FROM journal_documents"
    " WHERE stream = %s AND name > %s AND name >= %s AND name < %s ORDER BY name LIMIT %s"
)


class PostgresHome:
    """A journal's rows in one PostgreSQL schema: the first of the connection's search path.

    Args:
        url: `postgresql://user@host:port/database`; another schema than the default through
            `?options=-csearch_path%3Dname`. Its password shows in no message.
    """

    def __init__(self, url: str) -> None:
        self.url = sa.make_url(url).set(drivername="postgresql+psycopg")
        self.name = self.url.render_as_string(hide_password=True)
        self._engine = sa.create_engine(
            self.url, poolclass=NullPool, connect_args=dict(POSTGRES_CONNECTION)
        )
        self._connection: psycopg.Connection[Any] | None = None
        self._in_transaction = False

    def begin(self, stream: str, keys: Sequence[str], names: Sequence[str]) -> Rows:
        """Take the row lock of the stream, and read; one round trip."""
        with _Refusals(self):
            connection = self._connected()
            self._in_transaction = True
            cursor = connection.execute(_BEGIN, (stream, stream, list(keys), list(names)))
            cursor.nextset()
            row = cursor.fetchone()
            cursor.nextset()
            if row is None:
                connection.execute(_MAKE_ROW, _stream_row(stream, StreamRow()))
                return self.begin(stream, keys, names)
            return _rows(stream_of(row), cursor.fetchall())

    def commit(
        self,
        stream: str,
        row: StreamRow,
        entries: Sequence[Entry],
        documents: Mapping[str, str | None],
        *,
        clear: bool = False,
    ) -> None:
        """Write and commit; one round trip, and the server's disk."""
        with _Refusals(self, stream=stream, entries=entries, state=NOT_KNOWN):
            connection = self._connected()
            parts: list[tuple[str, Sequence[Any]]] = []
            if clear:
                parts.append((_CLEAR, (stream,)))
            if entries:
                parts.append((_APPEND, (json.dumps([entry_values(e) for e in entries]),)))
            if removed := [name for name, text in documents.items() if text is None]:
                parts.append((_REMOVE, (stream, removed)))
            if saved := {name: text for name, text in documents.items() if text is not None}:
                parts.append((_SAVE, (stream, json.dumps(saved))))
            parts.append((_MOVE, _stream_row(stream, row)))
            connection.execute(
                " ".join(text for text, _ in parts), [value for _, vs in parts for value in vs]
            )
            self._in_transaction = False

    def rollback(self) -> None:
        """End the transaction, if there is one."""
        if self._connection is not None and self._in_transaction:
            self._in_transaction = False
            with suppress(psycopg.Error):
                self._connection.execute("ROLLBACK")

    def entries(self, stream: str, *, after: int, limit: int) -> Sequence[Entry]:
        """Return one page of entries."""
        with _Refusals(self):
            rows = self._connected().execute(_PAGE, (stream, after, limit))
            return [Entry(*row) for row in rows]

    def documents(
        self, stream: str, *, prefix: str, after: str, limit: int
    ) -> Sequence[tuple[str, str]]:
        """Return one page of documents."""
        with _Refusals(self):
            bounds = (stream, after, prefix, prefix + "\U0010ffff", limit)
            return self._connected().execute(_DOCUMENTS, bounds).fetchall()

    def row(self, stream: str) -> StreamRow:
        """Return what is recorded about the stream."""
        with _Refusals(self):
            found = self._connected().execute(_ROW, (stream,)).fetchone()
            return stream_of(found) if found else StreamRow()

    def disconnect(self) -> None:
        """Close the connection."""
        self._in_transaction = False
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            with self._engine.begin() as session:
                if version_of(session, home=self.name) < VERSION:
                    session.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
                    migrate(session, home=self.name)
            _, options = self._engine.dialect.create_connect_args(self.url)
            connection = psycopg.connect(
                **{**POSTGRES_CONNECTION, **options},
                autocommit=True,
                cursor_factory=psycopg.ClientCursor,
            )
            for statement in (*_SESSION, *_PREPARED):
                connection.execute(statement)
            self._connection = connection
        return self._connection

    def lost(self) -> bool:
        """Whether the connection can no longer be used."""
        return self._connection is None or self._connection.closed


def _rows(row: StreamRow, found: Sequence[Sequence[Any]]) -> Rows:
    """Sort out what `_READ` returned."""
    last_hash: str | None = None
    entries: dict[str, Entry] = {}
    documents: dict[str, str] = {}
    for kind, *fields in found:
        if kind == 0:
            last_hash = fields[0]
        elif kind == 1:
            entry = Entry(*fields)
            entries[entry.key] = entry
        else:
            documents[fields[0]] = fields[6]
    return Rows(row, last_hash, entries, documents)


def _stream_row(stream: str, row: StreamRow) -> Sequence[Any]:
    return tuple(stream_values(stream, row).values())


class _Refusals:
    """Says what an error of the server means for the journal."""

    def __init__(
        self,
        home: PostgresHome,
        *,
        stream: str = "",
        entries: Sequence[Entry] = (),
        state: str = NOTHING_WRITTEN,
    ) -> None:
        self._home, self._stream, self._entries, self._state = home, stream, entries, state

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Raise the journal's error in place of the server's."""
        if isinstance(error, sa.exc.DBAPIError):
            error = error.orig
        if not isinstance(error, psycopg.Error):
            return
        if isinstance(error, refusals.UniqueViolation) and self._entries:
            raise KeyTaken(self._stream, key=", ".join(e.key for e in self._entries)) from error
        if isinstance(error, _REPEATABLE):
            raise Transient(_reason(error)) from error
        if self._home.lost() or isinstance(error, refusals.AdminShutdown):
            raise ConnectionLost(_reason(error), maybe_written=self._state == NOT_KNOWN) from error
        raise StoreUnavailable(self._home.name, reason=_reason(error)) from error


def _reason(error: psycopg.Error) -> str:
    """Say what the server refused, on one line: details may carry values, so they stay out."""
    return error.diag.message_primary or str(error).strip().splitlines()[0]
