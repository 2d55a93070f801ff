"""A worker: takes a job, lets a child process train it, settles the ledger, ends it.

It loads no torch. It works on one job at a time; run several for more. Its whole state is in the
database, so it may be killed at any moment: its child dies with it, and when the lease has ended
another worker goes on.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from privacy_core.errors import PrivacyError
from privacy_finetuner.jobs import process
from privacy_finetuner.jobs.attempt import Attempt
from privacy_finetuner.jobs.claims import Claim, Ending, Line
from privacy_finetuner.jobs.errors import FolderBusy, JobStoreUnavailable, LeaseLost
from privacy_finetuner.jobs.folder import LOCK_FILE, forget, locked
from privacy_finetuner.jobs.jobs import Jobs
from privacy_finetuner.jobs.leases import ATTEMPTS_MOST, Leases
from privacy_finetuner.jobs.left import Left
from privacy_finetuner.jobs.lines import Task
from privacy_finetuner.jobs.model import JobState
from privacy_finetuner.jobs.process import Child
from privacy_finetuner.jobs.settlement import Settlement, settle
from privacy_finetuner.jobs.telemetry import Telemetry, handed_on
from privacy_finetuner.jobs.verdicts import Again, verdict
from privacy_runtime import logs, tracing
from privacy_runtime.files import FilesError, WriteFailed, reason_of
from privacy_runtime.journal import JournalError

_log = logs.logger(__name__)
_SEEN_S: Final = 5.0
_DAY_S: Final = 86_400.0


class Sources(Protocol):
    """Which data sets and models a job may name; the service's catalogue."""

    def dataset(self, name: str, *, tenant: str) -> Path:
        """The file or folder of a data set; a `PrivacyError` where there is none."""
        ...

    def model(self, name: str, *, tenant: str) -> str:
        """The folder or name of a model; a `PrivacyError` where there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a worker needs besides the jobs.

    Attributes:
        sources: what the names in a specification mean.
        ledger: where runs are charged; a path or `postgresql://...`.
        keys: folder of the key that signs certificates; it is made on first use.
        command: starts a child.
        telemetry: how children log and trace; `None`: they do neither.
        upkeep: done once a day between two jobs, from the start on; returns soon.
    """

    sources: Sources
    ledger: str
    keys: Path
    command: Sequence[str] = process.COMMAND
    telemetry: Telemetry | None = None
    upkeep: Callable[[], object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """How long a worker waits, in seconds.

    Attributes:
        idle_s: before it asks for a job again.
        delays_s: before a job with one, two, more attempts behind it is tried again.
        try_again_s: for a database or a ledger that is away.
        busy_s: for a process that is still at work in the folder of a run.
    """

    idle_s: float = 0.25
    delays_s: tuple[float, ...] = (5.0, 20.0, 60.0)
    try_again_s: float = 1.0
    busy_s: float = 5.0


class Worker:
    """Works on jobs, one at a time, until it is stopped.

    Guarantees: a job that ends has no reservation open in the ledger; a job whose worker stops in
    order is back in the queue at once; nothing of a child's process group outlives its attempt.

    Args:
        jobs: the queue.
        means: what training needs.
        attempts_most: how many accidents a job may have.
        pauses: how long it waits for what.
    """

    def __init__(
        self,
        jobs: Jobs,
        means: Means,
        *,
        attempts_most: int = ATTEMPTS_MOST,
        pauses: Pauses | None = None,
    ) -> None:
        self.id = jobs.store.new_id("worker")
        self._jobs, self._means = jobs, means
        self._clock = jobs.store.clock
        self._leases = Leases(
            jobs.store, lease_s=jobs.lease_s, attempts_most=attempts_most, place=jobs.place
        )
        self._pauses = pauses or Pauses()
        self._is_enrolled = False
        self._seen_s = 0.0
        self._kept_s: float | None = None

    def run(self, stop: threading.Event, *, until_idle: bool = False) -> None:
        """Work until `stop` is set; the job at hand is given back in order.

        A database that is away is waited for.

        Args:
            stop: set by whoever wants this worker to end.
            until_idle: end when nothing waits.
        """
        while not stop.is_set():
            try:
                self._be_seen(None)
                self._keep_house()
                claim = self._leases.claim(self.id)
            except JobStoreUnavailable as error:
                _log.warning("the database of jobs is away", worker=self.id, code=error.code)
                stop.wait(self._pauses.try_again_s)
                continue
            if claim is not None:
                self._work(claim, stop)
            elif until_idle:
                break
            else:
                stop.wait(self._pauses.idle_s)
        self._depart()

    def _keep_house(self) -> None:
        """Do what is due once a day. What hinders it hinders no job: it is tried the next day."""
        now_s = self._clock.monotonic_s()
        if self._means.upkeep is None or (self._kept_s and now_s - self._kept_s < _DAY_S):
            return
        self._kept_s = now_s
        try:
            self._means.upkeep()
        except (PrivacyError, OSError):
            _log.exception("the upkeep of a worker failed", worker=self.id)

    def _work(self, claim: Claim, stop: threading.Event) -> None:
        """One claim, to its end; what goes wrong with the lease or the store ends it as well."""
        job = claim.job
        with (
            self._about(claim),
            tracing.span(
                "job.run", job_id=job.id, tenant=job.tenant, worker=self.id, attempt=job.attempts
            ),
        ):
            try:
                self._be_seen(job.id, at_once=True)
                if claim.ending is not None:
                    self._finish(claim, claim.ending, [], stop)
                    return
                _log.info("a job has begun", attempt=job.attempts)
                self._drive(claim, stop)
            except LeaseLost:
                _log.warning("another attempt has the job; this one wrote nothing more")
            except JobStoreUnavailable as error:
                _log.warning("a job is left until its lease ends", code=error.code)

    @contextmanager
    def _about(self, claim: Claim) -> Iterator[None]:
        """Lines and spans belong to the request that submitted a job, and name the job."""
        job = claim.job
        with (
            logs.adopted(claim.origin),
            tracing.adopted(claim.origin),
            logs.bound(job_id=job.id, tenant=job.tenant, subject=job.owner, worker=self.id),
        ):
            yield

    def _drive(self, claim: Claim, stop: threading.Event) -> None:
        """Start a child, listen to it, and do what its end asks for."""
        try:
            child = Child.start(
                self._task(claim), command=self._means.command, environment=handed_on()
            )
        except PrivacyError as error:  # the name of a data set or a model means nothing any more
            ending = Ending(state=JobState.FAILED, code=error.code, message=str(error))
            self._finish(claim, ending, [], stop)
            return
        except OSError as error:
            self._give_back(claim, _not_started(error), [])
            return
        attempt = Attempt(claim, self._leases, child, self._clock, stop, self._end_others)
        outcome = attempt.run()
        decided = verdict(outcome)
        if attempt.figures:
            self._persist(lambda: self._leases.tell(claim, attempt.story, **attempt.figures))
            attempt.story = []
        if isinstance(decided, Again):
            self._give_back(claim, decided, attempt.story)
            return
        notes = () if outcome.end is None else outcome.end.notes
        self._finish(claim, decided, attempt.story, stop, notes=notes)

    def _end_others(self) -> None:
        """While a child trains: end a job that only has to be ended, so that it need not wait."""
        if not self._leases.has_leftovers():
            return
        claim = self._leases.claim(self.id, only_endings=True)
        if claim is None or claim.ending is None:
            return
        at_once = threading.Event()
        at_once.set()
        with self._about(claim):
            try:
                self._finish(claim, claim.ending, [], at_once)
            except LeaseLost:
                _log.warning("another attempt has the job; this one wrote nothing more")

    def _task(self, claim: Claim) -> Task:
        """What the child is to do, with this machine's paths."""
        job, sources = claim.job, self._means.sources
        scored = job.spec.training.get("eval_dataset")
        lent = Left(jobs=self._jobs).lent(job.spec.model, tenant=job.tenant)
        return Task(
            job=job.id,
            spec=job.spec,
            tenant=job.tenant,
            model=sources.model(job.spec.model, tenant=job.tenant) if lent is None else "",
            lent=lent,
            dataset=str(sources.dataset(job.spec.dataset, tenant=job.tenant)),
            eval_dataset=scored and str(sources.dataset(scored, tenant=job.tenant)),
            folder=str(self._jobs.folder(job).absolute()),
            ledger=self._means.ledger if job.spec.account is not None else None,
            artefacts=self._jobs.shelf.address,
            keys=str(self._means.keys),
            worker_process=os.getpid(),
            epochs_told=job.epoch,
            steps_told=job.step,
            telemetry=self._means.telemetry,
        )

    def _finish(
        self,
        claim: Claim,
        ending: Ending,
        story: list[Line],
        stop: threading.Event,
        *,
        notes: Sequence[str] = (),
    ) -> None:
        """Settle the ledger, then end the job. A ledger that is away is waited for."""
        if ending.state is JobState.FAILED and claim.ending is None:
            self._persist(lambda: self._leases.decide(claim, ending, story))
            story = []
        while True:
            try:
                settled = self._settled(claim)
                break
            except (JournalError, FilesError) as error:
                _log.warning("the ledger is not settled yet", code=error.code)
                if stop.wait(
                    self._pauses.try_again_s
                ):  # a job that has to be ended is asked for first
                    self._give_back(claim, _unsettled(), story)
                    return
                self._leases.renew(claim)
            except FolderBusy as error:
                again = Again(code=error.code, message=str(error), is_accident=False)
                self._give_back(claim, again, story)
                return
        figures = {"epsilon": settled.epsilon, "delta": settled.delta}
        if settled.steps:
            figures |= {
                "step": settled.charged_steps,
                "steps": settled.steps,
                "epsilon_planned": settled.epsilon_planned,
            }
        self._persist(lambda: self._leases.finish(claim, ending, story, notes=notes, **figures))
        _log.info("a job has ended", state=ending.state, epsilon=settled.epsilon, code=ending.code)

    def _settled(self, claim: Claim) -> Settlement:
        folder = self._jobs.folder(claim.job)
        ledger = self._means.ledger if claim.job.spec.account is not None else None
        if not folder.exists():
            return Settlement()
        try:
            with locked(folder, clock=self._clock, wait_s=self._pauses.busy_s):
                settled = settle(folder, ledger, clock=self._clock)
                forget(folder)
                return settled
        except OSError as error:  # the disk of the runs, not the ledger's
            state = "the job is not ended yet"
            raise WriteFailed(folder, reason=reason_of(error), state=state) from error

    def _give_back(self, claim: Claim, again: Again, story: Sequence[Line]) -> None:
        delays_s, lock = self._pauses.delays_s, self._jobs.folder(claim.job) / LOCK_FILE
        delay_s = delays_s[min(max(claim.job.attempts, 1), len(delays_s)) - 1]
        self._persist(
            lambda: self._leases.give_back(
                claim,
                code=again.code,
                message=again.message,
                delay_s=0.0 if again.at_once else delay_s,
                is_accident=again.is_accident,
                is_untouched=claim.job.attempts == 1 and not lock.exists(),
                lines=story,
            )
        )
        _log.info("a job is back in the queue", code=again.code)

    def _persist(self, write: Callable[[], None]) -> None:
        """Write what an attempt came to; a database that is away is waited for, for one lease.

        Raises:
            LeaseLost, JobStoreUnavailable: it was not written; the job is taken up again.
        """
        deadline_s = self._clock.monotonic_s() + self._leases.lease_s
        while True:
            try:
                write()
            except JobStoreUnavailable:
                if self._clock.monotonic_s() >= deadline_s:
                    raise
                threading.Event().wait(self._pauses.try_again_s)
            else:
                return

    def _be_seen(self, job: str | None, *, at_once: bool = False) -> None:
        now_s = self._clock.monotonic_s()
        if not self._is_enrolled:
            self._leases.enrol(self.id, host=socket.gethostname(), process=os.getpid())
            self._is_enrolled = True
        elif not at_once and now_s - self._seen_s < _SEEN_S:
            return
        self._leases.seen(self.id, job=job)
        self._jobs.store.deliver()
        self._seen_s = now_s

    def _depart(self) -> None:
        if self._is_enrolled:
            try:
                self._leases.leave(self.id)
            except JobStoreUnavailable as error:
                _log.warning("the database of jobs is away", worker=self.id, code=error.code)


def _not_started(error: OSError) -> Again:
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    return Again(
        code="process_not_started",
        message=f"no process could be started: {reason}; nothing was spent by this attempt",
        is_accident=True,
    )


def _unsettled() -> Again:
    return Again(
        code="ledger_unavailable",
        message="the ledger could not be settled before the worker stopped; the next one does it",
        is_accident=False,
        at_once=True,
    )
