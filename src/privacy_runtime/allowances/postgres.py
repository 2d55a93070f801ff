"""Allowances in PostgreSQL: a group is two messages and one commit, whatever its size.

The first message takes the row locks, in the order of the names (reservations, then accounts), so
that no two processes wait for each other; the second writes and commits. Rows travel as one JSON
text each way.

Source: PostgreSQL documentation, 13.3.4 "Deadlocks", 30.3 "Asynchronous Commit".
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn

import psycopg
import sqlalchemy as sa
from psycopg import errors as refusals

from privacy_runtime.allowances.errors import (
    NOT_KNOWN,
    NOTHING_CHANGED,
    AllowancesUnavailable,
)
from privacy_runtime.allowances.rows import (
    Changes,
    ConnectionLost,
    Loaded,
    Rejected,
    Transient,
    added_row,
    decoded_accounts,
    decoded_reservations,
    encoded,
    ended_row,
)
from privacy_runtime.allowances.schema import Books
from privacy_runtime.database import POSTGRES_CONNECTION

_SESSION: Final = (
    "SET synchronous_commit = on",
    "SET lock_timeout = '5s'",
    "SET statement_timeout = '30s'",
    "SET idle_in_transaction_session_timeout = '30s'",  # a frozen client must not keep the locks
    "SET enable_seqscan = off",  # plans are made while the tables are small, and kept
)
_REPEATABLE: Final = (
    refusals.SerializationFailure,
    refusals.DeadlockDetected,
    refusals.LockNotAvailable,
    refusals.UniqueViolation,  # another process has just written the same key: read it
)
_PREPARED: Final = (
    """PREPARE allowance_keys (json) AS
    SELECT json_agg(json_build_array(
        key, kind, held::json, asked::json, deadline_us, ended_us, spent::json, expired))::text
    FROM (SELECT * FROM allowance_reservations
          WHERE key = ANY (ARRAY(SELECT json_array_elements_text($1)))
          ORDER BY key FOR UPDATE) AS locked""",
    """PREPARE allowance_names (json, json) AS
    SELECT json_agg(json_build_array(name, cap, spent, reserved))::text
    FROM (SELECT * FROM allowance_accounts
          WHERE name = ANY (ARRAY(
              SELECT json_array_elements_text($1)
              UNION SELECT json_object_keys(held::json) FROM allowance_reservations
                    WHERE key = ANY (ARRAY(SELECT json_array_elements_text($2)))))
          ORDER BY name FOR UPDATE) AS locked""",
    """PREPARE allowance_add (json) AS
    INSERT INTO allowance_reservations
        (key, kind, held, asked, deadline_us, ended_us, spent, expired)
    SELECT row ->> 0, (row ->> 1)::smallint, row ->> 2, row ->> 3, (row ->> 4)::bigint,
        (row ->> 5)::bigint, row ->> 6, (row ->> 7)::smallint
    FROM json_array_elements($1) AS row""",
    """PREPARE allowance_end (json) AS
    UPDATE allowance_reservations SET ended_us = (row ->> 1)::bigint,
        spent = row ->> 2, expired = (row ->> 3)::smallint
    FROM json_array_elements($1) AS row WHERE key = row ->> 0""",
    """PREPARE allowance_move (json) AS
    UPDATE allowance_accounts SET spent = (row ->> 1)::bigint, reserved = (row ->> 2)::bigint
    FROM json_array_elements($1) AS row WHERE name = row ->> 0""",
    """PREPARE allowance_forget (bigint, bigint) AS
    DELETE FROM allowance_reservations WHERE key = ANY (ARRAY(
        SELECT key FROM allowance_reservations
        WHERE ended_us IS NOT NULL AND ended_us < $1
        ORDER BY ended_us LIMIT $2 FOR UPDATE SKIP LOCKED))""",
)
_LOAD: Final = "BEGIN; EXECUTE allowance_keys(%s); EXECUTE allowance_names(%s, %s)"
_ADD: Final = "EXECUTE allowance_add(%s);"
_END: Final = "EXECUTE allowance_end(%s);"
_WRITE: Final = "EXECUTE allowance_move(%s); EXECUTE allowance_forget(%s, %s); COMMIT"
_DUE: Final = (
    "SELECT key FROM allowance_reservations"
    " WHERE ended_us IS NULL AND deadline_us <= %s ORDER BY deadline_us LIMIT %s"
)


class PostgresHome:
    """The rows in one PostgreSQL schema: the first of the connection's search path.

    ===========================================  ==========================================
    when                                         then
    ===========================================  ==========================================
    another process holds the same rows          it waits, up to 5 s, then asks again
    the connection is lost                       connected and repeated; if it was lost
                                                 while committing and never came back: not
                                                 known, the same key may be repeated
    ===========================================  ==========================================

    Args:
        url: `postgresql://user@host:port/database`; another schema than the default through
            `?options=-csearch_path%3Dname`. Its password shows in no message.
    """

    def __init__(self, url: str) -> None:
        self._books = Books(url)
        self.name = self._books.name
        self.look, self.open_accounts = self._books.look, self._books.open_accounts
        self.raise_caps, self.raises = self._books.raise_caps, self._books.raises
        self.reservations = self._books.reservations
        self._url = sa.make_url(url).set(drivername="postgresql+psycopg")
        self._connection: psycopg.Connection[Any] | None = None

    def load(self, keys: Sequence[str], names: Sequence[str]) -> Loaded:
        """Take the row locks, and read; one round trip."""
        try:
            asked = encoded(keys)
            cursor = self._connected().execute(_LOAD, (asked, encoded(names), asked))
            cursor.nextset()
            reservations = decoded_reservations(_only(cursor))
            cursor.nextset()
            accounts = decoded_accounts(_only(cursor))
        except psycopg.Error as error:
            self._refuse(error, NOTHING_CHANGED)
        return Loaded(reservations, accounts)

    def commit(self, changes: Changes) -> None:
        """Write and commit; one round trip, and the server's disk."""
        statement = ""
        values: list[str | int] = []
        if changes.added:
            rows = [added_row(changes.added[key]) for key in sorted(changes.added)]
            statement = _ADD
            values.append(encoded(rows))
        if changes.ended:
            statement += _END
            values.append(encoded([ended_row(row) for row in changes.ended.values()]))
        moved = [(name, row.spent, row.reserved) for name, row in changes.accounts.items()]
        values += [encoded(moved), changes.forget_before_us, changes.forget_most]
        if self._connection is None:
            raise ConnectionLost("before the commit", maybe_written=False)
        try:
            self._connection.execute(statement + _WRITE, values)
        except psycopg.Error as error:
            self._refuse(error, NOT_KNOWN)

    def rollback(self, *, unchanged: bool = False) -> None:
        """End the transaction, if it is still there."""
        connection = self._connection
        if connection is None:
            return
        if connection.closed or connection.broken:
            self._disconnect()
        elif connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            try:
                connection.execute("ROLLBACK")
            except psycopg.Error:
                self._disconnect()

    def due(self, now_us: int, most: int) -> list[str]:
        """Return keys of open reservations whose deadline is not after `now_us`."""
        try:
            return [key for (key,) in self._connected().execute(_DUE, (now_us, most))]
        except psycopg.Error as error:
            self._refuse(error, NOTHING_CHANGED)

    def close(self) -> None:
        """Let go of the connections."""
        self._disconnect()
        self._books.database.close()

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            _, options = self._url.get_dialect()().create_connect_args(self._url)
            connection = psycopg.connect(
                **{**POSTGRES_CONNECTION, **options},
                autocommit=True,
                cursor_factory=psycopg.ClientCursor,
            )
            connection.execute("; ".join((*_SESSION, *_PREPARED)))
            self._connection = connection
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def _refuse(self, error: psycopg.Error, state: str) -> NoReturn:
        """Say what was refused: by its code, for the server's words may carry values."""
        reason = f"refused with {error.sqlstate or type(error).__name__}"
        lost = self._connection is None or self._connection.closed
        if lost or isinstance(error, refusals.AdminShutdown):
            self._disconnect()
            lost_reason = f"no connection ({error.sqlstate or type(error).__name__})"
            raise ConnectionLost(lost_reason, maybe_written=state is NOT_KNOWN) from None
        if isinstance(error, _REPEATABLE):
            raise Transient(reason) from None
        # The server answered: what it refused, it rolled back.
        if isinstance(error, psycopg.IntegrityError | psycopg.DataError):
            raise Rejected(self.name, reason=reason) from None
        raise AllowancesUnavailable(self.name, reason=reason) from None


def _only(cursor: psycopg.Cursor[Any]) -> str:
    """Return the one aggregated list; an empty one when there was no row."""
    return (cursor.fetchone() or (None,))[0] or "[]"
