"""Transactions on SQLite or PostgreSQL, for the tables of several rooms.

SQLite: WAL, `synchronous=FULL`, writers take the lock at once (`BEGIN IMMEDIATE`), the file is its
owner's alone. PostgreSQL: READ COMMITTED with row locks, `synchronous_commit=on`. What either asks
to be repeated is repeated.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from privacy_runtime.files import reason_of

_BUSY_S: Final = 10.0
POSTGRES_CONNECTION: Final[Mapping[str, int]] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
"""In seconds, the last in milliseconds: who waits for a server whose machine or network is gone
learns it in half a minute. (The system's own answer comes after two hours.)"""
_TRIES: Final = 8
_SQLITE_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_POSTGRES_REPEAT: Final = frozenset({"40001", "40P01", "55P03"})
_READING: Final = "reading"
_ALONE: Final = "reading_alone"
_POSTGRES: Final = ("postgresql://", "postgresql+psycopg://", "postgres://")

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The tables of one room, and what the room says when the database cannot.

    Attributes:
        schema: a table of one row with the column `version`.
        migrations: from each version to the next; only ever appended. The first makes the tables
            and the row of `schema`, with version 0.
        lock: key of PostgreSQL's advisory lock while they run; four letters as a number.
        refused: the room's error, from the store's name and a reason. A reason never holds values.
        conflict: the room's error for a broken rule of uniqueness; `None`: `refused`.
        repeats_conflicts: whether such a change is repeated: the second finds the first's row.
        reads_alone: whether each read is one statement, and needs no transaction around it.
    """

    schema: sa.Table
    migrations: Sequence[Callable[[sa.Connection], None]]
    lock: int
    refused: Callable[[str, str], Exception]
    conflict: Callable[[], Exception] | None = None
    repeats_conflicts: bool = False
    reads_alone: bool = False


def creation(tables: sa.MetaData, schema: sa.Table) -> Callable[[sa.Connection], None]:
    """A first migration: all tables and indexes, in an order that does not change."""

    def create(connection: sa.Connection) -> None:
        for table in tables.sorted_tables:
            connection.execute(CreateTable(table))
            for index in sorted(table.indexes, key=lambda index: str(index.name)):
                connection.execute(CreateIndex(index))
        connection.execute(sa.insert(schema).values(version=0))

    return create


class Database:
    """One database; threads may share it, processes open their own. No carrying over a fork.

    Args:
        where: a SQLite file, `sqlite:///PATH`, or a URL `postgresql://user@host:port/database`,
            whose password shows in no message.
        tables: whose database it is; brought to their newest version.
        pool_size: connections to PostgreSQL that are kept open.
        max_overflow: further ones when busy; `None`: twice as many.

    Raises:
        Exception: what `tables.refused` makes: it cannot be opened, others may read the file, or a
            newer version wrote it.
    """

    def __init__(
        self,
        where: Path | str,
        tables: Tables,
        *,
        pool_size: int = 5,
        max_overflow: int | None = None,
    ) -> None:
        self._tables = tables
        text = str(where)
        if text.startswith(_POSTGRES):
            url = sa.make_url(text).set(drivername="postgresql+psycopg")
            self.name = url.render_as_string(hide_password=True)
            overflow = 2 * pool_size if max_overflow is None else max_overflow
            self._engine = _postgres(url, pool_size, overflow)
        else:
            path = Path(text.removeprefix("sqlite:///"))
            self.name = str(path)
            self._require_private(path)
            self._engine = _sqlite(path)
        self._reading = self._engine
        if tables.reads_alone:
            self._reading = self._engine.execution_options(
                **({_ALONE: True} if self.is_sqlite else {"isolation_level": "AUTOCOMMIT"})
            )
        try:
            self.bring(tables)
        except BaseException:
            self.close()
            raise

    @property
    def is_sqlite(self) -> bool:
        """Whether one writer at a time holds the whole database."""
        return self._engine.dialect.name == "sqlite"

    def bring(self, tables: Tables) -> None:
        """Bring tables to this program's version: the database's own, or another room's beside.

        Raises:
            Exception: what `tables.refused` makes: a newer version wrote them; nothing was changed.
        """
        self.change(lambda connection: self._migrate(connection, tables))

    def change(self, work: Callable[[sa.Connection], _Answer]) -> _Answer:
        """Run `work` in one transaction, on the disk when this returns. It may run again.

        Raises:
            Exception: what the tables' `refused` or `conflict` makes; nothing was changed, unless
                the connection was lost at the commit itself.
        """
        for attempt in range(1, _TRIES + 1):
            try:
                with self._engine.begin() as connection:
                    return work(connection)
            except sa.exc.SQLAlchemyError as error:
                if attempt == _TRIES or not self._asks_for_repetition(error):
                    raise self._refusal(error) from None
        raise AssertionError  # the last attempt returned or raised

    def read(self, work: Callable[[sa.Connection], _Answer]) -> _Answer:
        """Run `work`, which only reads.

        Raises:
            Exception: what the tables' `refused` makes.
        """
        try:
            with self._reading.connect().execution_options(**{_READING: True}) as connection:
                return work(connection)
        except sa.exc.SQLAlchemyError as error:
            raise self._refusal(error) from None

    def insert(self, table: sa.Table) -> Any:
        """An INSERT of this dialect, which knows ON CONFLICT."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    def connections(self) -> Mapping[str, int]:
        """How many connections are in use and how many idle; nothing where none are counted."""
        pool: Any = self._engine.pool
        if not hasattr(pool, "checkedout"):
            return {}
        return {"in_use": pool.checkedout(), "idle": pool.checkedin()}

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()

    def __repr__(self) -> str:
        return f"Database({self.name!r})"

    def _migrate(self, connection: sa.Connection, tables: Tables) -> None:
        if not self.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(tables.lock)))
        newest, found = len(tables.migrations), 0
        if sa.inspect(connection).has_table(tables.schema.name):
            found = connection.execute(sa.select(tables.schema.c.version)).scalar_one()
        if found > newest:
            reason = f"it has schema version {found}, this program reads up to {newest}"
            raise tables.refused(self.name, reason)
        for step in tables.migrations[found:]:
            step(connection)
        if found < newest:
            connection.execute(sa.update(tables.schema).values(version=newest))

    def _asks_for_repetition(self, error: sa.exc.SQLAlchemyError) -> bool:
        if isinstance(error, sa.exc.IntegrityError):
            return self._tables.repeats_conflicts
        original = getattr(error, "orig", None)
        if isinstance(original, sqlite3.Error):
            return getattr(original, "sqlite_errorcode", 0) & 0xFF in _SQLITE_BUSY
        return getattr(original, "sqlstate", None) in _POSTGRES_REPEAT

    def _refusal(self, error: sa.exc.SQLAlchemyError) -> Exception:
        """Say what was refused. The database's own words may quote values: they stay out."""
        if self._tables.conflict is not None and isinstance(error, sa.exc.IntegrityError):
            return self._tables.conflict()
        original = getattr(error, "orig", None)
        reason = getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", None)
        return self._tables.refused(self.name, reason or type(error).__name__)

    def _require_private(self, path: Path) -> None:
        """Create the file for its owner alone, before SQLite would create it for everybody."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            os.close(descriptor)
        except OSError as error:
            raise self._tables.refused(str(path), reason_of(error)) from None
        if mode & 0o077:
            reason = f"its mode is {mode:04o}, expected 0600: the owner alone"
            raise self._tables.refused(str(path), reason)


def _sqlite(path: Path) -> sa.Engine:
    engine = sa.create_engine(
        f"sqlite:///{path.absolute()}",
        connect_args={"timeout": _BUSY_S, "check_same_thread": False},
        hide_parameters=True,
    )

    def connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # SQLAlchemy begins; see below
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "foreign_keys=ON",
                       "secure_delete=ON"):  # fmt: skip
            connection.execute(f"PRAGMA {pragma}")

    def began(connection: sa.Connection) -> None:
        options = connection.get_execution_options()
        if not options.get(_ALONE):
            connection.exec_driver_sql("BEGIN" if options.get(_READING) else "BEGIN IMMEDIATE")

    sa.event.listen(engine, "connect", connected)
    sa.event.listen(engine, "begin", began)
    return engine


def _postgres(url: sa.URL, pool_size: int, max_overflow: int) -> sa.Engine:
    engine = sa.create_engine(
        url,
        connect_args=dict(POSTGRES_CONNECTION),
        hide_parameters=True,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_size=pool_size,
        max_overflow=max_overflow,
    )

    def connected(connection: Any, _record: object) -> None:
        was, connection.autocommit = connection.autocommit, True
        for setting in ("synchronous_commit = on", "lock_timeout = '5s'"):
            connection.execute(f"SET {setting}")
        connection.execute("SET idle_in_transaction_session_timeout = '30s'")
        connection.autocommit = was

    sa.event.listen(engine, "connect", connected)
    return engine
