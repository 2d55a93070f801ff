"""Budgets of a cohort of records and of those who ask about it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from privacy_core.errors import InvalidParameter


class DPMechanism(StrEnum):
    """How a number is released."""

    GAUSSIAN = "gaussian"
    LAPLACE = "laplace"


@dataclass(frozen=True, slots=True, kw_only=True)
class DPConfig:
    """Budgets of a cohort of records and of the users who ask about it.

    Args:
        epsilon_per_query: what `PrivacyAccountant.add_noise` costs.
        delta: of the guarantee.
        max_budget: how much one user may use, over a lifetime: a limit of use.
        cohort_budget: what the people in the records are promised, over everything that all users
            ever ask: the guarantee. None: `max_budget`, so that one user may use all of it.
        composition: `rdp`, the only currency that is sound when later queries depend on earlier
            answers.
        mechanism: of `add_noise`.

    Raises:
        InvalidParameter: a number is outside its domain, or the composition has no sound meaning.
    """

    epsilon_per_query: float = 0.1
    delta: float = 1e-5
    max_budget: float = 10.0
    cohort_budget: float | None = None
    composition: str = "rdp"
    mechanism: DPMechanism = DPMechanism.GAUSSIAN

    def __post_init__(self) -> None:
        budgets = (self.epsilon_per_query, self.max_budget, self.promise)
        names = ("epsilon_per_query", "max_budget", "cohort_budget")
        for name, value in zip(names, budgets, strict=True):
            if not 0 < value < math.inf:
                raise InvalidParameter(name, found=value, expected="a finite number > 0")
        if not 0 < self.delta < 1:
            raise InvalidParameter("delta", found=self.delta, expected="a number in (0, 1)")
        if self.composition != "rdp":
            raise InvalidParameter(
                "composition",
                found=self.composition,
                expected="'rdp': queries depend on earlier answers",
            )
        if self.mechanism not in set(DPMechanism):
            raise InvalidParameter(
                "mechanism",
                found=self.mechanism,
                expected=f"one of {[m.value for m in DPMechanism]}",
            )

    @property
    def promise(self) -> float:
        """The cohort's budget."""
        return self.max_budget if self.cohort_budget is None else self.cohort_budget
