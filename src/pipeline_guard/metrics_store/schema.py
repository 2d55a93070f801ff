"""The file of a metrics store: its tables, how it is opened, and what its errors mean.

SQLite in WAL mode: readers see the state at the start of their read and block nobody; writers take
turns, for at most `BUSY_S`. `synchronous=NORMAL`: a killed process loses nothing that was recorded.
When the machine loses power, what was recorded since the last checkpoint of the log (about 4 MB of
it, less than a minute at most loads) may be missing; the file stays whole. That is right for
measurements, and wrong for a ledger, which has a store of its own.

Source: https://www.sqlite.org/wal.html, sections 2.2 and 6; https://www.sqlite.org/pragma.html,
`synchronous`.
"""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pipeline_guard.errors import MonitoringError
from pipeline_guard.metrics_store import arrivals

BUSY_S: Final = 10.0
APPLICATION_ID: Final = 0x50474D53  # "PGMS"
_LOG_BYTES_MAX: Final = 2**26

_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})

_TABLES: Final = """
CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO state VALUES ('generation', 0);
CREATE TABLE series (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    component TEXT NOT NULL,
    metric TEXT NOT NULL,
    labels TEXT NOT NULL,
    hash BLOB NOT NULL UNIQUE,
    points_since_us INTEGER,
    minutes_since_us INTEGER
);
CREATE INDEX series_by_name ON series (component, metric);
CREATE TABLE hot (
    row INTEGER PRIMARY KEY,
    series INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    value REAL
);
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY,
    series INTEGER NOT NULL,
    first_us INTEGER NOT NULL,
    last_us INTEGER NOT NULL,
    points INTEGER NOT NULL,
    n INTEGER NOT NULL,
    min REAL, max REAL, sum REAL, m2 REAL,
    newest REAL
);
CREATE INDEX chunks_of_series ON chunks (series, last_us);
CREATE INDEX chunks_by_time ON chunks (last_us);
CREATE TABLE packed (chunk INTEGER PRIMARY KEY, samples BLOB NOT NULL);
CREATE TABLE rollups (
    series INTEGER NOT NULL,
    step_s INTEGER NOT NULL,
    start_s INTEGER NOT NULL,
    n INTEGER NOT NULL,
    min REAL NOT NULL, max REAL NOT NULL, sum REAL NOT NULL, m2 REAL NOT NULL,
    digest BLOB,
    PRIMARY KEY (series, step_s, start_s)
) WITHOUT ROWID;
CREATE TABLE baselines (
    series INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,
    made_us INTEGER NOT NULL,
    n INTEGER NOT NULL,
    body TEXT NOT NULL
);
"""


_ARRIVALS: Final = "CREATE TABLE arrivals (id INTEGER PRIMARY KEY, points BLOB NOT NULL)"
_MOVED_AT_ONCE: Final = 10_000


def _first(connection: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";\n"):
        connection.execute(statement)


def _second(connection: sqlite3.Connection) -> None:
    """A row for each batch that waits, in the place of one for each point."""
    connection.execute(_ARRIVALS)
    waiting = connection.execute("SELECT series, at_us, ifnull(value, 9e999) FROM hot ORDER BY row")
    while rows := waiting.fetchmany(_MOVED_AT_ONCE):
        series, times_us, values = zip(*rows, strict=True)
        arrivals.add(
            connection, series, times_us, [math.nan if math.isinf(v) else v for v in values]
        )
    connection.execute("DROP TABLE hot")


MIGRATIONS: Final[Sequence[Callable[[sqlite3.Connection], None]]] = (_first, _second)
"""From each version to the next; only ever appended."""


def open_file(path: Path) -> sqlite3.Connection:
    """Open a store's file for writing; make it, for its owner alone, where there is none.

    Raises:
        MonitoringError: there is no such folder, the file is damaged, belongs to another program,
            or was written by a newer version of this one. It was not touched.
    """
    with explained(path, "nothing was changed"):
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise MonitoringError(
                f"the metrics store {path} cannot be opened: {error.strerror}; nothing was changed",
                {"parameter": "db_path", "value": str(path), "constraint": "a file in a folder"},
            ) from None
        connection = _connection(path)
        try:
            _require_ours(connection, path)
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(f"PRAGMA journal_size_limit={_LOG_BYTES_MAX}")
            _migrate(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open one more connection to a file that `open_file` has opened; it cannot write."""
    connection = _connection(path)
    connection.execute("PRAGMA query_only=ON")
    return connection


def is_due(connection: sqlite3.Connection, name: str, now_us: int, every_s: float) -> bool:
    """Whether the last time of something is so long ago, or ahead of now; then it is now.

    In the caller's transaction: of several processes that ask at once, one gets it.
    """
    row = connection.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
    if row is not None and 0 <= now_us - row[0] < every_s * 1e6:
        return False
    connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, now_us))
    return True


@contextmanager
def explained(path: Path, state: str) -> Iterator[None]:
    """Turn what SQLite says into an error that says what to do; `state` is where we are then."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        reason = _explanation(path, code, str(error), state)
        raise MonitoringError(reason, {"sqlite": str(error)}) from error


def _explanation(path: Path, code: int, text: str, state: str) -> str:
    if code in _DAMAGED:
        return (
            f"{path} is not a metrics store, or is damaged; nothing was overwritten. To keep what "
            f"is left: stop everything that writes it, copy it with its -wal file, then "
            f"`sqlite3 COPY .recover | sqlite3 RESCUED` and open RESCUED, or point the "
            f"configuration at a new file"
        )
    if code in _BUSY:
        return f"{path} was locked by another process for {BUSY_S:g} s; {state}"
    if code == sqlite3.SQLITE_FULL:
        return f"the disk of {path} is full; {state}"
    return f"{path}: SQLite says {text!r}; {state}"


def _connection(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)


def _require_ours(connection: sqlite3.Connection, path: Path) -> None:
    found = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if found != APPLICATION_ID and (tables or found):
        raise MonitoringError(
            f"{path} is the database of another program; nothing was changed",
            {"parameter": "db_path", "value": str(path), "constraint": "a metrics store"},
        )
    if version > len(MIGRATIONS):
        raise MonitoringError(
            f"{path} has version {version}; this program knows versions up to {len(MIGRATIONS)}; "
            f"nothing was changed. Use the newer program",
            {"parameter": "db_path", "value": version, "constraint": f"<= {len(MIGRATIONS)}"},
        )


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables to this program's version; two processes may try at once."""
    if connection.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for migration in MIGRATIONS[version:]:
            migration(connection)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
