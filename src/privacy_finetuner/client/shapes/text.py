"""Redacted and generated text. Nothing of what was found is in here, but for `Revealed`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionMap:
    """Which replacements stand in a text, without what they stand for.

    Attributes:
        counts: by type.
        digests: keyed hashes.
        sealed: tokens, which lead back for whoever may reveal.
    """

    counts: Mapping[str, int]
    digests: Mapping[str, str]
    sealed: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Protected:
    """What was made of a text, or of a JSON value or a chat.

    Attributes:
        entities_found: types, positions and confidences.
    """

    protected_text: str | None = None
    protected_value: Any = None
    redaction_map: RedactionMap
    sensitivity_score: float
    entities_found: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectedLine(Protected):
    """One text of a batch, by its number."""

    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What would be redacted and why, by position. It holds no text."""

    level: str
    threshold: float
    sensitivity_score: float
    policy: str
    decisions: tuple[Mapping[str, Any], ...]
    limits: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Revealed:
    """A text in clear: personal data.

    Attributes:
        revealed: how many tokens were opened, by type.
        refused: tokens that stay, by reason.
    """

    text: str = field(repr=False)
    revealed: Mapping[str, int]
    refused: Mapping[str, int]
