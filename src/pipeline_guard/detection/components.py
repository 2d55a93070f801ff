"""Detectors: each takes one point at a time and says how unusual it is.

====================  =================================================  ====================
detector              what it compares                                   its score
====================  =================================================  ====================
`RobustZ`             the value with the window's median and scale       scales away
`EwmaChart`           the smoothed value with its control limits         sigmas away
`Extremes`            the value with the moving average before it        surprise
`Novelty`             the value with the nearest that was ever seen      surprise
`ResidualNovelty`     the same for the distance to the moving average    surprise
`MeanShift`           the last few values with the many before them      surprise
`VarianceShift`       their steps with the steps before them             surprise
`Seasonal`            the value with that of the same place in a period  surprise
====================  =================================================  ====================

A surprise is -log10 of a probability between 0 and 8 (`pipeline_guard.detection.tails`). Every
detector scores a point before it learns from it, and returns 0 until it knows enough. Values are
finite and within `VALUE_MOST`: `pipeline_guard.detection.stream` sees to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from pipeline_guard.detection.tails import Tail
from pipeline_guard.detection.windows import MovingMean, SortedWindow

VALUE_MOST: Final = 1e150
"""Larger values count as this: their squares can still be added up."""

SCORE_MOST: Final = 1e6
"""Where scores in units of a scale end."""

HISTORY: Final = 4096
"""How many values are remembered by detectors of novelty."""

_RELATIVE_NOISE: Final = 1e-9
_STANDSTILL: Final = 0.05
_NORMAL_IQR: Final = 1.349
_NORMAL_98: Final = 4.653


class Component(Protocol):
    """A detector of one kind."""

    def update(self, time_s: float, value: float) -> float:
        """Return how unusual the point is, 0 or more; then learn from it."""
        ...

    def interrupt(self) -> None:
        """Forget what only holds for neighbours: points are missing between this and the last."""
        ...


@dataclass(slots=True)
class RobustZ:
    """Distance from the median of a sorted window, in units of its scale.

    The scale is the largest of: interquartile range / 1.349; half of the range from the 1st to the
    99th percentile / 4.653 (so that series that mostly stand still do not explode); and a
    billionth of the value (rounding). For normal values the first is the standard deviation.
    """

    least: int = 30
    window: SortedWindow = field(default_factory=lambda: SortedWindow(400))

    def update(self, time_s: float, value: float) -> float:
        """Return scales away from the median, at most `SCORE_MOST`; 0 for the first `least`."""
        order = self.window.order
        count = len(order)
        score = 0.0
        if count >= self.least:
            median = order[count // 2]
            away = abs(value - median)
            if away > 0.0:
                middle = (order[3 * count // 4] - order[count // 4]) / _NORMAL_IQR
                wide = 0.5 * (order[99 * count // 100] - order[count // 100]) / _NORMAL_98
                noise = _RELATIVE_NOISE * max(abs(median), abs(value))
                score = min(away / max(middle, wide, noise), SCORE_MOST)
        self.window.admit(value)
        return score

    def interrupt(self) -> None:
        """A median needs no neighbours."""


@dataclass(slots=True)
class EwmaChart:
    """The exponentially weighted moving average chart (Roberts 1959), two-sided.

    Centre and variance are learned with weight 1/`memory` from values limited to four sigmas, so
    that one outlier does not widen the limits. For status lines: noisy on series with spikes.
    """

    smoothing: float = 0.2
    memory: float = 400.0
    least: int = 30
    seen: int = 0
    centre: float = 0.0
    variance: float = 0.0
    smoothed: float = 0.0

    def update(self, time_s: float, value: float) -> float:
        """Return how many sigmas of itself the smoothed value is away from the centre."""
        self.seen += 1
        if self.seen == 1:
            self.centre = self.smoothed = value
            return 0.0
        self.smoothed += self.smoothing * (value - self.smoothed)
        sigma = math.sqrt(self.variance * self.smoothing / (2.0 - self.smoothing))
        score = 0.0
        if self.seen > self.least:
            floor = _RELATIVE_NOISE * abs(self.centre)
            away = abs(self.smoothed - self.centre)
            score = min(away / max(sigma, floor), SCORE_MOST) if away > floor else 0.0
        self._learn(value)
        return score

    def _learn(self, value: float) -> None:
        weight = max(1.0 / self.memory, 1.0 / self.seen)
        step = value - self.centre
        if self.seen > self.least and self.variance > 0.0:
            limit = 4.0 * math.sqrt(self.variance)
            step = min(max(step, -limit), limit)
        self.centre += weight * step
        self.variance = (1.0 - weight) * (self.variance + weight * step * step)

    def interrupt(self) -> None:
        """The average goes on from where it was."""


@dataclass(slots=True)
class Extremes:
    """DSPOT: the tail of the distance to the moving average, each side with its own.

    Source: Siffer et al. 2017, section 4.3. The depth is that of the moving average.
    """

    average: MovingMean = field(default_factory=lambda: MovingMean(20))
    above: Tail = field(default_factory=Tail)
    below: Tail = field(default_factory=Tail)

    def update(self, time_s: float, value: float) -> float:
        """Return the surprise of the side that the value is on."""
        score = 0.0
        usual = self.average.mean()
        if usual is not None:
            away = value - usual
            score = max(self.above.surprise(away), self.below.surprise(-away))
        self.average.push(value)
        return score

    def interrupt(self) -> None:
        """Start a new moving average; what was learned about its distance stays."""
        self.average.clear()


@dataclass(slots=True)
class Novelty:
    """The tail of the distance to the nearest of the last `HISTORY` values.

    A value between two common ones can be as new as one beyond all: gaps inside the range count.
    """

    history: SortedWindow = field(default_factory=lambda: SortedWindow(HISTORY))
    tail: Tail = field(default_factory=Tail)
    least: int = 20

    def update(self, time_s: float, value: float) -> float:
        """Return the surprise of the gap; gaps within rounding are none."""
        history = self.history
        gap = history.admit(value)
        if gap and gap <= _RELATIVE_NOISE * abs(value):
            gap = 0.0
        if len(history.order) <= self.least:
            return 0.0
        return self.tail.surprise(gap)

    def interrupt(self) -> None:
        """A value that was seen once needs no neighbours."""


@dataclass(slots=True)
class ResidualNovelty:
    """`Novelty` of the distance to the moving average: what is new here, if not elsewhere."""

    average: MovingMean = field(default_factory=lambda: MovingMean(20))
    novelty: Novelty = field(default_factory=Novelty)

    def update(self, time_s: float, value: float) -> float:
        """Return the surprise of the residual's gap."""
        score = 0.0
        usual = self.average.mean()
        if usual is not None:
            score = self.novelty.update(time_s, value - usual)
        self.average.push(value)
        return score

    def interrupt(self) -> None:
        """Start a new moving average; the residuals that were seen stay."""
        self.average.clear()


