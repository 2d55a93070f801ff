"""True and false positives at one threshold, and the epsilon that their limits certify."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from privacy_core.auditing.guesses import Tally
from privacy_core.auditing.rates import lower_limit, upper_limit

Vector = npt.NDArray[np.float64]
Coins = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Contingency:
    """Of `members` rows `true` were taken for trained on, of `others` rows `false`."""

    true: int
    members: int
    false: int
    others: int

    @classmethod
    def at(cls, threshold: float, scores: Vector, included: Coins) -> Contingency:
        """Scores at or above the threshold are taken for trained on."""
        positive = scores >= threshold
        true, members = int(np.sum(positive & included)), int(np.sum(included))
        return cls(true, members, int(np.sum(positive)) - true, len(included) - members)

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """The four numbers."""
        return self.true, self.members, self.false, self.others

    @property
    def tally(self) -> Tally:
        """All rows as guesses."""
        rows = self.members + self.others
        return Tally(rows, rows, self.true + self.others - self.false)

    @property
    def advantage(self) -> float:
        """The difference of the raw rates."""
        return self.true / max(self.members, 1) - self.false / max(self.others, 1)

    def epsilon(self, delta: float, significance: float) -> float:
        """The larger of log((TPR - delta) / FPR) and log((TNR - delta) / FNR), limits for rates."""
        half = significance / 2
        ahead = _log_ratio(
            lower_limit(self.true, self.members, half),
            upper_limit(self.false, self.others, half),
            delta,
        )
        back = _log_ratio(
            lower_limit(self.others - self.false, self.others, half),
            upper_limit(self.members - self.true, self.members, half),
            delta,
        )
        return max(0.0, ahead, back)

    def mu(self, significance: float) -> float:
        """The mu of the Gaussian trade-off curve through the limits; may be negative."""
        half = significance / 2
        return float(
            -scipy.special.ndtri(upper_limit(self.false, self.others, half))
            - scipy.special.ndtri(upper_limit(self.members - self.true, self.members, half))
        )


def _log_ratio(least: float, most: float, delta: float) -> float:
    return math.log((least - delta) / most) if least > delta else 0.0
