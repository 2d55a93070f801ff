"""Which findings count: the detector of each level, the threshold, and what columns say.

The part of a guard that looks. What it sees is replaced elsewhere (`guard`, `strategies`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from privacy_core.errors import InvalidParameter
from privacy_core.redaction.entities import resolve
from privacy_core.redaction.findings import Detector, Finding, NameTagger
from privacy_core.redaction.marks import Mark, blanked, find_marks
from privacy_core.redaction.operators import Placeholder, Scope
from privacy_core.redaction.rewriting import moved, rewrite
from privacy_finetuner.context.json_text import KEY
from privacy_finetuner.context.pieces import Piece, digits_of, without_surrogates, words_of
from privacy_finetuner.context.thresholds import lowest_score
from privacy_finetuner.errors import ConfigurationError

Columns: TypeAlias = Mapping[str, str]
"""Name of a column or key -> entity type of all that stands there, or `keep`."""

KEEP: Final = "keep"
NO_NAMES: Final = "names of people, places and organisations were not looked for"

# By their place in a message: inside a tool call's arguments `id` and `type` are anybody's words.
MESSAGE_FRAME: Final = {
    f"[].{place}": KEEP
    for place in (
        *("role", "type", "id", "tool_call_id", "{key}"),
        *("content[].type", "content[].id", "content[].tool_use_id", "content[].{key}"),
        *("tool_calls[].id", "tool_calls[].type", "tool_calls[].{key}"),
        "tool_calls[].function.{key}",
    )
}

_REMEMBERED: Final = 4096
_ADDRESS: Final = "URL"
_DOTTED: Final = re.compile(r"[A-Za-z0-9_.\[\]{}]+")
_FIELD: Final = re.compile(r"[a-z0-9_]+")
_PART: Final = re.compile(r"[^/?&=#;]+")
_HIDDEN: Final = Placeholder(numbered=False)


class Lookout:
    """Says what counts in a piece of text. See `ContextGuard` for the arguments."""

    def __init__(
        self,
        *,
        threshold: float,
        detector: Detector | None = None,
        names: NameTagger | Literal["shipped"] | None = "shipped",
        locales: Sequence[str] | None = None,
        allow: Sequence[str] = (),
        deny: Sequence[str] = (),
    ) -> None:
        if not 0 <= threshold < 1:
            raise InvalidParameter(
                "sensitivity_threshold", found=threshold, expected="a number in [0, 1)"
            )
        self._threshold = threshold
        self._own, self._names, self._locales = detector, names, locales
        self._allow, self._deny = tuple(allow), tuple(deny)
        self._detectors: dict[str, Detector] = {}
        self._notes: dict[str, tuple[str, ...]] = {}
        self._columns: dict[str, str] = {}
        self._keys: dict[tuple[Piece, str, bool], list[Finding]] = {}

    @property
    def arguments(self) -> dict[str, Any]:
        """What this was made with, by the names of `ContextGuard`."""
        return {
            "detector": self._own,
            "names": self._names,
            "locales": self._locales,
            "allow": self._allow,
            "deny": self._deny,
        }

    @property
    def looks_for_names(self) -> bool:
        """Whether sentences matter to what is found."""
        return self._own is not None or self._names is not None

    def settings(self) -> dict[str, Any]:
        """What decides what is found, as JSON, without a value of the lists."""
        lists = json.dumps([sorted(self._allow), sorted(self._deny)])
        return {
            "sensitivity_threshold": self._threshold,
            "locales": None if self._locales is None else list(self._locales),
            "lists": hashlib.sha256(lists.encode("utf-8", "surrogatepass")).hexdigest()[:16],
            "names": self._names if isinstance(self._names, str) else type(self._names).__name__,
            "detector": type(self._own).__name__,
        }

    def threshold(self, level: str) -> float:
        """The lowest score that counts at a level; see `context.thresholds`."""
        return lowest_score(level, self._threshold)

    def counts(self, finding: Finding, level: str) -> bool:
        """Whether a finding is redacted; what somebody put on the deny list always is."""
        return finding.score >= self.threshold(level) or finding.rule == "list.deny"

    def findings(
        self,
        piece: Piece,
        level: str,
        columns: Columns | None = None,
        *,
        preserved: Collection[str] = (),
        marks: Callable[[str], Iterable[Mark]] = find_marks,
    ) -> list[Finding]:
        """What counts in a piece: by the rule of its column, or by the detector.

        Args:
            piece: the text, with what stands beside it.
            level: sensitivity level.
            columns: rules with canonical names (`rules_of`).
            preserved: types that stay; an address that stays is looked into.
            marks: finds what was protected before; its words are no context for anything.
        """
        rule = columns.get(piece.column, columns.get(piece.name)) if columns else None
        if rule == KEEP:
            return []
        if rule is not None:
            return _whole(piece.text, rule)
        if piece.name != KEY or "[" in piece.text:  # whether a mark is genuine, `marks` says
            return self._found(piece, level, preserved, marks)
        # Keys of JSON repeat from record to record, and are most of its strings.
        opens = _ADDRESS in preserved
        known = self._keys.get((piece, level, opens))
        if known is None:
            if len(self._keys) >= _REMEMBERED:
                self._keys.clear()
            known = self._found(piece, level, preserved, marks)
            self._keys[piece, level, opens] = known
        return known

    def _found(
        self,
        piece: Piece,
        level: str,
        preserved: Collection[str],
        marks: Callable[[str], Iterable[Mark]],
    ) -> list[Finding]:
        detector = self.detector(level, preserved)
        digits = digits_of(piece.text)
        if digits is not None:
            found = detector.detect(digits, level=level, hints=piece.hints)
            whole = [finding for finding in found if self.counts(finding, level)]
            if whole:
                start = len(piece.text) - len(piece.text.lstrip())
                return [moved(whole[0], start, len(piece.text.rstrip()))]
        text = without_surrogates(blanked(piece.text, marks(piece.text)))
        found = detector.detect(text, level=level, hints=piece.hints)
        return [finding for finding in found if self.counts(finding, level)]

    def shown_column(self, column: str) -> str:
        """A column's name as it may be shown: keys of JSON can be values themselves."""
        known = self._columns.get(column)
        if known is None:
            if len(self._columns) >= _REMEMBERED:
                self._columns.clear()
            found = self._in_name(column) if column else []
            known = rewrite(column, found, lambda _finding: _HIDDEN, Scope()).text
            self._columns[column] = known
        return known

    def _in_name(self, column: str) -> list[Finding]:
        """What is a value in a column's name: `patient.name` is no page, `patient.ssn` nobody."""
        kept = []
        for finding in self.findings(Piece(column), "high"):
            text = column[finding.start : finding.end]
            is_path = finding.label == _ADDRESS and _DOTTED.fullmatch(text) is not None
            is_word = finding.rule.startswith("names.") and _FIELD.fullmatch(text) is not None
            if not is_path and not (is_word and not self.findings(Piece(text), "high")):
                kept.append(finding)
        return kept

    def notes(self, level: str) -> tuple[str, ...]:
        """What a reader of results must know: a model that is not there, names not looked for."""
        self.detector(level)
        return self._notes.get(level, (NO_NAMES,) if not self.looks_for_names else ())

    def detector(self, level: str, preserved: Collection[str] = ()) -> Detector:
        """The detector of a level; one that looks into addresses, if they are preserved."""
        known = self._own or self._detectors.get(level)
        if known is None:
            known = self._detectors[level] = self._made(level)
        return _InAddresses(known) if _ADDRESS in preserved else known

    def _made(self, level: str) -> Detector:
        from privacy_core.redaction.detection import PatternDetector  # noqa: PLC0415 -- tables

        names = self._names
        if names == "shipped":
            from privacy_runtime.names import shipped  # noqa: PLC0415 -- loads a model

            names = shipped(level)
            self._notes[level] = names.notes
        return PatternDetector(names, allow=self._allow, deny=self._deny, locales=self._locales)


