"""The metrics store: points go in, come back, and are packed, rolled up and dropped in time."""

from __future__ import annotations

import itertools
import queue
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias, cast

from pipeline_guard.errors import MonitoringError
from pipeline_guard.metrics_store import retention, schema
from pipeline_guard.metrics_store.queries import EPOCH, MICROSECOND, Queries, microseconds
from pipeline_guard.metrics_store.retention import RETENTION, Retention
from pipeline_guard.metrics_store.series import SERIES_MAX, Key, Register, matching
from pipeline_guard.model import MetricPoint
from privacy_runtime.world import Clock, SystemClock

BATCH_MAX: Final = 10_000
"""Points that one transaction records: all of them, or none."""
MAGNITUDE_MAX: Final = 1e150
"""Largest absolute value: its square must be a number too."""
AHEAD_MAX: Final = timedelta(days=1)
"""How far a point may lie in the future; clocks differ."""
BASELINE_WEEKS: Final = 4.0
_HOT_MAX: Final = 200_000

_INSERT: Final = "INSERT INTO hot (series, at_us, value) VALUES (?, ?, ?)"

_Row: TypeAlias = tuple[Key, int, float]


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What one run of `MetricStore.maintain` did: points sealed, rows dropped, pages given back."""

    sealed: int
    dropped: int
    pages: int


class MetricStore:
    """One file of measurements. Threads share it; processes open their own, on the same file.

    Guarantee: when `record` returns, killing the process loses nothing of it; every recorded point
    is returned exactly once, by its own time, in whatever order points came, until retention drops
    it. Readers wait for nobody, and nobody for readers. What power loss may cost: see `schema`.

    =======================  ===================================================================
    a value that is          is
    =======================  ===================================================================
    NaN                      kept as "no value", counted as a point, in no sum and no extreme
    infinite, or > 1e150     refused, with all points of its batch
    of an instant twice      kept twice
    late, of any age         put where it belongs
    before 1970, or over a   refused: the second would be "the newest" until then
    day ahead of now
    =======================  ===================================================================

    Args:
        path: the file; made, for its owner alone, in a folder that exists.
        clock: dates what has no time of its own.
        series_max: how many series there may be.
        rules: what retention keeps; the first rule that matches a series counts.

    Attributes:
        query: everything that can be asked.
        sealing_failure: why the newest sealing that `record` began by itself failed. Points wait,
            readable, until one succeeds; `maintain` raises what stands in its way.

    Raises:
        MonitoringError: the file is damaged, another program's, or a newer version's. It was not
            touched.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        clock: Clock | None = None,
        series_max: int = SERIES_MAX,
        rules: Sequence[Retention] = RETENTION,
    ) -> None:
        self.path = Path(path)
        self.rules = tuple(rules)
        self._clock = clock or SystemClock()
        self._writer = schema.open_file(self.path)
        self._writing = threading.RLock()
        self._readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._register = Register(series_max)
        self._unsealed = 0
        self._is_open = True
        self.sealing_failure: str | None = None
        self.query = Queries(self._reading, self._clock)

    def record(self, points: Iterable[MetricPoint]) -> int:
        """Record points; on the disk's side of a crash of this process when this returns.

        Each ten thousand are one transaction: a fault leaves all of its ten thousand out, and those
        before it recorded. Much faster than one by one.

        Returns:
            How many.

        Raises:
            MonitoringError: a point was refused, or the file cannot take them; `details` says how
                many were `recorded` before.
        """
        recorded, left = 0, iter(points)
        while batch := list(itertools.islice(left, BATCH_MAX)):
            try:
                self._insert(self._rows(batch))
            except MonitoringError as error:
                error.details["recorded"] = recorded
                raise
            recorded += len(batch)
        return recorded

    def record_one(
        self,
        component: str,
        metric_name: str,
        value: float,
        labels: Mapping[str, str] | None = None,
        at: datetime | None = None,
    ) -> None:
        """Record one point, of now unless `at` says when.

        Raises:
            MonitoringError: as `record`.
        """
        when, given = at or self._clock.now(), cast("dict[str, str] | None", labels)
        self._insert(self._rows([MetricPoint(when, component, metric_name, value, given)]))

    def seal(self) -> int:
        """Pack what the hot table holds, in transactions of a few tenths of a second each.

        Returns:
            How many points.
        """
        from pipeline_guard.metrics_store import sealing  # noqa: PLC0415  numpy loads with a seal

        sealed, count = 0, 1
        with self._reading() as connection:
            waiting = connection.execute("SELECT count(*) FROM hot").fetchone()[0]
        self._unsealed = 0
        while count and sealed < waiting:
            with self._transaction("what is not sealed is still there") as connection:
                count = sealing.seal_batch(connection)
            sealed += count
        return sealed

    def retain(self) -> int:
        """Drop what is older than the rules keep. Returns how many chunks and rollups."""
        with self._transaction("nothing was dropped") as connection:
            edge_us = retention.next_edge_us(connection, microseconds(self._clock.now()))
            due = retention.horizons(connection, edge_us, self.rules)
        dropped = 0
        for horizon in due:
            count = 1
            while count:
                with self._transaction("what was dropped before is gone") as connection:
                    count = retention.drop(connection, horizon)
                dropped += count
        with self._transaction("what was dropped before is gone") as connection:
            retention.finish(connection, edge_us)
        return dropped

    def refresh_baselines(self, weeks: float = BASELINE_WEEKS) -> int:
        """Learn anew what is usual for every series, from the last `weeks` of sealed points.

        Returns:
            For how many series; one without a value in these weeks keeps what it had.
        """
        from pipeline_guard.metrics_store import baselines  # noqa: PLC0415  numpy loads with a read

        now_us = microseconds(self._clock.now())
        end_s = now_us // 1_000_000 + 1
        start_s = end_s - round(weeks * 7 * 86_400)
        with self._reading() as connection:
            wanted = list(matching(connection))
            found = baselines.made(connection, wanted, start_s, end_s)
        with self._transaction("the baselines are those of before") as connection:
            baselines.save(connection, found, now_us)
        return len(found)

    def maintain(self) -> Upkeep:
        """Seal, drop what is too old, and give freed pages back to the file system.

        Any process may, also several: they take turns.
        """
        sealed, dropped = self.seal(), self.retain()
        with self._writing, schema.explained(self.path, "the file is whole, and not smaller"):
            pages = retention.give_back(self._connection())
        return Upkeep(sealed, dropped, pages)

    def close(self) -> None:
        """Close the file; what a reader is at is finished first by its own thread."""
        with self._writing:
            self._is_open = False
            self._writer.close()
        while not self._readers.empty():
            self._readers.get().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _rows(self, points: Sequence[MetricPoint]) -> list[_Row]:
        """Check points and write them as rows; nothing is recorded if one is refused."""
        latest_us = microseconds(self._clock.now() + AHEAD_MAX)
        rows: list[_Row] = []
        add = rows.append
        try:
            for point in points:
                at, labels = point.timestamp, point.labels
                if at.tzinfo is None:
                    at = at.replace(tzinfo=UTC)
                at_us = (at - EPOCH) // MICROSECOND
                value = float(point.value)
                if not 0 <= at_us <= latest_us or abs(value) > MAGNITUDE_MAX:
                    raise _refusal(point, is_dated=0 <= at_us <= latest_us)
                key = (point.component, point.metric_name, tuple(labels.items()) if labels else ())
                add((key, at_us, value))
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise _not_a_point(len(rows)) from error
        return rows

    def _insert(self, rows: Sequence[_Row]) -> None:
        with self._transaction("nothing of this batch was recorded") as connection:
            ids = self._register.begin(connection)
            numbered = []
            try:
                for key, at_us, value in rows:
                    series = ids.get(key)
                    if series is None:
                        series = self._register.add(connection, key)
                    numbered.append((series, at_us, value))
            except TypeError as error:  # a label that cannot be a key is not a text
                raise _not_a_point(len(numbered)) from error
            connection.executemany(_INSERT, numbered)
        self._unsealed += len(rows)
        if self._unsealed >= _HOT_MAX:
            self._seal_what_waits()

    def _seal_what_waits(self) -> None:
        """Seal; a failure is not one of the points that were just recorded, and is kept aside."""
        try:
            self.seal()
            self.sealing_failure = None
        except MonitoringError as error:
            self.sealing_failure = str(error)

    @contextmanager
    def _transaction(self, state: str) -> Iterator[sqlite3.Connection]:
        """Write, alone; `state` says where we are when it fails."""
        with self._writing, schema.explained(self.path, state):
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                self._register.forget()
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Read what was there at the first statement; on a connection of one's own."""
        with schema.explained(self.path, "nothing was read"):
            self._require_open()
            try:
                connection = self._readers.get_nowait()
            except queue.Empty:
                connection = schema.open_reader(self.path)
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")
                self._readers.put(connection)
                if not self._is_open:
                    self.close()

    def _connection(self) -> sqlite3.Connection:
        self._require_open()
        return self._writer

    def _require_open(self) -> None:
        if not self._is_open:
            raise MonitoringError(
                f"the metrics store {self.path} was closed; nothing was changed. Open it again",
                {"parameter": "db_path", "value": str(self.path), "constraint": "an open store"},
            )


def _refusal(point: MetricPoint, *, is_dated: bool) -> MonitoringError:
    name = f"{point.component!s:.200}/{point.metric_name!s:.200}"
    if is_dated:
        parameter, value = "value", repr(float(point.value))
        constraint = f"NaN, or a number between -{MAGNITUDE_MAX:g} and {MAGNITUDE_MAX:g}"
    else:
        parameter, value = "timestamp", point.timestamp.isoformat()
        constraint = "from 1970 to a day ahead of this machine's clock"
    return MonitoringError(
        f"a point of {name} was refused: {parameter} = {value}, expected {constraint}; nothing of "
        f"this batch was recorded",
        {"parameter": parameter, "value": value, "constraint": constraint},
    )


def _not_a_point(place: int) -> MonitoringError:
    return MonitoringError(
        f"point {place} of a batch was refused, expected a MetricPoint with a time, a number, and "
        f"texts as labels; nothing of this batch was recorded",
        {"parameter": "points", "value": place, "constraint": "MetricPoint"},
    )
