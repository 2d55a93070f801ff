"""How long what is kept: rules by name, and the dropping of whole chunks and rollups.

A chunk is dropped when its last point is too old, so points live up to one chunk longer than their
rule says. Rollups go by their start. A series of which nothing is left is removed, and makes room
under the cap.

The edge that retention measures from moves by at most a day per run, and never past the clock. A
clock that jumps a year ahead for an hour thus costs a day of the oldest points, not all of them;
after a month of standstill the store catches up in thirty runs.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from pipeline_guard.errors import ConfigurationError
from pipeline_guard.metrics_store import arrivals

DAY_US: Final = 86_400_000_000
_CHUNKS_AT_ONCE: Final = 2_000
_PAGES_AT_ONCE: Final = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long the points and rollups of some series are kept, in days.

    Attributes:
        component, metric_name: patterns with `*` and `?`; the first rule that matches counts.
        points_days: the points themselves; at least what the longest window of a check needs.
        minutes_days: the rollups of a minute.
        hours_days: the rollups of an hour, from which baselines are made.

    Raises:
        ConfigurationError: the times are not positive and in this order.
    """

    component: str = "*"
    metric_name: str = "*"
    points_days: float = 14.0
    minutes_days: float = 30.0
    hours_days: float = 730.0

    def __post_init__(self) -> None:
        if not 0 < self.points_days <= self.minutes_days <= self.hours_days < float("inf"):
            found = (self.points_days, self.minutes_days, self.hours_days)
            raise ConfigurationError(
                f"retention of {self.component}/{self.metric_name} keeps points, minutes and hours "
                f"{found} days, expected 0 < points <= minutes <= hours; nothing was dropped",
                {
                    "parameter": "retention",
                    "value": list(found),
                    "constraint": "0 < points_days <= minutes_days <= hours_days",
                },
            )

    def matches(self, component: str, metric_name: str) -> bool:
        """Return whether the rule is about this series."""
        return fnmatchcase(component, self.component) and fnmatchcase(metric_name, self.metric_name)


RETENTION: Final = (Retention(),)


@dataclass(frozen=True, slots=True)
class Horizon:
    """Of one series: what is older than this goes."""

    series: int
    points_us: int
    minutes_us: int
    hours_us: int


def next_edge_us(connection: sqlite3.Connection, now_us: int) -> int:
    """Return from when retention measures in this run."""
    row = connection.execute("SELECT value FROM state WHERE name = 'retention_us'").fetchone()
    return now_us if row is None else min(now_us, row[0] + DAY_US)


def horizons(
    connection: sqlite3.Connection, edge_us: int, rules: Sequence[Retention]
) -> list[Horizon]:
    """Return what is due, series by series; a series that no rule matches is kept."""
    due = []
    for series, component, metric in connection.execute("SELECT id, component, metric FROM series"):
        rule = next((rule for rule in rules if rule.matches(component, metric)), None)
        if rule is not None:
            days = (rule.points_days, rule.minutes_days, rule.hours_days)
            due.append(Horizon(series, *(edge_us - int(day * DAY_US) for day in days)))
    return due


def drop(connection: sqlite3.Connection, due: Horizon) -> int:
    """Drop what is older of one series, at most 2,000 chunks. In the caller's transaction.

    Returns:
        How many chunks and rollups; call again until it is 0.
    """
    chunks = connection.execute(
        "SELECT id, last_us FROM chunks WHERE series = ? AND last_us < ? ORDER BY last_us LIMIT ?",
        (due.series, due.points_us, _CHUNKS_AT_ONCE),
    ).fetchall()
    numbers = [(chunk[0],) for chunk in chunks]
    connection.executemany("DELETE FROM packed WHERE chunk = ?", numbers)
    connection.executemany("DELETE FROM chunks WHERE id = ?", numbers)
    if chunks:
        connection.execute(
            "UPDATE series SET points_since_us = ? WHERE id = ?", (chunks[-1][1] + 1, due.series)
        )
    dropped = len(chunks)
    for step_s, horizon_us in ((60, due.minutes_us), (3600, due.hours_us)):
        before_s = horizon_us // 1_000_000 // step_s * step_s
        gone = connection.execute(
            "DELETE FROM rollups WHERE series = ? AND step_s = ? AND start_s < ?",
            (due.series, step_s, before_s),
        ).rowcount
        if gone and step_s == 60:
            connection.execute(
                "UPDATE series SET minutes_since_us = ? WHERE id = ?",
                (before_s * 1_000_000, due.series),
            )
        dropped += gone
    return dropped


def finish(connection: sqlite3.Connection, edge_us: int) -> int:
    """Remove series of which nothing is left, and remember the edge. Returns how many."""
    waiting = json.dumps(sorted(set(arrivals.table(connection)[:, 0].astype(int).tolist())))
    gone = connection.execute(
        "DELETE FROM series WHERE "
        "NOT EXISTS (SELECT 1 FROM chunks WHERE chunks.series = series.id) "
        "AND NOT EXISTS (SELECT 1 FROM rollups WHERE rollups.series = series.id) "
        "AND id NOT IN (SELECT value FROM json_each(?))",
        (waiting,),
    ).rowcount
    if gone:
        connection.execute("DELETE FROM baselines WHERE series NOT IN (SELECT id FROM series)")
        connection.execute("UPDATE state SET value = value + 1 WHERE name = 'generation'")
    connection.execute("INSERT OR REPLACE INTO state VALUES ('retention_us', ?)", (edge_us,))
    return gone


def give_back(connection: sqlite3.Connection) -> int:
    """Return freed pages to the file system, a few thousand at a time. Returns how many."""
    free = int(connection.execute("PRAGMA freelist_count").fetchone()[0])
    for _ in range(0, free, _PAGES_AT_ONCE):
        # The pragma frees one page per step; `execute` takes one step, `executescript` takes all.
        connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})")
    return free
