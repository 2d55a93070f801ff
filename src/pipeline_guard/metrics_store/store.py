"""The metrics store: points go in, come back, and are packed, rolled up and dropped in time."""

from __future__ import annotations

import itertools
import math
import queue
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

from pipeline_guard.errors import MonitoringError
from pipeline_guard.metrics_store import arrivals, retention, schema
from pipeline_guard.metrics_store.queries import Queries, microseconds
from pipeline_guard.metrics_store.retention import RETENTION, Retention
from pipeline_guard.metrics_store.series import SERIES_MAX, Register, matching
from pipeline_guard.model import MetricPoint
from privacy_runtime.world import Clock, SystemClock

BATCH_MAX: Final = 10_000
"""Points that one transaction records: all of them, or none."""
MAGNITUDE_MAX: Final = 1e150
"""Largest absolute value: its square must be a number too."""
AHEAD_MAX: Final = timedelta(days=1)
"""How far a point may lie in the future; clocks differ."""
BASELINE_WEEKS: Final = 4.0
BASELINES_EVERY_S: Final = 3600.0
"""A baseline is made from whole hours, so oftener shows nothing new."""
_HOT_MAX: Final = 200_000


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
                self._insert(batch)
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
        self._insert([MetricPoint(when, component, metric_name, value, given)])

    def seal(self) -> int:
        """Pack what has arrived, in transactions of a few tenths of a second each.

        Returns:
            How many points.
        """
        from pipeline_guard.metrics_store import sealing  # noqa: PLC0415  numpy loads with a seal

        sealed, count = 0, 1
        with self._reading() as connection:
            waiting = arrivals.count(connection)
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

    def keep_baselines(self, every_s: float = BASELINES_EVERY_S) -> int:
        """Learn anew what is usual, if nobody did for so long; any process may.

        Returns:
            For how many series; 0 when it was not due.
        """
        now_us = microseconds(self._clock.now())
        with self._transaction("the baselines are those of before") as connection:
            if not schema.is_due(connection, "baselines_us", now_us, every_s):
                return 0
        return self.refresh_baselines()

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

    def _insert(self, points: Sequence[MetricPoint]) -> None:
        """Check points and write them down; nothing is recorded if one is refused."""
        with self._transaction("nothing of this batch was recorded") as connection:
            arrivals.add(connection, *self._columns(connection, points))
        self._unsealed += len(points)
        if self._unsealed >= _HOT_MAX:
            self._seal_what_waits()

    def _columns(
        self, connection: sqlite3.Connection, points: Sequence[MetricPoint]
    ) -> tuple[list[int], list[int], list[float]]:
        """Series, times and values of points that are such, in their order.

        The points of one look often share their time, which is worked out once then.
        """
        latest_us = microseconds(self._clock.now() + AHEAD_MAX)
        ids, at, at_us = self._register.begin(connection), None, -1
        numbers: list[int] = []
        times_us: list[int] = []
        values: list[float] = []
        try:
            for point in points:
                if point.timestamp is not at:
                    at = point.timestamp
                    at_us = microseconds(at)
                value, labels = float(point.value), point.labels
                is_dated = 0 <= at_us <= latest_us
                if not is_dated or not (
                    -MAGNITUDE_MAX <= value <= MAGNITUDE_MAX or math.isnan(value)
                ):
                    raise _refusal(point, is_dated=is_dated)
                key = (point.component, point.metric_name, tuple(labels.items()) if labels else ())
                number = ids.get(key)
                numbers.append(self._register.add(connection, key) if number is None else number)
                times_us.append(at_us)
                values.append(value)
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise _not_a_point(len(values)) from error
        return numbers, times_us, values

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
