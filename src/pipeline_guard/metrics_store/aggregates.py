"""A series in steps of equal length: from rollups where they are exact, else from chunks.

==================================  =========================================================
steps of whole minutes or hours     come from rollups: exact, however old
other steps                         from chunks: from the header of one that lies within a
                                    step, from its points otherwise
quantiles of whole hours            from the digests of the hours, about one percentile exact
quantiles otherwise, rates          from the points
==================================  =========================================================

Steps begin at `start`; those that begin before `end` are whole, the last one too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline_guard.errors import MonitoringError
from pipeline_guard.metrics_store import digest, reading, rollups
from pipeline_guard.metrics_store.moments import Moments, combined
from pipeline_guard.metrics_store.rollups import HOUR_S, MINUTE_S, SECOND_US
from pipeline_guard.metrics_store.sealing import samples_of

Integers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

STEPS_MAX: Final = 100_000
VALUES_MAX: Final = 2_000_000
_ALWAYS_US: Final = -(2**62)


class Statistic(StrEnum):
    """What is asked of each step."""

    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    SUM = "sum"
    COUNT = "count"
    STDDEV = "stddev"
    QUANTILE = "quantile"
    INCREASE = "increase"
    RATE = "rate"


_OF_MOMENTS: Final[Mapping[Statistic, Callable[[Moments], Floats]]] = {
    Statistic.MEAN: lambda moments: moments.mean,
    Statistic.MIN: lambda moments: moments.min,
    Statistic.MAX: lambda moments: moments.max,
    Statistic.SUM: lambda moments: moments.sum,
    Statistic.COUNT: lambda moments: moments.n.astype(np.float64),
    Statistic.STDDEV: lambda moments: moments.stddev,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Which steps of which series, and since when there is what.

    Attributes:
        series: its number.
        start_us, step_us, count: the steps.
        points_since_us, minutes_since_us: what is older was dropped.
    """

    series: int
    start_us: int
    step_us: int
    count: int
    points_since_us: int
    minutes_since_us: int

    @property
    def end_us(self) -> int:
        """Where the last step ends."""
        return self.start_us + self.count * self.step_us

    def are_whole(self, unit_s: int) -> bool:
        """Return whether all steps begin and end at whole minutes, hours."""
        return self.start_us % (unit_s * SECOND_US) == 0 == self.step_us % (unit_s * SECOND_US)


