"""Values that a session already knows to be sensitive, and where they occur in a text.

A detector needs context: `123456789` beside `ssn` is a number of a person, alone it is not. Once it
was found, the session finds it everywhere: in the text copy of a structured result, in an error,
three calls later. Matching is exact but for case, between word borders, in linear time.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import ahocorasick_rs

CAPACITY: Final = 5000
SHORTEST: Final = 5
"""Shorter values are words and numbers of everyday use: they are only replaced where detected."""
# A day, an age or a town says little by itself, and occurs in texts about somebody else.
_NOT_CARRIED: Final = frozenset({"DATE", "TIME", "AGE", "LOCATION", "NATIONALITY", "PROFESSION"})
# "May Price" in one sentence must not turn "may price" in the next into a person.
_CASED: Final = frozenset({"PERSON", "ORGANIZATION"})
_SPELLINGS: Final = 8
_PENDING: Final = 16


class KnownValues:
    """A bounded set of values with their types. Not safe for several threads."""

    def __init__(self) -> None:
        self._labels: OrderedDict[str, str] = OrderedDict()
        self._spellings: dict[str, set[str]] = {}  # `MARIA HILL` and `Maria Hill` are one value
        self._pending: list[str] = []
        self._compiled: list[str] = []
        self._automaton: ahocorasick_rs.AhoCorasick | None = None

    def __len__(self) -> int:
        return len(self._labels)

    def __repr__(self) -> str:
        return f"KnownValues({len(self._labels)} values)"

    def add(self, value: str, label: str) -> None:
        """Remember a value; the oldest one goes when there are too many."""
        stripped = value.strip()
        folded = _fold(stripped)
        if len(folded) < SHORTEST or label in _NOT_CARRIED:
            return
        if folded in self._labels:
            spellings = self._spellings[folded]
            if len(spellings) < _SPELLINGS:
                spellings.add(stripped)
            return
        self._labels[folded] = label
        self._spellings[folded] = {stripped}
        self._pending.append(folded)
        if len(self._labels) > CAPACITY:
            del self._spellings[self._labels.popitem(last=False)[0]]
        if len(self._pending) > _PENDING:
            self._compiled = list(self._labels)
            self._automaton = ahocorasick_rs.AhoCorasick(
                self._compiled, matchkind=ahocorasick_rs.MatchKind.LeftmostLongest
            )
            self._pending = []

    def find(self, text: str) -> list[tuple[int, int, str]]:
        """Return (start, end, label) of every occurrence; they may overlap."""
        if len(text) < SHORTEST or not self._labels:
            return []
        folded = _fold(text)
        spans = []
        if self._automaton is not None:
            for index, start, end in self._automaton.find_matches_as_indexes(folded):
                spans.append((start, end, self._compiled[index]))
        for value in self._pending:
            start = folded.find(value)
            while start >= 0:
                spans.append((start, start + len(value), value))
                start = folded.find(value, start + len(value))
        return [
            (start, end, self._labels[value])
            for start, end, value in spans
            if self._stands(text, start, end, value)
        ]

    def _stands(self, text: str, start: int, end: int, folded: str) -> bool:
        """Whether the words at a span are the value, and not a part of something longer."""
        label = self._labels.get(folded, "")
        if not label or (label in _CASED and text[start:end] not in self._spellings[folded]):
            return False
        before = start == 0 or not (text[start - 1].isalnum() and text[start].isalnum())
        after = end == len(text) or not (text[end].isalnum() and text[end - 1].isalnum())
        return before and after


def _fold(text: str) -> str:
    """Lower case where that keeps the length, so that positions stay what they are."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)
