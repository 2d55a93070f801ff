"""How sure a rule may be: from the strength of its evidence to a probability.

The strength of evidence is 1 where a rule begins to fire and grows with what was seen. What share
of such evidence came from an attack was measured: `benchmarks/threats.py --calibrate` runs real
attacks at intensities from 0.1 to 1 and as many ordinary uses, and fits

    confidence = 1 / (1 + exp(-(a + b * ln(strength))))

to what each rule saw. So a confidence is a probability where attacks and ordinary uses are equally
frequent. Where attacks are rarer, as they should be, it is too high by the ratio of the odds: it
orders alerts and sets a threshold; it does not count attackers.

A rule that is not listed states a fact (an entry of a journal, a digest that differs): its
confidence is 1, and what the fact means is for a person to say. `scores_fell` knows the
distribution of its noise, and needs no fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Curve:
    """A fitted rule. `attacks` and `ordinary` are the runs that it was fitted to."""

    intercept: float
    slope: float
    attacks: int
    ordinary: int

    def at(self, strength: float) -> float:
        """The probability at a strength > 0."""
        place = self.intercept + self.slope * math.log(max(strength, 1e-9))
        return 1 / (1 + math.exp(-min(max(place, -40.0), 40.0)))


CURVES: Final[Mapping[str, Curve]] = {
    "account_guessing": Curve(1.46, 16.79, attacks=20, ordinary=20),
    "budget_draining": Curve(7.43, 10.82, attacks=20, ordinary=20),
    "canary_probing": Curve(4.33, 6.97, attacks=20, ordinary=20),
    "foreign_objects": Curve(4.84, 8.18, attacks=20, ordinary=20),
    "membership_queries": Curve(6.58, 7.64, attacks=20, ordinary=20),
    "silo_outlier": Curve(0.82, 6.93, attacks=20, ordinary=20),
}
"""What `benchmarks/threats.py --calibrate` printed."""


def confidence(rule: str, strength: float) -> float:
    """The probability that what a rule says is so, given the strength of its evidence."""
    curve = CURVES.get(rule)
    return 1.0 if curve is None else curve.at(strength)
