"""What a detector found, without the text it was found in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Finding:
    """One span of a text that identifies somebody or opens something.

    Attributes:
        start: index of the first character, in code points of the text that was given.
        end: index after the last character; `start < end`.
        label: name of an entity type (see `entities`).
        score: calibrated probability, in [0, 1], that the span is what the label says.
        rule: what decided, as `<recognizer>.<rule>`, for example `payment_card.luhn`.
        evidence: why, in words of our own tables (a context word, a checksum), never of the text.
    """

    start: int
    end: int
    label: str
    score: float
    rule: str
    evidence: tuple[str, ...] = ()


class NameTagger(Protocol):
    """Finds names of people, places and organisations."""

    def tag(self, text: str) -> Sequence[Finding]:
        """Return findings in the order of the text, not overlapping, in code points of `text`."""
        ...


class Detector(Protocol):
    """Finds everything that a policy redacts."""

    def detect(
        self, text: str, *, level: str = "medium", hints: Sequence[str] = ()
    ) -> tuple[Finding, ...]:
        """Return findings in the order of the text, not overlapping.

        Args:
            text: any string, also empty.
            level: `low`, `medium` or `high`: which entity types count, and from which score.
            hints: words that stand beside the text and are not in it (a column name, the key path
                of a JSON leaf, the question a form asks); they count as context words.
        """
        ...
