"""The plumbing's own tables, in the database of identity: browser sessions and answers to repeat.

Instants are microseconds since 1970. Migrations are numbered, only ever appended, and run in one
transaction under a lock, as those of identity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

from privacy_runtime.http.refusals import Unavailable
from privacy_runtime.identity.database import Database

_TEXT: Final = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
_COUNT: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MIGRATION_LOCK: Final = 0x68747470  # "http"

TABLES: Final = sa.MetaData()
SCHEMA: Final = sa.Table("http_schema", TABLES, sa.Column("version", sa.Integer, nullable=False))
BROWSER_SESSIONS: Final = sa.Table(
    "http_browser_sessions",
    TABLES,
    sa.Column("hash", _TEXT, primary_key=True),  # of the cookie
    sa.Column("family", _TEXT, nullable=False, index=True),  # identity's session
    sa.Column("ends_us", _COUNT, nullable=False),
)
ANSWERS: Final = sa.Table(
    "http_answers",
    TABLES,
    sa.Column("operation", _TEXT, primary_key=True),  # hash of principal, route and key
    sa.Column("request", _TEXT, nullable=False),  # digest of the body
    sa.Column("attempt", _TEXT, nullable=False),  # who is at it
    sa.Column("begun_us", _COUNT, nullable=False, index=True),
    sa.Column("status", sa.Integer, nullable=True),  # null: still under way
    sa.Column("headers", _TEXT, nullable=True),
    sa.Column("body", sa.LargeBinary, nullable=True),
)


def _m001_tables(connection: sa.Connection) -> None:
    """All tables as the first version had them."""
    for table in TABLES.sorted_tables:
        connection.execute(CreateTable(table))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            connection.execute(CreateIndex(index))
    connection.execute(sa.insert(SCHEMA).values(version=0))


MIGRATIONS: Final[Sequence[Callable[[sa.Connection], None]]] = (_m001_tables,)
VERSION: Final = len(MIGRATIONS)


def prepare(database: Database) -> None:
    """Bring the tables to this version.

    Raises:
        Unavailable: a newer version wrote them; nothing was changed.
        IdentityStoreUnavailable: the database cannot do it.
    """
    database.change(_migrate)


def _migrate(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
    found = 0
    if sa.inspect(connection).has_table(SCHEMA.name):
        found = connection.execute(sa.select(SCHEMA.c.version)).scalar_one()
    if found > VERSION:
        raise Unavailable(
            f"the tables of the plumbing have version {found}, this program reads up to {VERSION}"
        )
    for step in MIGRATIONS[found:]:
        step(connection)
    if found < VERSION:
        connection.execute(sa.update(SCHEMA).values(version=VERSION))
