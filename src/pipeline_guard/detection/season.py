"""The period of a series, found from its own history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline_guard.detection.components import VALUE_MOST

PERIODS_LEAST: Final = 2.5
"""So many periods must be in the history, or nothing is said."""

CORRELATION_LEAST: Final = 0.4
POINTS_LEAST: Final = 48
POINTS_MOST: Final = 20_000
_DAY_S: Final = 86_400.0
_SNAP: Final = 0.03

Floats = NDArray[np.float64]


def find_period(
    times_s: Sequence[float] | Floats, values: Sequence[float] | Floats
) -> float | None:
    """Return the period of a series in seconds, or `None` where it shows none.

    The series is put on an even grid (its usual step), gaps are filled with straight lines, its
    trend is taken away and outliers are limited. Of the lags behind the first without correlation,
    the period is the first peak within a tenth of the highest, which is at least
    `CORRELATION_LEAST`. Within 3 % of a day or a week it is that.

    NaN and points out of order are left out. `None` too for fewer than `POINTS_LEAST` points or a
    constant series.
    """
    grid = _grid(np.asarray(times_s, float), np.asarray(values, float))
    if grid is None:
        return None
    step_s, even = grid
    correlation = _autocorrelation(even)
    longest = int(len(even) / PERIODS_LEAST)
    if correlation is None or longest < 4:
        return None
    fallen = np.flatnonzero(correlation[:longest] <= 0.0)
    if not len(fallen):
        return None
    lags = np.arange(fallen[0], longest)
    heights = correlation[lags]
    highest = float(heights.max())
    if highest < CORRELATION_LEAST:
        return None
    first = int(lags[np.argmax(heights >= 0.9 * highest)])
    hill = correlation[first : min(first + max(first // 4, 2), longest)]
    lag = first + int(np.argmax(hill))
    if lag + 1 >= longest:
        return None
    return _snapped(lag * step_s)


def _grid(times_s: Floats, values: Floats) -> tuple[float, Floats] | None:
    known = np.isfinite(values) & np.isfinite(times_s)
    times_s, values = times_s[known], np.clip(values[known], -VALUE_MOST, VALUE_MOST)
    if len(times_s) < POINTS_LEAST:
        return None
    in_order = np.append(True, times_s[1:] > np.maximum.accumulate(times_s)[:-1])
    times_s, values = times_s[in_order], values[in_order]
    if len(times_s) < POINTS_LEAST:
        return None
    step_s = float(np.median(np.diff(times_s)))
    span_s = float(times_s[-1] - times_s[0])
    step_s = max(step_s, span_s / POINTS_MOST)
    at = times_s[0] + step_s * np.arange(int(span_s / step_s) + 1)
    return step_s, np.interp(at, times_s, values)


def _autocorrelation(even: Floats) -> Floats | None:
    """Of the series without trend and outliers, divided by how many pairs each lag has."""
    low, high = np.quantile(even, [0.01, 0.99])
    limited = np.clip(even, low, high)
    scale = float(np.abs(limited).max())
    if not high > low:
        return None
    limited = limited / scale
    place = np.linspace(-1.0, 1.0, len(limited))
    limited = limited - limited.mean()
    limited = limited - place * float(place @ limited) / float(place @ place)
    count = len(limited)
    spectrum = np.fft.rfft(limited, 2 * count)
    sums: Floats = np.fft.irfft(spectrum * np.conj(spectrum))[:count]
    if sums[0] <= 0.0:
        return None
    means: Floats = sums / (count - np.arange(count))
    means /= means[0]
    return means


def _snapped(period_s: float) -> float:
    for whole_s in (_DAY_S, 7 * _DAY_S):
        if abs(period_s - whole_s) <= _SNAP * whole_s:
            return whole_s
    return period_s
