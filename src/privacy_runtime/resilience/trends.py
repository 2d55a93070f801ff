"""Where a measured quantity is heading, and when it reaches a limit.

Source: Theil 1950 and Sen 1968, "Estimates of the regression coefficient based on Kendall's tau"
(JASA 63): the median of the slopes between pairs bears 29 % of wild values; its confidence interval
takes the slopes at ranks that Kendall's S gives.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from privacy_core.errors import InvalidParameter

_MOST: Final = 200  # samples that are looked at: 19,900 pairs
_LEAST: Final = 5
_Z: Final = 1.959963984540054  # the normal quantile of 97.5 %


@dataclass(frozen=True, slots=True)
class Trend:
    """A line through samples.

    Attributes:
        slope_per_s: the median slope.
        low_per_s, high_per_s: its 95 % confidence interval.
        level: of the line at the newest sample.
        samples: how many were looked at.
    """

    slope_per_s: float
    low_per_s: float
    high_per_s: float
    level: float
    samples: int

    def seconds_to(self, limit: float) -> float | None:
        """When the line meets `limit`; 0.0 if it is there; `None` if it leads elsewhere."""
        return _seconds(self.level, self.slope_per_s, limit)

    def interval_to(self, limit: float) -> tuple[float, float | None] | None:
        """The soonest and the latest time that the interval of the slope allows.

        `None` if not even the steepest slope leads there; no latest time if the other one does not.
        """
        ends = [_seconds(self.level, s, limit) for s in (self.low_per_s, self.high_per_s)]
        times = sorted(t for t in ends if t is not None)
        if not times:
            return None
        return times[0], times[1] if len(times) == 2 else None


def trend(samples: Sequence[tuple[float, float]]) -> Trend | None:
    """The line through samples; `None` for fewer than five, or at one time.

    Args:
        samples: (seconds, value), in the order of time; the newest 200 count.

    Raises:
        InvalidParameter: a number is not finite, or time goes back.
    """
    rows = list(samples)[-_MOST:]
    if not all(math.isfinite(number) for row in rows for number in row):
        raise InvalidParameter("samples", found="a number that is not finite", expected="numbers")
    if any(b[0] < a[0] for a, b in itertools.pairwise(rows)):
        raise InvalidParameter("samples", found="time that goes back", expected="growing times")
    if len(rows) < _LEAST:
        return None
    slopes = sorted(
        (rows[j][1] - rows[i][1]) / (rows[j][0] - rows[i][0])
        for i in range(len(rows))
        for j in range(i + 1, len(rows))
        if rows[j][0] > rows[i][0]
    )
    if not slopes:
        return None
    n = len(rows)
    spread = _Z * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)  # of Kendall's S without ties
    low = max(0, math.floor((len(slopes) - spread) / 2))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + spread) / 2))
    slope = _median(slopes)
    newest_s = rows[-1][0]
    level = _median(sorted(value + slope * (newest_s - at) for at, value in rows))
    return Trend(slope, slopes[low], slopes[high], level, n)


def _seconds(level: float, slope: float, limit: float) -> float | None:
    gap = limit - level
    if gap == 0:
        return 0.0
    return gap / slope if slope and gap / slope > 0 else None


def _median(ordered: Sequence[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
