"""What the service says about training jobs. Figures are public or released, or `null`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from privacy_finetuner.api.shapes.bodies import Amount, Answer
from privacy_finetuner.jobs.model import Artefact, EventKind, Job, JobEvent, JobState

JobId = Annotated[str, Field(examples=["job_2k7w..."])]


class TrainingStarted(Answer):
    """The job was accepted, and is on the disk."""

    job_id: JobId
    status: Annotated[Literal["started"], Field(examples=["started"])] = "started"
    estimated_completion: Annotated[
        datetime | None,
        Field(examples=[None], description="Null until steps were measured; then see the status."),
    ] = None


class ReleasedMetrics(Answer):
    """The newest released figures; null before the first."""

    accuracy: Annotated[float | None, Field(examples=[0.87])]
    loss: Annotated[float | None, Field(examples=[0.23])]


class TrainingStatus(Answer):
    """Where a job stands, in the documented form."""

    job_id: JobId
    status: Annotated[JobState, Field(examples=["running"])]
    progress: Annotated[float, Field(ge=0, le=1, examples=[0.65])]
    current_epoch: Annotated[int, Field(ge=0, examples=[2], description="Epochs finished.")]
    privacy_spent: Amount
    metrics: ReleasedMetrics


class JobAnswer(Answer):
    """Everything about a job that its readers may see."""

    job_id: JobId
    name: str
    owner: Annotated[str, Field(examples=["u_0b5f..."])]
    status: Annotated[JobState, Field(examples=["running"])]
    priority: int
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int
    progress: Annotated[float, Field(ge=0, le=1)]
    step: int
    steps: Annotated[int, Field(description="Planned; 0 while unknown.")]
    current_epoch: int
    privacy_spent: Amount
    epsilon_planned: Annotated[
        float | None, Field(description="The price of the whole plan; null while unknown.")
    ]
    metrics: Annotated[dict[str, float], Field(description="Newest released figures.")]
    eta_s: Annotated[
        float | None, Field(description="Measured from this attempt's steps; null before.")
    ]
    estimated_completion: datetime | None
    cancel_requested: bool
    error_code: str | None
    error: str | None
    request: Annotated[
        dict[str, Any], Field(description="What was asked for, as it was understood.")
    ]
    outside_guarantee: Annotated[
        list[dict[str, Any]] | None,
        Field(description="Exact figures, only for those who may see them and ask by name."),
    ] = None

    @classmethod
    def of(
        cls,
        job: Job,
        request: Mapping[str, Any],
        *,
        completion: datetime | None,
        exact: list[dict[str, Any]] | None,
    ) -> Self:
        """What a job is; `request` and `completion` as its readers may see them."""
        same = (
            "name", "owner", "priority", "created_at", "updated_at", "started_at", "finished_at",
            "attempts", "progress", "step", "steps", "eta_s", "cancel_requested", "error_code",
            "error",
        )  # fmt: skip
        return cls(
            job_id=job.id,
            status=job.state,
            current_epoch=job.epoch,
            privacy_spent=Amount(epsilon=job.epsilon, delta=job.delta),
            epsilon_planned=job.epsilon_planned or None,
            metrics=dict(job.metrics),
            estimated_completion=completion,
            request=dict(request),
            outside_guarantee=exact,
            **{name: getattr(job, name) for name in same},
        )


class EventAnswer(Answer):
    """One line of a job's story."""

    job: JobId
    seq: Annotated[int, Field(ge=1)]
    at: datetime
    kind: EventKind
    body: dict[str, Any]

    @classmethod
    def of(cls, event: JobEvent) -> Self:
        """What an event says."""
        return cls(
            job=event.job, seq=event.seq, at=event.at, kind=event.kind, body=dict(event.body)
        )


class ArtefactAnswer(Answer):
    """A file that a job left."""

    name: Annotated[str, Field(examples=["report.html"])]
    size_bytes: int
    sha256: str
    media_type: str
    outside_guarantee: bool

    @classmethod
    def of(cls, artefact: Artefact) -> Self:
        """What a file is."""
        return cls(
            name=artefact.name,
            size_bytes=artefact.size_bytes,
            sha256=artefact.sha256,
            media_type=artefact.media_type,
            outside_guarantee=artefact.outside_guarantee,
        )


class Artefacts(Answer):
    """The files that a job left and that one may see."""

    items: list[ArtefactAnswer]


class TheoreticalGuarantees(Answer):
    """The price of the run's event: an upper bound on epsilon, computed and not estimated."""

    epsilon_theoretical: Annotated[float | None, Field(examples=[1.0])]
    confidence_level: Annotated[
        float | None,
        Field(examples=[None], description="Null: the bound holds always, it is no estimate."),
    ] = None


class GradientStats(Answer):
    """Released with noise inside the guarantee; null where nothing about it is released."""

    mean_norm: Annotated[float | None, Field(examples=[0.85])]
    clipping_rate: Annotated[float | None, Field(examples=[0.15])]


class PrivacyReportAnswer(Answer):
    """What was promised, spent and is left, in the documented form."""

    privacy_spent: Amount
    privacy_remaining: Annotated[
        Amount | None, Field(description="Null while a run that charges an account is under way.")
    ]
    theoretical_guarantees: TheoreticalGuarantees
    training_rounds: Annotated[int, Field(ge=0, examples=[1500])]
    gradient_stats: GradientStats


class Completion(Answer):
    """A job that was asked to end."""

    job_id: JobId
    status: Annotated[JobState, Field(examples=["running"])]
    cancel_requested: bool


def status_of(job: Job) -> dict[str, Any]:
    """The documented status of a job, as plain JSON: this answer is asked for most."""
    return {
        "job_id": job.id,
        "status": job.state.value,
        "progress": job.progress,
        "current_epoch": job.epoch,
        "privacy_spent": {"epsilon": job.epsilon, "delta": job.delta},
        "metrics": {"accuracy": job.metrics.get("accuracy"), "loss": job.metrics.get("loss")},
    }
