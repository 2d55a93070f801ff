"""The tables of a journal, and how an older database becomes one of this version.

SQLAlchemy makes and migrates them. The statements of the hot path are plain SQL on the driver's
own connection, beside their home: wrapping them anew for every reservation costs more than the
database does.

Migrations are numbered, only ever appended, and run in one transaction under a lock. A database
with a number above the last one here was written by a newer version and is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from privacy_runtime.journal.contract import StreamRow
from privacy_runtime.journal.entries import Entry, Head
from privacy_runtime.journal.errors import ForeignSchema

# Byte order, so that names sort alike in every home.
_TEXT: Final = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
_COUNT: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

TABLES: Final = sa.MetaData()

SCHEMA: Final = sa.Table("journal_schema", TABLES, sa.Column("version", sa.Integer, nullable=False))
STREAMS: Final = sa.Table(
    "journal_streams",
    TABLES,
    sa.Column("stream", _TEXT, primary_key=True),
    sa.Column("seq", _COUNT, nullable=False),
    sa.Column("hash", _TEXT, nullable=False),
    sa.Column("at", _TEXT, nullable=False),
    sa.Column("halt", _TEXT, nullable=False, server_default=""),
    sa.Column("projection", _TEXT, nullable=False, server_default=""),
)
ENTRIES: Final = sa.Table(
    "journal_entries",
    TABLES,
    sa.Column("stream", _TEXT, nullable=False),
    sa.Column("seq", _COUNT, nullable=False),
    sa.Column("at", _TEXT, nullable=False),
    sa.Column("type", _TEXT, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("key", _TEXT, nullable=False),
    sa.Column("body_text", _TEXT, nullable=False),
    sa.Column("prev_hash", _TEXT, nullable=False),
    sa.Column("hash", _TEXT, nullable=False),
    sa.PrimaryKeyConstraint("stream", "seq"),
    sa.UniqueConstraint("stream", "key", name="journal_entries_key"),
)
DOCUMENTS: Final = sa.Table(
    "journal_documents",
    TABLES,
    sa.Column("stream", _TEXT, nullable=False),
    sa.Column("name", _TEXT, nullable=False),
    sa.Column("body_text", _TEXT, nullable=False),
    sa.PrimaryKeyConstraint("stream", "name"),
)


def _m001_entries(connection: sa.Connection) -> None:
    """Streams and their entries, as the first version stored them."""
    first = sa.MetaData()
    columns = [STREAMS.c[name]._copy() for name in ("stream", "seq", "hash", "at")]
    for table in (sa.Table(STREAMS.name, first, *columns), SCHEMA, ENTRIES):
        connection.execute(CreateTable(table))
    connection.execute(sa.insert(SCHEMA).values(version=0))


def _m002_documents(connection: sa.Connection) -> None:
    """Projections in the same transaction as the entries, and streams that can be halted."""
    for name in ("halt", "projection"):
        column = sa.schema.CreateColumn(STREAMS.c[name]).compile(dialect=connection.dialect)
        connection.execute(sa.text(f"ALTER TABLE {STREAMS.name} ADD COLUMN {column}"))
    connection.execute(CreateTable(DOCUMENTS))


MIGRATIONS: Final[Sequence[Callable[[sa.Connection], None]]] = (_m001_entries, _m002_documents)
VERSION: Final = len(MIGRATIONS)


def migrate(connection: sa.Connection, *, home: str, to: int = VERSION) -> None:
    """Bring the database to version `to`. The caller holds the lock and the transaction.

    Raises:
        ForeignSchema: it is above `VERSION` already; nothing was changed.
    """
    found = version_of(connection, home=home)
    if found >= to:
        return
    for step in MIGRATIONS[found:to]:
        step(connection)
    connection.execute(sa.update(SCHEMA).values(version=to))


def version_of(connection: sa.Connection, *, home: str) -> int:
    """Return the version of the tables that are there, 0 when there are none.

    Raises:
        ForeignSchema: the version is not one of 0 .. `VERSION`.
    """
    if not sa.inspect(connection).has_table(SCHEMA.name):
        return 0
    versions = connection.execute(sa.select(SCHEMA.c.version)).scalars().all()
    if len(versions) != 1 or not 0 < versions[0] <= VERSION:
        found = " and ".join(f"schema version {version}" for version in versions) or "no version"
        raise ForeignSchema(home, found=found, expected=f"versions 1 to {VERSION}")
    return int(versions[0])


def stream_of(row: Sequence[Any]) -> StreamRow:
    """Build what is kept about a stream from `seq, hash, at, halt, projection`."""
    seq, hash_, at, halt, projection = row
    return StreamRow(Head(seq, hash_, at), halt, projection)


def stream_values(stream: str, row: StreamRow) -> dict[str, Any]:
    """Return the columns of `STREAMS` by name."""
    head = row.head
    return {
        "stream": stream,
        "seq": head.seq,
        "hash": head.hash,
        "at": head.at,
        "halt": row.halt,
        "projection": row.projection,
    }


def entry_values(entry: Entry) -> dict[str, Any]:
    """Return the columns of `ENTRIES` by name."""
    return {column: getattr(entry, column) for column in _ENTRY_COLUMNS}


_ENTRY_COLUMNS: Final = tuple(column.name for column in ENTRIES.columns)
