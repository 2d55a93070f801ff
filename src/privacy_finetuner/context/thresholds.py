"""From the precision that somebody asks for to the lowest score that counts.

A score is the calibrated precision of one rule (`privacy_core.redaction.calibration`). What a user
sees is the precision of all redactions together, which is better than that of the least sure rule:

    P(c) = sum of w_r s_r / sum of w_r, over the rules r with score s_r >= c,

where w_r is how often the rule was seen on the development data, plus the weight of its prior. The
lowest score that counts is the smallest c at or above the level's own threshold with P(c) at least
what was asked for. So a precision that the level reaches anyway changes nothing: 0.8, the default,
leaves all three levels as their policies say; more leaves the least sure rules out.
"""

from __future__ import annotations

from functools import lru_cache

from privacy_core.redaction.calibration import PRIOR_WEIGHT, SCORES
from privacy_core.redaction.policies import policy
from privacy_core.redaction.precision_table import COUNTS


@lru_cache(maxsize=64)
def lowest_score(level: str, precision: float) -> float:
    """The lowest score that counts at a level, for redactions of this precision together.

    Above what the surest rules reach, the precision itself.

    Raises:
        InvalidParameter: there is no such level.
    """
    least = policy(level).threshold
    cuts = [least, *sorted({score for score in SCORES.values() if score > least})]
    return next((cut for cut in cuts if expected_precision(cut) >= precision), precision)


def expected_precision(cut: float) -> float:
    """P(cut) of the module's docstring; 0 where no rule is so sure."""
    weights = {
        rule: COUNTS.get(rule, (0, 0))[1] + PRIOR_WEIGHT
        for rule, score in SCORES.items()
        if score >= cut
    }
    total = sum(weights.values())
    return sum(weight * SCORES[rule] for rule, weight in weights.items()) / total if total else 0.0
