"""What the detectors remember of a series: its recent values, sorted or averaged."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from typing import Final

_LOST_DIGITS: Final = 1e8
"""A sum that shrinks by this factor when a value leaves has lost too many digits to be kept."""


@dataclass(slots=True)
class SortedWindow:
    """The newest values in order: quantiles at once, the nearest value by bisection.

    It holds the newest `size` values and up to a quarter more: the oldest leave together, so that a
    value costs one bisection, one short copy and its share of a sort, whatever the length of the
    series. 20 bytes a value.
    """

    size: int
    recent: array[float] = field(default_factory=lambda: array("d"))
    order: array[float] = field(default_factory=lambda: array("d"), metadata={"derived": True})

    def rebuild(self) -> None:
        """Sort `recent` again."""
        self.order = array("d", sorted(self.recent))

    def __len__(self) -> int:
        return len(self.order)

    def admit(self, value: float) -> float:
        """Take a value in and return how far the nearest of the others is; 0 for the first."""
        order = self.order
        count = len(order)
        at = bisect_left(order, value)
        if at < count:
            gap = order[at] - value
            if at and gap:
                gap = min(value - order[at - 1], gap)
        else:
            gap = value - order[-1] if count else 0.0
        order.insert(at, value)
        recent = self.recent
        recent.append(value)
        if 4 * count > 5 * self.size:
            del recent[: -self.size]
            self.rebuild()
        return gap

    def quantile(self, share: float) -> float:
        """Return the value below which this share lies (the higher of two neighbours)."""
        return self.order[min(int(share * len(self.order)), len(self.order) - 1)]


@dataclass(slots=True)
class MovingMean:
    """The mean of the last `size` values, exact to rounding even after an enormous one left."""

    size: int
    recent: deque[float] = field(default_factory=deque)
    total: float = 0.0

    def mean(self) -> float | None:
        """Return the mean of what is in; `None` until it is full."""
        count = len(self.recent)
        return self.total / count if count >= self.size else None

    def push(self, value: float) -> float | None:
        """Take a value in and return the one that leaves, if one does."""
        recent = self.recent
        recent.append(value)
        self.total += value
        if len(recent) <= self.size:
            return None
        left = recent.popleft()
        total = self.total - left
        if left and abs(left) > _LOST_DIGITS * abs(total):
            total = math.fsum(recent)
        self.total = total
        return left

    def clear(self) -> None:
        """Forget everything."""
        self.recent.clear()
        self.total = 0.0


@dataclass(slots=True)
class HoldOff:
    """Lets a score pass only if it beats every score of the last while.

    The while is a share of the points seen so far, between `least` and `most` points. Nothing of
    the future, nor the length of the series, is used.
    """

    share: float = 0.05
    least: int = 20
    most: int = 4096
    seen: int = 0
    places: deque[int] = field(default_factory=deque)
    peaks: deque[float] = field(default_factory=deque)

    def beats(self, score: float) -> bool:
        """Take a score in and return whether it is above all of the while before it, and above 0.

        The peaks in memory fall from first to last, so that each score enters and leaves once.
        """
        at = self.seen
        self.seen = at + 1
        if score <= 0.0:
            return False
        places, peaks = self.places, self.peaks
        span = min(max(self.least, int(self.share * at)), self.most)
        while places and places[0] < at - span:
            places.popleft()
            peaks.popleft()
        passes = not peaks or score > peaks[0]
        while peaks and peaks[-1] <= score:
            places.pop()
            peaks.pop()
        places.append(at)
        peaks.append(score)
        return passes
