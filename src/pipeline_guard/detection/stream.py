"""The watch of one series: every point gets a score, few get an alarm.

Two profiles are shipped. Neither dominates, and both only inform: what they find has severity
"info" until a check of the configuration says otherwise, and starts no recovery.

`precision`
    z of a window of 400 by its median and quartiles: how many scales away. Few alarms, for levels
    that leave what is usual.
`recall`
    the weighted mean of three surprises: `Novelty` (twice), `ResidualNovelty`, `MeanShift`, and
    `Seasonal` where a period is given. Finds shapes and shifts too.

What a point that is out of the ordinary does:

=============================  ==========================================================
a point that is                is
=============================  ==========================================================
one of the first `warm_up`     learned; `State.LEARNING`, never an alarm
NaN                            `State.MISSING`: not learned, no alarm
infinite, or beyond 1e150      taken as 1e150 with its sign
not later than the newest      `State.LATE`: not learned, no alarm; after 32 of them in a row the
                               clock counts as set back, and time goes on from there
after ten usual steps or more  scored; moving averages begin anew, everything else stays
like all others (constant)     score 0; the first that differs stands out
=============================  ==========================================================

Deterministic: no clock, no chance. Below 10 microseconds a point for `recall`, whose memory is some
200 kB a series once its windows are full; 20 kB for `precision`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from pipeline_guard.detection import memory
from pipeline_guard.detection.components import (
    VALUE_MOST,
    AnyComponent,
    MeanShift,
    Novelty,
    ResidualNovelty,
    RobustZ,
    Seasonal,
)
from pipeline_guard.detection.windows import HoldOff
from pipeline_guard.errors import ConfigurationError, MonitoringError

GAP_STEPS: Final = 10.0
LATE_MOST: Final = 32
HOUR_S: Final = 3600.0


class State(StrEnum):
    """What a watch could do with a point."""

    LEARNING = "learning"
    WATCHING = "watching"
    MISSING = "missing"
    LATE = "late"


class Outcome(NamedTuple):
    """What a watch says of a point.

    Attributes:
        score: how unusual, in the profile's unit: scales away, or a mean of surprises.
        alarm: at or above the threshold, above all of the hold-off, and learned enough.
        state: what was done with the point.
        stands_out: the score is above every score of the hold-off.
    """

    score: float
    alarm: bool
    state: State
    stands_out: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A way to watch.

    Attributes:
        name: under which it is asked for.
        unit: of its scores, and of `threshold`, from which a point may alarm.
        warm_up: points before the first alarm.
        parts: makes its detectors, each with its weight; the score is their weighted mean.
        hold_off: makes its hold-off.
    """

    name: str
    unit: str
    threshold: float
    warm_up: int
    parts: Callable[[], list[tuple[AnyComponent, float]]]
    hold_off: Callable[[], HoldOff]


PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        "precision": Profile(
            name="precision",
            unit="scales",
            threshold=10.0,
            warm_up=100,
            parts=lambda: [(RobustZ(), 1.0)],
            hold_off=lambda: HoldOff(share=0.0),
        ),
        "recall": Profile(
            name="recall",
            unit="surprise",
            threshold=1.55,
            warm_up=170,
            parts=lambda: [(Novelty(), 2.0), (ResidualNovelty(), 1.0), (MeanShift(), 1.0)],
            hold_off=HoldOff,
        ),
    }
)


