"""The tables of identity, and how an older database becomes one of this version.

No password, code, token or key is in them: hashes, ciphertexts, and what happened when. Instants
are microseconds since 1970, so that both databases compare them alike.

Migrations are numbered, only ever appended, and run in one transaction under a lock, as those of
the journal (`privacy_runtime.journal.schema`).
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from privacy_runtime.database import Tables, creation
from privacy_runtime.identity.errors import AccountConflict, IdentityStoreUnavailable

_TEXT: Final = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
_COUNT: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

TABLES: Final = sa.MetaData()


def _text(name: str, *, null: bool = False, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, _TEXT, nullable=null, primary_key=key)


def _instant(name: str, *, null: bool = True) -> sa.Column[int]:
    return sa.Column(name, _COUNT, nullable=null)


SCHEMA: Final = sa.Table(
    "identity_schema", TABLES, sa.Column("version", sa.Integer, nullable=False)
)
ORGANISATIONS: Final = sa.Table(
    "identity_organisations",
    TABLES,
    _text("id", key=True),
    sa.Column("name", _TEXT, nullable=False, unique=True),
    _instant("created_us", null=False),
    _instant("disabled_us"),
)
USERS: Final = sa.Table(
    "identity_users",
    TABLES,
    _text("id", key=True),
    sa.Column("tenant", _TEXT, sa.ForeignKey(ORGANISATIONS.c.id), nullable=False, index=True),
    sa.Column("name", _TEXT, nullable=False, unique=True),
    _text("role"),
    _text("password_hash", null=True),
    _instant("one_time_until_us"),  # set: the password is for one use, until then
    _instant("created_us", null=False),
    _instant("disabled_us"),
    _instant("not_before_us", null=False),  # logins before this do not count
    sa.Column("seed", sa.LargeBinary, nullable=True),
    sa.Column("seed_pending", sa.LargeBinary, nullable=True),
    sa.Column("step_used", _COUNT, nullable=False),
)
RECOVERY_CODES: Final = sa.Table(
    "identity_recovery_codes",
    TABLES,
    sa.Column("user", _TEXT, sa.ForeignKey(USERS.c.id), primary_key=True),
    _text("hash", key=True),
)
ATTEMPTS: Final = sa.Table(
    "identity_attempts",
    TABLES,
    _text("who", key=True),  # a keyed hash of a user name or an address, known or not
    sa.Column("failures", sa.Integer, nullable=False),
    _instant("last_us", null=False),
)
FAMILIES: Final = sa.Table(
    "identity_families",
    TABLES,
    _text("id", key=True),
    sa.Column("user", _TEXT, sa.ForeignKey(USERS.c.id), nullable=False, index=True),
    _text("method"),
    _text("newest"),  # hash of the token that is worth something
    _instant("founded_us", null=False),
    _instant("used_us", null=False),
    _instant("ended_us"),
    _text("ended_by", null=True),
)
REFRESH_TOKENS: Final = sa.Table(
    "identity_refresh_tokens",
    TABLES,
    _text("hash", key=True),
    sa.Column("family", _TEXT, sa.ForeignKey(FAMILIES.c.id), nullable=False, index=True),
    _instant("spent_us"),
    _text("successor", null=True),
)
REVOKED_TOKENS: Final = sa.Table(
    "identity_revoked_tokens", TABLES, _text("id", key=True), _instant("ends_us", null=False)
)
API_KEYS: Final = sa.Table(
    "identity_api_keys",
    TABLES,
    _text("id", key=True),
    sa.Column("user", _TEXT, sa.ForeignKey(USERS.c.id), nullable=False, index=True),
    _text("label"),
    _text("hash"),
    _text("scopes"),
    _instant("created_us", null=False),
    _instant("ends_us", null=False),
    _instant("revoked_us"),
    _instant("used_us"),  # to the hour
)
EVENTS: Final = sa.Table(
    "identity_events",
    TABLES,
    sa.Column("seq", _COUNT, primary_key=True, autoincrement=True),
    sa.Column("id", _TEXT, nullable=False, unique=True),
    _text("type"),
    _text("body"),
)


def _refused(store: str, reason: str) -> IdentityStoreUnavailable:
    return IdentityStoreUnavailable(store, reason=reason)


def _conflict() -> AccountConflict:
    return AccountConflict("the name is taken; nothing was changed")


IDENTITY: Final = Tables(
    schema=SCHEMA,
    migrations=(creation(TABLES, SCHEMA),),
    lock=0x69646E74,  # "idnt"
    refused=_refused,
    conflict=_conflict,
)
