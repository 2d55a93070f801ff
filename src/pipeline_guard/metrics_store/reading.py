"""Points, newest values and headers, read back. Each function runs inside one read transaction.

What a read holds in memory is bounded by what it returns: chunks are unpacked one at a time, and a
read of more than `POINTS_MAX` points is refused, with their number, before it begins.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline_guard.errors import MonitoringError
from pipeline_guard.metrics_store import arrivals
from pipeline_guard.metrics_store.sealing import samples_of

Integers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

Header: TypeAlias = tuple[int, int, int, int, int, float, float, float, float]

POINTS_MAX: Final = 5_000_000
_EMPTY: Final = (math.inf, -math.inf, 0.0)
_NOTHING: Final = (0, 0, *_EMPTY)
_FEW: Final = 8
_BY_SERIES: Final = (
    "SELECT id, series, last_us FROM chunks WHERE series IN (SELECT value FROM json_each(?)) "
    "AND last_us >= ? AND first_us <= ? ORDER BY last_us DESC"
)
_BY_TIME: Final = _BY_SERIES.replace("WHERE series", "WHERE +series")
"""The plus keeps SQLite from sorting all headers by series: it walks them from the newest back."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One series as a whole, from the headers of its chunks and what has arrived.

    Attributes:
        points: all of them; n: those with a value.
        min, max, mean: NaN where n is 0.
    """

    points: int
    n: int
    min: float
    max: float
    mean: float


def newest(
    connection: sqlite3.Connection,
    wanted: Collection[int],
    start_us: int,
    end_us: int,
    limit: int,
) -> tuple[Integers, Integers, Floats]:
    """Return series, times and values of the newest `limit` points, oldest first.

    Chunks are visited from the newest back, until none can hold a point that is new enough.
    """
    series = json.dumps(list(wanted))
    table = arrivals.table(connection)
    inside = np.isin(table[:, 0], list(wanted))
    inside &= (table[:, 1] >= start_us) & (table[:, 1] <= end_us)
    parts = [_newest_of([table[inside]], limit)]
    held, floor_us = len(parts[0]), -math.inf
    chunks = connection.execute(
        _BY_SERIES if len(wanted) <= _FEW else _BY_TIME, (series, start_us, end_us)
    )
    for chunk, owner, last_us in chunks:
        if min(last_us, end_us) < floor_us:
            break
        times_us, values = samples_of(connection, chunk)
        inside = (times_us >= start_us) & (times_us <= end_us)
        columns = (np.full(inside.sum(), owner), times_us[inside], values[inside])
        parts.insert(0, np.column_stack(columns))
        held += len(parts[0])
        if held >= (limit if floor_us == -math.inf else 2 * limit):
            parts = [_newest_of(parts, limit)]
            held, floor_us = limit, parts[0][0, 1]
    found = _newest_of(parts, limit)
    return found[:, 0].astype(np.int64), found[:, 1].astype(np.int64), found[:, 2]


def _newest_of(parts: list[Floats], limit: int) -> Floats:
    """The newest rows of tables; of rows of one instant, those of later tables are newer."""
    table = np.concatenate(parts)
    newest: Floats = table[np.argsort(table[:, 1], kind="stable")][-limit:]
    return newest


def samples(
    connection: sqlite3.Connection, series: int, start_us: int, end_us: int
) -> tuple[Integers, Floats]:
    """Return the times and values of one series with `start_us <= time < end_us`, in order.

    Raises:
        MonitoringError: they are more than `POINTS_MAX`.
    """
    headers = few_chunks_in(connection, series, start_us, end_us)
    parts = [samples_of(connection, row[0]) for row in headers]
    parts.append(hot(connection, series, start_us, end_us))
    times_us = np.concatenate([part[0] for part in parts])
    values = np.concatenate([part[1] for part in parts])
    inside = (times_us >= start_us) & (times_us < end_us)
    times_us, values = times_us[inside], values[inside]
    if (times_us[1:] < times_us[:-1]).any():
        order = np.argsort(times_us, kind="stable")
        times_us, values = times_us[order], values[order]
    return times_us, values


def hot(
    connection: sqlite3.Connection, series: int, start_us: int, end_us: int
) -> tuple[Integers, Floats]:
    """Return what of a series is not sealed yet, in order of time."""
    table = arrivals.table(connection)
    table = table[(table[:, 0] == series) & (table[:, 1] >= start_us) & (table[:, 1] < end_us)]
    table = table[np.argsort(table[:, 1], kind="stable")]
    return table[:, 1].astype(np.int64), table[:, 2]


def chunks_in(
    connection: sqlite3.Connection, series: int, start_us: int, end_us: int
) -> Iterator[Header]:
    """Yield the headers of the chunks that reach into a range, in order of time.

    Number, first and last time, points, n, min, max, sum, m2; the last four are `None` at n = 0.
    """
    rows = connection.execute(
        "SELECT id, first_us, last_us, points, n, min, max, sum, m2 FROM chunks "
        "WHERE series = ? AND last_us >= ? ORDER BY last_us, first_us",
        (series, start_us),
    )
    for row in rows:
        if row[1] >= end_us:
            return
        yield row


def few_chunks_in(
    connection: sqlite3.Connection, series: int, start_us: int, end_us: int
) -> list[Header]:
    """Return what `chunks_in` yields, if its points fit into memory.

    Raises:
        MonitoringError: they are more than `POINTS_MAX`.
    """
    headers = list(chunks_in(connection, series, start_us, end_us))
    count = sum(row[3] for row in headers)
    if count > POINTS_MAX:
        raise MonitoringError(
            f"the range has {count} points, and a read may have {POINTS_MAX}; nothing was read. "
            f"Ask for a shorter range, or for whole minutes or hours, which come from rollups",
            {"parameter": "start_time", "value": count, "constraint": f"<= {POINTS_MAX} points"},
        )
    return headers


def latest(connection: sqlite3.Connection) -> dict[int, tuple[int, float]]:
    """Return the time and value of the newest point of every series."""
    rows = connection.execute("SELECT series, max(last_us), newest FROM chunks GROUP BY series")
    found = {series: (at_us, _or_nan(newest)) for series, at_us, newest in rows}
    table = arrivals.table(connection)
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    last = np.append(table[1:, 0] != table[:-1, 0], True)[: len(table)]
    for series, at_us, value in table[last].tolist():
        if series not in found or at_us >= found[series][0]:
            found[int(series)] = (int(at_us), value)
    return found


def summaries(connection: sqlite3.Connection) -> dict[int, Summary]:
    """Return every series as a whole; no chunk is unpacked."""
    rows = connection.execute(
        "SELECT series, sum(points), sum(n), min(min), max(max), sum(sum) FROM chunks "
        "GROUP BY series"
    ).fetchall()
    waiting = _summed(arrivals.table(connection))
    found = {}
    for series, points, n, *figures in rows:
        more_points, more_n, low, high, total = waiting.pop(series, _NOTHING)
        sealed = figures if n else _EMPTY
        low, high, total = min(low, sealed[0]), max(high, sealed[1]), total + sealed[2]
        found[series] = _summary(points + more_points, n + more_n, low, high, total)
    return found | {series: _summary(*figures) for series, figures in waiting.items()}


def _summed(table: Floats) -> dict[int, tuple[int, int, float, float, float]]:
    """Points, those with a value, smallest, largest and sum of each series."""
    series, group, points = np.unique(table[:, 0], return_inverse=True, return_counts=True)
    there = ~np.isnan(table[:, 2])
    values, owner = table[there, 2], group.ravel()[there]
    n, total = np.bincount(owner, minlength=len(series)), np.bincount(owner, values, len(series))
    low, high = np.full(len(series), np.inf), np.full(len(series), -np.inf)
    np.minimum.at(low, owner, values)
    np.maximum.at(high, owner, values)
    columns = zip(*(each.tolist() for each in (points, n, low, high, total)), strict=True)
    return dict(zip(series.astype(np.int64).tolist(), columns, strict=True))


def _summary(points: int, n: int, low: float, high: float, total: float) -> Summary:
    return Summary(points, n, low, high, total / n) if n else Summary(points, 0, *[math.nan] * 3)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
