"""Questions to models as JSON."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from privacy_finetuner.api.shapes.bodies import Amount, Answer, Body

PROMPT_MOST = 100_000


class GenerateBody(Body):
    """A prompt, and how to go on."""

    model: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1024,
            description="`job:JOB_ID` of a finished job, or a model of the list of models.",
            examples=["job:job_2k7w"],
        ),
    ]
    prompt: Annotated[str, Field(max_length=PROMPT_MOST, examples=["Patient reports"])]
    max_new_tokens: Annotated[int, Field(ge=1, le=2048)] = 64
    temperature: Annotated[float, Field(ge=0, le=10, description="0: the likeliest token.")] = 0.0
    redact: Annotated[
        Literal["low", "medium", "high"] | None,
        Field(default=None, description="Replace personal values in what the model writes."),
    ]


class GenerateAnswer(Answer):
    """What the model wrote."""

    model: str
    text: str
    redacted: bool
    model_privacy: Amount | None = Field(
        description="The guarantee that the model was trained with, which asking does not change; "
        "null for a model that was not trained here."
    )
