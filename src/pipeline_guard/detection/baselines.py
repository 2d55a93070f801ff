"""What is usual for a series, by hour of the week: a summary to keep, and a score against it.

A summary is recomputed from the stored points, not merged: medians and quantiles of two halves do
not give those of the whole. `Baseline.version` grows by one each time, and says which summary an
old alert was judged by.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline_guard.detection.components import SCORE_MOST, VALUE_MOST
from pipeline_guard.errors import MonitoringError

HOURS: Final = 168
HOUR_LEAST: Final = 8
"""An hour with fewer values is judged by the whole series."""

LEAST: Final = 30
"""A series with fewer values is still learning: nothing is unusual."""

QUANTILES: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_MAD_NORMAL: Final = 1.4826
_NORMAL_98: Final = 4.653
_MONDAY: Final = 72  # 1970-01-01 was a Thursday

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Summary:
    """Of the values of an hour of the week, or of all.

    `mad` is the median of the distances to `median`, as it is (times 1.4826 it estimates the
    standard deviation of normal values). The quantiles are interpolated.
    """

    count: int
    median: float
    mad: float
    q01: float
    q05: float
    q25: float
    q75: float
    q95: float
    q99: float


_NAMES: Final = tuple(each.name for each in fields(Summary))


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What is usual for a series.

    Attributes:
        version: 1 for the first; grows with each recomputation.
        count: finite values that it was made from.
        missing: NaN and infinite values, which count for nothing else.
        first_s, last_s: times of the first and last of `count`, seconds since 1970.
        overall: of all values; `None` where there is none.
        hours: by hour of the week, UTC; 0 is Monday 00:00 to 01:00. Hours without values are
            absent.
    """

    version: int
    count: int
    missing: int
    first_s: float | None
    last_s: float | None
    overall: Summary | None
    hours: Mapping[int, Summary]

    @property
    def is_learning(self) -> bool:
        """Whether there are too few values to judge by."""
        return self.count < LEAST

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "version": self.version,
            "count": self.count,
            "missing": self.missing,
            "first_s": self.first_s,
            "last_s": self.last_s,
            "overall": None if self.overall is None else _columns(self.overall),
            "hours": {str(hour): _columns(summary) for hour, summary in self.hours.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Baseline:
        """Return what `to_dict` wrote.

        Raises:
            MonitoringError: it is something else; recompute the baseline.
        """
        try:
            overall = data["overall"]
            return cls(
                version=int(data["version"]),
                count=int(data["count"]),
                missing=int(data["missing"]),
                first_s=data["first_s"],
                last_s=data["last_s"],
                overall=None if overall is None else Summary(**overall),
                hours={int(hour): Summary(**each) for hour, each in data["hours"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MonitoringError("this is not a baseline; recompute it") from error


def hour_of_week(time_s: float) -> int:
    """Return the hour of the week of an instant, UTC: 0 is Monday 00:00 to 01:00."""
    return int(time_s // 3600 + _MONDAY) % HOURS


def summarize(
    times_s: Sequence[float] | Floats, values: Sequence[float] | Floats, *, version: int = 1
) -> Baseline:
    """Return what is usual for these points; their order does not matter.

    Args:
        times_s: seconds since 1970 (UTC), one for each value.
        values: NaN and infinities are counted as missing; beyond 1e150 counts as that.
        version: of the result; at least 1.

    Raises:
        MonitoringError: there are not as many times as values.
    """
    times, levels = np.asarray(times_s, float), np.asarray(values, float)
    if times.shape != levels.shape or times.ndim != 1:
        raise MonitoringError(
            f"{times.size} times were given for {levels.size} values; expected one for each, "
            "nothing was summarized"
        )
    known = np.isfinite(levels) & np.isfinite(times)
    missing = len(levels) - int(known.sum())
    times, levels = times[known], np.clip(levels[known], -VALUE_MOST, VALUE_MOST)
    if not len(levels):
        return Baseline(
            version=version,
            count=0,
            missing=missing,
            first_s=None,
            last_s=None,
            overall=None,
            hours={},
        )
    overall = _summaries(np.zeros(len(levels), np.int64), levels)[0]
    hours = (np.floor_divide(times, 3600.0).astype(np.int64) + _MONDAY) % HOURS
    return Baseline(
        version=version,
        count=len(levels),
        missing=missing,
        first_s=float(times.min()),
        last_s=float(times.max()),
        overall=overall,
        hours=_summaries(hours, levels),
    )


def unusual(baseline: Baseline, time_s: float, value: float) -> float:
    """Return how many scales a value is away from the median of its hour of the week.

    The scale is the largest of 1.4826 MAD, half of (q99 - q01) / 4.653 and a billionth of the
    value. An hour with fewer than `HOUR_LEAST` values is judged by the whole series. 0 for NaN, and
    as long as the baseline is learning; at most `SCORE_MOST`.
    """
    if baseline.overall is None or baseline.is_learning or math.isnan(value):
        return 0.0
    summary = baseline.hours.get(hour_of_week(time_s))
    if summary is None or summary.count < HOUR_LEAST:
        summary = baseline.overall
    value = min(max(value, -VALUE_MOST), VALUE_MOST)
    away = abs(value - summary.median)
    noise = 1e-9 * max(abs(summary.median), abs(value))
    if away <= noise:
        return 0.0
    wide = 0.5 * (summary.q99 - summary.q01) / _NORMAL_98
    return min(away / max(_MAD_NORMAL * summary.mad, wide, noise), SCORE_MOST)


def _summaries(groups: NDArray[np.int64], levels: Floats) -> dict[int, Summary]:
    """A summary for each group: two sorts for all of them."""
    sorted_groups, ordered = _sorted(groups, levels)
    names, starts, counts = np.unique(sorted_groups, return_index=True, return_counts=True)
    table = {share: _quantile(ordered, starts, counts, share) for share in QUANTILES}
    distances = np.abs(ordered - np.repeat(table[0.5], counts))
    _, distances = _sorted(sorted_groups, distances)
    mads = _quantile(distances, starts, counts, 0.5)
    columns = [table[share] for share in QUANTILES if share != 0.5]
    rows = np.stack([table[0.5], mads, *columns], axis=1).tolist()
    return {
        int(name): Summary(int(count), *row)
        for name, count, row in zip(names, counts, rows, strict=True)
    }


def _sorted(groups: NDArray[np.int64], levels: Floats) -> tuple[NDArray[np.int64], Floats]:
    order = np.lexsort((levels, groups))
    return groups[order], levels[order]


def _quantile(
    ordered: Floats, starts: NDArray[np.int64], counts: NDArray[np.int64], share: float
) -> Floats:
    """Of each run of sorted values, interpolated."""
    place = share * (counts - 1)
    below = np.floor(place).astype(np.int64)
    part = place - below
    low = ordered[starts + below]
    high = ordered[starts + np.minimum(below + 1, counts - 1)]
    blended: Floats = (1.0 - part) * low + part * high
    return blended


def _columns(summary: Summary) -> dict[str, float | int]:
    """As `asdict`, which copies every number deeply and took two thirds of a refresh."""
    return {name: getattr(summary, name) for name in _NAMES}
