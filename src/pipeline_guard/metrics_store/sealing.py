"""From what has arrived into chunks: points in order of time, 512 to a chunk, packed.

Guarantee: the chunks of a series do not overlap, except at a common edge; every point waits in
`arrivals` or is in exactly one chunk, also when the sealing process is killed: a batch is one
transaction.

A series' newest chunk stays open until it is full: what comes next is packed with it. A point that
comes late, or from before the clock went back, is put into the chunk of its time. Points of the
same instant are all kept.
"""

from __future__ import annotations

import itertools
import sqlite3
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline_guard.errors import MonitoringError
from pipeline_guard.metrics_store import arrivals, rollups
from pipeline_guard.metrics_store.moments import runs
from pipeline_guard.metrics_store.packing import SAMPLES_MAX, Damaged, pack, unpack

Integers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

BATCH_POINTS: Final = 131_072
"""Points that one transaction seals. Writers wait for it, a few tenths of a second."""

_INSERT: Final = "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(eq=False)
class _Written:
    """What a batch will write."""

    next_id: int
    headers: list[tuple[float | None, ...]] = field(default_factory=list)
    bodies: list[tuple[int, bytes]] = field(default_factory=list)
    replaced: list[tuple[int]] = field(default_factory=list)

    def add(self, series: int, times_us: Integers, values: Floats) -> None:
        self.headers.append((self.next_id, series, *_header(times_us, values)))
        self.bodies.append((self.next_id, pack(times_us, values)))
        self.next_id += 1


def seal_batch(connection: sqlite3.Connection, *, points_max: int = BATCH_POINTS) -> int:
    """Seal the oldest that wait: whole batches, until they have so many points.

    In the caller's transaction.

    Returns:
        How many; 0 when there was nothing to seal.
    """
    newest, table = arrivals.oldest(connection, points_max)
    if not newest:
        return 0
    order = np.lexsort((table[:, 1], table[:, 0]))
    series = table[order, 0].astype(np.int64)
    times_us = table[order, 1].astype(np.int64)
    values = table[order, 2]
    last = connection.execute(
        "SELECT max((SELECT ifnull(max(id), 0) FROM chunks), "
        "(SELECT ifnull(max(chunk), 0) FROM packed))"
    ).fetchone()[0]
    written = _Written(last + 1)
    starts = runs(series)
    ends = [*starts[1:].tolist(), len(series)]
    for start, end in zip(starts.tolist(), ends, strict=True):
        part = slice(start, end)
        _place(connection, written, int(series[start]), times_us[part], values[part])
    _write(connection, written)
    rollups.add(connection, series, times_us, values)
    arrivals.remove(connection, newest)
    return len(table)


def _place(
    connection: sqlite3.Connection,
    written: _Written,
    series: int,
    times_us: Integers,
    values: Floats,
) -> None:
    """Put one series' points into the chunks of their times, and behind the newest."""
    chunks = connection.execute(
        "SELECT id, last_us, points FROM chunks WHERE series = ?1 AND last_us >= "
        "min(?2, (SELECT max(last_us) FROM chunks WHERE series = ?1)) "
        "ORDER BY last_us, first_us",
        (series, int(times_us[0])),
    ).fetchall()
    lasts = np.array([chunk[1] for chunk in chunks], np.int64)
    target = np.searchsorted(lasts, times_us, side="left")
    newest = len(chunks)
    if chunks and chunks[-1][2] < SAMPLES_MAX:
        newest -= 1
        np.minimum(target, newest, out=target)
    for place in np.unique(target).tolist():
        mine = target == place
        chunk = chunks[place][0] if place < len(chunks) else None
        merged = _merged(connection, written, chunk, times_us[mine], values[mine])
        for piece in _pieces(len(merged[0]), fills=place >= newest):
            written.add(series, merged[0][piece], merged[1][piece])


def _merged(
    connection: sqlite3.Connection,
    written: _Written,
    chunk: int | None,
    times_us: Integers,
    values: Floats,
) -> tuple[Integers, Floats]:
    """The points with those of the chunk that they belong to, which is replaced."""
    if chunk is None:
        return times_us, values
    before = samples_of(connection, chunk)
    written.replaced.append((chunk,))
    times_us = np.concatenate((before[0], times_us))
    values = np.concatenate((before[1], values))
    order = np.argsort(times_us, kind="stable")
    return times_us[order], values[order]


def samples_of(connection: sqlite3.Connection, chunk: int) -> tuple[Integers, Floats]:
    """Return the times and values of one chunk.

    Raises:
        MonitoringError: it is damaged.
    """
    row = connection.execute("SELECT samples FROM packed WHERE chunk = ?", (chunk,)).fetchone()
    try:
        if row is not None:
            return unpack(row[0])
    except Damaged:
        pass
    raise MonitoringError(
        f"chunk {chunk} of the metrics store is damaged; nothing was changed. The other chunks can "
        f"be read; to give this one up, delete its rows from chunks and packed",
        {"parameter": "chunk", "value": chunk, "constraint": "what was packed"},
    )


def _pieces(count: int, *, fills: bool) -> list[slice]:
    """Cut points into chunks: full ones with the rest behind, or, in the middle, equal ones."""
    if fills:
        edges = [*range(0, count, SAMPLES_MAX), count]
    else:
        parts = -(-count // SAMPLES_MAX)
        edges = [count * part // parts for part in range(parts + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(edges)]


def _header(times_us: Integers, values: Floats) -> tuple[float | None, ...]:
    """The columns of a chunk behind its series; a chunk without a value has no moments."""
    there = values[~np.isnan(values)]
    newest = None if np.isnan(values[-1]) else float(values[-1])
    ends = (int(times_us[0]), int(times_us[-1]), len(values), len(there))
    if not len(there):
        return (*ends, None, None, None, None, newest)
    total = there.sum()
    distances = there - total / len(there)
    figures = (there.min(), there.max(), total, distances @ distances)
    return (*ends, *(float(figure) for figure in figures), newest)


def _write(connection: sqlite3.Connection, written: _Written) -> None:
    connection.executemany("DELETE FROM chunks WHERE id = ?", written.replaced)
    connection.executemany("DELETE FROM packed WHERE chunk = ?", written.replaced)
    connection.executemany(_INSERT, written.headers)
    connection.executemany("INSERT INTO packed VALUES (?, ?)", written.bodies)
