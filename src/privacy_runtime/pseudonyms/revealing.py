"""What came of a search for tokens: the text with values in their places, and what was refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Reason(StrEnum):
    """Why a token stays a token."""

    NOT_AUTHENTIC = "not authentic"  # changed, re-typed, or sealed for another tenant
    UNKNOWN_KEY = "unknown key"
    UNKNOWN_CODE = "unknown token"  # never given out in this session, expired, or erased
    NOT_ALLOWED = "type not allowed"


@dataclass(frozen=True, slots=True)
class Restored:
    """One token that was replaced by its value.

    Attributes:
        start: index of its first character in the text that was given.
        end: index after its last.
        label: entity type.
        value: what it stood for; not shown.
    """

    start: int
    end: int
    label: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """One token that stays a token.

    Attributes:
        start: index of its first character in the text that was given.
        end: index after its last.
        label: entity type that it claims.
        reason: why.
    """

    start: int
    end: int
    label: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Revealed:
    """A text with values in the place of tokens. Shows counts only.

    Attributes:
        text: the text.
        restored: tokens that were replaced, in order.
        refused: tokens that were not, in order.
    """

    text: str = field(repr=False)
    restored: tuple[Restored, ...] = field(repr=False)
    refused: tuple[Refused, ...]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many tokens were restored, by entity type."""
        return Counter(found.label for found in self.restored)


def reveal_spans(text: str, found: Iterable[Restored | Refused]) -> Revealed:
    """Put values into a text; `found` is in order of the text and does not overlap."""
    pieces: list[str] = []
    restored: list[Restored] = []
    refused: list[Refused] = []
    at = 0
    for token in found:
        if isinstance(token, Refused):
            refused.append(token)
            continue
        pieces += (text[at : token.start], token.value)
        restored.append(token)
        at = token.end
    pieces.append(text[at:])
    return Revealed("".join(pieces), tuple(restored), tuple(refused))
