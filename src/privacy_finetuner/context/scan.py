"""What a data set contains, before anybody trains on it: counts by column and type.

All figures are exact counts of private data: outside any privacy guarantee, for the holder of the
data and nobody else. No value is kept, except masked examples where they are asked for.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from privacy_core.redaction.canonical_forms import canonical
from privacy_core.redaction.entities import ENTITIES
from privacy_core.redaction.findings import Finding
from privacy_core.redaction.operators import Mask, Scope
from privacy_finetuner.context.batch import FileSettings
from privacy_finetuner.context.documents import files_below, records_of
from privacy_finetuner.context.guard import ContextGuard
from privacy_finetuner.context.pieces import Piece, Record
from privacy_finetuner.context.tables import HEADER
from privacy_finetuner.errors import DocumentError

OUTSIDE: Final = "exact counts of private data: outside any privacy guarantee, not for publishing"

# 45 CFR 164.514(b)(2)(i): the identifiers of the Safe Harbor method of de-identification.
SAFE_HARBOR: Final[dict[str, str]] = {
    "A": "names",
    "B": "places smaller than a state",
    "C": "dates (but years), ages over 89",
    "D": "telephone numbers",
    "E": "fax numbers",
    "F": "e-mail addresses",
    "G": "social security numbers",
    "H": "medical record numbers",
    "I": "health plan numbers",
    "J": "account numbers",
    "K": "certificate and licence numbers",
    "L": "vehicles and plates",
    "M": "devices and serial numbers",
    "N": "web addresses",
    "O": "IP addresses",
    "P": "biometric identifiers",
    "Q": "photographs of faces",
    "R": "any other unique number or code",
}
_EXAMPLES: Final = 3
_MOST_COLUMNS: Final = 500  # of one file
_WHOLE_COLUMN: Final = 0.8  # of a column's values: it holds nothing else
_OF_ONE_PERSON: Final = frozenset({"person", "contact", "government", "health", "thing", "network"})
_SECRETS: Final = frozenset({"SECRET"})
_CIRCLE: Final = frozenset({"DATE_OF_BIRTH", "POSTAL_CODE"})


@dataclass(slots=True)
class Tally:
    """One type of finding in one column.

    Attributes:
        findings: how many.
        records: in how many records.
        wrong: how many of the findings are expected to be wrong: the sum of 1 - score.
        whole: in how many records a finding is all of the value.
        examples: masked, where asked for.
    """

    findings: int = 0
    records: int = 0
    wrong: float = 0.0
    whole: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Column:
    """One column, or the place of a JSON leaf: how often it is filled, and with what."""

    values: int = 0
    characters: int = 0
    tallies: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))


@dataclass(slots=True)
class FileScan:
    """One file."""

    path: str
    records: int = 0
    affected: int = 0
    columns: dict[str, Column] = field(default_factory=lambda: defaultdict(Column))
    refused: str = ""


class Scan:
    """Counts what the files of a data set contain.

    Args:
        guard: whose detector looks.
        settings: level, and what columns are.
        show_masked: keep up to three masked examples of each type and column.
    """

    def __init__(
        self, guard: ContextGuard, settings: FileSettings, *, show_masked: bool = False
    ) -> None:
        self._guard, self._settings, self._show_masked = guard, settings, show_masked
        self.files: list[FileScan] = []
        self.records_with: Counter[str] = Counter()
        self.circles = 0
        # Values by hash(), which is keyed afresh in each process: counted, never kept.
        self._records_of: dict[str, Counter[int]] = defaultdict(Counter)

    def look(
        self, paths: Sequence[Path], on_file: Callable[[FileScan], None] = lambda _file: None
    ) -> None:
        """Look at every record of every file below `paths`. A file that cannot be read is noted.

        Raises:
            DocumentError: a path is not there, or a link leads out of a folder.
        """
        for path, place in files_below(paths):
            scanned = FileScan(str(place))
            try:
                for record in records_of(path, self._settings.options):
                    self._count(scanned, record)
            except (DocumentError, OSError) as error:
                scanned.refused = str(error) if isinstance(error, DocumentError) else "not readable"
            self.files.append(scanned)
            on_file(scanned)

    def _count(self, scanned: FileScan, record: Record) -> None:
        # The first row of a table names its columns; it is looked at, and is no record.
        scanned.records += not (record.pieces and record.pieces[0].column == HEADER)
        labels: set[str] = set()
        seen: set[tuple[str, int]] = set()
        per_column: dict[str, set[str]] = defaultdict(set)
        for piece in record.pieces:
            if not piece.text.strip():
                continue
            column = scanned.columns[self._place(scanned, piece)]
            column.values += 1
            column.characters += len(piece.text)
            for found in self._guard.lookout.findings(
                piece, self._settings.level, self._settings.columns
            ):
                value = piece.text[found.start : found.end]
                tally = column.tallies[found.label]
                _add(tally, found, value, piece.text)
                if self._show_masked and len(tally.examples) < _EXAMPLES:
                    tally.examples.append(Mask(keep_last=2).replace(value, found, Scope()))
                if found.label not in per_column[piece.column]:
                    per_column[piece.column].add(found.label)
                    tally.records += 1
                labels.add(found.label)
                seen.add((found.label, hash(canonical(found.label, value))))
        self.records_with.update(labels)
        scanned.affected += bool(labels)
        self.circles += labels >= _CIRCLE
        for label, value_hash in seen:
            self._records_of[label][value_hash] += 1

    def _place(self, scanned: FileScan, piece: Piece) -> str:
        """The column of a piece as it may be shown; keys that are data do not make columns."""
        name = self._guard.lookout.shown_column(piece.column) or "(text)"
        is_known = name in scanned.columns or len(scanned.columns) < _MOST_COLUMNS
        return name if is_known else "(other places)"

    @property
    def records(self) -> int:
        """How many records there are in all."""
        return sum(file.records for file in self.files)

    @property
    def affected(self) -> int:
        """How many of them hold anything that was found."""
        return sum(file.affected for file in self.files)

    def distinct(self, label: str) -> int:
        """How many different values of a type there are."""
        return len(self._records_of[label])

    def most_records_of_one(self, label: str) -> int:
        """In how many records the most frequent value of a type stands."""
        return max(self._records_of[label].values(), default=0)

    def entities(self) -> list[dict[str, Any]]:
        """The types that were found, the most frequent first."""
        totals: dict[str, Tally] = defaultdict(Tally)
        for file in self.files:
            for column in file.columns.values():
                for label, tally in column.tallies.items():
                    totals[label].findings += tally.findings
                    totals[label].wrong += tally.wrong
        return [
            {
                "label": label,
                "description": ENTITIES[label].description,
                "level": ENTITIES[label].level,
                "findings": tally.findings,
                "expected_wrong": round(tally.wrong, 1),
                "distinct": self.distinct(label),
                "records": self.records_with[label],
                "share_of_records": self.records_with[label] / max(1, self.records),
                "most_records_of_one": self.most_records_of_one(label),
            }
            for label, tally in sorted(totals.items(), key=lambda item: -item[1].findings)
        ]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        found = self.entities()
        return {
            "level": self._settings.level,
            "records": self.records,
            "records_affected": self.affected,
            "entities": found,
            "safe_harbor": _safe_harbor(found),
            "files": [_file_document(file, self._show_masked) for file in self.files],
            "advice": [*advice(self, found), *self._guard.lookout.notes(self._settings.level)],
            "note": OUTSIDE,
        }


def _add(tally: Tally, found: Finding, value: str, text: str) -> None:
    tally.findings += 1
    tally.wrong += 1.0 - found.score
    tally.whole += value.strip() == text.strip()


def _safe_harbor(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The eighteen identifiers, each with what was found of it."""
    rows = []
    for letter, name in SAFE_HARBOR.items():
        labels = [each for each in found if letter in ENTITIES[each["label"]].hipaa]
        rows.append(
            {
                "letter": letter,
                "name": name,
                "findings": sum(each["findings"] for each in labels),
                "labels": [each["label"] for each in labels],
                "is_looked_for": any(letter in each.hipaa for each in ENTITIES.values()),
            }
        )
    return rows


