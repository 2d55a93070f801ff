"""Transactions on SQLite or PostgreSQL, for the tables of the outbox.

SQLite: WAL, `synchronous=FULL`, writers take the lock at once. PostgreSQL: READ COMMITTED; claims
skip locked rows. What either asks to be repeated is repeated.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from privacy_runtime.files import reason_of
from privacy_runtime.notify.errors import NotifyUnavailable
from privacy_runtime.notify.schema import VERSION, migrate

_BUSY_S: Final = 10.0
_CONNECT_TIMEOUT_S: Final = 5
_TRIES: Final = 8
_MIGRATION_LOCK: Final = 0x6E746679  # "ntfy"
_SQLITE_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_POSTGRES_REPEAT: Final = frozenset({"40001", "40P01", "55P03"})
_READING: Final = "notify_reading"

_Answer = TypeVar("_Answer")


class Database:
    """One database; threads may share it, processes open their own.

    Args:
        where: a SQLite file, `sqlite:///PATH`, or `postgresql://user@host:port/database`.
        pool_size, max_overflow: connections to PostgreSQL that are kept, and further ones.

    Raises:
        NotifyUnavailable: it cannot be opened, or a newer version wrote it.
    """

    def __init__(self, where: Path | str, *, pool_size: int = 5, max_overflow: int = 10) -> None:
        text = str(where)
        if text.startswith(("postgresql://", "postgresql+psycopg://", "postgres://")):
            url = sa.make_url(text).set(drivername="postgresql+psycopg")
            self.name = url.render_as_string(hide_password=True)
            self._engine = _postgres(url, pool_size, max_overflow)
        else:
            path = Path(text.removeprefix("sqlite:///"))
            self.name = str(path)
            _make_private(path)
            self._engine = _sqlite(path)
        found = self.change(self._prepare)
        if found > VERSION:
            self.close()
            raise NotifyUnavailable(
                self.name, reason=f"its form is {found}, this version knows {VERSION}"
            )

    @property
    def is_sqlite(self) -> bool:
        """Whether one writer at a time holds the whole database."""
        return self._engine.dialect.name == "sqlite"

    def change(self, work: Callable[[sa.Connection], _Answer]) -> _Answer:
        """Run `work` in one transaction, on the disk when this returns. It may run again.

        Raises:
            NotifyUnavailable: the database could not do it.
        """
        for attempt in range(_TRIES):
            try:
                with self._engine.begin() as connection:
                    return work(connection)
            except sa.exc.SQLAlchemyError as error:
                if attempt == _TRIES - 1 or not _asks_for_repetition(error):
                    raise self._refusal(error) from None
        raise AssertionError("the last attempt returns or raises")

    def read(self, work: Callable[[sa.Connection], _Answer]) -> _Answer:
        """Run `work`, which only reads.

        Raises:
            NotifyUnavailable: the database could not do it.
        """
        try:
            with self._engine.connect().execution_options(**{_READING: True}) as connection:
                return work(connection)
        except sa.exc.SQLAlchemyError as error:
            raise self._refusal(error) from None

    def connections(self) -> Mapping[str, int]:
        """How many connections are in use, and how many wait to be."""
        pool: Any = self._engine.pool
        if not hasattr(pool, "checkedout"):
            return {}
        return {"in_use": pool.checkedout(), "idle": pool.checkedin()}

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()

    def _prepare(self, connection: sa.Connection) -> int:
        if not self.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        return migrate(connection)

    def _refusal(self, error: sa.exc.SQLAlchemyError) -> NotifyUnavailable:
        """Say what was refused; the database's own words may quote values and stay out."""
        original = getattr(error, "orig", None)
        reason = getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", None)
        return NotifyUnavailable(self.name, reason=reason or type(error).__name__)


def _asks_for_repetition(error: sa.exc.SQLAlchemyError) -> bool:
    original = getattr(error, "orig", None)
    if isinstance(error, sa.exc.IntegrityError):
        return True  # two announced the same at once: the second finds the first's row
    if isinstance(original, sqlite3.Error):
        return getattr(original, "sqlite_errorcode", 0) & 0xFF in _SQLITE_BUSY
    return getattr(original, "sqlstate", None) in _POSTGRES_REPEAT


def _sqlite(path: Path) -> sa.Engine:
    engine = sa.create_engine(
        f"sqlite:///{path.absolute()}",
        connect_args={"timeout": _BUSY_S, "check_same_thread": False},
        hide_parameters=True,
    )

    def connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # SQLAlchemy begins; see below
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "fullfsync=ON", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    def began(connection: sa.Connection) -> None:
        reading = connection.get_execution_options().get(_READING)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    sa.event.listen(engine, "connect", connected)
    sa.event.listen(engine, "begin", began)
    return engine


def _postgres(url: sa.URL, pool_size: int, max_overflow: int) -> sa.Engine:
    engine = sa.create_engine(
        url,
        pool_size=pool_size,
        max_overflow=max_overflow,
        connect_args={"connect_timeout": _CONNECT_TIMEOUT_S},
        hide_parameters=True,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
    )

    def connected(connection: Any, _record: object) -> None:
        was, connection.autocommit = connection.autocommit, True
        connection.execute("SET synchronous_commit = on")
        connection.execute("SET lock_timeout = '5s'")
        connection.execute("SET idle_in_transaction_session_timeout = '30s'")
        connection.autocommit = was

    sa.event.listen(engine, "connect", connected)
    return engine


def _make_private(path: Path) -> None:
    """Create the file for its owner alone, before SQLite would create it for everybody."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise NotifyUnavailable(str(path), reason=reason_of(error)) from None
