"""Baselines of the stored series: made from the digests of their hours, and kept.

`pipeline_guard.detection.baselines` says what a baseline is, and judges values by it. It makes one
from points; here the points are not read: four weeks of a series are 672 digests, whatever its
rate. Medians and quantiles are those of the digests put together (an error in rank of about a
percentile); the MAD is the weighted median of the centroids' distances from the median.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline_guard.detection.baselines import HOURS, QUANTILES, Baseline, Summary, hour_of_week
from pipeline_guard.metrics_store import rollups
from pipeline_guard.metrics_store.moments import runs
from pipeline_guard.metrics_store.rollups import HOUR_S

Integers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

_SERIES_AT_ONCE: Final = 50
_SLOTS: Final = HOURS + 1  # one for each hour of the week, and one for all
_MEDIAN: Final = QUANTILES.index(0.5)


def made(
    connection: sqlite3.Connection, wanted: Sequence[int], start_s: int, end_s: int
) -> dict[int, Baseline]:
    """Return the baseline of each series over a range of hours; a few series at a time in memory.

    A series without a value in the range is left out. The version is that of a first baseline.
    """
    found: dict[int, Baseline] = {}
    for first in range(0, len(wanted), _SERIES_AT_ONCE):
        part = wanted[first : first + _SERIES_AT_ONCE]
        columns = [rollups.read_digests(connection, series, start_s, end_s) for series in part]
        starts, means, weights = (np.concatenate(each) for each in zip(*columns, strict=True))
        if not len(means):
            continue
        slots = np.repeat(np.arange(len(part)), [len(column[0]) for column in columns]) * _SLOTS
        hours = (starts // HOUR_S + hour_of_week(0)) % HOURS
        summaries = _summaries(
            np.concatenate((slots + hours, slots + HOURS)), np.tile(means, 2), np.tile(weights, 2)
        )
        by_place: dict[int, dict[int, Summary]] = {}
        for slot, summary in summaries.items():
            by_place.setdefault(slot // _SLOTS, {})[slot % _SLOTS] = summary
        for place, by_hour in by_place.items():
            overall = by_hour.pop(HOURS)
            ends = (float(columns[place][0][0]), float(columns[place][0][-1] + HOUR_S))
            found[part[place]] = _baseline(overall, by_hour, ends)
    return found


def save(connection: sqlite3.Connection, baselines: Mapping[int, Baseline], made_us: int) -> None:
    """Keep baselines; each is one version above the one that it replaces."""
    connection.executemany(
        "INSERT INTO baselines VALUES (?1, 1, ?2, ?3, ?4) ON CONFLICT (series) DO UPDATE SET "
        "version = version + 1, made_us = ?2, n = ?3, body = ?4",
        (
            (series, made_us, baseline.count, json.dumps(baseline.to_dict()))
            for series, baseline in baselines.items()
        ),
    )


def load(connection: sqlite3.Connection) -> dict[int, Baseline]:
    """Return the baselines that are kept, by series."""
    rows = connection.execute("SELECT series, version, body FROM baselines")
    return {
        series: Baseline.from_dict({**json.loads(body), "version": version})
        for series, version, body in rows
    }


def _baseline(overall: Summary, hours: dict[int, Summary], ends: tuple[float, float]) -> Baseline:
    return Baseline(
        version=1,
        count=overall.count,
        missing=0,
        first_s=ends[0],
        last_s=ends[1],
        overall=overall,
        hours=hours,
    )


def _summaries(key: Integers, means: Floats, weights: Floats) -> dict[int, Summary]:
    """A summary of the centroids of each key, all at once."""
    order = np.lexsort((means, key))
    key, means, weights = key[order], means[order], weights[order]
    starts = runs(key)
    table = _quantiles(starts, means, weights, QUANTILES)
    medians = np.repeat(table[:, _MEDIAN], np.diff(starts, append=len(key)))
    distances = np.abs(means - medians)
    order = np.lexsort((distances, key))
    mads = _quantiles(starts, distances[order], weights[order], (0.5,))
    columns = np.hstack((table[:, [_MEDIAN]], mads, np.delete(table, _MEDIAN, axis=1)))
    counts = np.add.reduceat(weights, starts)
    rows = zip(key[starts].tolist(), counts.tolist(), columns.tolist(), strict=True)
    return {slot: Summary(int(count), *row) for slot, count, row in rows}


def _quantiles(starts: Integers, values: Floats, weights: Floats, ranks: Sequence[float]) -> Floats:
    """One row per run of sorted values: its quantiles, between two middles by a straight line."""
    ends = np.append(starts[1:], len(values))
    before = np.cumsum(weights) - weights
    middles = before + weights / 2
    total = np.add.reduceat(weights, starts)
    found = np.empty((len(starts), len(ranks)))
    for column, rank in enumerate(ranks):
        target = before[starts] + rank * total
        above = np.clip(np.searchsorted(middles, target), starts, ends - 1)
        below = np.maximum(above - 1, starts)
        gap = middles[above] - middles[below]
        part = np.divide(target - middles[below], gap, out=np.ones(len(gap)), where=gap > 0)
        part = np.clip(part, 0.0, 1.0)
        found[:, column] = values[below] + (values[above] - values[below]) * part
    return found
