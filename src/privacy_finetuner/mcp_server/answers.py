"""What the tools answer: small values with a schema, for a reader with a short memory."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from privacy_finetuner.client.shapes.training import Job


class Told(BaseModel):
    """An answer. Made from a value of the SDK, field by field."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    @classmethod
    def of(cls, value: Any) -> Self:
        """The same, as an answer."""
        return cls.model_validate(value)


class Amount(Told):
    """An epsilon with the delta that belongs to it."""

    epsilon: float
    delta: float


class Started(Told):
    """A job that was accepted."""

    job_id: Annotated[str, Field(description="Names the job from now on.")]
    status: str
    estimated_completion: datetime | None


class Cancelled(Told):
    """A job that was asked to end."""

    job_id: str
    status: Annotated[str, Field(description="A running job takes some seconds to end.")]
    cancel_requested: bool


class JobSummary(Told):
    """A training job in short. Every figure is public or released with noise."""

    job_id: str
    name: str
    status: Annotated[str, Field(description="queued, running, succeeded, failed or cancelled.")]
    progress: Annotated[float, Field(description="Share of the planned steps, 0 to 1.")]
    step: int
    steps: Annotated[int, Field(description="Planned; 0 while unknown.")]
    privacy_spent: Annotated[Amount, Field(description="By this job so far.")]
    metrics: Annotated[dict[str, float | None], Field(description="Newest released figures.")]
    eta_s: Annotated[float | None, Field(description="Seconds to go; null while unmeasured.")]
    cancel_requested: bool
    error: Annotated[str | None, Field(description="Of a failed job: [code] and a sentence.")]

    @classmethod
    def of_job(cls, job: Job) -> Self:
        """What a job is, in short."""
        error = None if job.error is None else f"[{job.error_code}] {job.error}"
        fields = {name: getattr(job, name) for name in cls.model_fields if name != "error"}
        return cls.model_validate({**fields, "error": error})


class JobList(Told):
    """Jobs, newest first."""

    jobs: list[JobSummary]


class Report(Told):
    """What a job promised, spent and has left."""

    privacy_spent: Amount
    privacy_remaining: Annotated[
        Amount | None, Field(description="Null while a budget account decides it.")
    ]
    theoretical_guarantees: Annotated[
        dict[str, Any],
        Field(description="epsilon_theoretical: an upper bound that always holds."),
    ]
    training_rounds: Annotated[int, Field(description="Charged steps.")]
    gradient_stats: dict[str, float | None]


class Certificate(Told):
    """A signed certificate, as it was signed; anybody can recompute it."""

    job_id: str
    certificate: Annotated[str, Field(description="Keep byte for byte: the signature is over it.")]


class Names(Told):
    """Names that start_training accepts."""

    names: list[str]


class BudgetAccount(Told):
    """A budget account as it stands."""

    account: str
    is_guarantee: Annotated[
        bool, Field(description="Whether the cap is what the people in the data are promised.")
    ]
    epsilon: Annotated[float, Field(description="The lifetime cap.")]
    delta: float
    relation: str
    unit: str
    epsilon_spent: float
    epsilon_if_all_commit: Annotated[
        float, Field(description="With everything that running jobs have set aside.")
    ]
    epsilon_remaining: float
    share_used: Annotated[float, Field(description="Of the cap; 1 is full.")]


class BudgetList(Told):
    """Budget accounts, by name."""

    accounts: list[BudgetAccount]


class AskedBudget(Told):
    """A request for more budget, which an officer decides."""

    request_id: str
    account: str
    epsilon: float
    status: str
    requested_at: datetime


class ProtectedText(Told):
    """A text without the personal and secret values that were found in it."""

    protected_text: str
    counts: Annotated[
        dict[str, int], Field(description="How many values of each type were replaced.")
    ]
    sensitivity_score: float


class ExplainedText(Told):
    """What would be redacted and why, by position. It holds no text."""

    level: str
    threshold: float
    sensitivity_score: float
    policy: str
    decisions: list[dict[str, Any]]
    limits: Annotated[list[str], Field(description="What is known not to be found.")]
