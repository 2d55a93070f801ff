"""One transaction for a change of a job, for its event, and for what the journal is told.

What is said of a change is written into a table of the same transaction, then carried to the
journal (stream `jobs`, hash-chained) under an id that makes carrying it twice harmless: no change
is without its entry, whatever dies when. A journal that is away delays nothing here; what waits is
carried by the next change, by whatever process.

Journal bodies hold ids, states, counts and codes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar, cast

import sqlalchemy as sa

from privacy_core.errors import PrivacyError
from privacy_finetuner.jobs.errors import LeaseLost
from privacy_finetuner.jobs.model import EventKind, Job, JobEvent, JobState, TrainingSpec
from privacy_finetuner.jobs.schema import EVENTS, JOBS, OUTBOX
from privacy_runtime.database import Database
from privacy_runtime.journal import Change, Draft, Journal, View
from privacy_runtime.world import Clock, Entropy

STREAM: Final = "jobs"
PREFIX: Final = "job."
LIVE: Final = (JobState.QUEUED.value, JobState.RUNNING.value)
_BATCH: Final = 256
_ID_BYTES: Final = 16
_PLAIN: Final = (
    "id", "tenant", "owner", "name", "priority", "attempts", "worker", "step", "steps", "epoch",
    "epsilon", "delta", "epsilon_planned", "eta_s", "error_code", "error",
)  # fmt: skip

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Work:
    """A transaction under way: its connection, its instant, and what it says happened."""

    database: Database
    connection: sa.Connection
    now: datetime
    entropy: Entropy
    said: list[str] = field(default_factory=list)

    @property
    def now_us(self) -> int:
        """The instant as the tables hold it."""
        return to_us(self.now)

    def run(self, statement: sa.Executable) -> sa.CursorResult[Any]:
        """Run a statement."""
        return cast("sa.CursorResult[Any]", self.connection.execute(statement))

    def locked(self, job: str, *, tenant: str | None = None) -> sa.Row[Any] | None:
        """The row of a job, its lock held until the transaction ends; or None."""
        query = sa.select(JOBS).where(JOBS.c.id == job).with_for_update()
        if tenant is not None:
            query = query.where(JOBS.c.tenant == tenant)
        return self.connection.execute(query).one_or_none()

    def update(self, job: str, *, holder: int | None = None, lines: int = 0, **values: Any) -> int:
        """Change a job's row; with `holder`, only for the claim with this fence.

        Returns the number of the newest event; `lines` of them are the caller's to add.

        Raises:
            LeaseLost: another attempt has the job, or it has ended; nothing is changed.
        """
        change = (
            sa.update(JOBS)
            .where(JOBS.c.id == job)
            .values(updated_us=self.now_us, events=JOBS.c.events + lines, **values)
            .returning(JOBS.c.events)
        )
        if holder is not None:
            change = change.where(JOBS.c.fence == holder, JOBS.c.state.in_(LIVE))
        found = self.connection.execute(change).scalar_one_or_none()
        if found is None:
            raise LeaseLost(job)
        return int(found)

    def tell(self, job: str, newest: int, lines: Sequence[tuple[EventKind, Any, int]]) -> None:
        """Add lines (kind, body, instant) to a job's story; `newest` is what `update` returned."""
        first = newest - len(lines) + 1
        rows = [
            {"job": job, "seq": first + n, "at_us": at, "kind": kind.value, "body": dumps(body)}
            for n, (kind, body, at) in enumerate(lines)
        ]
        if rows:
            self.connection.execute(sa.insert(EVENTS), rows)

    def say(self, type_: str, /, **body: object) -> None:
        """Record for the journal that something happened: ids, counts, codes."""
        event = self.entropy.token_bytes(_ID_BYTES).hex()
        self.connection.execute(
            sa.insert(OUTBOX).values(id=event, type=PREFIX + type_, body=dumps(body))
        )
        self.said.append(event)


class Store:
    """The database, the journal beside it, and the world.

    Args:
        database: where the state lives.
        journal: where changes are told; may be shared with other streams.
        clock, entropy: the world.
    """

    def __init__(
        self, database: Database, journal: Journal, *, clock: Clock, entropy: Entropy
    ) -> None:
        self.database, self.clock, self.entropy = database, clock, entropy
        self._journal = journal

    def change(self, work: Callable[[Work], _Answer]) -> _Answer:
        """Run a decision in one transaction, then carry to the journal what it said.

        Raises:
            JobStoreUnavailable: the database could not do it; nothing was changed.
        """

        def attempt(connection: sa.Connection) -> tuple[_Answer, bool]:
            under_way = Work(self.database, connection, self.clock.now(), self.entropy)
            return work(under_way), bool(under_way.said)

        answer, has_said = self.database.change(attempt)
        if has_said:
            self.deliver()
        return answer

    def read(self, work: Callable[[sa.Connection], _Answer]) -> _Answer:
        """Read, in no transaction of ours."""
        return self.database.read(work)

    def deliver(self) -> bool:
        """Carry what waits to the journal, oldest first; returns whether all got there."""
        try:
            while waiting := self.database.read(_waiting):
                drafts = [Draft(t, f"jobs:{i}", json.loads(body)) for i, t, body in waiting]
                _append(self._journal, drafts)
                self.database.change(partial(_forget, [row[0] for row in waiting]))
        except (PrivacyError, OSError):
            return False
        return True

    def new_id(self, prefix: str) -> str:
        """Make an id of 130 bits: a prefix, `_`, and 26 letters and digits."""
        number = int.from_bytes(self.entropy.token_bytes(17))
        letters = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's, in lower case
        return f"{prefix}_{''.join(letters[number >> 5 * n & 31] for n in range(26))}"


def job_of(row: sa.Row[Any]) -> Job:
    """A job from its row."""
    fields = row._mapping
    plain: dict[str, Any] = {name: fields[name] for name in _PLAIN}
    for name in ("started", "finished"):
        value = fields[f"{name}_us"]
        plain[f"{name}_at"] = None if value is None else from_us(value)
    return Job(
        **plain,
        spec=TrainingSpec(**json.loads(fields["spec"])),
        state=JobState(fields["state"]),
        created_at=from_us(fields["created_us"]),
        updated_at=from_us(fields["updated_us"]),
        metrics=json.loads(fields["metrics"]),
        cancel_requested=fields["cancel_us"] is not None,
    )


def event_of(row: sa.Row[Any]) -> JobEvent:
    """An event from its row."""
    return JobEvent(
        job=row.job,
        seq=row.seq,
        at=from_us(row.at_us),
        kind=EventKind(row.kind),
        body=json.loads(row.body),
    )


def dumps(document: Mapping[str, Any]) -> str:
    """JSON text, always the same for the same document. What is not a number becomes null."""
    return json.dumps(_finite(document), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def _waiting(connection: sa.Connection) -> Sequence[tuple[str, str, str]]:
    query = sa.select(OUTBOX.c.id, OUTBOX.c.type, OUTBOX.c.body)
    rows = connection.execute(query.order_by(OUTBOX.c.seq).limit(_BATCH)).all()
    return [(row[0], row[1], row[2]) for row in rows]


def _forget(ids: Sequence[str], connection: sa.Connection) -> None:
    connection.execute(sa.delete(OUTBOX).where(OUTBOX.c.id.in_(ids)))


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
