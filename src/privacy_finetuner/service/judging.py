"""What jobs have released, as facts that the rules over one run can judge.

=====================  ==========================================================================
of                     is judged
=====================  ==========================================================================
every finished epoch   the gradient's released norm, against clip norm and noise
the last epoch         the released accuracy, against the last one of earlier jobs with the same
                       model, data set and plan that succeeded, two at least
=====================  ==========================================================================

Only what the run released with noise is read: it was paid for, and looking is post-processing.
Accuracies of earlier epochs are left alone: how much those differ between honest runs was not
measured. The records' digest is read only where an accuracy fell, so that they can be set aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from privacy_core.errors import PrivacyError
from privacy_finetuner.jobs import Job, Jobs, JobState
from privacy_finetuner.jobs.model import EventKind
from privacy_finetuner.jobs.schema import EVENTS
from privacy_finetuner.jobs.store import event_of
from privacy_finetuner.operations.figures import RunFigures
from privacy_finetuner.operations.quarantine import SourceDigest, digest_of
from privacy_finetuner.operations.run_rules import FELL_STDS, RunFacts, fall_stds

REFERENCES_LEAST: Final = 2
REFERENCES_MOST: Final = 5
_JOBS_MOST: Final = 200
Records = Callable[[str, str], Path]
"""Where the records of a data set's name lie, for an organisation; a `PrivacyError`: nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Epoch:
    """The newest epoch that a job released."""

    number: int
    at: datetime
    figures: RunFigures


class JudgedRuns:
    """The runs of a service's jobs. For any number of threads.

    Args:
        jobs: whose events are read; an epoch is read once.
        records: finds records where an accuracy fell.
    """

    def __init__(self, jobs: Jobs, records: Records) -> None:
        self._jobs, self._records = jobs, records
        self._epochs: dict[str, _Epoch] = {}
        self._digests: dict[str, str] = {}

    def of(self, tenant: str) -> list[RunFacts]:
        """The runs of an organisation's newest jobs that released something."""
        jobs = [job for job in self._jobs.find(tenant, limit=_JOBS_MOST) if job.epoch > 0]
        epochs = {job.id: epoch for job in jobs if (epoch := self._epoch(job)) is not None}
        self._forget(job.id for job in jobs)
        return [self._facts(job, jobs, epochs) for job in jobs if job.id in epochs]

    def _facts(self, job: Job, jobs: list[Job], epochs: Mapping[str, _Epoch]) -> RunFacts:
        newest = epochs[job.id]
        facts = RunFacts(
            tenant=job.tenant,
            run=job.id,
            now=newest.at,
            figures=newest.figures,
            about={"run": job.id, "job": job.id},
        )
        if not _is_done(job):
            return replace(facts, figures=replace(newest.figures, accuracy=None))
        found = (epochs[each.id].figures for each in _earlier(job, jobs) if each.id in epochs)
        references = [
            (each.accuracy, each.accuracy_std)
            for each in found
            if each.accuracy is not None and each.accuracy_std is not None
        ][:REFERENCES_MOST]
        if len(references) < REFERENCES_LEAST:
            return facts
        facts = replace(facts, references=references)
        stds = fall_stds(facts)
        has_fallen = stds is not None and stds >= FELL_STDS
        return replace(facts, source=self._source(job)) if has_fallen else facts

    def _epoch(self, job: Job) -> _Epoch | None:
        """The newest epoch of a job, read where it is not known yet."""
        known = self._epochs.get(job.id)
        if known is not None and known.number == job.epoch:
            return known
        query = (
            sa.select(EVENTS)
            .where(EVENTS.c.job == job.id, EVENTS.c.kind == EventKind.EPOCH.value)
            .order_by(EVENTS.c.seq.desc())
            .limit(1)
        )
        row = self._jobs.store.read(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            return None
        event = event_of(row)
        self._epochs[job.id] = found = _Epoch(
            number=job.epoch, at=event.at, figures=_figures(event.body)
        )
        return found

    def _source(self, job: Job) -> SourceDigest | None:
        """The digest of a job's records, as it was when it was first asked for."""
        if job.id not in self._digests:
            try:
                path = self._records(job.spec.dataset, job.tenant)
                self._digests[job.id] = digest_of(path)
            except (PrivacyError, OSError):  # the records are gone, or were never a file here
                return None
        digest = self._digests[job.id]
        return SourceDigest(name=job.spec.dataset, registered=digest, found=digest)

    def _forget(self, standing: Iterable[str]) -> None:
        """Let go of jobs that are no longer among the newest, where that would be many."""
        if len(self._epochs) > 10 * _JOBS_MOST:
            kept = set(standing)
            self._epochs = {job: epoch for job, epoch in self._epochs.items() if job in kept}


def _is_done(job: Job) -> bool:
    """Whether every planned step was taken: the newest epoch is then the last one."""
    return job.state is JobState.SUCCEEDED or job.step >= job.steps > 0


def _earlier(job: Job, jobs: list[Job]) -> list[Job]:
    """Earlier jobs of the same model, data set and plan that succeeded, the newest first.

    Args:
        job: which.
        jobs: newest first.
    """
    older = jobs[jobs.index(job) + 1 :]
    return [each for each in older if each.state is JobState.SUCCEEDED and _is_alike(each, job)]


def _is_alike(one: Job, other: Job) -> bool:
    same = ("model", "dataset", "privacy", "training")
    return all(getattr(one.spec, name) == getattr(other.spec, name) for name in same)


def _figures(body: Mapping[str, Any]) -> RunFigures:
    """The figures of an epoch that a rule looks at; what is missing or no number is not there."""

    def number(name: str) -> float | None:
        value = body.get(name)
        return float(value) if isinstance(value, int | float) else None

    return RunFigures(
        gradient_norm=number("gradient_norm"),
        gradient_norm_std=number("gradient_norm_std"),
        clip_norm=number("clip_norm"),
        accuracy=number("accuracy"),
        accuracy_std=number("accuracy_std"),
    )
