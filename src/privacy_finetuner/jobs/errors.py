"""What the jobs room refuses, as a tree.

JobError
+-- InvalidJob           what was submitted cannot be run; carries every fault with its path
+-- IdempotencyConflict  the key was used before, for another job
+-- QueueFull            the organisation has too many jobs waiting
+-- UnknownJob           there is no such job in this organisation
+-- UnknownArtefact      the job left no such file
+-- ArtefactDamaged      what lies where a job's file should be is not the file that it left
+-- ArtefactsUnavailable the store of artefacts cannot be reached, or does not keep what it is given
+-- LeaseLost            a worker wrote for a job that is not its own any more; nothing was written
+-- FolderBusy           a process is still at work in the folder of a run
+-- SlowSubscriber       events came faster than they were taken; nothing is lost in the store
+-- FeedFull             too many subscribers in this process
+-- JobStoreUnavailable  the database is gone or refuses

Messages hold ids, names of fields and what the submitter wrote; never a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from privacy_core.errors import PrivacyError


class JobError(PrivacyError):
    """Base of what the jobs room refuses."""

    code: ClassVar[str] = "job_error"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a submission: where, and what was expected."""

    path: str
    message: str


class InvalidJob(JobError):
    """What was submitted cannot be run. Nothing was queued or spent."""

    code: ClassVar[str] = "invalid_job"

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(tuple(faults))
        self.faults = tuple(faults)

    def __str__(self) -> str:
        said = "; ".join(f"{fault.path}: {fault.message}" for fault in self.faults)
        return f"{said}; nothing was queued"


class IdempotencyConflict(JobError):
    """An idempotency key names one job, and this is another one. Nothing was queued."""

    code: ClassVar[str] = "idempotency_conflict"

    def __init__(self, job: str) -> None:
        super().__init__(job)
        self.job = job

    def __str__(self) -> str:
        return (
            f"the idempotency key was used for {self.job}, whose body differs; expected the same "
            "body or another key; nothing was queued"
        )


class QueueFull(JobError):
    """The organisation has as many jobs waiting as it may. Nothing was queued."""

    code: ClassVar[str] = "queue_full"

    def __init__(self, *, waiting: int) -> None:
        super().__init__(waiting)
        self.waiting = waiting

    def __str__(self) -> str:
        return f"{self.waiting} jobs are waiting already, which is the most; nothing was queued"


class UnknownJob(JobError):
    """There is no such job in this organisation; one of another organisation is no other case."""

    code: ClassVar[str] = "unknown_job"

    def __init__(self) -> None:
        super().__init__("there is no such job")


class UnknownArtefact(JobError):
    """The job left no such file."""

    code: ClassVar[str] = "unknown_artefact"

    def __init__(self) -> None:
        super().__init__("the job has no such artefact")


class ArtefactDamaged(JobError):
    """What lies in the place of a job's file is another, or cut. Nothing was handed out."""

    code: ClassVar[str] = "artefact_damaged"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return (
            f"what is kept of {self.name} has not the size and SHA-256 that the job recorded; "
            "nothing of it was handed out"
        )


class ArtefactsUnavailable(JobError):
    """The store of artefacts cannot be reached, or does not keep what it is given.

    A finished run waits for it; whoever reads may try again. The message names no address.
    """

    code: ClassVar[str] = "artefacts_unavailable"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the store of artefacts cannot be used: {self.reason}; nothing was lost"


class LeaseLost(JobError):
    """The job is not this worker's any more. Nothing was written."""

    code: ClassVar[str] = "lease_lost"

    def __init__(self, job: str) -> None:
        super().__init__(job)
        self.job = job

    def __str__(self) -> str:
        return f"{self.job} belongs to another attempt by now; nothing was written"


class FolderBusy(JobError):
    """A process holds the folder of a run. Nothing was done there."""

    code: ClassVar[str] = "folder_busy"

    def __init__(self, job: str) -> None:
        super().__init__(job)
        self.job = job

    def __str__(self) -> str:
        return f"a process is still at work in the folder of {self.job}; nothing was done there"


class SlowSubscriber(JobError):
    """A subscriber did not take its events in time and was let go.

    Every event is in the store: subscribe again after `last_seq`.
    """

    code: ClassVar[str] = "slow_subscriber"

    def __init__(self, *, last_seq: int) -> None:
        super().__init__(last_seq)
        self.last_seq = last_seq

    def __str__(self) -> str:
        return f"events were not taken in time; subscribe again after event {self.last_seq}"


class FeedFull(JobError):
    """This process has as many subscribers as it may. Nothing was subscribed."""

    code: ClassVar[str] = "feed_full"

    def __init__(self, *, subscribers: int) -> None:
        super().__init__(subscribers)
        self.subscribers = subscribers

    def __str__(self) -> str:
        return f"{self.subscribers} subscribers are there already, which is the most; try later"


class JobStoreUnavailable(JobError):
    """The database cannot be opened, or refuses. Unless stated otherwise, nothing was changed."""

    code: ClassVar[str] = "job_store_unavailable"

    def __init__(self, store: str, *, reason: str) -> None:
        super().__init__(store, reason)
        self.store = store
        self.reason = reason

    def __str__(self) -> str:
        return f"the jobs' store {self.store} cannot be used: {self.reason}"
