"""Durable training jobs: submitted, claimed by a worker, run in a process group, resumed.

`Jobs` is what an application knows of them, `JobFeed` what it shows while they run. `Worker` and
`WorkerPool` do the work; they are loaded on first use.
"""

from privacy_finetuner.jobs.errors import (
    ArtefactDamaged,
    ArtefactsUnavailable,
    Fault,
    FeedFull,
    FolderBusy,
    IdempotencyConflict,
    InvalidJob,
    JobError,
    JobStoreUnavailable,
    LeaseLost,
    QueueFull,
    SlowSubscriber,
    UnknownArtefact,
    UnknownJob,
)
from privacy_finetuner.jobs.feed import JobFeed
from privacy_finetuner.jobs.jobs import LEASE_S, Jobs
from privacy_finetuner.jobs.left import JOB_MODEL, Left
from privacy_finetuner.jobs.model import (
    FINAL,
    Artefact,
    EventKind,
    Job,
    JobEvent,
    JobState,
    TrainingSpec,
    WorkerRow,
)

__all__ = [
    "FINAL",
    "JOB_MODEL",
    "LEASE_S",
    "Artefact",
    "ArtefactDamaged",
    "ArtefactsUnavailable",
    "EventKind",
    "Fault",
    "FeedFull",
    "FolderBusy",
    "IdempotencyConflict",
    "InvalidJob",
    "Job",
    "JobError",
    "JobEvent",
    "JobFeed",
    "JobState",
    "JobStoreUnavailable",
    "Jobs",
    "LeaseLost",
    "Left",
    "QueueFull",
    "SlowSubscriber",
    "TrainingSpec",
    "UnknownArtefact",
    "UnknownJob",
    "WorkerRow",
]
