"""`Jobs`: what the API, the pages and the tools know of training jobs.

Everything here answers at once; the work is done by workers (`worker.py`), in processes of their
own. torch is not loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Self

import sqlalchemy as sa

from privacy_finetuner.jobs.errors import (
    IdempotencyConflict,
    JobStoreUnavailable,
    QueueFull,
    UnknownArtefact,
    UnknownJob,
)
from privacy_finetuner.jobs.folder import place_of
from privacy_finetuner.jobs.model import (
    Artefact,
    EventKind,
    Job,
    JobEvent,
    JobState,
    TrainingSpec,
    WorkerRow,
)
from privacy_finetuner.jobs.schema import EVENTS, JOBS, QUEUE, TURNS, WORKERS
from privacy_finetuner.jobs.shelf import Shelf
from privacy_finetuner.jobs.store import LIVE, Store, Work, dumps, event_of, from_us, job_of, to_us
from privacy_finetuner.jobs.submission import require_valid
from privacy_runtime import logs, tracing
from privacy_runtime.blobs.stores import BlobStore
from privacy_runtime.database import Database
from privacy_runtime.journal import Journal
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

LEASE_S: Final = 30.0
"""How long a worker may be silent before its job goes back to the queue. The clocks of workers on
several hosts must agree to within a third of it."""
WAITING_MOST: Final = 1000
_PAGE_MOST: Final = 1000


class Jobs:
    """Training jobs of all organisations, in one database.

    Guarantees: what `submit` returned is queued, exactly once for each (tenant, owner, key); a
    job's events are numbered from 1 without a gap; every change of state is in the journal's
    stream `jobs`, or on its way there; an object of another organisation is not found.

    Args:
        store: the database and the journal. Prefer `open`.
        runs: one folder a job lies below it.
        place: names that folder: a begun run goes on where it is. `None`: anywhere.
        artefacts: keeps what jobs leave, besides that folder; `None`: nothing does.
        lease_s: of workers, to tell which of them are alive.
        waiting_most: how many jobs of one organisation may wait.
    """

    def __init__(
        self,
        store: Store,
        *,
        runs: Path,
        place: str | None = None,
        artefacts: BlobStore | None = None,
        lease_s: float = LEASE_S,
        waiting_most: int = WAITING_MOST,
    ) -> None:
        self.store = store
        self.runs = runs
        self.place = place
        self.shelf = Shelf(runs, artefacts, clock=store.clock)
        self.lease_s = lease_s
        self._waiting_most = waiting_most

    @classmethod
    def open(
        cls,
        url: str | Path,
        journal: Journal,
        *,
        runs: Path,
        artefacts: BlobStore | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        lease_s: float = LEASE_S,
        pool_size: int = 5,
    ) -> Self:
        """Open the jobs of a deployment, and make the tables that are missing.

        Args:
            url: a SQLite file, or `postgresql://...`.
            journal: takes the stream `jobs`; it stays the caller's.
            runs: the folder of runs; made if its parent is there.
            artefacts: keeps what jobs leave, besides the folder of runs; `None`: nothing does.
            clock: the outside world's time; None: the machine's.
            entropy: the outside world's chance; None: the machine's.
            lease_s: how long a worker may be silent, in seconds; the same everywhere.
            pool_size: connections to PostgreSQL that are kept.

        Raises:
            JobStoreUnavailable: the database or the folder cannot be used.
        """
        entropy = entropy or SystemEntropy()
        try:
            runs.mkdir(mode=0o700, exist_ok=True)
            place = place_of(runs, entropy=entropy)
        except OSError as error:
            raise JobStoreUnavailable(str(runs), reason=type(error).__name__) from None
        store = Store(
            Database(url, QUEUE, pool_size=pool_size),
            journal,
            clock=clock or SystemClock(),
            entropy=entropy,
        )
        return cls(store, runs=runs, place=place, artefacts=artefacts, lease_s=lease_s)

    def submit(
        self,
        spec: TrainingSpec,
        *,
        tenant: str,
        owner: str,
        name: str,
        priority: int = 0,
        key: str | None = None,
    ) -> Job:
        """Queue a job, or return the one that the same key made before.

        Args:
            spec: what to train; checked in full.
            tenant: the organisation it belongs to.
            owner: the user who submits it.
            name: for people; 1 to 200 characters.
            priority: -10 to 10; higher first, among the jobs of this organisation.
            key: of the submitter's choice: whatever is sent twice under it is one job.

        Raises:
            InvalidJob: with every fault; nothing was queued.
            IdempotencyConflict: the key was used for something else; nothing was queued.
            QueueFull: too many jobs of the organisation wait; nothing was queued.
            JobStoreUnavailable: the database is away; submit again with the same key.
        """
        require_valid(spec, name=name, tenant=tenant, owner=owner, priority=priority, key=key)
        body = dumps({"spec": asdict(spec), "name": name, "priority": priority})
        row = {
            "id": self.store.new_id("job"),
            "tenant": tenant,
            "owner": owner,
            "key": key,
            "digest": hashlib.sha256(body.encode()).hexdigest(),
            "name": name,
            "spec": dumps(asdict(spec)),
            "priority": priority,
            "origin": dumps({**logs.carried(), **tracing.carried()}),
        }
        found = self.store.change(lambda work: self._enter(work, row))
        if found.digest != row["digest"]:
            raise IdempotencyConflict(found.id)
        return job_of(found)

    def get(self, job_id: str, *, tenant: str) -> Job:
        """Return a job.

        Raises:
            UnknownJob: there is none of that id in this organisation.
        """
        query = sa.select(JOBS).where(JOBS.c.id == job_id, JOBS.c.tenant == tenant)
        row = self.store.read(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            raise UnknownJob
        return job_of(row)

    def find(
        self,
        tenant: str,
        *,
        states: Sequence[JobState] = (),
        owner: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> list[Job]:
        """Return an organisation's jobs, newest first.

        Args:
            tenant: the organisation.
            states: only jobs in one of these; none named: all.
            owner: only this user's.
            limit: at most so many; 1000 is the most.
            before: only jobs submitted before the one of this id; an unknown id finds nothing.
        """
        query = sa.select(JOBS).where(JOBS.c.tenant == tenant)
        if states:
            query = query.where(JOBS.c.state.in_([JobState(state).value for state in states]))
        if owner is not None:
            query = query.where(JOBS.c.owner == owner)
        if before is not None:
            other = sa.select(JOBS.c.number).where(JOBS.c.id == before, JOBS.c.tenant == tenant)
            query = query.where(JOBS.c.number < other.scalar_subquery())
        query = query.order_by(JOBS.c.number.desc()).limit(_page(limit))
        return [job_of(row) for row in self.store.read(lambda c: c.execute(query).all())]

    def cancel(self, job_id: str, *, tenant: str, by: str) -> Job:
        """End a job. What was charged stays charged. Of a job that has ended, nothing changes.

        A job that no worker ever took is cancelled when this returns. Any other one ends within
        seconds: its worker stops the processes and settles the ledger first.

        Args:
            job_id: which.
            tenant: whose.
            by: the user who asks, for the journal.

        Raises:
            UnknownJob: there is none of that id in this organisation.
        """

        def decide(work: Work) -> sa.Row[Any] | None:
            row = work.locked(job_id, tenant=tenant)
            if row is None or row.state not in LIVE or row.cancel_us is not None:
                return row
            values: dict[str, Any] = {"cancel_us": work.now_us, "cancel_by": by}
            body: dict[str, Any] = {"state": row.state, "reason": "cancel_requested"}
            told = {"job": job_id, "tenant": tenant, "by": by}
            if row.state == JobState.QUEUED and not row.attempts:
                values |= {"state": JobState.CANCELLED.value, "finished_us": work.now_us}
                body["state"] = JobState.CANCELLED.value
                work.say("cancelled", **told, epsilon=0.0)
            else:
                work.say("cancel_requested", **told)
            newest = work.update(job_id, lines=1, **values)
            work.tell(job_id, newest, [(EventKind.STATE, body, work.now_us)])
            return work.locked(job_id)

        row = self.store.change(decide)
        if row is None:
            raise UnknownJob
        return job_of(row)

    def events(
        self, job_id: str, *, tenant: str, after: int = 0, limit: int = 500
    ) -> list[JobEvent]:
        """Return a job's events with `seq > after`, oldest first, at most `limit` (1000).

        Exact figures (`EventKind.EXACT`) are among them: the caller withholds them from who may
        not see what is outside the guarantee.

        Raises:
            UnknownJob: there is none of that id in this organisation.
        """
        query = (
            sa.select(EVENTS)
            .join(JOBS, JOBS.c.id == EVENTS.c.job)
            .where(EVENTS.c.job == job_id, EVENTS.c.seq > after, JOBS.c.tenant == tenant)
            .order_by(EVENTS.c.seq)
            .limit(_page(limit))
        )
        rows = self.store.read(lambda connection: connection.execute(query).all())
        if not rows:
            self.get(job_id, tenant=tenant)
        return [event_of(row) for row in rows]

    def artefacts(self, job_id: str, *, tenant: str) -> list[Artefact]:
        """Return the files that a job left, by name; the newest attempt's, where there are several.

        Raises:
            UnknownJob: there is none of that id in this organisation.
        """
        query = (
            sa.select(EVENTS)
            .join(JOBS, JOBS.c.id == EVENTS.c.job)
            .where(
                EVENTS.c.job == job_id,
                EVENTS.c.kind == EventKind.ARTEFACT.value,
                JOBS.c.tenant == tenant,
            )
            .order_by(EVENTS.c.seq)
        )
        rows = self.store.read(lambda connection: connection.execute(query).all())
        if not rows:
            self.get(job_id, tenant=tenant)
        newest = {body["name"]: Artefact(**body) for body in (event_of(row).body for row in rows)}
        return [newest[name] for name in sorted(newest)]

    def artefact_path(self, job_id: str, name: str, *, tenant: str) -> Path:
        """Return where a file of a job lies; where it is not here, it is fetched from the store.

        Raises:
            UnknownJob: there is none of that id in this organisation.
            UnknownArtefact: the job left no file of that name, or it is gone.
            ArtefactDamaged, ArtefactsUnavailable, WriteFailed: see `Shelf.path`.
        """
        for artefact in self.artefacts(job_id, tenant=tenant):
            if artefact.name == name:
                return self.shelf.path(artefact, tenant=tenant, job=job_id)
        raise UnknownArtefact

    def folder(self, job: Job | str) -> Path:
        """Return the folder of a job's run; it need not be there."""
        return self.runs / (job if isinstance(job, str) else job.id)

    def counts(self, *, tenant: str | None = None) -> Mapping[JobState, int]:
        """Return how many jobs are in each state, of one organisation or of all."""
        query = sa.select(JOBS.c.state, sa.func.count()).group_by(JOBS.c.state)
        if tenant is not None:
            query = query.where(JOBS.c.tenant == tenant)
        rows = self.store.read(lambda connection: connection.execute(query).all())
        found = {state: count for state, count in rows}
        return {state: found.get(state.value, 0) for state in JobState}

    def workers(self) -> list[WorkerRow]:
        """Return the workers that were heard of lately, oldest first."""
        query = sa.select(WORKERS).order_by(WORKERS.c.started_us, WORKERS.c.id)
        rows = self.store.read(lambda connection: connection.execute(query).all())
        since = to_us(self.store.clock.now()) - int(self.lease_s * 1e6)
        return [
            WorkerRow(
                id=row.id,
                host=row.host,
                process=row.process,
                started_at=from_us(row.started_us),
                seen_at=from_us(row.seen_us),
                job=row.job,
                is_alive=row.seen_us >= since,
            )
            for row in rows
        ]

    def close(self) -> None:
        """Let go of the database. The journal stays open: it is the caller's."""
        self.store.database.close()

    def __enter__(self) -> Self:
        """Return the jobs themselves."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _enter(self, work: Work, row: Mapping[str, Any]) -> sa.Row[Any]:
        """The row of a submission: a new one, or the one that its key made."""
        if (earlier := _of_key(work, row)) is not None:
            return earlier
        self._require_room(work, row["tenant"])
        fresh = {
            **row,
            "state": JobState.QUEUED.value,
            "created_us": work.now_us,
            "updated_us": work.now_us,
            "not_before_us": work.now_us,
            **dict.fromkeys(("attempts", "losses", "fence", "step", "steps", "epoch"), 0),
            **dict.fromkeys(("epsilon", "delta", "epsilon_planned"), 0.0),
            "metrics": "{}",
            "events": 1,
        }
        insert = self.store.database.insert(JOBS).values(**fresh)
        conflict = insert.on_conflict_do_nothing(index_elements=["tenant", "owner", "key"])
        if work.run(conflict.returning(JOBS.c.id)).one_or_none() is None:
            found = _of_key(work, row)  # another transaction was first, and has committed
            if found is None:
                raise AssertionError
            return found
        turn = self.store.database.insert(TURNS).values(tenant=row["tenant"], turn=0)
        work.run(turn.on_conflict_do_nothing(index_elements=["tenant"]))
        body = {"state": JobState.QUEUED.value, "reason": "submitted"}
        work.tell(row["id"], 1, [(EventKind.STATE, body, work.now_us)])
        told = {name: row[name] for name in ("tenant", "owner", "digest", "priority")}
        work.say("submitted", job=row["id"], **told)
        return work.run(sa.select(JOBS).where(JOBS.c.id == row["id"])).one()

    def _require_room(self, work: Work, tenant: str) -> None:
        query = sa.select(sa.func.count()).where(
            JOBS.c.tenant == tenant, JOBS.c.state == JobState.QUEUED.value
        )
        waiting = work.run(query).scalar_one()
        if waiting >= self._waiting_most:
            raise QueueFull(waiting=waiting)


def _of_key(work: Work, row: Mapping[str, Any]) -> sa.Row[Any] | None:
    if row["key"] is None:
        return None
    same = [JOBS.c[name] == row[name] for name in ("tenant", "owner", "key")]
    return work.run(sa.select(JOBS).where(*same)).one_or_none()


def _page(limit: int) -> int:
    return min(max(1, limit), _PAGE_MOST)
