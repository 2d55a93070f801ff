"""Redaction as JSON. No answer holds a value that was found, but by `reveal`."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from privacy_finetuner.api.shapes.bodies import Answer, Body
from privacy_finetuner.context.results import (
    ProtectedValue,
    ProtectionResult,
    RedactionMap,
    RedactionReport,
)

TEXT_MOST: Final = 1_000_000
HIGH_MOST: Final = 100_000
"""At the level `high` a transformer reads: some ten thousand characters a second."""
BATCH_MOST: Final = 1000
DEPTH_MOST: Final = 100
Level = Literal["low", "medium", "high"]
StrategyName = Literal[
    "pii_removal",
    "entity_hashing",
    "semantic_encryption",
    "masking",
    "generalization",
    "surrogate",
    "format_preserving",
    "dropping",
]
Text = Annotated[str, Field(max_length=TEXT_MOST, examples=["Ask Ann Lee, ann@example.org"])]
Names = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=200)]
Values = Annotated[list[Annotated[str, Field(min_length=1, max_length=500)]], Field(max_length=500)]


class Settings(Body):
    """How to look, as the command line's options."""

    sensitivity_level: Level = "medium"
    strategies: Annotated[
        list[StrategyName],
        Field(default_factory=lambda: ["pii_removal"], min_length=1, max_length=8),
    ]
    sensitivity_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.8
    preserve_entities: Names = Field(default_factory=list)
    preserve_structure: bool = True
    names: bool = Field(default=True, description="Whether names are looked for with a model.")
    locales: Annotated[
        list[Annotated[str, Field(max_length=8, pattern=r"^([A-Za-z]{2,5}[-_])?[A-Za-z]{2}$")]]
        | None,
        Field(default=None, min_length=1, max_length=60),
    ]
    allow: Values = Field(default_factory=list)
    deny: Values = Field(default_factory=list)


class ProtectBody(Settings):
    """One text, one JSON value, or one chat."""

    text: Annotated[Text | None, Field(default=None)]
    value: Any = Field(default=None, description="Any JSON value; its strings are protected.")
    messages: Annotated[
        list[dict[str, Any]] | None, Field(default=None, min_length=1, max_length=1000)
    ]

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = self.model_fields_set & {"text", "value", "messages"}
        if len(given) != 1:
            raise ValueError("give exactly one of text, value and messages")
        if "text" in given and self.text is None:
            raise ValueError("text should be a string")
        if self.text is None:
            _require_room(self, _length(self.messages or self.value))
        else:
            _require_room(self, len(self.text))
        return self


class ExplainBody(Settings):
    """The text to explain."""

    text: Text

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _require_room(self, len(self.text))
        return self


class BatchBody(Settings):
    """Many texts, each a document of its own."""

    texts: Annotated[list[Text], Field(min_length=1, max_length=BATCH_MOST)]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _require_room(self, sum(map(len, self.texts)))
        return self


class RevealBody(Body):
    """A text with sealed values in it."""

    protected_text: Text
    only: Names = Field(default_factory=list, description="Types to reveal; empty: all.")
    reason: Annotated[str, Field(min_length=1, max_length=500, examples=["answer to the patient"])]


class MapAnswer(Answer):
    """Which replacements stand in the text, without what they stand for."""

    counts: dict[str, int]
    digests: dict[str, str] = Field(description="Keyed hashes, with `entity_hashing`.")
    sealed: dict[str, str] = Field(description="Tokens, with `semantic_encryption`.")

    @classmethod
    def of(cls, held: RedactionMap) -> Self:
        """A redaction map."""
        return cls(counts=held.counts, digests=held.digests, sealed=held.sealed)


class ProtectAnswer(Answer):
    """What was made of it."""

    protected_text: str | None = Field(description="Of a text.", examples=["Ask [PERSON], [EMAIL]"])
    protected_value: Any = Field(default=None, description="Of a value or a chat.")
    redaction_map: MapAnswer
    sensitivity_score: float
    entities_found: list[dict[str, Any]]

    @classmethod
    def of(cls, result: ProtectionResult | ProtectedValue) -> Self:
        """A result."""
        is_text = isinstance(result, ProtectionResult)
        return cls(
            protected_text=result.protected_text if isinstance(result, ProtectionResult) else None,
            protected_value=None if is_text else getattr(result, "value", None),
            redaction_map=MapAnswer.of(result.redaction_map),
            sensitivity_score=result.sensitivity_score,
            entities_found=[each.to_dict() for each in result.entities_found],
        )


class ExplainAnswer(Answer):
    """What would be redacted and why, by position. It holds no text."""

    level: str = Field(examples=["medium"])
    threshold: float
    sensitivity_score: float
    policy: str
    decisions: list[dict[str, Any]]
    limits: list[str]

    @classmethod
    def of(cls, report: RedactionReport) -> Self:
        """A report."""
        return cls(**report.to_dict())


class RevealAnswer(Answer):
    """The text in clear: personal data."""

    text: str = Field(examples=["Ask Ann Lee, ann@example.org"])
    revealed: dict[str, int]
    refused: dict[str, int] = Field(description="Tokens that stay, by reason.")


def _require_room(settings: Settings, characters: int) -> None:
    most = HIGH_MOST if settings.sensitivity_level == "high" else TEXT_MOST
    if characters > most:
        raise ValueError(f"should have at most {most} characters for the level that is asked for")


def _length(value: Any) -> int:
    """Characters of a JSON value, names and signs included.

    Raises:
        ValueError: it is nested more deeply than an answer can be.
    """
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEPTH_MOST:
            raise ValueError(f"should be nested at most {DEPTH_MOST} deep")
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner.extend(each.values())
            elif isinstance(each, list):
                inner.extend(each)
        level = inner
    return len(json.dumps(value, ensure_ascii=False))
