"""The arguments of the tools, each with the words that a model reads before it fills it in."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field

LONGEST_WAIT_S: Final = 600.0

JobId: TypeAlias = Annotated[str, Field(description="Id of the job: job_...")]
ModelName: TypeAlias = Annotated[str, Field(description="A name from list_models.")]
DatasetPath: TypeAlias = Annotated[str, Field(description="A name from list_datasets.")]
Epsilon: TypeAlias = Annotated[
    float,
    Field(
        gt=0,
        description="Privacy budget of this job; smaller is more private. Ask the person if they "
        "did not say.",
    ),
]
Delta: TypeAlias = Annotated[
    float | None,
    Field(
        gt=0,
        lt=1,
        description="Slack; well below one over the number of records. Left out: what the service "
        "is configured for.",
    ),
]
Epochs: TypeAlias = Annotated[float | None, Field(gt=0, description="Passes over the data.")]
BatchSize: TypeAlias = Annotated[
    int | None, Field(ge=1, description="Expected records a step; large is less noisy.")
]
LearningRate: TypeAlias = Annotated[
    float | None, Field(gt=0, description="Left out: by a rule from public numbers.")
]
JobAccount: TypeAlias = Annotated[
    str | None, Field(description="Budget account of the data set: COHORT/SLICE.")
]
JobName: TypeAlias = Annotated[str | None, Field(max_length=128, description="For people.")]
RequestKey: TypeAlias = Annotated[
    str | None,
    Field(
        min_length=8,
        max_length=64,
        pattern=r"^[\x21-\x7e]+$",
        description="Anything unique. The same key never starts a second job: give the same one "
        "when you repeat a call whose answer you did not get.",
    ),
]
State: TypeAlias = Annotated[
    Literal["queued", "running", "succeeded", "failed", "cancelled"] | None,
    Field(description="Only jobs in this state."),
]
Mine: TypeAlias = Annotated[bool, Field(description="Only jobs of the caller.")]
Most: TypeAlias = Annotated[int, Field(ge=1, le=100, description="The newest so many.")]
Wait: TypeAlias = Annotated[
    float,
    Field(
        ge=0,
        le=LONGEST_WAIT_S,
        description="Wait so many seconds for the job to end, and report its progress meanwhile. "
        "0 answers at once.",
    ),
]
AnyAccount: TypeAlias = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=600,
        description="COHORT/SLICE of a data set, or quota/DEPARTMENT/...; left out: all accounts.",
    ),
]
Account: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=600, description="As `budget` names it.")
]
MoreEpsilon: TypeAlias = Annotated[float, Field(gt=0, le=1000, description="How much more.")]
Reason: TypeAlias = Annotated[
    str,
    Field(
        min_length=1,
        max_length=1000,
        description="For the officer, in the person's words; it is kept.",
    ),
]
Text: TypeAlias = Annotated[str, Field(max_length=1_000_000, description="Kept nowhere.")]
Level: TypeAlias = Annotated[
    Literal["low", "medium", "high"],
    Field(description="How readily: high replaces more, also what is harmless."),
]
