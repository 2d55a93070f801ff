"""What can be asked of a metrics store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeAlias

from pipeline_guard.errors import MonitoringError
from pipeline_guard.metrics_store.series import Series, matching
from pipeline_guard.metrics_store.windows import Window
from pipeline_guard.model import MetricPoint
from privacy_runtime.world import Clock

if TYPE_CHECKING:
    import sqlite3

    from pipeline_guard.detection.baselines import Baseline
    from pipeline_guard.metrics_store.aggregates import Statistic
    from pipeline_guard.metrics_store.reading import Summary

LIMIT_MAX: Final = 1_000_000
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
_FIRST_US: Final = -(2**62)
_LAST_US: Final = 2**62

Reading: TypeAlias = "Callable[[], AbstractContextManager[sqlite3.Connection]]"
"""Opens a read transaction on a connection that nobody else uses."""


@dataclass(frozen=True, slots=True)
class Aggregates:
    """One series in steps.

    Attributes:
        series: which.
        starts: of the steps.
        values: one per step; NaN where the step has none.
    """

    series: Series
    starts: tuple[datetime, ...]
    values: tuple[float, ...]


class Queries:
    """Everything that reads. Each method sees the store as it was when the method began.

    `component`, `metric_name` and `labels` say which series: those with this component and metric
    and at least these labels; `None` means any. A naive time is taken as UTC.

    Args:
        reading: opens a read.
        clock: says what "now" is.
    """

    def __init__(self, reading: Reading, clock: Clock) -> None:
        self._reading = reading
        self._clock = clock

    def points(
        self,
        component: str | None = None,
        metric_name: str | None = None,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        limit: int = 1000,
        *,
        labels: Mapping[str, str] | None = None,
    ) -> list[MetricPoint]:
        """Return the newest `limit` points that match, oldest first; both ends count.

        `labels` match where a series has at least these.

        Raises:
            MonitoringError: `limit` is not 1 to 1,000,000, or a chunk is damaged.
        """
        if not 1 <= limit <= LIMIT_MAX:
            raise MonitoringError(
                f"limit = {limit} is outside its domain, expected 1 to {LIMIT_MAX:,}; nothing was "
                f"read",
                {"parameter": "limit", "value": limit, "constraint": f"1 to {LIMIT_MAX}"},
            )
        from pipeline_guard.metrics_store import reading  # noqa: PLC0415  numpy loads with a read

        start_us = _FIRST_US if start_time is None else microseconds(start_time)
        end_us = _LAST_US if end_time is None else microseconds(end_time)
        with self._reading() as connection:
            wanted = matching(connection, component, metric_name, labels)
            if not wanted:
                return []
            columns = reading.newest(connection, wanted, start_us, end_us, limit)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [_point(wanted[series], at_us, value) for series, at_us, value in rows]

    def series(
        self,
        component: str | None = None,
        metric_name: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> list[Series]:
        """Return the series that match."""
        with self._reading() as connection:
            return list(matching(connection, component, metric_name, labels).values())

    def latest(
        self,
        component: str | None = None,
        metric_name: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> list[MetricPoint]:
        """Return the newest point of every series that matches."""
        from pipeline_guard.metrics_store import reading  # noqa: PLC0415  numpy loads with a read

        with self._reading() as connection:
            wanted = matching(connection, component, metric_name, labels)
            found = reading.latest(connection)
        return [_point(wanted[id_], *found[id_]) for id_ in wanted if id_ in found]

    def summaries(
        self,
        component: str | None = None,
        metric_name: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> list[tuple[Series, Summary]]:
        """Return count, extremes and mean of every series that matches, as a whole."""
        from pipeline_guard.metrics_store import reading  # noqa: PLC0415  numpy loads with a read

        with self._reading() as connection:
            wanted = matching(connection, component, metric_name, labels)
            found = reading.summaries(connection)
        return [(wanted[id_], found[id_]) for id_ in wanted if id_ in found]

    def baselines(
        self,
        component: str | None = None,
        metric_name: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> list[tuple[Series, Baseline]]:
        """Return what `MetricStore.refresh_baselines` learned of every series that matches."""
        from pipeline_guard.metrics_store import baselines  # noqa: PLC0415  numpy loads with a read

        with self._reading() as connection:
            wanted = matching(connection, component, metric_name, labels)
            found = baselines.load(connection)
        return [(wanted[id_], found[id_]) for id_ in wanted if id_ in found]

    def windows(
        self,
        component: str,
        metric_name: str,
        labels: Mapping[str, str] | None = None,
        *,
        over_s: float,
        until: datetime | None = None,
    ) -> list[Window]:
        """Return the last `over_s` seconds of every series that matches, for thresholds.

        A series that was ever recorded but has nothing in the window has an empty one; a metric
        that was never recorded has none.

        Raises:
            MonitoringError: `over_s` is no time above zero, or there are too many points.
        """
        from pipeline_guard.metrics_store import reading  # noqa: PLC0415  numpy loads with a read

        if not 0 < over_s < _LAST_US / 1e6:
            raise MonitoringError(
                f"over_s = {over_s} is outside its domain, expected a time above zero; nothing was "
                f"read",
                {"parameter": "over_s", "value": over_s, "constraint": "> 0"},
            )
        end_us = microseconds(until or self._clock.now())
        start_us = end_us - round(over_s * 1e6)
        with self._reading() as connection:
            wanted = matching(connection, component, metric_name, labels)
            found = [
                (s, reading.samples(connection, s.id, start_us, end_us)) for s in wanted.values()
            ]
        return [
            Window(
                start_s=start_us / 1e6,
                end_s=end_us / 1e6,
                times_s=(times_us / 1e6).tolist(),
                values=values.tolist(),
                component=series.component,
                metric_name=series.metric_name,
                labels=series.labels,
            )
            for series, (times_us, values) in found
        ]

    def aggregate(
        self,
        component: str,
        metric_name: str,
        statistic: Statistic | str,
        *,
        start: datetime,
        end: datetime,
        step_s: float,
        labels: Mapping[str, str] | None = None,
        quantile: float = 0.5,
    ) -> list[Aggregates]:
        """Return every series that matches in steps of `step_s` seconds (see `aggregates`).

        Raises:
            MonitoringError: the steps are not steps, are more than 100,000, or need points that are
                no longer there; there is no such statistic or quantile.
        """
        from pipeline_guard.metrics_store import aggregates  # noqa: PLC0415  numpy loads with a read

        asked = aggregates.statistic_of(statistic, quantile)
        start_us = microseconds(start)
        count = aggregates.count_of(start_us, microseconds(end), step_s)
        step_us = round(step_s * 1e6)
        with self._reading() as connection:
            wanted = matching(connection, component, metric_name, labels)
            rows = [
                aggregates.aggregate(connection, steps, asked, quantile)
                for steps in aggregates.steps_of(connection, wanted, start_us, step_us, count)
            ]
        starts = tuple(instant(start_us + place * step_us) for place in range(count))
        return [
            Aggregates(series, starts, tuple(values.tolist()))
            for series, values in zip(wanted.values(), rows, strict=True)
        ]


def microseconds(at: datetime) -> int:
    """Return an instant as microseconds since 1970; a naive one is taken as UTC."""
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - EPOCH) // MICROSECOND


def instant(at_us: int) -> datetime:
    """Return the instant of so many microseconds since 1970."""
    return EPOCH + at_us * MICROSECOND


def _point(series: Series, at_us: int, value: float) -> MetricPoint:
    labels = dict(series.labels) or None
    return MetricPoint(instant(at_us), series.component, series.metric_name, value, labels)