class _InAddresses:
    """Finds, instead of an address, what its parts carry; the name before a value is its hint."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def detect(
        self, text: str, *, level: str = "medium", hints: Sequence[str] = ()
    ) -> tuple[Finding, ...]:
        """See `Detector`."""
        found: list[Finding] = []
        for finding in self._detector.detect(text, level=level, hints=hints):
            if finding.label != _ADDRESS:
                found.append(finding)
                continue
            beside: tuple[str, ...] = ()
            for part in _PART.finditer(text, finding.start, finding.end):
                found += [
                    moved(inner, part.start() + inner.start, part.start() + inner.end)
                    for inner in self._detector.detect(part[0], level=level, hints=beside)
                    if inner.label != _ADDRESS
                ]
                beside = (words_of(part[0]),)
        return tuple(found)


def labels_of(names: Iterable[str] | None) -> frozenset[str]:
    """Canonical names of entity types.

    Raises:
        ConfigurationError: one string instead of a list. UnknownEntity: names the nearest.
    """
    if names is None:
        return frozenset()
    if isinstance(names, str):
        raise ConfigurationError("preserve_entities is one string, expected a list of names")
    return frozenset(resolve(name).name for name in names)


def rules_of(columns: Columns | None) -> Columns | None:
    """The rules of columns, with canonical names.

    Raises:
        UnknownEntity: a rule is no entity type, and not `keep`.
    """
    if not columns:
        return None
    return {name: rule if rule == KEEP else resolve(rule).name for name, rule in columns.items()}


def _whole(text: str, label: str) -> list[Finding]:
    """All of a cell, as its column says."""
    start = len(text) - len(text.lstrip())
    end = len(text.rstrip())
    return [Finding(start, end, label, 1.0, "column.named")] if start < end else []
