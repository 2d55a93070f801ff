"""A series from a CSV file (`timestamp`, `value`), and what a watch says of it."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

from pipeline_guard.detection.stream import SeriesWatch
from pipeline_guard.errors import MonitoringError

FAULTS_SHOWN: Final = 10
_MISSING: Final = frozenset({"", "nan", "null", "none", "na"})


@dataclass(frozen=True, slots=True)
class Point:
    """A row: the timestamp as it is written, its time in seconds since 1970, and the value."""

    timestamp: str
    time_s: float
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a watch says of a row.

    Attributes:
        timestamp: as it is written in the file.
        value: `None` for a row without one.
        score: in the unit of the profile.
        alarm: whether it alarms.
        state: learning, watching, missing or late (`pipeline_guard.detection.stream`).
    """

    timestamp: str
    value: float | None
    score: float
    alarm: bool
    state: str


def findings(points: list[Point], watched: SeriesWatch) -> list[Finding]:
    """Show every point to the watch, in the order of the file."""
    return [_finding(point, watched) for point in points]


def _finding(point: Point, watched: SeriesWatch) -> Finding:
    outcome = watched.update(point.time_s, point.value)
    return Finding(
        timestamp=point.timestamp,
        value=point.value if math.isfinite(point.value) else None,
        score=outcome.score,
        alarm=outcome.alarm,
        state=outcome.state.value,
    )


def read_series(path: Path) -> list[Point]:
    """Read a file: UTF-8, a header, one row a point; other columns are ignored.

    A timestamp is a number of seconds since 1970, or ISO 8601 (without a zone: UTC). An empty
    value, `nan`, `null` or `na` means that there was none; `inf` is a value.

    Raises:
        MonitoringError: the file cannot be read, or is not one; every fault is named by its line,
            the first ten in the message and all in `details["faults"]`. Contents are not quoted.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            points, faults = _parsed(stream)
    except OSError as error:
        raise MonitoringError(
            f"{path} cannot be read: {error.strerror}; nothing was looked at"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise MonitoringError(
            f"{path} is not a CSV file in UTF-8; nothing was looked at"
        ) from error
    if not points and not faults:
        faults = ["2: a row was expected, the file ends"]
    if faults:
        shown = "; ".join(f"{path}:{fault}" for fault in faults[:FAULTS_SHOWN])
        more = len(faults) - FAULTS_SHOWN
        tail = f"; and {more} more" if more > 0 else ""
        raise MonitoringError(f"{shown}{tail}; nothing was looked at", {"faults": faults})
    return points


def _parsed(stream: TextIO) -> tuple[list[Point], list[str]]:
    rows = csv.reader(stream)
    header = [name.strip().lower() for name in next(rows, [])]
    places = [header.index(name) if name in header else -1 for name in ("timestamp", "value")]
    if min(places) < 0:
        return [], ["1: a header with the columns timestamp and value was expected"]
    points: list[Point] = []
    faults: list[str] = []
    for fields in rows:
        if not fields:
            continue
        parsed = list(_row(fields, places))
        faults += [f"{rows.line_num}: {fault}" for fault in parsed if isinstance(fault, str)]
        points += [point for point in parsed if isinstance(point, Point)]
    return points, faults


def _row(fields: list[str], places: list[int]) -> Iterator[Point | str]:
    """The point of a row, or what is wrong with it."""
    if len(fields) <= max(places):
        yield "the row has too few columns"
        return
    timestamp, text = (fields[place].strip() for place in places)
    time_s, value = _time_s(timestamp), _value(text)
    if time_s is None:
        yield "the timestamp is neither ISO 8601 nor a number of seconds"
    if value is None:
        yield "the value is not a number"
    if time_s is not None and value is not None:
        yield Point(timestamp, time_s, value)


def _time_s(text: str) -> float | None:
    number = _value(text)
    if number is not None:
        return number if math.isfinite(number) else None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()


def _value(text: str) -> float | None:
    if text.lower() in _MISSING:
        return math.nan
    try:
        return float(text)
    except ValueError:
        return None


def to_json(finding: Finding) -> dict[str, Any]:
    """Return a finding as JSON values."""
    return {
        "timestamp": finding.timestamp,
        "value": finding.value,
        "score": finding.score,
        "alarm": finding.alarm,
        "state": finding.state,
    }
