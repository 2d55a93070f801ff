"""Who works on which job: claims with a lease, heartbeats, fenced writes, ends.

A worker holds a job by a lease that it renews, and writes with the number (`fence`) that its claim
was given. Each claim, and each return to the queue, raises the number, so that what a worker writes
after it lost the job changes nothing (Gray and Cheriton 1989; fencing as in Burrows 2006).

Organisations take turns: the one that was given a worker longest ago is next. Within one, higher
priority comes first, then who was submitted first. Jobs that only have to be ended (cancelled while
they waited for another attempt, or out of attempts) come before all others: that takes no training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa

from privacy_finetuner.jobs.claims import Claim, Ending, Line
from privacy_finetuner.jobs.model import EventKind, JobState
from privacy_finetuner.jobs.schema import JOBS, TURNS, WORKERS
from privacy_finetuner.jobs.store import Store, Work, dumps, job_of, to_us

ATTEMPTS_MOST: Final = 3
"""How many attempts in a row may end in an accident (a dead worker, a killed process); one that
gets as far as a newer checkpoint begins the count again."""
DELAY_MOST_S: Final = 3600.0
"""A job that waits longer was given back by a worker whose clock was ahead: it may be taken."""
WORKER_LOST: Final = "worker_lost"
CANCELLED: Final = "cancelled"
_FORGOTTEN_S: Final = 3600.0
_LOST: Final = "its worker was not heard of any more"


class Leases:
    """Claims on jobs.

    Args:
        store: of the jobs.
        lease_s: how long a worker may be silent, in seconds; the same for all workers.
        attempts_most: a job with so many accidents fails.
        place: names the folder of runs of whoever claims; a job whose run lies in another one is
            left to those who have that. `None`: every job is taken.
    """

    def __init__(
        self,
        store: Store,
        *,
        lease_s: float,
        attempts_most: int = ATTEMPTS_MOST,
        place: str | None = None,
    ) -> None:
        self._store = store
        self._place = place
        self.lease_s = lease_s
        self._attempts_most = attempts_most

    def claim(self, worker: str, *, only_endings: bool = False) -> Claim | None:
        """Take the next job; None: nothing waits.

        Two workers never hold one job. Jobs whose lease ran out are put back first.

        Args:
            worker: who takes it.
            only_endings: take only a job that has to be ended.
        """

        def decide(work: Work) -> Claim | None:
            self._put_back_lost(work)
            row = self._next(work, only_endings=only_endings)
            return None if row is None else self._take(work, row, worker)

        return self._store.change(decide)

    def has_leftovers(self) -> bool:
        """Whether a job has to be ended, or its worker died; a cheap question, without a lock."""
        now_us = to_us(self._store.clock.now())
        lost = sa.and_(JOBS.c.state == JobState.RUNNING.value, self._has_run_out(now_us))
        is_free = sa.or_(JOBS.c.lease_until_us.is_(None), self._has_run_out(now_us))
        is_queued = JOBS.c.state == JobState.QUEUED.value
        to_end = sa.and_(is_queued, is_free, self._has_to_end, self._is_here)
        query = sa.select(JOBS.c.id).where(sa.or_(lost, to_end)).limit(1)
        return self._store.read(lambda c: c.execute(query).one_or_none()) is not None

    def renew(self, claim: Claim) -> bool:
        """Renew a lease; returns whether somebody asked to cancel the job.

        Raises:
            LeaseLost: the job is not this worker's any more.
        """

        def decide(work: Work) -> bool:
            until = work.now_us + self._lease_us
            work.update(claim.job.id, holder=claim.fence, lease_until_us=until)
            same = WORKERS.c.id == claim.job.worker
            work.run(sa.update(WORKERS).where(same).values(seen_us=work.now_us))
            query = sa.select(JOBS.c.cancel_us).where(JOBS.c.id == claim.job.id)
            return work.run(query).scalar_one() is not None

        return self._store.change(decide)

    def is_cancelled(self, claim: Claim) -> bool:
        """Whether somebody asked to cancel the job; a cheap question, without a lock."""
        query = sa.select(JOBS.c.cancel_us).where(JOBS.c.id == claim.job.id)
        return self._store.read(lambda c: c.execute(query).scalar_one_or_none()) is not None

    def tell(self, claim: Claim, lines: Sequence[Line], **figures: Any) -> None:
        """Add lines to the job's story, and change its figures, in one transaction.

        Raises:
            LeaseLost: the job is not this worker's any more; nothing was written.
        """

        def decide(work: Work) -> None:
            newest = work.update(
                claim.job.id, holder=claim.fence, lines=len(lines), **_columns(figures)
            )
            work.tell(claim.job.id, newest, [(kind, body, work.now_us) for kind, body in lines])

        self._store.change(decide)

    def finish(
        self,
        claim: Claim,
        ending: Ending,
        lines: Sequence[Line] = (),
        *,
        notes: Sequence[str] = (),
        **figures: Any,
    ) -> None:
        """End a job for good. The ledger has been settled.

        Raises:
            LeaseLost: the job is not this worker's any more; nothing was written.
        """

        def decide(work: Work) -> None:
            body: dict[str, Any] = {"state": ending.state.value}
            if ending.code is not None:
                body |= {"code": ending.code, "message": ending.message}
            if notes:
                body["notes"] = list(notes)
            told = [*lines, (EventKind.STATE, body)]
            newest = work.update(
                claim.job.id,
                holder=claim.fence,
                lines=len(told),
                state=ending.state.value,
                finished_us=work.now_us,
                lease_until_us=None,
                eta_s=None,
                error_code=ending.code if ending.state is JobState.FAILED else None,
                error=ending.message if ending.state is JobState.FAILED else None,
                **_columns(figures),
            )
            work.tell(claim.job.id, newest, [(kind, body, work.now_us) for kind, body in told])
            about = {name: figures[name] for name in ("step", "epsilon") if name in figures}
            work.say(ending.state.value, **_named(claim), code=ending.code, **about)

        self._store.change(decide)

    def decide(self, claim: Claim, ending: Ending, lines: Sequence[Line] = ()) -> None:
        """Keep how a job will end, before the ledger is settled: no later attempt runs it again.

        Raises:
            LeaseLost: the job is not this worker's any more; nothing was written.
        """
        text = dumps(asdict(ending))

        def keep(work: Work) -> None:
            newest = work.update(claim.job.id, holder=claim.fence, lines=len(lines), ending=text)
            work.tell(claim.job.id, newest, [(kind, body, work.now_us) for kind, body in lines])

        self._store.change(keep)

    def give_back(
        self,
        claim: Claim,
        *,
        code: str,
        message: str,
        delay_s: float = 0.0,
        is_accident: bool = False,
        is_untouched: bool = False,
        lines: Sequence[Line] = (),
    ) -> None:
        """Put a job back into the queue.

        Args:
            claim: the job.
            code: why, for programs.
            message: why, for people.
            delay_s: how long no worker may take it; an hour at most.
            is_accident: it counts; with too many of these the job fails.
            is_untouched: nothing of its run is anywhere: workers of other folders may take it.
            lines: that are not in its story yet.

        Raises:
            LeaseLost: the job is not this worker's any more; nothing was written.
        """

        def decide(work: Work) -> None:
            body = {"state": JobState.QUEUED.value, "reason": code, "message": message}
            told = [*lines, (EventKind.STATE, body)]
            wait = timedelta(seconds=min(delay_s, DELAY_MOST_S))
            newest = work.update(
                claim.job.id,
                holder=claim.fence,
                lines=len(told),
                **_queued(code, message, is_accident=is_accident),
                **({"place": None} if is_untouched else {}),
                not_before_us=work.now_us + wait // timedelta(microseconds=1),
            )
            work.tell(claim.job.id, newest, [(kind, body, work.now_us) for kind, body in told])
            work.say("requeued", **_named(claim), code=code, accident=is_accident)

        self._store.change(decide)

    def enrol(self, worker: str, *, host: str, process: int) -> None:
        """Say that a worker is there, and forget those that have been silent for an hour."""

        def decide(work: Work) -> None:
            gone = work.now_us - int(_FORGOTTEN_S * 1e6)
            work.run(sa.delete(WORKERS).where(WORKERS.c.seen_us < gone))
            work.run(
                sa.insert(WORKERS).values(
                    id=worker, host=host, process=process, started_us=work.now_us,
                    seen_us=work.now_us,
                )
            )  # fmt: skip

        self._store.change(decide)

    def seen(self, worker: str, *, job: str | None) -> None:
        """Say that a worker is alive, and what it works on."""
        self._store.change(
            lambda work: work.run(
                sa.update(WORKERS)
                .where(WORKERS.c.id == worker)
                .values(seen_us=work.now_us, job=job)
            )
        )

    def leave(self, worker: str) -> None:
        """Say that a worker is gone, in order."""
        self._store.change(lambda work: work.run(sa.delete(WORKERS).where(WORKERS.c.id == worker)))

    @property
    def _has_to_end(self) -> sa.ColumnElement[bool]:
        return sa.or_(
            JOBS.c.cancel_us.is_not(None),
            JOBS.c.ending.is_not(None),
            JOBS.c.losses >= self._attempts_most,
        )

    @property
    def _is_here(self) -> sa.ColumnElement[bool]:
        """Whether a job's run lies where this worker can go on with it, or was never begun."""
        if self._place is None:
            return sa.true()
        return sa.or_(JOBS.c.place.is_(None), JOBS.c.place == self._place)

    @property
    def _lease_us(self) -> int:
        return int(self.lease_s * 1e6)

    def _has_run_out(self, now_us: int) -> sa.ColumnElement[bool]:
        """Whether a lease has ended, or ends later than any clock that is right can have said.

        A worker whose clock was ahead, and that died, must not keep its job until then.
        """
        until = JOBS.c.lease_until_us
        return sa.or_(until <= now_us, until > now_us + 2 * self._lease_us)

    def _put_back_lost(self, work: Work) -> None:
        lost = (
            sa.select(JOBS.c.id, JOBS.c.tenant, JOBS.c.attempts, JOBS.c.worker)
            .where(JOBS.c.state == JobState.RUNNING.value, self._has_run_out(work.now_us))
            .with_for_update(skip_locked=True)
        )
        for row in work.run(lost).all():
            newest = work.update(row.id, lines=1, **_queued(WORKER_LOST, _LOST, is_accident=True))
            body = {"state": JobState.QUEUED.value, "reason": WORKER_LOST, "message": _LOST}
            work.tell(row.id, newest, [(EventKind.STATE, body, work.now_us)])
            work.say(
                "requeued", job=row.id, tenant=row.tenant, attempt=row.attempts, worker=row.worker,
                code=WORKER_LOST, accident=True,
            )  # fmt: skip

    def _next(self, work: Work, *, only_endings: bool) -> sa.Row[Any] | None:
        """The row of the next job, locked; a job that another transaction looks at is passed by.

        The turn of its organisation is locked as well, so that two workers who ask at once serve
        two organisations; where all turns are taken, the jobs alone.
        """
        to_end = self._has_to_end
        latest_us = work.now_us + int(DELAY_MOST_S * 1e6)
        can_run = ~JOBS.c.not_before_us.between(work.now_us + 1, latest_us)
        query = (
            sa.select(JOBS)
            .join(TURNS, TURNS.c.tenant == JOBS.c.tenant)
            .where(
                JOBS.c.state == JobState.QUEUED.value,
                sa.or_(JOBS.c.lease_until_us.is_(None), self._has_run_out(work.now_us)),
                self._is_here,
                to_end if only_endings else sa.or_(to_end, can_run),
            )
            .order_by(
                sa.case((to_end, 0), else_=1), TURNS.c.turn, JOBS.c.priority.desc(), JOBS.c.number
            )
            .limit(1)
        )
        for locks in ([JOBS, TURNS], [JOBS]):
            row = work.run(query.with_for_update(of=locks, skip_locked=True)).one_or_none()
            if row is not None:
                return row
        return None

    def _take(self, work: Work, row: sa.Row[Any], worker: str) -> Claim:
        ending = self._ending_of(row)
        values: dict[str, Any] = {
            "worker": worker,
            "fence": row.fence + 1,
            "lease_until_us": work.now_us + self._lease_us,
        }
        lines: list[tuple[EventKind, Any, int]] = []
        if ending is None:
            values |= {
                "state": JobState.RUNNING.value,
                "attempts": row.attempts + 1,
                "started_us": row.started_us or work.now_us,
                "place": row.place or self._place,
            }
            body = {"state": JobState.RUNNING.value, "attempt": row.attempts + 1}
            lines.append((EventKind.STATE, body, work.now_us))
            turns = TURNS.alias()
            last = sa.select(sa.func.max(turns.c.turn) + 1).scalar_subquery()
            work.run(sa.update(TURNS).where(TURNS.c.tenant == row.tenant).values(turn=last))
            work.say(
                "started", job=row.id, tenant=row.tenant, attempt=row.attempts + 1, worker=worker
            )
        work.tell(row.id, work.update(row.id, lines=len(lines), **values), lines)
        taken = work.run(sa.select(JOBS).where(JOBS.c.id == row.id)).one()
        origin = json.loads(taken.origin) if taken.origin else {}
        return Claim(job=job_of(taken), fence=taken.fence, ending=ending, origin=origin)

    def _ending_of(self, row: sa.Row[Any]) -> Ending | None:
        """How a job has to be ended, if it has."""
        if row.ending is not None:
            kept = json.loads(row.ending)
            return Ending(**{**kept, "state": JobState(kept["state"])})
        if row.cancel_us is not None:
            return Ending(state=JobState.CANCELLED)
        if row.losses < self._attempts_most:
            return None
        return Ending(
            state=JobState.FAILED,
            code=row.last_code,
            message=f"{row.losses} attempts ended in an accident with no checkpoint in between, "
            f"which is the most; the last one: {row.last_error}",
        )


def _queued(code: str, message: str, *, is_accident: bool) -> dict[str, Any]:
    """The values of a row that goes back into the queue: whoever held it can write no more."""
    values: dict[str, Any] = {
        "state": JobState.QUEUED.value,
        "worker": None,
        "fence": JOBS.c.fence + 1,
        "lease_until_us": None,
        "eta_s": None,
    }
    if is_accident:
        values |= {"losses": JOBS.c.losses + 1, "last_code": code, "last_error": message}
    return values


def _columns(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures as columns."""
    columns = dict(figures)
    if "metrics" in columns:
        columns["metrics"] = dumps(columns["metrics"])
    return columns


def _named(claim: Claim) -> dict[str, Any]:
    job = claim.job
    return {"job": job.id, "tenant": job.tenant, "attempt": job.attempts, "worker": job.worker}
