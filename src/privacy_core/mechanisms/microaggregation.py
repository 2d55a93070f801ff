"""Noisy group centroids in place of the rows of a table: k-anonymous groups, then Gaussian noise.

Rows are put into one order that does not depend on the other rows, cut into groups of k neighbours,
and each group is released as its centroid with noise, k times over. Exchanging one row moves it to
another place in the order, and each group between the two places gives one row to its neighbour: so
one exchange moves every centroid, but none of them by more than a k-th of the bounds. That is what
"insensitive" means; with groups chosen by distances among the rows, all could change at will.

Rows come back in the order of the groups. Which row of the original a row stands for is private.

Source: Soria-Comas, Domingo-Ferrer, Sanchez & Martinez 2014, "Enhancing data utility in
differential privacy via microaggregation-based k-anonymity", VLDB Journal 23, sections 4 and 5: the
insensitive order, and k of at least sqrt(n), from which on the noise is no larger than that of one
row. They add up the moves of the groups in L1; in L2, for Gaussian noise, they add as squares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from privacy_core.accounting.gdp import sensitivity_under
from privacy_core.dp_events import DpEvent, Gaussian
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import NeighbouringRelation
from privacy_core.mechanisms.additive import GaussianMechanism, gaussian_sigma
from privacy_core.mechanisms.mechanism import Entropy

Table: TypeAlias = NDArray[np.float64]

# Centroids are means of floats in [0, 1]: their rounding is below 2^-50 of the bounds.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Microaggregation:
    """Releases a table of n rows as noisy centroids of groups of at least k.

    Guarantee: one exchanged row moves all centroids together by at most `sensitivity` in L2, every
    column counted in widths of its bounds. The number of rows is public.

    =====================  =====================================================
    a value that is        counts as
    =====================  =====================================================
    out of its bounds      the bound
    infinite               the bound
    not a number           the lower bound
    =====================  =====================================================

    Args:
        lower: the least value of each column. Public.
        upper: the largest of each, above `lower`. Public.
        rows: n, how many rows there are. Public.
        group_size: k, from sqrt(n) to n.
        sigma: standard deviation of the noise on a centroid, in widths of a column's bounds.

    Raises:
        InvalidParameter: a number is outside its domain.
    """

    lower: tuple[float, ...]
    upper: tuple[float, ...]
    rows: int
    group_size: int
    sigma: float

    def __post_init__(self) -> None:
        pairs = tuple(zip(self.lower, self.upper, strict=False))
        fits = len(self.lower) == len(self.upper) > 0
        if not fits or not all(-math.inf < low < high < math.inf for low, high in pairs):
            raise InvalidParameter(
                "bounds", found=pairs, expected="for each column a finite lower below its upper"
            )
        if not 1 <= self.rows < 2**53:
            raise InvalidParameter("rows", found=self.rows, expected="a whole number >= 1")
        least = math.isqrt(self.rows - 1) + 1
        if not least <= self.group_size <= self.rows:
            raise InvalidParameter(
                "group_size",
                found=self.group_size,
                expected=f"from {least} (the root of the number of rows) to {self.rows}",
            )
        if not 0 < self.sigma < math.inf:
            raise InvalidParameter("sigma", found=self.sigma, expected="a finite number > 0")

    @classmethod
    def meeting(
        cls,
        *,
        epsilon: float,
        delta: float,
        lower: tuple[float, ...],
        upper: tuple[float, ...],
        rows: int,
        group_size: int,
    ) -> Microaggregation:
        """The least noise that meets (epsilon, delta) for one exchanged row.

        Raises:
            InvalidParameter: a number is outside its domain.
        """
        unit = cls(lower=lower, upper=upper, rows=rows, group_size=group_size, sigma=1.0)
        sigma = gaussian_sigma(epsilon=epsilon, delta=delta, sensitivity=unit.sensitivity)
        return cls(lower=lower, upper=upper, rows=rows, group_size=group_size, sigma=sigma)

    @property
    def relation(self) -> NeighbouringRelation:
        """One row is exchanged: under add-or-remove every group border would move."""
        return NeighbouringRelation.REPLACE_ONE

    @property
    def sensitivity(self) -> float:
        """sqrt(groups * columns) / k, in widths of the bounds."""
        groups = self.rows // self.group_size
        return math.sqrt(groups * len(self.lower)) / self.group_size * (1 + _ROUNDING)

    @property
    def event(self) -> DpEvent:
        """One Gaussian release of all centroids; its multiplier counts one contribution."""
        return Gaussian(self.sigma * sensitivity_under(self.relation) / self.sensitivity)

    def centroids(self, data: Table) -> Table:
        """The exact centroids, in widths of the bounds: private, never released.

        Returns:
            [groups, columns], every entry in [0, 1].
        """
        unit_ND = self._in_units(data)
        distance_N = np.square(unit_ND).sum(axis=1)
        # From the corner of the bounds; ties by the values themselves, so that it is one order.
        order = np.lexsort((*unit_ND.T[::-1], distance_N))
        groups = self.rows // self.group_size
        borders = [self.group_size * index for index in range(1, groups)]
        return np.array([part.mean(axis=0) for part in np.split(unit_ND[order], borders)])

    def release(self, data: Table, entropy: Entropy) -> Table:
        """The table with noisy centroids in place of rows, [rows, columns], within the bounds.

        Raises:
            InvalidParameter: the table has another shape than was said. Shapes are public.
        """
        exact = self.centroids(data)
        noise = GaussianMechanism(
            sigma=self.sigma, sensitivity=self.sensitivity, relation=self.relation
        )
        noisy = noise.release(exact.ravel(), entropy).reshape(exact.shape)
        lower, upper = np.array(self.lower), np.array(self.upper)
        rows = np.clip(lower + noisy * (upper - lower), lower, upper)
        sizes = [self.group_size] * len(rows)
        sizes[-1] += self.rows - sum(sizes)
        released: Table = np.repeat(rows, sizes, axis=0)
        return released

    def _in_units(self, data: Table) -> Table:
        table = np.asarray(data, dtype=np.float64)
        if table.shape != (self.rows, len(self.lower)):
            raise InvalidParameter(
                "data",
                found=f"a table of shape {table.shape}",
                expected=f"{self.rows} rows of {len(self.lower)} columns",
            )
        lower, upper = np.array(self.lower), np.array(self.upper)
        known = np.where(np.isnan(table), lower, np.clip(table, lower, upper))
        unit: Table = np.clip((known - lower) / (upper - lower), 0.0, 1.0)
        return unit
