"""Many points in one request body: a JSON list, or Prometheus' text format.

A body is taken whole or refused whole; the error says where and what, never a value. The parser of
`prometheus_client` reads the same format at a quarter of the speed, below what one worker has to
take in (`benchmarks/guard_store.py`); a test holds the two against each other.

Sources: https://prometheus.io/docs/instrumenting/exposition_formats/, "Text format details";
RFC 8259 (JSON; `null` stands for "no value", because JSON has no NaN).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from pipeline_guard.errors import MonitoringError
from pipeline_guard.metrics_store.queries import EPOCH, MICROSECOND
from pipeline_guard.model import MetricPoint

POINTS_MAX: Final = 10_000
"""Of one body; what a store records in one transaction."""

_LARGEST: Final = 1e308
_FIELDS: Final = frozenset({"timestamp", "component", "metric_name", "value", "labels"})
_LINE: Final = re.compile(
    r"([a-zA-Z_:][a-zA-Z0-9_:]*)[ \t]*(?:\{((?:[^\"}]|\"(?:[^\"\\]|\\.)*\")*)\})?"
    r"[ \t]*(\S+)(?:[ \t]+(-?\d+))?[ \t]*"
)
_LABEL: Final = re.compile(r"\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*\"((?:[^\"\\]|\\.)*)\"\s*(?:,|$)")
_ESCAPE: Final = re.compile(r"\\(.)")
_ESCAPED: Final = {"n": "\n", "\\": "\\", '"': '"'}
_MILLISECOND: Final = 1000 * MICROSECOND


def parse(
    body: bytes, content_type: str, *, now: datetime, component: str = "custom"
) -> list[MetricPoint]:
    """Return the points of a body.

    Args:
        body: JSON where `content_type` begins with `application/json`, else the text format.
        content_type: the header of the request.
        now: the time of points that have none.
        component: of points that name none.

    Raises:
        MonitoringError: it is neither, or has more than 10,000 points; nothing was recorded.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise _refusal("the body", "UTF-8 text") from None
    if content_type.partition(";")[0].strip().lower() == "application/json":
        return parse_json(text, now=now, component=component)
    return parse_text(text, now=now, component=component)


def parse_json(text: str, *, now: datetime, component: str = "custom") -> list[MetricPoint]:
    """Return the points of a JSON list of objects with the fields of `MetricPoint`.

    `metric_name` and `value` are needed. `timestamp` is ISO 8601, or seconds since 1970.

    Raises:
        MonitoringError: it is something else; nothing was recorded.
    """
    try:
        rows = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _refusal("the body", "a JSON list of points") from None
    if not isinstance(rows, list):
        raise _refusal("the body", "a JSON list of points")
    _require_few(len(rows))
    return [_point_of(row, place, now, component) for place, row in enumerate(rows)]


def parse_text(text: str, *, now: datetime, component: str = "custom") -> list[MetricPoint]:
    """Return the samples of a text exposition; a label `component` names the component.

    Times are milliseconds since 1970. Types and help are passed over: a histogram is its samples.

    Raises:
        MonitoringError: a line is not one; nothing was recorded.
    """
    points: list[MetricPoint] = []
    known: dict[str, tuple[str, dict[str, str] | None]] = {"": (component, None)}
    for number, line in enumerate(map(str.strip, text.split("\n")), start=1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise _refusal(f"line {number}", 'NAME{LABEL="VALUE"} NUMBER [MILLISECONDS]')
        name, braces, value, milliseconds = match.groups(default="")
        if braces not in known:
            labels = _labels(braces, number)
            known[braces] = (labels.pop("component", component), labels or None)
        owner, shared = known[braces]
        at = now
        if milliseconds:
            at = _instant(int(milliseconds), number)
        own = None if shared is None else dict(shared)
        points.append(MetricPoint(at, owner, name, _number(value, number), own))
    _require_few(len(points))
    return points


def _labels(braces: str, number: int) -> dict[str, str]:
    found: dict[str, str] = {}
    place = 0
    while place < len(braces):
        match = _LABEL.match(braces, place)
        if match is None or match[1] in found:
            raise _refusal(f"the labels of line {number}", 'LABEL="VALUE", each once')
        found[match[1]] = _ESCAPE.sub(_unescaped, match[2])
        place = match.end()
    return found


def _unescaped(match: re.Match[str]) -> str:
    return _ESCAPED.get(match[1], match[0])


def _number(text: str, number: int) -> float:
    try:
        if "_" not in text:
            return float(text)
    except ValueError:
        pass
    raise _refusal(f"the value of line {number}", "a number")


def _instant(milliseconds: int, number: int) -> datetime:
    try:
        return EPOCH + milliseconds * _MILLISECOND
    except OverflowError:
        raise _refusal(f"the time of line {number}", "milliseconds since 1970") from None


def _point_of(row: Any, place: int, now: datetime, component: str) -> MetricPoint:
    if not isinstance(row, dict) or not row.keys() <= _FIELDS:
        raise _refusal(f"point {place}", f"an object with the fields {', '.join(sorted(_FIELDS))}")
    value, labels = row.get("value", ""), row.get("labels")
    if value is None:
        value = math.nan
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > _LARGEST:
        raise _refusal(f"the value of point {place}", "a number, or null for none")
    if not (labels is None or _are_texts(labels)):
        raise _refusal(f"the labels of point {place}", "an object of texts")
    owner, name = row.get("component", component), row.get("metric_name")
    if not (isinstance(owner, str) and isinstance(name, str)):
        raise _refusal(f"point {place}", "texts as component and metric_name")
    at = now if row.get("timestamp") is None else _time_of(row["timestamp"], place)
    return MetricPoint(at, owner, name, float(value), labels or None)


def _are_texts(labels: Any) -> bool:
    return isinstance(labels, Mapping) and all(isinstance(value, str) for value in labels.values())


def _time_of(stamp: Any, place: int) -> datetime:
    try:
        if isinstance(stamp, str):
            return datetime.fromisoformat(stamp)
        if isinstance(stamp, int | float) and not isinstance(stamp, bool):
            return datetime.fromtimestamp(stamp, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise _refusal(f"the timestamp of point {place}", "ISO 8601, or seconds since 1970")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _require_few(count: int) -> None:
    if count > POINTS_MAX:
        raise _refusal(f"a body of {count} points", f"at most {POINTS_MAX}")


def _refusal(what: str, expected: str) -> MonitoringError:
    return MonitoringError(
        f"{what} was refused, expected {expected}; nothing of the body was recorded",
        {"parameter": "body", "value": what, "constraint": expected},
    )