@dataclass(slots=True)
class SeriesWatch:
    """Watches one series, one point at a time. Made by `watch` or `restored`.

    Attributes:
        profile: the name of what it was made from.
        threshold, warm_up: of the profile, unless others were given.
        parts, weights: the detectors and their shares of the score; shares sum to 1.
        hold_off: what passes only the best score of a while.
        seen: points learned so far.
        last_s: time of the newest of them.
        step_s: the usual time between two; 0 until there were two.
        due_s: when the next is expected.
        late: late points in a row.
    """

    profile: str
    threshold: float
    warm_up: int
    parts: list[AnyComponent]
    weights: list[float]
    hold_off: HoldOff = field(default_factory=HoldOff)
    seen: int = 0
    last_s: float | None = None
    step_s: float = 0.0
    due_s: float | None = None
    late: int = 0

    def update(self, time_s: float, value: float) -> Outcome:
        """Score a point, then learn from it.

        Args:
            time_s: seconds since 1970 (UTC).
            value: NaN for "there was none".

        Raises:
            MonitoringError: the time is not finite; nothing was learned.
        """
        if value != value:  # noqa: PLR0124 -- NaN, without a call
            return _MISSING
        if time_s != self.due_s and not self._is_in_time(time_s):
            return _LATE
        self.last_s = time_s
        self.due_s = time_s + self.step_s
        if not -VALUE_MOST < value < VALUE_MOST:
            value = math.copysign(VALUE_MOST, value)
        score = 0.0
        for part, weight in zip(self.parts, self.weights, strict=True):
            score += weight * part.update(time_s, value)
        stands_out = self.hold_off.beats(score)
        self.seen += 1
        if self.seen <= self.warm_up:
            return Outcome(score, False, State.LEARNING, stands_out)
        if not score:
            return _ORDINARY
        return Outcome(score, stands_out and score >= self.threshold, State.WATCHING, stands_out)

    def _is_in_time(self, time_s: float) -> bool:
        """Whether a point at this time is to be learned; learns the usual step, and sees gaps."""
        if not math.isfinite(time_s):
            raise MonitoringError(
                "the time of a point is not a finite number of seconds; the point was not learned",
                {"parameter": "time_s", "value": str(time_s), "constraint": "finite"},
            )
        if self.last_s is None:
            return True
        step = time_s - self.last_s
        if step <= 0.0:
            self.late += 1
            if self.late <= LATE_MOST:
                return False
            self._interrupt()
        elif not self.step_s:
            self.step_s = step
        else:
            if step >= GAP_STEPS * self.step_s:
                self._interrupt()
            self.step_s += 0.05 * (min(step, 3.0 * self.step_s) - self.step_s)
        self.late = 0
        return True

    def _interrupt(self) -> None:
        for part in self.parts:
            part.interrupt()

    def memory(self) -> dict[str, Any]:
        """Return what it knows, as JSON values."""
        return {
            "version": memory.VERSION,
            "profile": self.profile,
            "threshold": self.threshold,
            "warm_up": self.warm_up,
            "weights": list(self.weights),
            "seen": self.seen,
            "last_s": self.last_s,
            "step_s": self.step_s,
            "due_s": self.due_s,
            "late": self.late,
            "hold_off": memory.written(self.hold_off),
            "parts": memory.written(self.parts),
        }


_ORDINARY: Final = Outcome(0.0, False, State.WATCHING, False)
_MISSING: Final = Outcome(0.0, False, State.MISSING, False)
_LATE: Final = Outcome(0.0, False, State.LATE, False)


def profile_of(name: str) -> Profile:
    """Return the profile of this name.

    Raises:
        ConfigurationError: there is none.
    """
    if name not in PROFILES:
        known = ", ".join(sorted(PROFILES))
        raise ConfigurationError(
            f"there is no detection profile {name!r}; expected one of {known}",
            {"parameter": "profile", "value": name, "constraint": f"one of {known}"},
        )
    return PROFILES[name]


def watch(
    profile: str = "precision",
    *,
    threshold: float | None = None,
    period_s: float | None = None,
) -> SeriesWatch:
    """Return a watch that knows nothing yet.

    Args:
        profile: a name of `PROFILES`.
        threshold: the score from which a point may alarm, in the profile's unit; above 0.
        period_s: of the series, in seconds; `recall` then compares with the same place in the
            period, too (`pipeline_guard.detection.season.find_period`). `precision` needs none.

    Raises:
        ConfigurationError: no such profile, or a number outside its domain.
    """
    chosen = profile_of(profile)
    for name, number in (("threshold", threshold), ("period_s", period_s)):
        if number is not None and not (math.isfinite(number) and number > 0):
            raise ConfigurationError(
                f"{name} of a detection is {number}; expected a finite number above 0",
                {"parameter": name, "value": str(number), "constraint": "finite and above 0"},
            )
    parts = chosen.parts()
    if period_s is not None and chosen.name == "recall":
        parts.append((Seasonal(period_s=period_s, places=_places(period_s)), 1.0))
    total = sum(weight for _, weight in parts)
    return SeriesWatch(
        profile=chosen.name,
        threshold=chosen.threshold if threshold is None else threshold,
        warm_up=chosen.warm_up,
        parts=[part for part, _ in parts],
        weights=[weight / total for _, weight in parts],
        hold_off=chosen.hold_off(),
    )


def _places(period_s: float) -> int:
    """An hour each, between 24 and 168 of them."""
    return min(max(round(period_s / HOUR_S), 24), 168)


def restored(state: Mapping[str, Any]) -> SeriesWatch:
    """Return the watch whose `memory` this is.

    Raises:
        MonitoringError: it is none, or of another version; nothing was restored.
    """
    names = {each.name for each in fields(SeriesWatch)} - {"parts", "hold_off"}
    if state.get("version") != memory.VERSION or not names | {"hold_off", "parts"} <= set(state):
        raise MonitoringError(
            f"this is not the memory of a watch, version {memory.VERSION}; nothing was restored, "
            "start a new watch"
        )
    return SeriesWatch(
        **{name: memory.read(state[name]) for name in names},
        parts=memory.read(state["parts"]),
        hold_off=memory.read(state["hold_off"]),
    )
