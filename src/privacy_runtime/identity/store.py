"""One transaction for what changes and for what is said about it.

A security event is written into a table of the same transaction as the change, then carried to the
journal (stream `audit`, hash-chained) under an id that makes carrying it twice harmless. So no
change is without its event, whatever dies when; and what a change hands out (a token, a key) is
handed out only once the journal has the event.

Event bodies hold ids, roles, counts and reasons: no name, address, password, code, token or key.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar, cast

import sqlalchemy as sa

from privacy_core.errors import PrivacyError
from privacy_runtime.database import Database
from privacy_runtime.identity.errors import AuditUnavailable, IdentityError
from privacy_runtime.identity.schema import EVENTS
from privacy_runtime.journal import Change, Draft, Journal, View
from privacy_runtime.world import Clock, Entropy

STREAM: Final = "audit"
PREFIX: Final = "identity."
_BATCH: Final = 256
_ID_BYTES: Final = 16

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Work:
    """A transaction under way: its connection, its instant, and what it says happened."""

    connection: sa.Connection
    now: datetime
    entropy: Entropy
    said: list[str] = field(default_factory=list)

    @property
    def now_us(self) -> int:
        """The instant as the tables hold it."""
        return to_us(self.now)

    def one(self, query: sa.Select[Any], *, lock: sa.Table) -> sa.Row[Any] | None:
        """The row of a query, its part of `lock` held until the transaction ends; or None."""
        return self.connection.execute(query.with_for_update(of=lock)).one_or_none()

    def run(self, statement: sa.Executable) -> sa.CursorResult[Any]:
        """Run a statement."""
        return cast("sa.CursorResult[Any]", self.connection.execute(statement))

    def say(self, type_: str, /, **body: object) -> None:
        """Record that something happened: ids and counts, never a secret or a name."""
        event = self.entropy.token_bytes(_ID_BYTES).hex()
        self.connection.execute(
            sa.insert(EVENTS).values(id=event, type=PREFIX + type_, body=json.dumps(body))
        )
        self.said.append(event)


class Store:
    """The database, the journal beside it, and the world.

    Args:
        database: where the state lives.
        journal: where events go; it may be shared with other streams and other owners of `audit`.
        clock, entropy: the world.
    """

    def __init__(
        self, database: Database, journal: Journal, *, clock: Clock, entropy: Entropy
    ) -> None:
        self.database, self.clock, self.entropy = database, clock, entropy
        self._journal = journal
        self._is_behind = True  # what an earlier process left is carried first

    def change(self, work: Callable[[Work], _Answer | IdentityError]) -> _Answer:
        """Run a decision in one transaction and carry its events to the journal.

        A refusal that `work` *returns* is kept (a failure is counted, a family revoked) and then
        raised; one that it *raises* undoes everything.

        Raises:
            AuditUnavailable: the journal does not take events. If it had refused before, nothing
                was changed; if it refuses now, the change stands and nothing is handed out.
            IdentityStoreUnavailable: the database could not do it; nothing was changed.
        """
        if self._is_behind and not self.deliver():
            raise AuditUnavailable(state="nothing was changed")

        def attempt(connection: sa.Connection) -> tuple[_Answer | IdentityError, bool]:
            under_way = Work(connection, self.clock.now(), self.entropy)
            return work(under_way), bool(under_way.said)

        answer, has_said = self.database.change(attempt)
        delivered = self.deliver() if has_said else True
        if isinstance(answer, IdentityError):
            raise answer
        if not delivered:
            raise AuditUnavailable(state="the change stands, and nothing was handed out")
        return answer

    def read(self, work: Callable[[sa.Connection], _Answer]) -> _Answer:
        """Read, in no transaction of ours."""
        return self.database.read(work)

    def deliver(self) -> bool:
        """Carry waiting events to the journal, oldest first; returns whether all got there."""
        try:
            while waiting := self.database.read(_waiting):
                drafts = [Draft(t, f"identity:{i}", json.loads(body)) for i, t, body in waiting]
                _append(self._journal, drafts)
                self.database.change(partial(_forget, [row[0] for row in waiting]))
        except (PrivacyError, OSError):
            self._is_behind = True
            return False
        self._is_behind = False
        return True

    def new_id(self, prefix: str) -> str:
        """Make an id of 128 bits: `u_...`, `o_...`."""
        return f"{prefix}_{self.entropy.token_bytes(_ID_BYTES).hex()}"


def _waiting(connection: sa.Connection) -> Sequence[tuple[str, str, str]]:
    query = sa.select(EVENTS.c.id, EVENTS.c.type, EVENTS.c.body)
    rows = connection.execute(query.order_by(EVENTS.c.seq).limit(_BATCH)).all()
    return [(row[0], row[1], row[2]) for row in rows]


def _forget(ids: Sequence[str], connection: sa.Connection) -> None:
    connection.execute(sa.delete(EVENTS).where(EVENTS.c.id.in_(ids)))


def _append(journal: Journal, drafts: Sequence[Draft]) -> None:
    """Append those that are not there yet, in one transaction of the journal."""

    def decide(view: View) -> Change:
        return Change([draft for draft in drafts if draft.key not in view.entries])

    journal.transact(STREAM, decide, keys=[draft.key for draft in drafts])


def to_us(instant: datetime) -> int:
    """An instant as the tables hold it: microseconds since 1970."""
    since = instant - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def from_us(value: int) -> datetime:
    """The instant that a table holds."""
    seconds, microseconds = divmod(value, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)
