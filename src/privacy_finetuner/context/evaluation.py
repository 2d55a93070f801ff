"""Scores a detector on texts that people have marked.

The file is JSON lines, one text each: `{"id": ..., "text": ..., "spans": [[start, end, label]]}`,
places in code points. Labels of other schemes are translated (`label_schemes`). The result holds
counts and rates, never a text.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from privacy_core.redaction.entities import UnknownEntity
from privacy_core.redaction.findings import Detector, Finding
from privacy_core.redaction.scoring import (
    CharacterScore,
    Leak,
    Marked,
    Reliability,
    Score,
    Span,
    TypedScores,
    characters,
    leaks,
    reliability,
    typed,
)
from privacy_finetuner.context.label_schemes import canonical, counted_as
from privacy_finetuner.errors import DatasetError

Progress = Callable[[int], None]
_SHOWN_LINES: Final = 10
_ADDRESS: Final = "ADDRESS"
_ONLY_GAP: Final = re.compile(r"[\s,]*")


@dataclass(frozen=True, slots=True)
class MarkedText:
    """One line of the file. Its repr shows no text."""

    name: str
    text: str = field(repr=False)
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class MarkedFile:
    """A file of marked texts, in our labels.

    Attributes:
        texts: one for each line.
        labels: our labels that occur.
        mapped: the file's label to ours.
        left_out: marks that are not scored, by the file's label.
    """

    texts: tuple[MarkedText, ...]
    labels: frozenset[str]
    mapped: Mapping[str, str]
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What `redaction evaluate` reports.

    Attributes:
        texts: number of texts.
        level: sensitivity level of the detector.
        typed: spans with the right label, at an intersection over union of at least one half.
        exact: spans with the right label and the exact ends.
        characters: marked characters that any finding covers, of whatever label.
        character_precision: share of the characters of scored findings that are marked.
        calibration: whether scores are probabilities.
        leaks: what nothing covers, by label.
        file: the labels of the file, and what was left out of it.
        not_scored: findings with labels that the file never marks, by label; they count against
            precision only when `strict`.
        strict: whether they did.
        notes: what a reader has to know of the detector.
    """

    texts: int
    level: str
    typed: TypedScores
    exact: TypedScores
    characters: CharacterScore
    character_precision: float
    calibration: Reliability
    leaks: Mapping[str, Leak]
    file: MarkedFile
    not_scored: Mapping[str, int]
    strict: bool
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The document of `--json`. A rate without a denominator is None."""
        return {
            "texts": self.texts,
            "level": self.level,
            "micro": rates(self.typed.micro),
            "entities": {name: rates(score) for name, score in self.typed.entities.items()},
            "exact": {
                "micro": rates(self.exact.micro),
                "entities": {name: rates(score) for name, score in self.exact.entities.items()},
            },
            "character_recall": _number(self.characters.recall),
            "character_precision": _number(self.character_precision),
            "calibration": {
                "error": _number(self.calibration.error),
                "bins": [
                    {key: _number(value) for key, value in asdict(row).items()}
                    for row in self.calibration.bins
                ],
            },
            "leaks": {label: asdict(leak) for label, leak in self.leaks.items()},
            "labels": {
                "scored": sorted(self.file.labels),
                "mapped": dict(sorted(self.file.mapped.items())),
                "marks_left_out": dict(self.file.left_out),
                "findings_not_scored": dict(self.not_scored),
                "strict": self.strict,
            },
            "notes": list(self.notes),
        }


def rates(score: Score) -> dict[str, float | int | None]:
    """Precision, recall and F1 of one label, and the number of its marks."""
    return {
        "precision": _number(score.precision),
        "recall": _number(score.recall),
        "f1": _number(score.f1),
        "n": score.n,
    }


def read_marks(path: Path, *, ignore: Iterable[str] = ()) -> MarkedFile:
    """Read a file of marked texts.

    Args:
        path: JSON lines in UTF-8. Marks may be lists, or objects with `start`, `end` and `label`
            (or `type`); further items of a list are not looked at.
        ignore: labels of the file that are left out.

    Raises:
        DatasetError: lines that are not such a text (their numbers), or no line at all.
        UnknownEntity: a label that the table does not hold; `ignore` leaves it out.
        OSError: the file cannot be read.
    """
    ignored = {name.strip().upper() for name in ignore}
    texts: list[MarkedText] = []
    bad: list[tuple[int, str]] = []
    ours: dict[str, str | None] = {}
    left_out: Counter[str] = Counter()
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                name, text, marks = _read_line(line, number)
            except (ValueError, TypeError, KeyError, IndexError) as error:
                bad.append((number, _reason(error)))
                continue
            spans = []
            for start, end, label in marks:
                if label not in ours:
                    ours[label] = None if label.upper() in ignored else canonical(label)
                known = ours[label]
                if known is None:
                    left_out[label] += 1
                else:
                    spans.append(Span(start, end, known))
            texts.append(MarkedText(name, text, _whole_addresses(text, spans)))
    if bad:
        raise DatasetError(_bad_lines(path, bad))
    if not texts:
        raise DatasetError(f"{path} holds no text; expected one JSON object a line")
    mapped = {label: known for label, known in ours.items() if known is not None}
    labels = frozenset(span.label for each in texts for span in each.spans)
    return MarkedFile(tuple(texts), labels, mapped, dict(left_out.most_common()))


def evaluate(
    file: MarkedFile,
    detector: Detector,
    *,
    level: str = "high",
    strict: bool = False,
    progress: Progress = lambda done: None,
    notes: Sequence[str] = (),
) -> Evaluation:
    """Run a detector over marked texts and score what it finds.

    Args:
        file: the marked texts.
        detector: what is scored.
        level: sensitivity level; `high` has every type on.
        strict: findings whose label the file never marks count as wrong. Without it they are
            counted apart: that a file marks no dates does not make a date wrong.
        progress: called with the number of texts done, after each.
        notes: what a reader has to know of the detector.
    """
    scored: list[Marked] = []
    all_found: list[Marked] = []
    apart: Counter[str] = Counter()
    for done, each in enumerate(file.texts, start=1):
        found = detector.detect(each.text, level=level)
        apart.update(f.label for f in found if not counted_as(f.label, file.labels))
        scored.append(Marked(each.spans, _counted(each, found, file.labels, strict=strict)))
        whatever = [Span(f.start, f.end, f.label, f.score) for f in found]
        all_found.append(Marked(each.spans, whatever))
        progress(done)
    return Evaluation(
        texts=len(file.texts),
        level=level,
        typed=typed(scored),
        exact=typed(scored, iou=1),
        characters=characters(all_found),
        character_precision=characters(scored).precision,
        calibration=reliability(scored),
        leaks=leaks(all_found),
        file=file,
        not_scored=dict(apart.most_common()),
        strict=strict,
        notes=tuple(notes),
    )


def _counted(
    text: MarkedText, found: Iterable[Finding], labels: frozenset[str], *, strict: bool
) -> list[Span]:
    """Findings under the labels of a file; parts that a coarser label joins become one."""
    spans: list[Span] = []
    was_folded = False
    for finding in found:
        choices = counted_as(finding.label, labels)
        if not choices and not strict:
            continue
        label = _chosen(finding, choices, text.spans) if choices else finding.label
        span = Span(finding.start, finding.end, label, finding.score)
        folded = label != finding.label
        last = spans[-1] if spans else None
        if (
            last is not None
            and last.label == label
            and _ONLY_GAP.fullmatch(text.text, last.end, span.start)
            and (
                label == _ADDRESS or (folded != was_folded and _is_one_mark(text.spans, last, span))
            )
        ):
            spans[-1] = Span(last.start, span.end, label, max(last.score, span.score))
        else:
            spans.append(span)
        was_folded = folded
    return spans


def _whole_addresses(text: str, marks: Iterable[Span]) -> tuple[Span, ...]:
    """Marks in order; parts of an address that only spaces and commas part are one.

    Schemes differ in whether a street, its number and a flat are one mark or three.
    presidio-research joins neighbours of one label for the same reason before it scores.
    """
    joined: list[Span] = []
    last = -1  # place of the address that may go on
    for mark in sorted(marks, key=lambda span: (span.start, span.end)):
        if mark.label != _ADDRESS:
            joined.append(mark)
        elif last >= 0 and _ONLY_GAP.fullmatch(text, joined[last].end, mark.start):
            joined[last] = Span(joined[last].start, mark.end, _ADDRESS)
        else:
            last = len(joined)
            joined.append(mark)
    return tuple(joined)


def _chosen(finding: Finding, choices: Sequence[str], marks: Sequence[Span]) -> str:
    """The broader label of the mark that a finding meets; without one the nearest."""
    met = {m.label for m in marks if m.start < finding.end and finding.start < m.end}
    return next((label for label in choices if label in met), choices[0])


def _is_one_mark(marks: Sequence[Span], a: Span, b: Span) -> bool:
    """Whether one mark holds a part of both."""
    return any(
        m.label == a.label and m.start < a.end and b.start < m.end and m.end > a.start
        for m in marks
    )


def _read_line(line: str, number: int) -> tuple[str, str, list[tuple[int, int, str]]]:
    row = json.loads(line)
    text = row["text"]
    if not isinstance(text, str):
        raise TypeError("text")
    marks = [_read_mark(mark) for mark in row["spans"]]
    if any(not 0 <= start < end <= len(text) for start, end, _ in marks):
        raise IndexError("a span lies outside the text")
    return str(row.get("id", number)), text, marks


def _read_mark(mark: Any) -> tuple[int, int, str]:
    if isinstance(mark, Mapping):
        start, end, label = mark["start"], mark["end"], mark.get("label", mark.get("type"))
    else:
        start, end, label = mark[:3]
    if type(start) is not int or type(end) is not int or not isinstance(label, str):
        raise TypeError("span")
    return start, end, label


def _reason(error: Exception) -> str:
    """Why a line cannot be read, without any of it."""
    if isinstance(error, json.JSONDecodeError):
        return "not JSON"
    if isinstance(error, KeyError):
        return "text or spans are missing"
    if isinstance(error, IndexError):
        return "a span lies outside the text"
    return "expected a text and spans of [start, end, label]"


def _bad_lines(path: Path, bad: Sequence[tuple[int, str]]) -> str:
    shown = "; ".join(f"line {number}: {reason}" for number, reason in bad[:_SHOWN_LINES])
    more = f"; and {len(bad) - _SHOWN_LINES} more" if len(bad) > _SHOWN_LINES else ""
    return f"{path}: {len(bad)} lines are not marked texts: {shown}{more}; nothing was scored"


def _number(value: float) -> float | None:
    return None if isinstance(value, float) and math.isnan(value) else value


__all__ = [
    "Evaluation",
    "MarkedFile",
    "MarkedText",
    "UnknownEntity",
    "evaluate",
    "rates",
    "read_marks",
]
