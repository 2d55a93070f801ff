"""The plumbing's own tables, in the database of identity: browser sessions and answers to repeat.

Instants are microseconds since 1970. Migrations are numbered, only ever appended, and run in one
transaction under a lock, as those of identity.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from privacy_runtime.database import Database, Tables, creation
from privacy_runtime.http.refusals import Unavailable

_TEXT: Final = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
_COUNT: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

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


def _refused(store: str, reason: str) -> Unavailable:
    return Unavailable(f"the tables of the plumbing in {store}: {reason}")


PLUMBING: Final = Tables(
    schema=SCHEMA,
    migrations=(creation(TABLES, SCHEMA),),
    lock=0x68747470,  # "http"
    refused=_refused,
)


def prepare(database: Database) -> None:
    """Bring the tables to this version.

    Raises:
        Unavailable: a newer version wrote them; nothing was changed.
        IdentityStoreUnavailable: the database cannot do it.
    """
    database.bring(PLUMBING)
