"""The durable queue: announced, claimed, sent, marked. Functions of a connection and values.

At-least-once: a message is on the disk before `announce` returns, and marked after the receiver
answered. Whoever dies in between leaves a lease that runs out; the next one sends the same message
with the same id again.

In order: only the first waiting delivery of an endpoint is ever claimed, and the lease is on the
endpoint. A message that fails holds up those behind it until it is delivered or given up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
import sqlalchemy as sa

from privacy_runtime.notify.notices import TEST, BudgetStanding, Notice, privacy_budget_warning
from privacy_runtime.notify.schema import CROSSINGS, DELIVERIES, ENDPOINTS, MESSAGES, OPERATOR

WAITING: Final = "waiting"
DELIVERED: Final = "delivered"
DEAD: Final = "dead"
LEASE_S: Final = 120.0
KEPT_DELIVERED: Final = timedelta(days=30)
KEPT_DEAD: Final = timedelta(days=90)
_PRUNED_AT_ONCE: Final = 500
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

NewId = Callable[[str], str]
"""From a prefix to an id that was never given before."""


def us_of(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment_of(us: int) -> datetime:
    """The moment, in UTC."""
    return _EPOCH + timedelta(microseconds=us)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A delivery that one worker may send now, under its lease."""

    lease: str
    seq: int
    delivery: str
    endpoint: Any
    message: str
    event: str
    body: bytes
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the outbox stands.

    Attributes:
        waiting: deliveries by kind of endpoint.
        oldest_s: age of the oldest of them; 0.0 without any.
        dead: deliveries that were given up.
    """

    waiting: dict[str, int]
    oldest_s: float
    dead: int


def announce(
    connection: sa.Connection, notice: Notice, *, now: datetime, new_id: NewId, only: str = ""
) -> str:
    """Put a notice on its way to every endpoint that wants it, and return the message's id.

    Said again under the same key, nothing is added and the first id returned. Endpoints that are
    added later do not get it.

    Args:
        connection: in a transaction.
        notice: what happened.
        now: when.
        new_id: makes ids.
        only: send to this endpoint, whatever it wants.
    """
    same = (MESSAGES.c.tenant == notice.tenant) & (MESSAGES.c.key == notice.key)
    earlier = connection.execute(sa.select(MESSAGES.c.id).where(same)).scalar()
    if earlier is not None:
        return str(earlier)
    message, now_us = new_id("msg"), us_of(now)
    stamp = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = orjson.dumps({"type": notice.event, "timestamp": stamp, "data": dict(notice.data)})
    row = {
        "id": message,
        "tenant": notice.tenant,
        "event": notice.event,
        "key": notice.key,
        "body": body,
        "created_us": now_us,
    }
    connection.execute(sa.insert(MESSAGES).values(row))
    wants = ENDPOINTS.c.id == only if only else _wanted(notice)
    chosen = connection.execute(sa.select(ENDPOINTS.c.id).where(wants).order_by(ENDPOINTS.c.id))
    deliveries = [
        {
            "id": new_id("dlv"),
            "message": message,
            "endpoint": endpoint,
            "state": WAITING,
            "attempts": 0,
            "created_us": now_us,
            "due_us": now_us,
        }
        for (endpoint,) in chosen
    ]
    if deliveries:
        connection.execute(sa.insert(DELIVERIES), deliveries)
    return message


def warn(
    connection: sa.Connection,
    standing: BudgetStanding,
    *,
    threshold: float,
    now: datetime,
    new_id: NewId,
) -> bool:
    """Announce that an account passed the threshold, if it had not; and whether that was so.

    Memory and message are one transaction: a crash neither forgets a crossing nor says it twice.
    A grant that brings the share below lets the next crossing be said again.
    """
    of = (CROSSINGS.c.tenant == standing.tenant) & (CROSSINGS.c.account == standing.account)
    held = connection.execute(sa.select(CROSSINGS).where(of).with_for_update()).first()
    is_above = standing.share >= threshold
    was_above, times = (held.is_above, held.times) if held is not None else (False, 0)
    if is_above == was_above:
        return False
    times += int(is_above)
    if held is None:
        row = {"tenant": standing.tenant, "account": standing.account}
        connection.execute(sa.insert(CROSSINGS).values(**row, is_above=is_above, times=times))
    else:
        connection.execute(sa.update(CROSSINGS).where(of).values(is_above=is_above, times=times))
    if is_above:
        notice = privacy_budget_warning(standing, threshold=threshold, count=times)
        announce(connection, notice, now=now, new_id=new_id)
    return is_above


def claim(connection: sa.Connection, *, now: datetime, lease: str) -> Claim | None:
    """Take the lease of the endpoint whose first waiting delivery is due longest, if there is one.

    Args:
        connection: in a transaction.
        now: the clock's time.
        lease: a name that nobody else has.
    """
    now_us = us_of(now)
    heads = (
        sa.select(DELIVERIES.c.endpoint, sa.func.min(DELIVERIES.c.seq).label("seq"))
        .where(DELIVERIES.c.state == WAITING)
        .group_by(DELIVERIES.c.endpoint)
        .subquery()
    )
    free = ENDPOINTS.c.enabled & sa.or_(
        ENDPOINTS.c.lease_until_us.is_(None), ENDPOINTS.c.lease_until_us <= now_us
    )
    found = connection.execute(
        sa.select(ENDPOINTS, DELIVERIES.c.seq)
        .join(heads, heads.c.endpoint == ENDPOINTS.c.id)
        .join(DELIVERIES, DELIVERIES.c.seq == heads.c.seq)
        .where(free, DELIVERIES.c.due_us <= now_us)
        .order_by(DELIVERIES.c.due_us, DELIVERIES.c.seq)
        .limit(1)
        .with_for_update(skip_locked=True, of=ENDPOINTS)
    ).first()
    if found is None:
        return None
    connection.execute(
        sa.update(ENDPOINTS)
        .where(ENDPOINTS.c.id == found.id)
        .values(lease=lease, lease_until_us=now_us + int(LEASE_S * 1e6))
    )
    # under the lease: what was first a moment ago may have been sent by its last holder
    head = connection.execute(
        sa.select(DELIVERIES, MESSAGES.c.event, MESSAGES.c.body)
        .join(MESSAGES, MESSAGES.c.id == DELIVERIES.c.message)
        .where(DELIVERIES.c.endpoint == found.id, DELIVERIES.c.state == WAITING)
        .order_by(DELIVERIES.c.seq)
        .limit(1)
    ).first()
    if head is None or head.due_us > now_us:
        _release(connection, found.id, lease)
        return None
    return Claim(
        lease=lease,
        seq=head.seq,
        delivery=head.id,
        endpoint=found,
        message=head.message,
        event=head.event,
        body=bytes(head.body),
        attempts=head.attempts,
    )


def settle(
    connection: sa.Connection, claim: Claim, *, state: str, due_us: int, **found: Any
) -> bool:
    """Write down how an attempt ended, and let the lease go; False: the lease was lost meanwhile.

    Args:
        connection: in a transaction.
        claim: what was sent.
        state: of the delivery now.
        due_us: when it is tried again.
        **found: `status`, `reason`, `ended_us` of the delivery.
    """
    if not _release(connection, claim.endpoint.id, claim.lease):
        return False
    connection.execute(
        sa.update(DELIVERIES)
        .where(DELIVERIES.c.seq == claim.seq)
        .values(state=state, attempts=claim.attempts + 1, due_us=due_us, **found)
    )
    return True


def next_due(connection: sa.Connection) -> datetime | None:
    """When the next delivery is due, at the earliest; None: nothing waits."""
    us = connection.execute(
        sa.select(sa.func.min(DELIVERIES.c.due_us))
        .join(ENDPOINTS, ENDPOINTS.c.id == DELIVERIES.c.endpoint)
        .where(DELIVERIES.c.state == WAITING, ENDPOINTS.c.enabled)
    ).scalar()
    return None if us is None else moment_of(us)


def standing(connection: sa.Connection, *, now: datetime) -> Standing:
    """Count what waits and what was given up."""
    rows = connection.execute(
        sa.select(ENDPOINTS.c.kind, sa.func.count(), sa.func.min(DELIVERIES.c.created_us))
        .join(ENDPOINTS, ENDPOINTS.c.id == DELIVERIES.c.endpoint)
        .where(DELIVERIES.c.state == WAITING)
        .group_by(ENDPOINTS.c.kind)
    ).all()
    dead = connection.execute(
        sa.select(sa.func.count()).select_from(DELIVERIES).where(DELIVERIES.c.state == DEAD)
    ).scalar_one()
    oldest = min((created for _, _, created in rows), default=None)
    age_s = 0.0 if oldest is None else max(0.0, (us_of(now) - oldest) / 1e6)
    return Standing(waiting={kind: n for kind, n, _ in rows}, oldest_s=age_s, dead=dead)


def prune(connection: sa.Connection, *, now: datetime) -> int:
    """Remove what ended long ago, and messages that nobody waits for; at most 500 of each.

    Returns how many deliveries were removed.
    """
    old = sa.or_(
        sa.and_(
            DELIVERIES.c.state == DELIVERED, DELIVERIES.c.ended_us < us_of(now - KEPT_DELIVERED)
        ),
        sa.and_(DELIVERIES.c.state == DEAD, DELIVERIES.c.ended_us < us_of(now - KEPT_DEAD)),
    )
    some = sa.select(DELIVERIES.c.seq).where(old).limit(_PRUNED_AT_ONCE).scalar_subquery()
    removed = connection.execute(sa.delete(DELIVERIES).where(DELIVERIES.c.seq.in_(some)))
    left = sa.select(DELIVERIES.c.seq).where(DELIVERIES.c.message == MESSAGES.c.id)
    done = (MESSAGES.c.created_us < us_of(now - KEPT_DEAD)) & ~left.exists()
    some = sa.select(MESSAGES.c.id).where(done).limit(_PRUNED_AT_ONCE).scalar_subquery()
    connection.execute(sa.delete(MESSAGES).where(MESSAGES.c.id.in_(some)))
    return int(removed.rowcount)


def _wanted(notice: Notice) -> Any:
    """Endpoints that want a notice: of its tenant, and the operator's."""
    wants = ENDPOINTS.c.events.contains(f" {notice.event} ", autoescape=True)
    mine = ENDPOINTS.c.tenant.in_([notice.tenant, OPERATOR])
    return ENDPOINTS.c.enabled & mine & (wants | sa.literal(notice.event == TEST))


def _release(connection: sa.Connection, endpoint: str, lease: str) -> bool:
    released = connection.execute(
        sa.update(ENDPOINTS)
        .where(ENDPOINTS.c.id == endpoint, ENDPOINTS.c.lease == lease)
        .values(lease=None, lease_until_us=None)
    )
    return bool(released.rowcount)
