"""Minutes and hours: what is kept of every series when its points are gone.

A rollup holds count, extremes, sum and spread of the points of its minute or hour, exactly as the
points would give them; an hour also holds a digest of their distribution. A minute holds none: a
dozen points make a digest of the size of the points themselves, so quantiles finer than an hour
come from the points, for as long as they are kept.

Every point is added once, by the transaction that seals it, however late it comes.
"""

from __future__ import annotations

import sqlite3
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline_guard.metrics_store import digest
from pipeline_guard.metrics_store.moments import Moments, of_runs, runs

Integers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

MINUTE_S: Final = 60
HOUR_S: Final = 3600
SECOND_US: Final = 1_000_000

_ADD: Final = """
INSERT INTO rollups VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (series, step_s, start_s) DO UPDATE SET
    m2 = m2 + excluded.m2 + (excluded.sum / excluded.n - sum / n)
        * (excluded.sum / excluded.n - sum / n) * (1.0 * n * excluded.n / (n + excluded.n)),
    n = n + excluded.n,
    min = min(min, excluded.min),
    max = max(max, excluded.max),
    sum = sum + excluded.sum,
    digest = excluded.digest
"""


def add(
    connection: sqlite3.Connection, series: Integers, times_us: Integers, values: Floats
) -> None:
    """Add points, ordered by series and time; NaN counts nowhere. In the caller's transaction."""
    there = ~np.isnan(values)
    series, times_us, values = series[there], times_us[there], values[there]
    if not len(values):
        return
    for step_s in (MINUTE_S, HOUR_S):
        start_s = times_us // (step_s * SECOND_US) * step_s
        starts = runs(series, start_s)
        moments = of_runs(values, starts)
        keys = (series[starts], start_s[starts])
        digests: list[bytes | None] = [None] * len(starts)
        if step_s == HOUR_S:
            group = np.repeat(np.arange(len(starts)), moments.n)
            digests = _digests(connection, keys, moments, group, values)
        columns = (keys[0], keys[1], moments.n, moments.min, moments.max, moments.sum, moments.m2)
        rows = zip(*(column.tolist() for column in columns), digests, strict=True)
        connection.executemany(_ADD, ((row[0], step_s, *row[1:]) for row in rows))


def read(
    connection: sqlite3.Connection, series: int, step_s: int, start_s: int, end_s: int
) -> tuple[Integers, Moments]:
    """Return the starts and moments of one series' rollups with `start_s <= start < end_s`."""
    rows = connection.execute(
        "SELECT start_s, n, min, max, sum, m2 FROM rollups "
        "WHERE series = ? AND step_s = ? AND start_s >= ? AND start_s < ?",
        (series, step_s, start_s, end_s),
    ).fetchall()
    table = np.array(rows, np.float64).reshape(-1, 6)
    whole = table[:, :2].astype(np.int64)
    return whole[:, 0], Moments(whole[:, 1], table[:, 2], table[:, 3], table[:, 4], table[:, 5])


def read_digests(
    connection: sqlite3.Connection, series: int, start_s: int, end_s: int
) -> tuple[Integers, Floats, Floats]:
    """Return the centroids of one series' hours: the hour's start, mean and weight of each."""
    rows = connection.execute(
        "SELECT start_s, n, min, digest FROM rollups "
        "WHERE series = ? AND step_s = ? AND start_s >= ? AND start_s < ?",
        (series, HOUR_S, start_s, end_s),
    ).fetchall()
    parts = [_centroids(n, low, data) for _, n, low, data in rows]
    starts = np.array([row[0] for row in rows], np.int64)
    if not parts:
        return starts, np.empty(0), np.empty(0)
    means, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
    return np.repeat(starts, [len(part[0]) for part in parts]), means, weights


def _digests(
    connection: sqlite3.Connection,
    keys: tuple[Integers, Integers],
    moments: Moments,
    group: Integers,
    values: Floats,
) -> list[bytes | None]:
    """The digest of every hour with what it had before; `None` where all points are equal."""
    low, high = moments.min.copy(), moments.max.copy()
    groups, means, weights = [group], [values], [np.ones(len(values))]
    for place, (series, start_s) in enumerate(zip(keys[0].tolist(), keys[1].tolist(), strict=True)):
        row = connection.execute(
            "SELECT n, min, max, digest FROM rollups "
            "WHERE series = ? AND step_s = ? AND start_s = ?",
            (series, HOUR_S, start_s),
        ).fetchone()
        if row is None:
            continue
        before = _centroids(row[0], row[1], row[3])
        low[place], high[place] = min(low[place], row[1]), max(high[place], row[2])
        groups.append(np.full(len(before[0]), place))
        means.append(before[0])
        weights.append(before[1])
    merged, centroids, sizes = digest.compressed(
        np.concatenate(groups), np.concatenate(means), np.concatenate(weights)
    )
    whole = digest.to_bytes(centroids, sizes)
    width = len(whole) // len(merged)
    edges = np.searchsorted(merged, np.arange(len(low) + 1)) * width
    return [
        None if low[place] == high[place] else whole[edges[place] : edges[place + 1]]
        for place in range(len(low))
    ]


def _centroids(n: int, low: float, data: bytes | None) -> tuple[Floats, Floats]:
    if data is None:
        return np.array([low]), np.array([float(n)])
    return digest.from_bytes(data)