@dataclass(slots=True)
class MeanShift:
    """The tail of the distance between the mean of the newest values and of those before them."""

    newest: MovingMean = field(default_factory=lambda: MovingMean(12))
    before: MovingMean = field(default_factory=lambda: MovingMean(288))
    tail: Tail = field(default_factory=Tail)

    def update(self, time_s: float, value: float) -> float:
        """Return the surprise; 0 until the window before is half full."""
        left = self.newest.push(value)
        if left is not None:
            self.before.push(left)
        newest, before = self.newest.mean(), self.before
        many = len(before.recent)
        if newest is None or 2 * many < before.size:
            return 0.0
        return self.tail.surprise(abs(newest - before.total / many))

    def interrupt(self) -> None:
        """The newest values are gathered again; those before them stay."""
        self.newest.clear()


@dataclass(slots=True)
class VarianceShift:
    """The tail of the ratio of mean steps: newest against those before; a standstill counts too."""

    newest: MovingMean = field(default_factory=lambda: MovingMean(24))
    before: MovingMean = field(default_factory=lambda: MovingMean(288))
    tail: Tail = field(default_factory=Tail)
    last: float | None = None

    def update(self, time_s: float, value: float) -> float:
        """Return the surprise of |log((newest + 5 % of before) / before)|."""
        last, self.last = self.last, value
        if last is None:
            return 0.0
        left = self.newest.push(abs(value - last))
        if left is not None:
            self.before.push(left)
        newest, many = self.newest.mean(), len(self.before.recent)
        if newest is None or 2 * many < self.before.size:
            return 0.0
        usual = self.before.total / many
        if usual <= 0.0:
            return self.tail.surprise(0.0 if newest <= 0.0 else -math.log(_STANDSTILL))
        return self.tail.surprise(abs(math.log((newest + _STANDSTILL * usual) / usual)))

    def interrupt(self) -> None:
        """The step over the gap is none."""
        self.last = None
        self.newest.clear()


@dataclass(slots=True)
class Seasonal:
    """The tail of the distance to the profile of a period: one running mean for each place in it.

    Attributes:
        period_s: a day, a week, or what `pipeline_guard.detection.season.find_period` found.
        places: into how many parts the period is cut.
        memory: a place's mean forgets over so many visits.
    """

    period_s: float = 604_800.0
    places: int = 168
    memory: float = 8.0
    tail: Tail = field(default_factory=Tail)
    means: list[float] = field(default_factory=list)
    visits: list[int] = field(default_factory=list)

    def update(self, time_s: float, value: float) -> float:
        """Return the surprise; 0 on the first visit of a place."""
        if not self.means:
            self.means = [0.0] * self.places
            self.visits = [0] * self.places
        place = int(time_s % self.period_s / self.period_s * self.places) % self.places
        visit = self.visits[place]
        away = value - self.means[place]
        self.visits[place] = visit + 1
        self.means[place] += away * max(1.0 / (visit + 1), 1.0 / self.memory)
        return self.tail.surprise(abs(away)) if visit else 0.0

    def interrupt(self) -> None:
        """A period goes on while nobody looks."""


AnyComponent: TypeAlias = (
    RobustZ
    | EwmaChart
    | Extremes
    | Novelty
    | ResidualNovelty
    | MeanShift
    | VarianceShift
    | Seasonal
)
