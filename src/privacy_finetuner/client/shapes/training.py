"""Training jobs and models, as the service shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

FINAL: Final = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacySpent:
    """An epsilon with the delta that belongs to it."""

    epsilon: float
    delta: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedJob:
    """The answer to a submission: the job is on the disk of the service.

    Attributes:
        job_id: names the job from now on.
        status: `started`, or the state that an earlier request with the same key is in.
        estimated_completion: from measured step times; `None` while nothing was measured.
    """

    job_id: str
    status: str
    estimated_completion: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStatus:
    """Where a job stands, in the documented shape. Figures are public or released.

    Attributes:
        status: `queued`, `running`, `succeeded`, `failed` or `cancelled`.
        progress: share of the planned steps that is done, in [0, 1].
        current_epoch: epochs finished.
        privacy_spent: by this job so far.
        metrics: the newest released figures by name; `None` for one that was not released.
    """

    job_id: str
    status: str
    progress: float
    current_epoch: int
    privacy_spent: PrivacySpent
    metrics: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        """Whether nothing will happen any more."""
        return self.status in FINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as a whole. Figures are public or released.

    Attributes:
        job_id: `job_` and 26 letters and digits.
        status: `queued`, `running`, `succeeded`, `failed` or `cancelled`.
        step, steps: charged steps so far, and planned ones; 0 while unknown.
        privacy_spent: by this job so far.
        privacy_planned: epsilon of the whole run; `None` before it was planned.
        metrics: the newest released figures.
        eta_s: from the steps of this attempt; `None` before the second.
        error_code, error: of a failed job.
        request: what was asked for, as the service understood it.
    """

    job_id: str
    status: str
    name: str
    owner: str
    priority: int
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int
    progress: float
    step: int
    steps: int
    current_epoch: int
    privacy_spent: PrivacySpent
    privacy_planned: float | None = None
    metrics: Mapping[str, float | None]
    eta_s: float | None
    estimated_completion: datetime | None
    cancel_requested: bool
    error_code: str | None
    error: str | None
    request: Mapping[str, Any]

    @property
    def is_final(self) -> bool:
        """Whether nothing will happen any more."""
        return self.status in FINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """A job that was asked to end; a worker needs up to five seconds to see it."""

    job_id: str
    status: str
    cancel_requested: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """One line of a job's story. `seq` grows by one within a job, from 1.

    Attributes:
        kind: `state`, `step`, `epoch`, `evaluation`, `artefact`, or `exact` (outside the guarantee,
            sent to those who may see it).
        body: what happened, by name.
    """

    job: str
    seq: int
    at: datetime
    kind: str
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ends_the_job(self) -> bool:
        """Whether the job has ended with this event."""
        return self.kind == "state" and self.body.get("state") in FINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyReport:
    """What a job spent and what it has left, in the documented shape.

    Attributes:
        privacy_remaining: of the budget that the job was given; `None` while an account decides.
        theoretical_guarantees: `epsilon_theoretical`, the price of the event. `confidence_level` is
            `None`: a price is no estimate.
        training_rounds: charged steps.
        gradient_stats: released figures; `None` for one that was not released.
    """

    privacy_spent: PrivacySpent
    privacy_remaining: PrivacySpent | None
    theoretical_guarantees: Mapping[str, Any] = field(default_factory=dict)
    training_rounds: int = 0
    gradient_stats: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """A file that a job left.

    Attributes:
        name: how to ask for it.
        sha256: of its content, in hexadecimal.
        outside_guarantee: whether it holds figures that the guarantee does not cover.
    """

    name: str
    size_bytes: int
    sha256: str
    media_type: str = "application/octet-stream"
    outside_guarantee: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtefactEntries:
    """The files that a job left and that one may see."""

    items: tuple[Artefact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A model that a job may name.

    Attributes:
        origin: `sample`, `folder`, `hub`, or `job` for the model of a finished one.
    """

    name: str
    origin: str
    size_bytes: int | None = None
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntries:
    """All models that one may name."""

    items: tuple[ModelEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetEntry:
    """A data set that a job may name. Nothing in here was read from its records."""

    name: str
    size_bytes: int | None = None
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SentDataset:
    """A data set that was sent and is there; `sha256` is that of what was sent."""

    name: str
    size_bytes: int
    sha256: str
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetEntries:
    """All data sets that one may name."""

    items: tuple[DatasetEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateEntry:
    """A certificate in short; its file is `training_certificate(job_id)`."""

    job_id: str
    id: str
    epsilon: float
    delta: float
    relation: str
    unit: str
    issued_at: datetime
    expires_at: datetime
    key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Whether a certificate is genuine, recomputed from the certificate alone.

    Attributes:
        code: why not; `None` where it is.
        guarantee: what it promises; `None` where it is not genuine.
    """

    is_genuine: bool
    verdict: str
    code: str | None = None
    findings: tuple[str, ...] = ()
    guarantee: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What a model wrote.

    Attributes:
        redacted: whether personal values in it were looked for and replaced.
        model_privacy: the guarantee that the model was trained with; `None` for one that was not
            trained by this service.
    """

    model: str
    text: str
    redacted: bool
    model_privacy: PrivacySpent | None
