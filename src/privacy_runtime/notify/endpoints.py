"""Endpoints: where an organisation wants its messages. Values, and the rows they are kept in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

import sqlalchemy as sa

from privacy_core.errors import InvalidParameter
from privacy_runtime.notify.errors import UnknownEndpoint
from privacy_runtime.notify.notices import EVENTS
from privacy_runtime.notify.outbox import moment_of
from privacy_runtime.notify.schema import DELIVERIES, ENDPOINTS, MESSAGES, OPERATOR
from privacy_runtime.secret import Secret

KINDS: Final = ("webhook", "slack", "email")
MOST: Final = 20
"""Endpoints of one organisation."""
_ADDRESS: Final = "notify address"
_SECRET: Final = "notify secret"  # noqa: S105  the name of a purpose


class Seals(Protocol):
    """Encrypts for one purpose and one owner: `privacy_runtime.identity.sealing.Seal` does."""

    def seal(self, data: bytes, *, purpose: str, owner: str) -> bytes:
        """Encrypt."""
        ...

    def open(self, sealed: bytes, *, purpose: str, owner: str) -> bytes:
        """Decrypt."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One place that messages go to, as its people see it.

    Attributes:
        id: `endp_` and random digits.
        tenant: whose.
        kind: one of `KINDS`.
        shown: what may be shown of its address: a host, or a mailbox.
        events: what it wants.
        enabled: whether anything is sent to it.
        stopped_by: why not: `gone`, it answered 410; `person`.
        created_at: when it was added.
    """

    id: str
    tenant: str
    kind: str
    shown: str
    events: tuple[str, ...]
    enabled: bool
    stopped_by: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class IssuedEndpoint:
    """An endpoint with the secret that signs for it, which is shown once. None but for webhooks."""

    endpoint: Endpoint
    secret: Secret | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message on its way to one endpoint.

    Attributes:
        id: of the delivery.
        message: id that the receiver sees.
        event: what it is about.
        state: `waiting`, `delivered` or `dead`.
        attempts: made so far.
        created_at: when it was announced.
        due_at: when it is tried next; of an ended one, when it was last.
        status: of the last answer.
        reason: why the last attempt failed, as a word.
        ended_at: when it was delivered or given up.
        seq: its place in the order of all.
    """

    id: str
    message: str
    event: str
    state: str
    attempts: int
    created_at: datetime
    due_at: datetime
    status: int | None
    reason: str | None
    ended_at: datetime | None
    seq: int


class Wardrobe:
    """Seals what endpoints keep, and opens it."""

    def __init__(self, seal: Seals) -> None:
        self._seal = seal

    def address(self, endpoint: str, address: Secret) -> bytes:
        """Seal an address."""
        return self._seal.seal(address.reveal().encode(), purpose=_ADDRESS, owner=endpoint)

    def secret(self, endpoint: str, secret: Secret) -> bytes:
        """Seal a secret."""
        return self._seal.seal(secret.reveal().encode(), purpose=_SECRET, owner=endpoint)

    def address_of(self, row: Any) -> Secret:
        """Open the address of a row."""
        return Secret(self._seal.open(row.address, purpose=_ADDRESS, owner=row.id).decode())

    def secrets_of(self, row: Any, now_us: int) -> tuple[Secret, ...]:
        """Open the secrets that sign now, newest first."""
        sealed = [row.secret]
        if row.older_until_us is not None and now_us < row.older_until_us:
            sealed.append(row.older_secret)
        return tuple(
            Secret(self._seal.open(each, purpose=_SECRET, owner=row.id).decode())
            for each in sealed
            if each is not None
        )


def endpoint_of(row: Any) -> Endpoint:
    """Read a row."""
    return Endpoint(
        id=row.id,
        tenant=row.tenant,
        kind=row.kind,
        shown=row.shown,
        events=tuple(row.events.split()),
        enabled=bool(row.enabled),
        stopped_by=row.stopped_by,
        created_at=moment_of(row.created_us),
    )


def delivery_of(row: Any) -> Delivery:
    """Read a row of deliveries joined with messages."""
    return Delivery(
        id=row.id,
        message=row.message,
        event=row.event,
        state=row.state,
        attempts=row.attempts,
        created_at=moment_of(row.created_us),
        due_at=moment_of(row.due_us),
        status=row.status,
        reason=row.reason,
        ended_at=None if row.ended_us is None else moment_of(row.ended_us),
        seq=row.seq,
    )


def events_of(events: Any) -> tuple[str, ...]:
    """Check what an endpoint wants; in the order of `EVENTS`, none twice.

    Raises:
        InvalidParameter: nothing, or something that is not announced.
    """
    asked = frozenset(events)
    if not asked or not asked <= EVENTS.keys():
        raise InvalidParameter(
            "events",
            found=f"{len(asked)} words",
            expected=f"one or more of {', '.join(EVENTS)}",
        )
    return tuple(event for event in EVENTS if event in asked)


def spelled(events: tuple[str, ...]) -> str:
    """Events as a row keeps them."""
    return f" {' '.join(events)} "


def row_of(connection: sa.Connection, endpoint: str, tenant: str) -> Any:
    """An organisation's endpoint, locked.

    Raises:
        UnknownEndpoint: there is none, or it is another's.
    """
    row = connection.execute(
        sa.select(ENDPOINTS)
        .where(ENDPOINTS.c.id == endpoint, ENDPOINTS.c.tenant == tenant)
        .with_for_update()
    ).first()
    if row is None or tenant == OPERATOR:
        raise UnknownEndpoint
    return row


def rows_of(connection: sa.Connection, tenant: str) -> list[Any]:
    """An organisation's endpoints, oldest first."""
    query = sa.select(ENDPOINTS).where(ENDPOINTS.c.tenant == tenant)
    return list(connection.execute(query.order_by(ENDPOINTS.c.created_us, ENDPOINTS.c.id)))


def change_row(connection: sa.Connection, endpoint: str, values: Mapping[str, Any]) -> None:
    """Change an endpoint's columns."""
    connection.execute(sa.update(ENDPOINTS).where(ENDPOINTS.c.id == endpoint).values(**values))


def deliveries_of(
    connection: sa.Connection, endpoint: str, *, limit: int, before: int | None
) -> list[Delivery]:
    """An endpoint's deliveries, newest first."""
    query = (
        sa.select(DELIVERIES, MESSAGES.c.event)
        .join(MESSAGES, MESSAGES.c.id == DELIVERIES.c.message)
        .where(DELIVERIES.c.endpoint == endpoint)
        .order_by(DELIVERIES.c.seq.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(DELIVERIES.c.seq < before)
    return [delivery_of(row) for row in connection.execute(query)]
