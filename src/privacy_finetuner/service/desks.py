"""The desks of a deployment: what officers and operators work at, over journal, ledger and jobs.

Each desk is cheap to make and reads when it is asked. They are put together here because the
rooms that they come from do not know each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final, Self

import sqlalchemy as sa

from privacy_finetuner.environment import EnvironmentConfig
from privacy_finetuner.environment.sections import THREATS
from privacy_finetuner.governance.accounts import is_of, is_of_one_subject, name_of
from privacy_finetuner.governance.budget_requests import BudgetRequests
from privacy_finetuner.governance.processing import ProcessingRegister, frameworks_of
from privacy_finetuner.governance.spending import Moment, Spending, deciding_slots, share_used
from privacy_finetuner.governance.subject_requests import SubjectRequests
from privacy_finetuner.governance.subjects import Subjects
from privacy_finetuner.governance.verification import Verifications
from privacy_finetuner.jobs import Jobs
from privacy_finetuner.jobs.model import JobState
from privacy_finetuner.jobs.schema import JOBS
from privacy_finetuner.operations import doors
from privacy_finetuner.operations.alerts import (
    AccountFact,
    Alert,
    ChainFact,
    FailureFact,
    ThreatType,
)
from privacy_finetuner.operations.monitoring import Monitor
from privacy_finetuner.operations.quarantine import Quarantine
from privacy_finetuner.operations.questions import COUNTED, Questions
from privacy_finetuner.operations.recent_acts import RecentActs
from privacy_finetuner.operations.responses import (
    SERVICE,
    Act,
    Door,
    NotPossible,
    Responses,
    named,
)
from privacy_finetuner.operations.restraints import Restraints
from privacy_finetuner.operations.run_rules import RunFacts
from privacy_finetuner.operations.scaling import ScalingDesk
from privacy_finetuner.operations.trail import AuditTrail
from privacy_finetuner.operations.trespasses import CROSSED, Trespasses, users_in
from privacy_finetuner.operations.watch import Watch, Write
from privacy_finetuner.service.judging import JudgedRuns, Records
from privacy_finetuner.service.runs import RunNames
from privacy_runtime.budget_store import LEDGER, BudgetStore, ScopeState
from privacy_runtime.identity import Identity
from privacy_runtime.journal import Journal
from privacy_runtime.pseudonyms import RedactionKeys
from privacy_runtime.world import Clock, Entropy

_DAYS: Final = 14
_JOBS_MOST: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Desks:
    """The desks, by noun.

    Attributes:
        spending: how accounts came to stand where they stand.
        runs: which job made a reservation.
        budget_requests: who asks for budget, and what officers answer.
        verifications, subject_requests: data subjects, and what they ask for.
        processing: the record of processing activities.
        trail: the stream `audit` by organisation.
        monitor: security alerts from evidence.
        questions: how often models are asked, and how alike the questions are.
        trespasses: who asks for objects of other organisations.
        restraints: who may ask less for a while.
        quarantine: records that may not be trained on for now.
        scaling: who changed the number of workers.
        subjects: names data subjects by keyed hash.
    """

    spending: Spending
    runs: RunNames
    budget_requests: BudgetRequests
    subjects: Subjects
    verifications: Verifications
    subject_requests: SubjectRequests
    processing: ProcessingRegister
    trail: AuditTrail
    monitor: Monitor
    questions: Questions
    trespasses: Trespasses
    restraints: Restraints
    quarantine: Quarantine
    scaling: ScalingDesk

    @classmethod
    def open(  # noqa: PLR0913  # what the desks stand on, keyword-only
        cls,
        *,
        journal: Journal,
        ledger: BudgetStore,
        jobs: Jobs,
        identity: Identity,
        config: EnvironmentConfig,
        sealing_keys: RedactionKeys,
        records: Records,
        clock: Clock,
        entropy: Entropy,
        on_alert: Callable[[Alert], None] | None = None,
    ) -> Self:
        """Put the desks together. Nothing is read or written. `records`: see `judging`."""
        world: dict[str, Any] = {"clock": clock, "entropy": entropy}
        subjects = Subjects(sealing_keys, entropy)
        verifications = Verifications(journal, subjects, **world)
        spending, trail = Spending(ledger), AuditTrail(journal)
        law = config.compliance
        questions, restraints = Questions(clock, entropy), Restraints(journal, clock)
        trespasses = Trespasses(_owners(jobs, identity), clock)
        quarantine = Quarantine(journal)

        def note(write: Write) -> None:
            for body in questions.counted():
                write(COUNTED, body)
            for body in trespasses.crossed():
                write(CROSSED, body)
            restraints.refresh()

        opened = {
            Act.HALT: _cancel(jobs),
            Act.THROTTLE: doors.throttle(restraints),
            Act.QUARANTINE: doors.quarantine(quarantine),
            Act.REVOKE: doors.revoke(identity.sessions, clock),
            Act.NEW_PLAN: doors.new_plan,
        }
        is_on = config.security.automated_response
        return cls(
            spending=spending,
            runs=RunNames(jobs),
            budget_requests=BudgetRequests(journal, ledger, **world),
            subjects=subjects,
            verifications=verifications,
            subject_requests=SubjectRequests(journal, verifications, subjects, clock=clock),
            processing=ProcessingRegister(
                journal, frameworks=frameworks_of(law.frameworks, law.primary_regions), **world
            ),
            trail=trail,
            monitor=Monitor(
                journal,
                trail,
                _Watched(journal, ledger, jobs, spending, JudgedRuns(jobs, records)),
                clock=clock,
                budget_threshold=config.monitoring.alerts.privacy_budget_threshold,
                on_alert=on_alert,
                watch=Watch(
                    least_confidence=config.security.alert_threshold,
                    threat_types=watched_types(config.security.threat_types),
                    before=(note,),
                    responses=Responses(opened, journal, is_on=is_on),
                ),
                entropy=entropy,
            ),
            questions=questions,
            trespasses=trespasses,
            restraints=restraints,
            quarantine=quarantine,
            scaling=ScalingDesk(
                journal,
                least=config.scaling.scaling_policy.min_nodes,
                most=config.scaling.scaling_policy.max_nodes,
                **world,
            ),
        )


def watched_types(listed: Sequence[str]) -> frozenset[ThreatType]:
    """What is watched for: the documented four as they are listed, and always the other four."""
    left_out = frozenset(THREATS).difference(listed)
    return frozenset(each for each in ThreatType if each.value not in left_out)


def _owners(jobs: Jobs, identity: Identity) -> Callable[[str], str | None]:
    """Whose job or user an id names."""
    tenant_of_user = users_in(identity)

    def tenant_of(object_id: str) -> str | None:
        if not object_id.startswith("job_"):
            return tenant_of_user(object_id)
        query = sa.select(JOBS.c.tenant).where(JOBS.c.id == object_id)
        return jobs.store.read(lambda connection: connection.execute(query).scalar_one_or_none())

    return tenant_of


def _cancel(jobs: Jobs) -> Door:
    """End the job that an alert is about."""

    def cancel(alert: Alert) -> str:
        job = named(alert, "job")
        if jobs.cancel(job, tenant=alert.tenant, by=SERVICE).state.is_final:
            raise NotPossible(f"{job} had ended; what it released stays released")
        return f"{job} ends within seconds; what was charged stays charged"

    return cancel


class _Watched:
    """What the monitor looks at besides the trail."""

    def __init__(
        self,
        journal: Journal,
        ledger: BudgetStore,
        jobs: Jobs,
        spending: Spending,
        judged: JudgedRuns,
    ) -> None:
        self._journal, self._ledger, self._jobs, self._spending = journal, ledger, jobs, spending
        self._judged = judged
        self._recent = RecentActs(ledger)

    def accounts(self, tenant: str, now: datetime) -> Sequence[AccountFact]:
        """The organisation's accounts, without those of single subjects."""
        facts = []
        for state in self._ledger.accounts():
            if not is_of(state.scope, tenant) or is_of_one_subject(state.scope):
                continue
            moments = self._spending.moments(state.scope)
            acts, share = self._recent.of(state, now)
            facts.append(
                AccountFact(
                    account=name_of(state.scope, tenant),
                    epsilon=state.guarantee.epsilon,
                    epsilon_used=state.epsilon_if_all_commit,
                    daily_shares=daily_shares(moments, state, now),
                    at=moments[-1].at if moments else now,
                    acts_last_hour=acts,
                    share_last_hour=share,
                )
            )
        return facts

    def failures(self, tenant: str, since: datetime) -> Sequence[FailureFact]:
        """The newest failed jobs, as far back as that."""
        failed = self._jobs.find(tenant, states=(JobState.FAILED,), limit=_JOBS_MOST)
        return [
            FailureFact(job=job.id, owner=job.owner, code=job.error_code or "unknown", at=ended)
            for job in failed
            if (ended := job.finished_at or job.updated_at) >= since
        ]

    def released_runs(self, tenant: str) -> Sequence[RunFacts]:
        """What its newest jobs have released."""
        return self._judged.of(tenant)

    def ledger_chain(self, now: datetime) -> ChainFact:
        """Whether the ledger was found damaged by whoever looked last; the walk is an audit's."""
        halt = self._journal.status(LEDGER).halt
        return ChainFact(stream=LEDGER, is_intact=not halt, broken_at=None, at=now)


def daily_shares(moments: Sequence[Moment], state: ScopeState, now: datetime) -> tuple[float, ...]:
    """Shares of the cap that were spent on each of the last 14 days, as far as the account is old.

    At the order that decides now, where shares add up. The last one is the newest 24 hours.
    """
    slots = deciding_slots(state)
    if not moments or not slots:
        return ()
    days = min(_DAYS, (now - moments[0].at).days)
    totals, place, used = [], 0, 0.0
    for back in range(days, -1, -1):
        mark = now - timedelta(days=back)
        while place < len(moments) and moments[place].at <= mark:
            used = share_used(state, moments[place].state.committed, slots)
            place += 1
        totals.append(used)
    return tuple(max(0.0, after - before) for before, after in pairwise(totals))
