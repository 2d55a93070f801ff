"""What a job is: values that the API, the pages, the SDK and the workers share.

::

    queued -> running -> succeeded
       |         |---->  failed
       |         |---->  cancelled     by a person; what had been charged stays charged
       |         '---->  queued        the worker died; the next one resumes from its checkpoint
       '-------------->  cancelled
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing will happen any more."""
        return self in FINAL


FINAL: Final = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class EventKind(StrEnum):
    """What a line of a job's story is about."""

    STATE = "state"  # body: state, and reason, attempt, code, message
    STEP = "step"  # body: step, steps, epoch, epsilon, epsilon_planned, delta, eta_s, clip_norm
    EPOCH = "epoch"  # body: epoch, step, epsilon, loss, accuracy, gradient_norm, clipping_rate, ...
    EVALUATION = "evaluation"  # body: step and scores of public records
    EXACT = "exact"  # figures outside the guarantee: for RESULTS_OUTSIDE_GUARANTEE only
    ARTEFACT = "artefact"  # body: name, size_bytes, sha256, media_type, outside_guarantee


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec:
    """What to train: checked in full before a job is accepted.

    Attributes:
        model: name or path of the model, as the service allows.
        dataset: path of the records, as the service allows, or `mcp://SERVER/ADDRESS`.
        privacy: keywords of `PrivacyConfig`.
        training: keywords of `PrivateTrainer.train`, without `dataset` and `output_dir`.
        account: of the records in the ledger.
        quota: whose quota is charged besides.
        certificate: issue a certificate when done.
    """

    model: str
    dataset: str
    privacy: Mapping[str, Any]
    training: Mapping[str, Any] = field(default_factory=dict)
    account: str | None = None
    quota: str | None = None
    certificate: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job as it stands. Figures in here are public or released.

    Attributes:
        id: `job_` and 26 letters and digits.
        tenant: the organisation it belongs to.
        owner: id of the user who submitted it.
        priority: higher first, within a tenant; -10 to 10.
        attempts: how often a worker took it.
        step, steps: charged steps so far; planned ones, 0 while unknown.
        epoch: epochs finished.
        epsilon, delta: while it runs, the price of a run that was planned to end at `step`; once it
            has ended, what counts as spent: the whole plan, if a step was charged
            (docs/decisions/0006). 0.0 before the first step.
        epsilon_planned: the price of the whole plan; 0.0 while unknown.
        metrics: the newest released figures: `loss`, `accuracy`, `gradient_norm`, `clipping_rate`.
        eta_s: measured from the steps of this attempt; `None` before the second step.
        cancel_requested: somebody asked for its end, which comes within seconds.
        error_code, error: of a failed job; never the data.
    """

    id: str
    tenant: str
    owner: str
    name: str
    spec: TrainingSpec
    state: JobState
    priority: int
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: int = 0
    worker: str | None = None
    step: int = 0
    steps: int = 0
    epoch: int = 0
    epsilon: float = 0.0
    delta: float = 0.0
    epsilon_planned: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    eta_s: float | None = None
    cancel_requested: bool = False
    error_code: str | None = None
    error: str | None = None

    @property
    def progress(self) -> float:
        """The share of the planned steps that is done, in [0, 1]."""
        if self.state is JobState.SUCCEEDED:
            return 1.0
        return min(1.0, self.step / self.steps) if self.steps else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """One line of a job's story. `seq` grows by one within a job, from 1."""

    job: str
    seq: int
    at: datetime
    kind: EventKind
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """A file that a job left: `model.safetensors`, `report.html`, `certificate.json`, ..."""

    name: str
    size_bytes: int
    sha256: str
    media_type: str
    outside_guarantee: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """A worker as it was last heard of.

    Attributes:
        host, process: where it runs.
        job: what it works on; `None`: it waits.
        is_alive: heard of within the time of a lease.
    """

    id: str
    host: str
    process: int
    started_at: datetime
    seen_at: datetime
    job: str | None
    is_alive: bool
