"""When something that grows will be full: a line through the newest points."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Trend:
    """A line through the points of the last `window_s` seconds, by least squares.

    Args:
        window_s: how far back it looks.
        points_most: so many at most; older ones go.
    """

    window_s: float
    points_most: int = 512
    _points: deque[tuple[float, float]] = field(default_factory=deque)

    def add(self, at_s: float, value: float) -> None:
        """Add a point. A time that goes back begins anew: two clocks make no line."""
        if self._points and at_s <= self._points[-1][0]:
            self._points.clear()
        self._points.append((at_s, value))
        while len(self._points) > self.points_most or at_s - self._points[0][0] > self.window_s:
            self._points.popleft()

    @property
    def span_s(self) -> float:
        """From the oldest point to the newest."""
        return self._points[-1][0] - self._points[0][0] if self._points else 0.0

    def slope(self) -> float:
        """What it gains in a second; NaN with fewer than three points."""
        count = len(self._points)
        if count < 3:
            return math.nan
        mean_at = sum(at for at, _ in self._points) / count
        mean = sum(value for _, value in self._points) / count
        spread = sum((at - mean_at) ** 2 for at, _ in self._points)
        joint = sum((at - mean_at) * (value - mean) for at, value in self._points)
        return joint / spread if spread > 0 else math.nan

    def seconds_to(self, limit: float) -> float:
        """Until the line from the newest value reaches a limit above it; infinite if it never does.

        NaN with fewer than three points.
        """
        slope = self.slope()
        if math.isnan(slope):
            return math.nan
        left = limit - self._points[-1][1]
        if left <= 0:
            return 0.0
        return left / slope if slope > 0 else math.inf


def duration(seconds: float) -> str:
    """A duration in words for people."""
    if math.isinf(seconds):
        return "never"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
