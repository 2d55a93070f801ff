"""Which profile suits a series: every candidate is tried on the series' own history.

The history is replayed as it is, to count how often a candidate would have alarmed, and once more
with known faults planted in its second half, to count how many it finds. The history is taken as
mostly healthy: real faults in it count as false alarms, for every candidate alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline_guard.detection.components import VALUE_MOST
from pipeline_guard.detection.season import find_period
from pipeline_guard.detection.stream import PROFILES, SeriesWatch, watch
from pipeline_guard.errors import MonitoringError

ALARMS_PER_DAY_MOST: Final = 0.2
POINTS_LEAST: Final = 500
PLANTED: Final = 6
LASTS: Final = 12
"""A planted shift lasts so many points, and an alarm within as many finds a fault."""

STRENGTH: Final = 8.0
"""Of a planted fault, in scales of the series (interquartile range / 1.349)."""

DAY_S: Final = 86_400.0
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What one candidate did on the history.

    Attributes:
        profile, period_s: the candidate.
        alarms_per_day: on the history as it is, after the warm-up.
        found: share of the planted faults with an alarm that the plain history has not.
    """

    profile: str
    period_s: float | None
    alarms_per_day: float
    found: float

    def watch(self) -> SeriesWatch:
        """Return a new watch of this kind."""
        return watch(self.profile, period_s=self.period_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The chosen candidate and all that were tried.

    Attributes:
        chosen: the one that finds most of the planted faults among the quiet ones; of equals, the
            one with fewer alarms.
        is_quiet: whether any kept to the allowed rate; if not, `chosen` has the fewest alarms.
        trials: all, in the order in which they were tried.
    """

    chosen: Trial
    is_quiet: bool
    trials: tuple[Trial, ...]


def choose(
    times_s: Sequence[float] | Floats,
    values: Sequence[float] | Floats,
    *,
    alarms_per_day_most: float = ALARMS_PER_DAY_MOST,
) -> Choice:
    """Return which profile suits this history. Deterministic; some 40 microseconds a point.

    Args:
        times_s: seconds since 1970, ascending.
        values: at least `POINTS_LEAST` finite ones among them.
        alarms_per_day_most: how many alarms a day a quiet profile may have had.

    Raises:
        MonitoringError: the history is too short; keep the default profile.
    """
    times, levels = np.asarray(times_s, float), np.asarray(values, float)
    levels = np.clip(levels, -VALUE_MOST, VALUE_MOST)
    finite = levels[np.isfinite(levels)]
    if len(finite) < POINTS_LEAST or times.shape != levels.shape:
        raise MonitoringError(
            f"a profile is chosen from {POINTS_LEAST} points or more, {len(finite)} were given; "
            "keep the default profile until there are as many"
        )
    period_s = find_period(times, levels)
    candidates: list[tuple[str, float | None]] = [(name, None) for name in PROFILES]
    if period_s is not None:
        candidates.append(("recall", period_s))
    planted, places = _planted(levels, finite)
    trials = tuple(
        _trial(name, period, times, levels, planted, places) for name, period in candidates
    )
    quiet = [each for each in trials if each.alarms_per_day <= alarms_per_day_most]
    if not quiet:
        fewest = min(trials, key=lambda each: each.alarms_per_day)
        return Choice(chosen=fewest, is_quiet=False, trials=trials)
    chosen = max(quiet, key=lambda each: (each.found, -each.alarms_per_day))
    return Choice(chosen=chosen, is_quiet=True, trials=trials)


def _planted(levels: Floats, finite: Floats) -> tuple[Floats, list[int]]:
    """The history with spikes and shifts, up and down in turn, evenly over its second half."""
    low, high = np.quantile(finite, [0.25, 0.75])
    wide = float(np.quantile(finite, 0.99) - np.quantile(finite, 0.01)) / 4.653
    scale = max(float(high - low) / 1.349, 0.5 * wide, 1e-6 * float(np.abs(finite).max()))
    changed = levels.copy()
    half = len(levels) // 2
    places = [half + (each * half) // PLANTED + half // (2 * PLANTED) for each in range(PLANTED)]
    for number, place in enumerate(places):
        sign = 1.0 if number % 4 < 2 else -1.0
        lasts = 1 if number % 2 == 0 else LASTS
        changed[place : place + lasts] += sign * STRENGTH * (scale or 1.0)
    return changed, places


def _trial(
    profile: str,
    period_s: float | None,
    times: Floats,
    levels: Floats,
    planted: Floats,
    places: Sequence[int],
) -> Trial:
    quiet = _alarms(watch(profile, period_s=period_s), times, levels)
    loud = _alarms(watch(profile, period_s=period_s), times, planted) - quiet
    found = sum(bool(loud & set(range(place, place + LASTS))) for place in places)
    days = max(float(times[-1] - times[0]) / DAY_S, 1e-9)
    return Trial(
        profile=profile,
        period_s=period_s,
        alarms_per_day=len(quiet) / days,
        found=found / len(places),
    )


def _alarms(watched: SeriesWatch, times: Floats, levels: Floats) -> set[int]:
    points = enumerate(zip(times.tolist(), levels.tolist(), strict=True))
    return {at for at, (time_s, value) in points if watched.update(time_s, value).alarm}
