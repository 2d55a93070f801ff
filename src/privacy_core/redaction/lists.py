"""Lists of given values, found as whole words: Aho-Corasick, linear in the text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import ahocorasick_rs

from privacy_core.redaction.calibration import score
from privacy_core.redaction.findings import Finding

_EVIDENCE: Final = {
    "list.deny": ("on the deny list",),
    "name.propagated": ("a name found elsewhere in the text",),
}


class Terms:
    """Values with labels, to be found wherever they stand as whole words.

    Args:
        terms: (value, label) pairs; empty values are left out.
        rule: what findings say decided.
        exact_case: whether upper and lower case differ.
    """

    __slots__ = ("_automaton", "_exact", "_labels", "_rule")

    def __init__(
        self,
        terms: Iterable[tuple[str, str]],
        *,
        rule: str = "list.deny",
        exact_case: bool = False,
    ) -> None:
        fold = str if exact_case else _lower
        pairs = {fold(value): label for value, label in terms if value.strip()}
        self._labels = tuple(pairs.values())
        self._rule = rule
        self._exact = exact_case
        self._automaton = (
            ahocorasick_rs.AhoCorasick(
                list(pairs), matchkind=ahocorasick_rs.MatchKind.LeftmostLongest
            )
            if pairs
            else None
        )

    def find(self, text: str) -> list[Finding]:
        """Findings of whole words, in the order of the text, not overlapping."""
        if self._automaton is None:
            return []
        read = text if self._exact else _lower(text)
        matches = self._automaton.find_matches_as_indexes(read)
        return [
            Finding(
                start, end, self._labels[k], score(self._rule), self._rule, _EVIDENCE[self._rule]
            )
            for k, start, end in matches
            if _is_whole(text, start, end)
        ]


def _lower(text: str) -> str:
    """Lower case, character by character: as long as the text."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _is_whole(text: str, start: int, end: int) -> bool:
    before = text[start - 1 : start].isalnum() and text[start].isalnum()
    after = text[end : end + 1].isalnum() and text[end - 1].isalnum()
    return not before and not after
