"""What a metric did over a stretch of time: the functions that thresholds are written with.

They are named after PromQL's, and are simpler in one point: nothing is extrapolated to the edges
of the window. `increase` is what the points show, and `rate` divides it by the time between the
first and the last of them; Prometheus extends both to the whole window.

A function returns `None` where the window cannot answer: it has no value, or `rate` and `increase`
have fewer than two. A check treats that as "unknown", never as zero. Only `absent` and
`count_over_time` always answer.

Source: https://prometheus.io/docs/prometheus/latest/querying/functions/.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from pipeline_guard.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The points of one series in `start_s <= time < end_s`, ordered by time.

    Attributes:
        start_s, end_s: seconds since 1970, UTC.
        times_s, values: of the points; NaN stands for "no value" and is passed over.
        component, metric_name, labels: whose.
    """

    start_s: float
    end_s: float
    times_s: Sequence[float]
    values: Sequence[float]
    component: str = ""
    metric_name: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def present(self) -> list[tuple[float, float]]:
        """The points that have a value: time and value."""
        pairs = zip(self.times_s, self.values, strict=True)
        return [(time_s, value) for time_s, value in pairs if not math.isnan(value)]

    @property
    def numbers(self) -> list[float]:
        """The values that are there."""
        return [value for value in self.values if not math.isnan(value)]


def absent(window: Window) -> float:
    """Return 1 if the window has no value, else 0."""
    return 0.0 if window.numbers else 1.0


def count_over_time(window: Window) -> float:
    """Return how many values there are."""
    return float(len(window.numbers))


def sum_over_time(window: Window) -> float | None:
    """Return the sum of the values."""
    numbers = window.numbers
    return math.fsum(numbers) if numbers else None


def avg_over_time(window: Window) -> float | None:
    """Return the mean of the values; each counts once, however far apart they are."""
    numbers = window.numbers
    return math.fsum(numbers) / len(numbers) if numbers else None


def min_over_time(window: Window) -> float | None:
    """Return the smallest value."""
    return min(window.numbers, default=None)


def max_over_time(window: Window) -> float | None:
    """Return the largest value."""
    return max(window.numbers, default=None)


def last_over_time(window: Window) -> float | None:
    """Return the newest value."""
    numbers = window.numbers
    return numbers[-1] if numbers else None


def stddev_over_time(window: Window) -> float | None:
    """Return the standard deviation of the values as a population."""
    numbers = window.numbers
    if not numbers:
        return None
    mean = math.fsum(numbers) / len(numbers)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in numbers) / len(numbers))


def quantile_over_time(window: Window, quantile: float) -> float | None:
    """Return a quantile of the values, between two of them by a straight line.

    Raises:
        ConfigurationError: `quantile` is not between 0 and 1.
    """
    if not 0 <= quantile <= 1:
        raise ConfigurationError(
            f"quantile = {quantile} is outside its domain, expected 0 to 1; nothing was computed",
            {"parameter": "quantile", "value": quantile, "constraint": "0 <= quantile <= 1"},
        )
    numbers = sorted(window.numbers)
    if not numbers:
        return None
    place = quantile * (len(numbers) - 1)
    low = math.floor(place)
    high = min(low + 1, len(numbers) - 1)
    return numbers[low] + (numbers[high] - numbers[low]) * (place - low)


def delta(window: Window) -> float | None:
    """Return the newest value less the oldest; for gauges."""
    numbers = window.numbers
    return numbers[-1] - numbers[0] if len(numbers) > 1 else None


def increase(window: Window) -> float | None:
    """Return how much a counter grew. Where it fell, it began anew from zero."""
    numbers = window.numbers
    if len(numbers) < 2:
        return None
    steps = itertools.pairwise(numbers)
    return math.fsum(new - old if new >= old else new for old, new in steps)


def rate(window: Window) -> float | None:
    """Return how much a counter grew per second, between its first and its last point."""
    points, grown = window.present, increase(window)
    if grown is None or points[-1][0] <= points[0][0]:
        return None
    return grown / (points[-1][0] - points[0][0])


FUNCTIONS: Final[Mapping[str, Callable[[Window], float | None]]] = MappingProxyType(
    {
        function.__name__: function
        for function in (
            absent, avg_over_time, count_over_time, delta, increase, last_over_time, max_over_time,
            min_over_time, rate, stddev_over_time, sum_over_time,
        )
    }
)  # fmt: skip
"""Those that need the window only, by name; `quantile_over_time` needs its quantile as well."""
