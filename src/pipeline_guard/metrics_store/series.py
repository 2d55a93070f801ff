"""What is measured: a component, a metric and its labels, written down once under a number.

The number of series is capped: every combination of label values is one, and a label that holds an
id of each request would fill any store. What is refused names the label at fault.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from pipeline_guard.errors import MonitoringError

SERIES_MAX: Final = 10_000
NAME_MAX: Final = 200
LABELS_MAX: Final = 32
LABEL_VALUE_MAX: Final = 500

Key: TypeAlias = tuple[str, str, tuple[tuple[str, str], ...]]
"""Component, metric, and labels in the order in which somebody gave them."""


@dataclass(frozen=True, slots=True)
class Series:
    """One thing that is measured over time."""

    id: int
    component: str
    metric_name: str
    labels: Mapping[str, str]


class Register:
    """The numbers of the series, remembered. Used by one thread at a time.

    Args:
        series_max: the cap of the file; every program that writes it should name the same.
    """

    def __init__(self, series_max: int = SERIES_MAX) -> None:
        self.series_max = series_max
        self._ids: dict[Key, int] = {}
        self._generation = -1

    def begin(self, connection: sqlite3.Connection) -> dict[Key, int]:
        """Return the numbers known so far; first of all in every transaction that writes.

        Forgets them when series have been removed since, by whomever.
        """
        row = connection.execute("SELECT value FROM state WHERE name = 'generation'").fetchone()
        if row[0] != self._generation or len(self._ids) > 4 * self.series_max:
            self.forget()
            self._generation = row[0]
        return self._ids

    def forget(self) -> None:
        """Forget all, as after a transaction that was rolled back."""
        self._ids.clear()
        self._generation = -1

    def add(self, connection: sqlite3.Connection, key: Key) -> int:
        """Return the number of a series, written down if it is new.

        Raises:
            MonitoringError: a name or label is not one, or there are too many series.
        """
        component, metric, labels = key
        _require_names(component, metric, labels)
        text = _canonical(dict(labels))
        whole = json.dumps([str(component), str(metric), text]).encode()
        digest = hashlib.blake2b(whole, digest_size=16).digest()
        found = connection.execute("SELECT id FROM series WHERE hash = ?", (digest,)).fetchone()
        if found is None:
            self._require_room(connection, metric)
            found = connection.execute(
                "INSERT INTO series (component, metric, labels, hash) VALUES (?, ?, ?, ?) "
                "RETURNING id",
                (str(component), str(metric), text, digest),
            ).fetchone()
        self._ids[key] = found[0]
        return int(found[0])

    def _require_room(self, connection: sqlite3.Connection, metric: str) -> None:
        count = connection.execute("SELECT count(*) FROM series").fetchone()[0]
        if count < self.series_max:
            return
        worst, of_worst, label, values = _widest(connection)
        raise MonitoringError(
            f"a new series of {metric!r} was refused: the store has {count} series and may have "
            f"{self.series_max}. The metric {worst!r} alone has {of_worst}; its label {label!r} "
            f"takes {values} values. Drop that label where it is recorded (an id belongs into a "
            f"log), or raise store.series_max; nothing of this batch was recorded",
            {
                "parameter": "series_max", "value": count, "constraint": self.series_max,
                "metric": worst, "label": label, "label_values": values,
            },
        )  # fmt: skip


def matching(
    connection: sqlite3.Connection,
    component: str | None = None,
    metric_name: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> dict[int, Series]:
    """Return the series with this component, metric and at least these labels, by number."""
    wanted = dict(labels or {})
    asked: list[tuple[str, str]] = []
    if component is not None:
        asked.append(("component = ?", component))
    if metric_name is not None:
        asked.append(("metric = ?", metric_name))
    for name, value in wanted.items():  # as it stands in the text: nothing is parsed for others
        asked.append(("instr(labels, ?)", _canonical({name: value})[1:-1]))
    where = " AND ".join(condition for condition, _ in asked) or "TRUE"
    rows = connection.execute(
        f"SELECT id, component, metric, labels FROM series WHERE {where} ORDER BY id",  # noqa: S608  of constants
        [value for _, value in asked],
    )
    found = (Series(id_, name, metric, json.loads(text)) for id_, name, metric, text in rows)
    return {s.id: s for s in found if wanted.items() <= s.labels.items()}


def _canonical(labels: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(labels.items())), ensure_ascii=False, separators=(",", ":"))


def _widest(connection: sqlite3.Connection) -> tuple[str, int, str | None, int]:
    """The metric with the most series, how many, and its label with the most values."""
    metric, count = connection.execute(
        "SELECT metric, count(*) FROM series GROUP BY metric ORDER BY 2 DESC, 1 LIMIT 1"
    ).fetchone()
    row = connection.execute(
        "SELECT key, count(DISTINCT value) FROM series, json_each(labels) WHERE metric = ? "
        "GROUP BY key ORDER BY 2 DESC, 1 LIMIT 1",
        (metric,),
    ).fetchone()
    return (metric, count, None, 0) if row is None else (metric, count, *row)


def _require_names(component: str, metric: str, labels: tuple[tuple[str, str], ...]) -> None:
    for parameter, name in (("component", component), ("metric_name", metric)):
        if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX:
            raise _refused(parameter, name, f"a text of 1 to {NAME_MAX} characters")
    if len(labels) > LABELS_MAX:
        raise _refused("labels", len(labels), f"at most {LABELS_MAX}")
    for name, value in labels:
        if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX:
            raise _refused("labels", name, f"names of 1 to {NAME_MAX} characters")
        if not isinstance(value, str) or len(value) > LABEL_VALUE_MAX:
            limit = f"text of at most {LABEL_VALUE_MAX} characters"
            raise _refused(f"labels[{name!r}]", type(value).__name__, limit)


def _refused(parameter: str, value: object, constraint: str) -> MonitoringError:
    shown = value if isinstance(value, int | str) and len(str(value)) < NAME_MAX else "too long"
    return MonitoringError(
        f"{parameter} = {shown!r} was refused, expected {constraint}; nothing of this batch was "
        f"recorded",
        {"parameter": parameter, "value": shown, "constraint": constraint},
    )
