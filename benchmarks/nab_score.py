"""The score of the Numenta Anomaly Benchmark, from the formula of its paper.

Source: Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms: the Numenta Anomaly
Benchmark", ICMLA 2015 (arXiv:1510.03336), sections II.B to II.D; the folders are those of NAB 1.1.

A detector gives one number per row; rows at or above a threshold are detections. The earliest
detection inside a window earns up to `A_TP`, more the earlier it is; a window without one costs
`A_FN`; a detection outside every window costs up to `A_FP`, less right after a window. The first
15 % of a series (at most 750 rows) do not count. 100 is a detector that hits the start of every
window and nothing else, 0 is one that never detects. The threshold is one for all files, and the
one that scores best: it is found exactly, by looking at every value that the scores take.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

PROBATION_SHARE: Final = 0.15
PROBATION_ROWS_MOST: Final = 750
FAR: Final = 3.0
"""From so many window widths behind a window on, a false alarm costs the whole `A_FP`."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Profile:
    """The weights of an application (table I of the paper)."""

    true_positive: float
    false_positive: float
    false_negative: float


PROFILES: Final[Mapping[str, Profile]] = {
    "standard": Profile(1.0, 0.11, 1.0),
    "reward_low_FP": Profile(1.0, 0.22, 1.0),
    "reward_low_FN": Profile(1.0, 0.11, 2.0),
}


@dataclass(frozen=True, slots=True)
class Series:
    """One file: `windows` are the first and last rows of each, in order, without overlap."""

    name: str
    timestamps: Sequence[str]
    values: Sequence[float]
    windows: Sequence[tuple[int, int]]

    @property
    def probation(self) -> int:
        """How many rows at the start do not count."""
        return probation_rows(len(self.values))


@dataclass(frozen=True, slots=True)
class Result:
    """A score, the threshold behind it, and how many windows and rows it hits."""

    score: float
    threshold: float
    windows_hit: int
    windows: int
    false_rows: int


def probation_rows(rows: int) -> int:
    """How many of so many rows do not count."""
    return min(int(PROBATION_SHARE * rows), PROBATION_ROWS_MOST)


def read(folder: Path) -> dict[str, Series]:
    """Read every series of a copy of NAB (`data/`, `labels/combined_windows.json`)."""
    labels = json.loads((folder / "labels" / "combined_windows.json").read_text("utf-8"))
    return {name: _series(folder / "data" / name, name, labels[name]) for name in sorted(labels)}


def _series(path: Path, name: str, windows: Sequence[tuple[str, str]]) -> Series:
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    timestamps = [row["timestamp"] for row in rows]
    place: dict[str, int] = {}
    for index, stamp in enumerate(timestamps):
        place.setdefault(stamp, index)
    bounds = [(place[start[:19]], place[end[:19]]) for start, end in windows]
    return Series(name, timestamps, [float(row["value"]) for row in rows], bounds)


def scaled_sigmoid(position: Floats) -> Floats:
    """Near 1 at -1 (a window's start), 0 at 0 (its end), -1 from `FAR` on."""
    value: Floats = 2.0 / (1.0 + np.exp(5.0 * np.minimum(position, FAR))) - 1.0
    return np.where(position > FAR, -1.0, value)


@dataclass(frozen=True, slots=True)
class Ladder:
    """What lowering the threshold over a row's score changes, for the rows of some series.

    Attributes:
        scores: of the rows, from high to low.
        gains: by how much the total grows with each.
        first_hits: 1 where a row is the first detection of its window.
        false_rows: 1 where a row is outside every window.
        windows: how many windows can be hit.
    """

    scores: Floats
    gains: Floats
    first_hits: Floats
    false_rows: Floats
    windows: int

    def totals(self, profile: Profile) -> Floats:
        """The raw total after each row, `A_FN` for every window that is not hit yet included."""
        missed = self.windows - np.cumsum(self.first_hits)
        return np.cumsum(self.gains) - profile.false_negative * missed

    def result(self, profile: Profile, rows: int, threshold: float) -> Result:
        """The result where the `rows` highest rows are detections."""
        hit = int(self.first_hits[:rows].sum())
        total = float(self.gains[:rows].sum()) - profile.false_negative * (self.windows - hit)
        worst = -profile.false_negative * self.windows
        best = profile.true_positive * self.windows
        score = 100.0 * (total - worst) / (best - worst) if self.windows else 0.0
        return Result(score, threshold, hit, self.windows, int(self.false_rows[:rows].sum()))


def ladder(
    series: Sequence[Series], scores: Mapping[str, Sequence[float]], profile: Profile
) -> Ladder:
    """Return what each row of these series changes, from the highest score to the lowest."""
    steps = [_steps(each, np.asarray(scores[each.name], float), profile) for each in series]
    table = np.concatenate(steps, axis=1) if steps else np.zeros((4, 0))
    table = table[:, np.isfinite(table[0])]
    table = table[:, np.argsort(-table[0], kind="stable")]
    can_score = sum(end >= each.probation for each in series for _, end in each.windows)
    return Ladder(table[0], table[1], table[2], table[3], can_score)


def _steps(series: Series, scores: Floats, profile: Profile) -> Floats:
    """Score, gain, first hit and false row of each row that counts: four rows of numbers."""
    rows = np.arange(len(scores))
    gains = np.full(len(scores), -profile.false_positive)
    hits = np.zeros(len(scores))
    outside = np.ones(len(scores))
    order = rows[series.probation :]
    for start, end in series.windows:
        after = (rows[end + 1 :] - end) / (end - start) if end > start else FAR + rows[end + 1 :]
        gains[end + 1 :] = profile.false_positive * scaled_sigmoid(after)
    for start, end in series.windows:
        inside = rows[max(start, series.probation) : end + 1]
        outside[start : end + 1] = 0.0
        position = -(end - inside + 1) / (end - start + 1)
        worth = profile.true_positive * scaled_sigmoid(position) / scaled_sigmoid(np.array(-1.0))
        down = np.argsort(-scores[inside], kind="stable")
        reached = np.maximum.accumulate(np.append(0.0, worth[down]))
        gains[inside[down]] = np.diff(reached)
        hits[inside[down[:1]]] = 1.0
    return np.stack([scores, gains, hits, outside])[:, order]


def best(rungs: Ladder, profile: Profile) -> Result:
    """Return the result at the threshold that scores best; of equals, the highest."""
    if not len(rungs.scores):
        return rungs.result(profile, 0, np.inf)
    ends = np.append(np.flatnonzero(np.diff(rungs.scores)), len(rungs.scores) - 1)
    totals = rungs.totals(profile)[ends]
    if totals.max() <= -profile.false_negative * rungs.windows:
        return rungs.result(profile, 0, np.inf)
    at = int(ends[np.argmax(totals)])
    return rungs.result(profile, at + 1, float(rungs.scores[at]))


def at_threshold(rungs: Ladder, profile: Profile, threshold: float) -> Result:
    """Return the result at this threshold."""
    rows = int(np.count_nonzero(rungs.scores >= threshold))
    return rungs.result(profile, rows, threshold)