def _file_document(file: FileScan, show_masked: bool) -> dict[str, Any]:
    columns = []
    for name, column in file.columns.items():
        entities = []
        for label, tally in sorted(column.tallies.items(), key=lambda item: -item[1].records):
            entry: dict[str, Any] = {
                "label": label,
                "findings": tally.findings,
                "records": tally.records,
                "share_of_records": tally.records / max(1, file.records),
                "expected_wrong": round(tally.wrong, 1),
            }
            if show_masked:
                entry["masked_examples"] = tally.examples
            entities.append(entry)
        columns.append({"column": name, "values": column.values, "entities": entities})
    document = {
        "path": file.path,
        "records": file.records,
        "records_affected": file.affected,
        "columns": columns,
    }
    return document | ({"refused": file.refused} if file.refused else {})


def advice(scan: Scan, found: Sequence[Mapping[str, Any]]) -> list[str]:
    """What to do, the most pressing first."""
    by_label = {each["label"]: each for each in found}
    said: list[str] = []
    if _SECRETS & set(by_label):
        said.append(
            f"{by_label['SECRET']['findings']} passwords, keys or tokens: change them where they "
            "are used; whoever can read this data set could use them. Then redact at any level"
        )
    refused = [file.path for file in scan.files if file.refused]
    if refused:
        files = "file" if len(refused) == 1 else "files"
        said.append(f"{len(refused)} {files} could not be looked at: what is there is unknown")
    said += list(_whole_columns(scan.files))
    people = [each for each in found if ENTITIES[each["label"]].kind in _OF_ONE_PERSON]
    repeated = max(people, key=lambda each: each["most_records_of_one"], default=None)
    if repeated is not None and repeated["most_records_of_one"] > 1:
        said.append(
            f"one {repeated['label']} value stands in {repeated['most_records_of_one']} records: "
            "differential privacy for single records protects such a person less. Train with "
            "--unit user and a --user-field, or redact first"
        )
    if scan.circles:
        said.append(
            f"{scan.circles} records hold a date of birth and a postal code: with the sex, these "
            "name most people. Redact at level high, or generalise"
        )
    if found:
        least = max((each["level"] for each in found), key=["low", "medium", "high"].index)
        said.append(
            f"to redact all of this: privacy-finetuner protect PATH --output FOLDER --level {least}"
        )
    said.append(
        "a scan finds what has a form or reads like a name; it proves no absence. Train with "
        "differential privacy as well: it protects what nobody found"
    )
    return said


def _whole_columns(files: Iterable[FileScan]) -> Iterable[str]:
    """Columns that are identifiers as a whole: naming them is surer than finding each value."""
    for file in files:
        for name, column in file.columns.items():
            for label, tally in column.tallies.items():
                share = tally.whole / max(1, column.values)
                if column.values >= 5 and _WHOLE_COLUMN <= share < 1 - 1e-9:
                    missed = column.values - tally.whole
                    yield (
                        f"{file.path}: {math.floor(100 * share)} % of the values of column "
                        f"{name!r} are {label} as a whole, {missed} are not: "
                        f"say --column {name.rpartition('.')[2]}={label} to redact all of them"
                    )