def count_of(start_us: int, end_us: int, step_s: float) -> int:
    """Return how many steps begin in a range.

    Raises:
        MonitoringError: none, more than `STEPS_MAX`, or the step is not a time.
    """
    step_us = round(step_s * SECOND_US) if 0 < step_s < float("inf") else 0
    count = -((start_us - end_us) // step_us) if step_us else 0
    if not 0 < count <= STEPS_MAX:
        raise _refusal("step_s", step_s, f"1 to {STEPS_MAX:,} steps in the range, found {count}")
    return count


def statistic_of(name: str, quantile: float) -> Statistic:
    """Return the statistic of this name.

    Raises:
        MonitoringError: there is none, or `quantile` is not between 0 and 1.
    """
    if not 0 <= quantile <= 1:
        raise _refusal("quantile", quantile, "0 to 1")
    if name not in set(Statistic):
        raise _refusal("statistic", name, f"one of {', '.join(Statistic)}")
    return Statistic(name)


def steps_of(
    connection: sqlite3.Connection,
    wanted: Collection[int],
    start_us: int,
    step_us: int,
    count: int,
) -> list[Steps]:
    """Return the same steps of several series, with what retention has left of each.

    Raises:
        MonitoringError: together they are more than `VALUES_MAX` values.
    """
    if count * len(wanted) > VALUES_MAX:
        raise _refusal(
            "step_s",
            f"{count} steps of {len(wanted)} series",
            f"at most {VALUES_MAX:,} values; name labels, or take longer steps",
        )
    since = {
        row[0]: row[1:]
        for row in connection.execute(
            "SELECT id, ifnull(points_since_us, ?1), ifnull(minutes_since_us, ?1) FROM series",
            (_ALWAYS_US,),
        )
    }
    return [
        Steps(
            series=series,
            start_us=start_us,
            step_us=step_us,
            count=count,
            points_since_us=since[series][0],
            minutes_since_us=since[series][1],
        )
        for series in wanted
    ]


def aggregate(
    connection: sqlite3.Connection, steps: Steps, statistic: Statistic, quantile: float
) -> Floats:
    """Return one value per step; NaN where there is none. Inside one read transaction.

    Raises:
        MonitoringError: it needs points that retention has dropped, or more than fit into memory.
    """
    if statistic is Statistic.QUANTILE:
        return _quantiles(connection, steps, quantile)
    if statistic in {Statistic.INCREASE, Statistic.RATE}:
        grown = _increases(connection, steps)
        return grown / (steps.step_us / SECOND_US) if statistic is Statistic.RATE else grown
    moments = _moments(connection, steps)
    found = _OF_MOMENTS[statistic](moments)
    if statistic is not Statistic.COUNT:
        found = np.where(moments.n > 0, found, np.nan)
    return found


def _moments(connection: sqlite3.Connection, steps: Steps) -> Moments:
    parts = [
        _of_points(steps, *reading.hot(connection, steps.series, steps.start_us, steps.end_us))
    ]
    if steps.are_whole(HOUR_S):
        parts.append(_of_rollups(connection, steps, HOUR_S))
    elif steps.are_whole(MINUTE_S) and steps.start_us >= steps.minutes_since_us:
        parts.append(_of_rollups(connection, steps, MINUTE_S))
    else:
        _require_points(steps)
        parts += _of_chunks(connection, steps)
    group = np.concatenate([part[0] for part in parts])
    columns = zip(*(_columns(part[1]) for part in parts), strict=True)
    return combined(Moments(*(np.concatenate(column) for column in columns)), group, steps.count)


def _of_points(steps: Steps, times_us: Integers, values: Floats) -> tuple[Integers, Moments]:
    there = ~np.isnan(values)
    times_us, values = times_us[there], values[there]
    group = (times_us - steps.start_us) // steps.step_us
    one = np.ones(len(values), np.int64)
    return group, Moments(one, values, values, values, np.zeros(len(values)))


def _of_rollups(
    connection: sqlite3.Connection, steps: Steps, unit_s: int
) -> tuple[Integers, Moments]:
    start_s, end_s = steps.start_us // SECOND_US, steps.end_us // SECOND_US
    starts, moments = rollups.read(connection, steps.series, unit_s, start_s, end_s)
    return (starts - start_s) * SECOND_US // steps.step_us, moments


def _of_chunks(connection: sqlite3.Connection, steps: Steps) -> list[tuple[Integers, Moments]]:
    """Whole chunks by their header, others by their points: one part per chunk."""
    parts = []
    for row in reading.few_chunks_in(connection, steps.series, steps.start_us, steps.end_us):
        number, first_us, last_us, _, n, *figures = row
        first, last = ((at - steps.start_us) // steps.step_us for at in (first_us, last_us))
        if first == last and 0 <= first < steps.count:
            if n:
                columns = (np.array([figure]) for figure in figures)
                parts.append((np.array([first]), Moments(np.array([n]), *columns)))
            continue
        times_us, values = samples_of(connection, number)
        inside = (times_us >= steps.start_us) & (times_us < steps.end_us)
        parts.append(_of_points(steps, times_us[inside], values[inside]))
    return parts


def _quantiles(connection: sqlite3.Connection, steps: Steps, quantile: float) -> Floats:
    if not steps.are_whole(HOUR_S):
        _require_points(steps)
        times_us, values = reading.samples(connection, steps.series, steps.start_us, steps.end_us)
        group, moments = _of_points(steps, times_us, values)
        return _by_group(group, steps.count, lambda part: np.quantile(moments.sum[part], quantile))
    start_s, end_s = steps.start_us // SECOND_US, steps.end_us // SECOND_US
    starts, means, weights = rollups.read_digests(connection, steps.series, start_s, end_s)
    recent = _of_points(steps, *reading.hot(connection, steps.series, steps.start_us, steps.end_us))
    group = np.concatenate(((starts - start_s) * SECOND_US // steps.step_us, recent[0]))
    means = np.concatenate((means, recent[1].sum))
    weights = np.concatenate((weights, np.ones(len(recent[0]))))
    order = np.lexsort((means, group))
    group, means, weights = group[order], means[order], weights[order]
    whole = _moments(connection, steps)

    def of(part: slice) -> float:
        place = int(group[part.start])
        low, high = float(whole.min[place]), float(whole.max[place])
        rank = np.array([quantile])
        return float(digest.quantiles(means[part], weights[part], rank, low=low, high=high)[0])

    return _by_group(group, steps.count, of)


def _increases(connection: sqlite3.Connection, steps: Steps) -> Floats:
    """What a counter grew by, each growth counted in the step where it ends.

    The steps together thus give the growth of the whole. A fall is a beginning from zero.
    """
    _require_points(steps)
    times_us, values = reading.samples(connection, steps.series, steps.start_us, steps.end_us)
    there = ~np.isnan(values)
    times_us, values = times_us[there], values[there]
    grown = np.diff(values, prepend=values[:1])
    grown[grown < 0] = values[grown < 0]
    group = (times_us - steps.start_us) // steps.step_us
    found = np.bincount(group, grown, steps.count).astype(np.float64)
    found[np.bincount(group, minlength=steps.count) == 0] = np.nan
    return found


def _by_group(group: Integers, count: int, of: Callable[[slice], float]) -> Floats:
    """One value per group of a sorted column."""
    found = np.full(count, np.nan)
    edges = np.searchsorted(group, np.arange(count + 1))
    for place in np.flatnonzero(np.diff(edges)).tolist():
        found[place] = of(slice(int(edges[place]), int(edges[place + 1])))
    return found


def _require_points(steps: Steps) -> None:
    if steps.start_us < steps.points_since_us:
        raise MonitoringError(
            "this needs points that retention has dropped; nothing was computed. Ask for steps of "
            "whole hours from a whole hour on (mean, min, max, sum, count, stddev, quantile), or "
            "begin later",
            {
                "parameter": "start_time",
                "value": steps.start_us / SECOND_US,
                "constraint": f">= {steps.points_since_us / SECOND_US}",
            },
        )


def _columns(moments: Moments) -> tuple[npt.NDArray[np.float64 | np.int64], ...]:
    return (moments.n, moments.min, moments.max, moments.sum, moments.m2)


def _refusal(parameter: str, value: object, constraint: str) -> MonitoringError:
    return MonitoringError(
        f"{parameter} = {value} was refused, expected {constraint}; nothing was computed",
        {"parameter": parameter, "value": value, "constraint": constraint},
    )
