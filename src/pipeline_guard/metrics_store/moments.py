"""Count, extremes, sum and spread of groups of numbers, which add up without the numbers.

The spread is kept as the sum of squared distances from the group's own mean, not of the squares:
the difference of two large sums has no digits left for a counter at 10^9.

Source: Chan, Golub and LeVeque 1983, "Algorithms for Computing the Sample Variance", equation 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Integers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moments:
    """One row per group: how many, smallest, largest, sum, squared distances from the mean."""

    n: Integers
    min: Floats
    max: Floats
    sum: Floats
    m2: Floats

    @property
    def mean(self) -> Floats:
        """NaN where there is nothing."""
        return _per(self.sum, self.n)

    @property
    def stddev(self) -> Floats:
        """Of the population, as PromQL's `stddev_over_time`; NaN where there is nothing."""
        return np.sqrt(_per(self.m2, self.n))


def of_runs(values: Floats, starts: Integers) -> Moments:
    """Return the moments of the runs of `values` that begin at `starts`; none is empty or NaN."""
    n = np.diff(starts, append=len(values))
    total = np.add.reduceat(values, starts)
    distances = values - np.repeat(total / n, n)
    return Moments(
        n,
        np.minimum.reduceat(values, starts),
        np.maximum.reduceat(values, starts),
        total,
        np.add.reduceat(distances**2, starts),
    )


def combined(parts: Moments, group: Integers, groups: int) -> Moments:
    """Add up parts by the group that each belongs to; a group without parts has n = 0.

    Its extremes are then infinite and its sum zero: look at n first.
    """
    n = np.bincount(group, parts.n, groups).astype(np.int64)
    total = np.bincount(group, parts.sum, groups).astype(np.float64)
    low, high = np.full(groups, np.inf), np.full(groups, -np.inf)
    np.minimum.at(low, group, parts.min)
    np.maximum.at(high, group, parts.max)
    shift = parts.mean - _per(total, n)[group]
    m2 = np.bincount(group, parts.m2 + parts.n * shift**2, groups).astype(np.float64)
    return Moments(n, low, high, total, m2)


def runs(*columns: npt.NDArray[np.int64]) -> Integers:
    """Return where a new combination of the columns begins; they are sorted by it."""
    changes = np.zeros(len(columns[0]), bool)
    changes[:1] = True
    for column in columns:
        changes[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(changes)


def _per(total: Floats, n: Integers) -> Floats:
    """Quotients; NaN where there is nothing to divide by."""
    found: Floats = np.full(len(n), np.nan)
    return np.divide(total, n, out=found, where=n > 0)
