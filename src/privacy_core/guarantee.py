"""What is promised, and about what.

An epsilon alone says nothing: it belongs to a delta, a neighbouring relation and a unit of privacy.
`Guarantee` keeps the four together, and no report of this platform shows one without the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from privacy_core.errors import InvalidParameter


class NeighbouringRelation(StrEnum):
    """Which two data sets must be hard to tell apart."""

    ADD_OR_REMOVE_ONE = "add_or_remove_one"
    """One unit is present in one data set and absent from the other."""

    REPLACE_ONE = "replace_one"
    """One unit is exchanged for another; the size of the data set is public."""


class PrivacyUnit(StrEnum):
    """Whose presence is protected."""

    EXAMPLE = "example"
    """One record. A person with k records is protected k times more weakly."""

    USER = "user"
    """All records of one person, up to the plan's cap of records per user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """(epsilon, delta)-differential privacy for one unit under one neighbouring relation.

    `epsilon` is an upper bound: the true value is never above it. It is infinite when nothing is
    promised.

    Raises:
        InvalidParameter: `epsilon` is negative or NaN, or `delta` is outside [0, 1].

    Source: Dwork & Roth 2014, Definition 2.4.
    """

    epsilon: float
    delta: float
    relation: NeighbouringRelation = NeighbouringRelation.ADD_OR_REMOVE_ONE
    unit: PrivacyUnit = PrivacyUnit.EXAMPLE

    def __post_init__(self) -> None:
        if math.isnan(self.epsilon) or self.epsilon < 0:
            raise InvalidParameter("epsilon", found=self.epsilon, expected="a number >= 0 or inf")
        if not 0 <= self.delta <= 1:
            raise InvalidParameter("delta", found=self.delta, expected="a number in [0, 1]")

    def __str__(self) -> str:
        relation = self.relation.value.replace("_", " ")
        return f"({self.epsilon:.4g}, {self.delta:.3g})-DP per {self.unit.value}, {relation}"
