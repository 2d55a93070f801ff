"""Says what happened: follows the journal, and announces and counts what is new in it.

Nobody has to remember to call it. A job's end is in the journal before anybody is told of it, and
the herald's place in the journal is kept in the outbox, in the same transaction as the messages: so
each end is announced at least once, whatever was killed, and the outbox knows what it has already.

What is counted begins when the process does, as Prometheus expects of counters.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from privacy_finetuner.environment import EnvironmentConfig
from privacy_finetuner.governance.accounts import is_of_one_subject, name_of, tenant_of
from privacy_finetuner.jobs import Job, Jobs, JobState, UnknownJob
from privacy_finetuner.jobs.schema import JOBS
from privacy_finetuner.operations.alerts import Alert
from privacy_runtime.budget_store import BudgetStore, ScopeState
from privacy_runtime.journal import Entry, Journal
from privacy_runtime.metrics import Metrics, table
from privacy_runtime.notify import (
    BudgetStanding,
    Notice,
    Notifier,
    job_failed,
    security_alert,
    training_complete,
)

EVERY_S: Final = 5.0
_JOBS: Final = "jobs"
_AUDIT: Final = "audit"
_ENDS: Final = {f"job.{s.value}": s for s in JobState if s.is_final}
_REASONS: Final = {"unknown_user": "wrong_password"}  # a series of its own would count guesses
_MOST_AT_ONCE: Final = 500


class Herald:
    """Follows the streams `jobs` and `audit`, and the accounts.

    Args:
        journal: is followed.
        jobs: what a job spent.
        ledger: accounts, for warnings.
        notices: what is announced goes here.
        metrics: what is counted goes here.
        config: thresholds: `monitoring.alerts`.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        jobs: Jobs,
        ledger: BudgetStore,
        notices: Notifier,
        metrics: Metrics,
        config: EnvironmentConfig,
    ) -> None:
        self._journal, self._jobs, self._ledger = journal, jobs, ledger
        self._notices, self._metrics = notices, metrics
        self._alerts = config.monitoring.alerts
        self._lock = threading.Lock()
        self._counted: dict[str, int] | None = None
        self._paces: dict[str, Pace] = {}

    def round(self) -> None:
        """Look once. One at a time; the next round takes up what this one could not do.

        Raises:
            JournalError, JobStoreUnavailable, NotifyUnavailable: a database is away.
        """
        with self._lock:
            self._announce_ends()
            self._notices.watch_budgets(
                standings_of(self._ledger.accounts()),
                threshold=self._alerts.privacy_budget_threshold,
            )
            self._count()
            self._time_steps()

    def alert(self, alert: Alert) -> None:
        """Count a security alert, and announce it; `on_alert` of the monitor.

        It is announced where `monitoring.alerts.threat_detection_enabled` says so; what is raised
        at all, the monitor decides. The same alert again is the same message.
        """
        self._metrics.add(
            table.SECURITY_ALERTS, threat=alert.threat_type.value, severity=alert.severity.value
        )
        if not self._alerts.threat_detection_enabled:
            return
        self._notices.announce(
            security_alert(
                tenant=alert.tenant,
                alert_id=alert.id,
                threat_type=alert.threat_type.value,
                severity=alert.severity.value,
            )
        )

    def _announce_ends(self) -> None:
        head = self._journal.status(_JOBS).head.seq
        after = self._notices.place(_JOBS, first=head)
        while after < head:
            entries = list(_first(self._journal.read(_JOBS, after=after), _MOST_AT_ONCE))
            if not entries:
                return
            after = entries[-1].seq
            found = [notice for entry in entries if (notice := self._notice_of(entry))]
            self._notices.announce_all(found, follower=_JOBS, place=after)

    def _notice_of(self, entry: Entry) -> Notice | None:
        state = _ENDS.get(entry.type)
        if state not in (JobState.SUCCEEDED, JobState.FAILED):
            return None
        body = entry.body
        job = self._job(str(body["job"]), str(body["tenant"]))
        if job is None:
            return None
        if state is JobState.SUCCEEDED:
            return training_complete(
                tenant=job.tenant,
                job_id=job.id,
                epsilon=job.epsilon,
                delta=job.delta,
                steps=job.step,
            )
        code = str(body.get("code") or job.error_code or "unknown")
        return job_failed(
            tenant=job.tenant,
            job_id=job.id,
            code=code,
            attempts=job.attempts,
            epsilon=job.epsilon,
        )

    def _count(self) -> None:
        streams = (_JOBS, _AUDIT)
        heads = {name: self._journal.status(name).head.seq for name in streams}
        counted = self._counted
        self._counted = heads
        if counted is None:  # what was before this process is not its to count
            return
        for name in streams:
            for entry in self._journal.read(name, after=counted[name]):
                if entry.seq > heads[name]:
                    break
                self._count_one(entry)

    def _count_one(self, entry: Entry) -> None:
        state = _ENDS.get(entry.type)
        if state is not None:
            self._metrics.add(table.JOBS_FINISHED, state=state.value)
            job = self._job(str(entry.body["job"]), str(entry.body["tenant"]))
            if job is not None and job.started_at and job.finished_at:
                seconds = (job.finished_at - job.started_at).total_seconds()
                self._metrics.observe(table.JOB_SECONDS, seconds, state=state.value)
        elif entry.type == "identity.login_refused":
            reason = str(entry.body.get("reason", ""))
            self._metrics.add(table.LOGIN_FAILURES, reason=_REASONS.get(reason, reason))
        elif entry.type == "identity.session_ended" and entry.body.get("reason") == "reused":
            self._metrics.add(table.LOGIN_FAILURES, reason="reused")

    def _time_steps(self) -> None:
        """Observe, for each running job, the mean time of the steps since the last round."""
        query = sa.select(JOBS.c.id, JOBS.c.attempts, JOBS.c.step, JOBS.c.updated_us).where(
            JOBS.c.state == JobState.RUNNING.value
        )
        rows = self._jobs.store.read(lambda connection: connection.execute(query).all())
        paces: dict[str, Pace] = {}
        for job, attempt, step, updated_us in rows:
            name, at_s = f"{job}/{attempt}", updated_us / 1e6
            was = self._paces.get(name)
            paces[name] = now = Pace.first(step, at_s) if was is None else was.after(step, at_s)
            if was is not None and now is not was and now.mean_s is not None:
                self._metrics.observe(table.STEP_SECONDS, now.mean_s)
        self._paces = paces
        share = self._alerts.performance_degradation_threshold
        slow = sum(pace.is_below(share) for pace in paces.values())
        self._metrics.set(table.SLOW_JOBS, float(slow))

    def _job(self, job: str, tenant: str) -> Job | None:
        try:
            return self._jobs.get(job, tenant=tenant)
        except UnknownJob:
            return None


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a job's attempt goes, from where it stood at each look.

    Attributes:
        step: at the newest look that saw it further.
        at_s: when that was.
        mean_s: seconds a step since the look before; None before the second look.
        best_s: the fastest of these: its usual speed, since nothing runs faster than it can.
    """

    step: int
    at_s: float
    mean_s: float | None = None
    best_s: float | None = None

    @classmethod
    def first(cls, step: int, at_s: float) -> Pace:
        """The first look."""
        return cls(step, at_s)

    def after(self, step: int, at_s: float) -> Pace:
        """The next look; the same value when nothing moved. The first step loads a model."""
        if step <= self.step or at_s <= self.at_s:
            return self
        if not self.step:
            return Pace(step, at_s)
        mean_s = (at_s - self.at_s) / (step - self.step)
        return Pace(step, at_s, mean_s, min(mean_s, self.best_s or mean_s))

    def is_below(self, share: float) -> bool:
        """Whether its speed is below that share of its best."""
        if self.mean_s is None or self.best_s is None:
            return False
        return self.best_s < share * self.mean_s


def standings_of(states: Iterable[ScopeState]) -> Iterator[BudgetStanding]:
    """How accounts of organisations stand. An account of a single data subject is never told of."""
    for state in states:
        tenant = tenant_of(state.scope)
        if tenant is None or is_of_one_subject(state.scope):
            continue
        yield BudgetStanding(
            tenant=tenant,
            account=name_of(state.scope, tenant),
            epsilon_spent=state.epsilon_if_all_commit,
            epsilon_granted=state.guarantee.epsilon,
        )


def _first(entries: Iterable[Entry], most: int) -> Iterator[Entry]:
    for number, entry in enumerate(entries, start=1):
        yield entry
        if number == most:
            return
