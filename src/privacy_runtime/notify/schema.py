"""Tables of the outbox. Times are microseconds since 1970.

A delivery is a message on its way to one endpoint. The waiting deliveries of an endpoint are a
queue in the order of `seq`; only its first may be sent, by whoever holds the endpoint's lease.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from privacy_runtime.database import Tables, creation
from privacy_runtime.notify.errors import NotifyUnavailable

OPERATOR: Final = "*"
"""The tenant of endpoints that the configuration names: they get what every tenant announces."""

_METADATA: Final = sa.MetaData()
_US: Final = sa.BigInteger
_SEQ: Final = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers integers only

ENDPOINTS: Final = sa.Table(
    "notify_endpoints",
    _METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("address", sa.LargeBinary, nullable=False),  # sealed: Slack's addresses are secrets
    sa.Column("shown", sa.Text, nullable=False),  # what lists show of it
    sa.Column("events", sa.Text, nullable=False),  # words, with blanks around each
    sa.Column("secret", sa.LargeBinary),  # sealed
    sa.Column("older_secret", sa.LargeBinary),  # sealed; signs too until the next column
    sa.Column("older_until_us", _US),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("stopped_by", sa.Text),  # `gone` (410) or `person`
    sa.Column("created_us", _US, nullable=False),
    sa.Column("lease", sa.Text),
    sa.Column("lease_until_us", _US),
    sa.Index("notify_endpoints_tenant", "tenant"),
)
MESSAGES: Final = sa.Table(
    "notify_messages",
    _METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),  # exactly what is sent and signed
    sa.Column("created_us", _US, nullable=False),
    sa.UniqueConstraint("tenant", "key", name="notify_messages_once"),
    sa.Index("notify_messages_created", "created_us"),
)
DELIVERIES: Final = sa.Table(
    "notify_deliveries",
    _METADATA,
    sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("message", sa.Text, sa.ForeignKey("notify_messages.id"), nullable=False),
    sa.Column("endpoint", sa.Text, sa.ForeignKey("notify_endpoints.id"), nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("created_us", _US, nullable=False),
    sa.Column("due_us", _US, nullable=False),
    sa.Column("status", sa.Integer),  # of the last answer
    sa.Column("reason", sa.Text),  # why the last attempt failed, as a word
    sa.Column("ended_us", _US),
    sa.Index("notify_deliveries_queue", "endpoint", "state", "seq"),
    sa.Index("notify_deliveries_ended", "state", "ended_us"),
    sqlite_autoincrement=True,
)
CROSSINGS: Final = sa.Table(
    "notify_crossings",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("is_above", sa.Boolean, nullable=False),
    sa.Column("times", sa.Integer, nullable=False),
)
PLACES: Final = sa.Table(
    "notify_places",
    _METADATA,
    sa.Column("follower", sa.Text, primary_key=True),
    sa.Column("place", _US, nullable=False),  # how far a stream was announced
)
SCHEMA: Final = sa.Table("notify_schema", _METADATA, sa.Column("version", sa.Integer))


def _refused(store: str, reason: str) -> NotifyUnavailable:
    return NotifyUnavailable(store, reason=reason)


OUTBOX: Final = Tables(
    schema=SCHEMA,
    migrations=(creation(_METADATA, SCHEMA),),
    lock=0x6E746679,  # "ntfy"
    refused=_refused,
    repeats_conflicts=True,  # two announced the same at once: the second finds the first's row
)
