"""Watches what the law dates: answers owed to data subjects, and records whose time is over.

With `compliance.enable_real_time_monitoring`, a look every minute. What it finds is written into
the stream `audit` and announced (`compliance_due`), once for each record and state:

===================  ============================================================================
state                when
===================  ============================================================================
`soon`               an answer is owed within three days
`overdue`            an answer is owed and late
`retention_ended`    an activity goes on though its records should be gone
===================  ============================================================================

With `compliance.auto_remediation`, records whose retention has ended are also set aside: jobs that
name them are refused (`source_set_aside`) until an officer releases them, with a reason. It is done
once for each version of the activity, so that a release stands. Nothing is ever deleted: that is a
person's to decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from privacy_core.errors import PrivacyError
from privacy_finetuner.environment.sections import Compliance
from privacy_finetuner.governance.accounts import ledger_account
from privacy_finetuner.governance.processing import Processing, ProcessingRegister
from privacy_finetuner.governance.subject_requests import SubjectRequest, SubjectRequests
from privacy_finetuner.jobs import Jobs
from privacy_finetuner.operations.quarantine import Quarantine, digest_of
from privacy_finetuner.operations.responses import SERVICE
from privacy_finetuner.operations.trail import STREAM, AuditTrail
from privacy_finetuner.service.catalogue import SAMPLE, Catalogue
from privacy_runtime.journal import Change, Journal, View
from privacy_runtime.notify import Notifier, compliance_due
from privacy_runtime.world import Clock, Entropy

EVERY_S: Final = 60.0
SOON: Final = timedelta(days=3)
_JOBS_MOST: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One record that needs an officer.

    Attributes:
        record: the id of a request or of an activity.
        state: `soon`, `overdue` or `retention_ended`.
        due_at: when it is or was due.
        version: of the record, so that a new date is a new finding.
    """

    record: str
    state: str
    due_at: datetime
    version: str


def findings(
    requests: Iterable[SubjectRequest], activities: Iterable[Processing], now: datetime
) -> Iterator[Finding]:
    """What needs an officer at an instant. Pure."""
    for request in requests:
        if not request.status.is_open or request.due_at > now + SOON:
            continue
        state = "overdue" if request.is_overdue(now) else "soon"
        version = request.due_at.isoformat()
        yield Finding(record=request.id, state=state, due_at=request.due_at, version=version)
    for activity in activities:
        if activity.is_overdue(now) and activity.retention_ends is not None:
            yield Finding(
                record=activity.id,
                state="retention_ended",
                due_at=activity.retention_ends,
                version=str(activity.version),
            )


class Vigil:
    """The watch of an installation. One process's round and another's do no harm to each other.

    Args:
        journal: keeps the stream `audit`.
        requests, register: what is watched.
        trail: where findings are written, and whose organisations there are.
        notices: where they are announced.
        sources: where records are set aside.
        catalogue, jobs: which records an activity is about.
        law: what the configuration asks for.
        clock, entropy: the world.
    """

    def __init__(  # noqa: PLR0913  # what a look needs, keyword-only
        self,
        *,
        journal: Journal,
        requests: SubjectRequests,
        register: ProcessingRegister,
        trail: AuditTrail,
        notices: Notifier,
        sources: Quarantine,
        catalogue: Catalogue,
        jobs: Jobs,
        law: Compliance,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._journal, self._requests, self._register = journal, requests, register
        self._trail, self._notices, self._sources = trail, notices, sources
        self._catalogue, self._jobs, self._law = catalogue, jobs, law
        self._clock, self._entropy = clock, entropy
        self._told: set[tuple[str, str]] = set()

    def look(self) -> list[Finding]:
        """Look at every organisation once; returns what was not known to this process before.

        Raises:
            JournalError, NotifyUnavailable: a database is away; the next round goes on.
        """
        fresh = []
        for tenant in sorted(self._trail.organisations):
            requests, activities = self._requests.find(tenant), self._register.find(tenant)
            by_id = {activity.id: activity for activity in activities}
            for finding in findings(requests, activities, self._clock.now()):
                name = (tenant, f"{finding.record}:{finding.state}:{finding.version}")
                if name in self._told:
                    continue
                self._tell(tenant, finding, name[1])
                if self._law.auto_remediation and finding.record in by_id:
                    self._set_aside(tenant, by_id[finding.record])
                self._told.add(name)
                fresh.append(finding)
        return fresh

    def _tell(self, tenant: str, finding: Finding, name: str) -> None:
        body = {
            "tenant": tenant,
            "by": SERVICE,
            "record": finding.record,
            "state": finding.state,
            "due_at": finding.due_at.isoformat(),
        }
        self._trail.write(
            "compliance.due", body, entropy=self._entropy, key=f"compliance:{tenant}:{name}"
        )
        self._notices.announce(
            compliance_due(
                tenant=tenant, record=finding.record, state=finding.state, due_at=finding.due_at
            )
        )

    def _set_aside(self, tenant: str, activity: Processing) -> None:
        """Set the records of an activity aside, once for its version: a release stands."""
        for path in self._paths(tenant, activity.activity.dataset):
            sha256 = digest_of(path)
            key = f"compliance:{tenant}:{activity.id}:{activity.version}:{sha256}"
            if self._is_written(key):
                continue
            reason = f"retention ended: {activity.id}"
            self._sources.set_aside(tenant, sha256, by=SERVICE, reason=reason)
            body = {"tenant": tenant, "by": SERVICE, "record": activity.id, "sha256": sha256}
            self._trail.write("compliance.set_aside", body, entropy=self._entropy, key=key)

    def _is_written(self, key: str) -> bool:
        found: list[bool] = []

        def decide(view: View) -> Change:
            found[:] = [key in view.entries]
            return Change()

        self._journal.transact(STREAM, decide, keys=(key,))
        return found[0]

    def _paths(self, tenant: str, dataset: str) -> list[Path]:
        """The files of an organisation's data set, by name or by the account that it is charged to.

        What ships with the program is nobody's record.
        """
        names = {dataset, *self._charged_to(tenant, dataset)}
        paths = []
        for name in sorted(names):
            if not name or name.startswith(SAMPLE):
                continue
            try:
                paths.append(self._catalogue.dataset(name, tenant=tenant))
            except PrivacyError:  # no such file, or it is set aside already
                continue
        return paths

    def _charged_to(self, tenant: str, account: str) -> set[str]:
        try:
            scope = ledger_account(tenant, account)
        except PrivacyError:  # the name can be no account
            return set()
        found = self._jobs.find(tenant, limit=_JOBS_MOST)
        return {job.spec.dataset for job in found if job.spec.account == scope}
