"""Transactions of jobs on SQLite or PostgreSQL.

SQLite: WAL, `synchronous=FULL`, writers take the lock at once (`BEGIN IMMEDIATE`), the file is its
owner's alone. PostgreSQL: READ COMMITTED with row locks, `synchronous_commit=on`. What either asks
to be repeated is repeated. Reads are single statements without a transaction around them.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from privacy_finetuner.jobs.errors import JobStoreUnavailable
from privacy_finetuner.jobs.schema import migrate
from privacy_runtime.files import reason_of

_BUSY_S: Final = 10.0
_CONNECT_TIMEOUT_S: Final = 5
_TRIES: Final = 8
_MIGRATION_LOCK: Final = 0x6A6F6273  # "jobs"
_SQLITE_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_POSTGRES_REPEAT: Final = frozenset({"40001", "40P01", "55P03"})
_READING: Final = "jobs_reading"

_Answer = TypeVar("_Answer")


class Database:
    """One database; threads may share it, processes open their own. No carrying over a fork.

    Args:
        where: a SQLite file, or a URL `postgresql://user@host:port/database`, whose password shows
            in no message.
        pool_size: connections that are kept open to PostgreSQL; twice as many more when busy.

    Raises:
        JobStoreUnavailable: it cannot be opened, others may read the file, or a newer version
            wrote it.
    """

    def __init__(self, where: Path | str, *, pool_size: int = 5) -> None:
        text = str(where).removeprefix("sqlite:///")
        if text.startswith(("postgresql://", "postgresql+psycopg://", "postgres://")):
            url = sa.make_url(text).set(drivername="postgresql+psycopg")
            self.name = url.render_as_string(hide_password=True)
            self._engine = _postgres(url, pool_size)
            self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        else:
            self.name = text
            _require_private(Path(text))
            self._engine = _sqlite(Path(text))
            self._reading = self._engine.execution_options(**{_READING: True})
        try:
            self.change(self._prepare)
        except BaseException:
            self.close()
            raise

    @property
    def is_sqlite(self) -> bool:
        """Whether one writer at a time holds the whole database."""
        return self._engine.dialect.name == "sqlite"

    def insert(self, table: sa.Table) -> Any:
        """An INSERT of this dialect, which knows ON CONFLICT."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    def change(self, work: Callable[[sa.Connection], _Answer]) -> _Answer:
        """Run `work` in one transaction, on the disk when this returns. It may run again.

        Raises:
            JobStoreUnavailable: the database could not do it; nothing was changed, unless the
                connection was lost at the commit itself.
        """
        for attempt in range(1, _TRIES + 1):
            try:
                with self._engine.begin() as connection:
                    return work(connection)
            except sa.exc.SQLAlchemyError as error:
                if attempt == _TRIES or not _asks_for_repetition(error):
                    raise self._refusal(error) from None
        raise AssertionError  # the last attempt returned or raised

    def read(self, work: Callable[[sa.Connection], _Answer]) -> _Answer:
        """Run `work`, which only reads.

        Raises:
            JobStoreUnavailable: the database could not do it.
        """
        try:
            with self._reading.connect() as connection:
                return work(connection)
        except sa.exc.SQLAlchemyError as error:
            raise self._refusal(error) from None

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()

    def __repr__(self) -> str:
        return f"Database({self.name!r})"

    def _prepare(self, connection: sa.Connection) -> None:
        if not self.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        migrate(connection, store=self.name)

    def _refusal(self, error: sa.exc.SQLAlchemyError) -> JobStoreUnavailable:
        """Say what was refused. The database's own details may quote values: they stay out."""
        original = getattr(error, "orig", None)
        reason = getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", None)
        return JobStoreUnavailable(self.name, reason=reason or type(error).__name__)


def _asks_for_repetition(error: sa.exc.SQLAlchemyError) -> bool:
    original = getattr(error, "orig", None)
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
        if not connection.get_execution_options().get(_READING):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    sa.event.listen(engine, "connect", connected)
    sa.event.listen(engine, "begin", began)
    return engine


def _postgres(url: sa.URL, pool_size: int) -> sa.Engine:
    engine = sa.create_engine(
        url,
        connect_args={"connect_timeout": _CONNECT_TIMEOUT_S},
        hide_parameters=True,
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_size=pool_size,
        max_overflow=2 * pool_size,
    )

    def connected(connection: Any, _record: object) -> None:
        was, connection.autocommit = connection.autocommit, True
        for setting in ("synchronous_commit = on", "lock_timeout = '5s'"):
            connection.execute(f"SET {setting}")
        connection.execute("SET idle_in_transaction_session_timeout = '30s'")
        connection.autocommit = was

    sa.event.listen(engine, "connect", connected)
    return engine


def _require_private(path: Path) -> None:
    """Create the file for its owner alone, before SQLite would create it for everybody."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        os.close(descriptor)
    except OSError as error:
        raise JobStoreUnavailable(str(path), reason=reason_of(error)) from None
    if mode & 0o077:
        raise JobStoreUnavailable(
            str(path), reason=f"its mode is {mode:04o}, expected 0600: the owner alone"
        )
