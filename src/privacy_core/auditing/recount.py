"""A bound counted again from its own numbers: what a reader of an audit does not have to believe.

A written bound names how many canaries were guessed, how many guesses were right, and how that
many were chosen. Epsilon follows from these, by the theorem that the method names, so whoever reads
it can work it out again and needs neither scores nor coins. What cannot be seen in a bound are the
guesses themselves: for these the signer of a certificate answers.
"""

from __future__ import annotations

import math
from typing import Final

from privacy_core.accounting.gdp import gaussian_epsilon
from privacy_core.auditing.bounds import GAUSSIAN_SHAPE, INDEPENDENT, EpsilonBound, Method
from privacy_core.auditing.contingency import Contingency
from privacy_core.auditing.guesses import (
    LEAST_CANARIES,
    NamedThreshold,
    Ranks,
    Split,
    Tally,
    cut,
    hypotheses,
)
from privacy_core.auditing.one_run import one_run_lower_bound, trade_off_lower_bound
from privacy_core.errors import InvalidParameter

MOST_CANARIES: Final = 1_000_000
_SAME: Final = 1e-6
_ASSUMPTIONS: Final = {
    Method.ONE_RUN: ((),),
    Method.F_DP: ((), (GAUSSIAN_SHAPE,)),
    Method.CLOPPER_PEARSON: ((), (INDEPENDENT,)),
    Method.GAUSSIAN_ESTIMATE: ((GAUSSIAN_SHAPE, INDEPENDENT),),
}


def require_counted(bound: EpsilonBound) -> None:
    """Refuse a bound that is not what its own counts come to.

    Raises:
        InvalidParameter: its counts cannot be of one audit, or another epsilon (or mu) follows.
    """
    faults = count_faults(bound)
    if faults:
        raise InvalidParameter("bound", found=faults[0], expected="counts of one audit")
    epsilon, mu = recounted(bound)
    for name, stated, found in (("epsilon", bound.epsilon, epsilon), ("mu", bound.mu, mu)):
        if (stated is None) != (found is None) or (
            stated is not None
            and found is not None
            and not math.isclose(stated, found, rel_tol=_SAME, abs_tol=_SAME)
        ):
            raise InvalidParameter(
                f"bound.{name}", found=stated, expected=f"{found}, which its own counts come to"
            )


def recounted(bound: EpsilonBound) -> tuple[float, float | None]:
    """Epsilon, and mu where the bound has one, from the counts of a bound alone."""
    significance = (1 - bound.confidence) * bound.level
    tally = Tally(bound.counted, bound.guesses, bound.correct, bound.level)
    is_gaussian = GAUSSIAN_SHAPE in bound.assumes
    match bound.method:
        case Method.ONE_RUN:
            return one_run_lower_bound(tally, bound.delta, significance), None
        case Method.F_DP:
            part = bound.delta_floor if is_gaussian else bound.delta
            claim = trade_off_lower_bound(tally, part, significance, is_gaussian=is_gaussian)
            return (gaussian_epsilon(claim, bound.delta), claim) if is_gaussian else (claim, None)
        case Method.CLOPPER_PEARSON:
            return _table(bound).epsilon(bound.delta, significance), None
        case Method.GAUSSIAN_ESTIMATE:
            mu = max(0.0, _table(bound).mu(significance))
            return gaussian_epsilon(mu, bound.delta), mu


def count_faults(bound: EpsilonBound) -> list[str]:
    """What in the counts of a bound cannot be of one audit. Sentences."""
    is_gaussian = GAUSSIAN_SHAPE in bound.assumes
    checks = [
        (LEAST_CANARIES <= bound.canaries <= MOST_CANARIES, f"{bound.canaries} canaries"),
        (0 <= bound.delta < 1 and (bound.delta > 0 or not is_gaussian), f"delta {bound.delta}"),
        (0.5 < bound.confidence < 1, f"confidence {bound.confidence}"),
        (bound.assumes in _ASSUMPTIONS[bound.method], "assumptions of another method"),
        (
            0 < bound.delta_floor < bound.delta
            if bound.method is Method.F_DP and is_gaussian
            else bound.delta_floor == 0,
            f"a delta floor of {bound.delta_floor}",
        ),
        (
            0 <= bound.correct <= bound.guesses <= bound.counted == _counted(bound),
            f"{bound.correct} of {bound.guesses} guesses right, {bound.counted} of "
            f"{bound.canaries} canaries counted",
        ),
        *_choice_checks(bound),
    ]
    return [words for is_fine, words in checks if not is_fine]


def _counted(bound: EpsilonBound) -> int:
    """How many canaries a choice leaves to be counted."""
    if isinstance(bound.choice, Split):
        return bound.canaries - cut(bound.canaries, bound.choice.fraction)
    return bound.canaries


def _choice_checks(bound: EpsilonBound) -> list[tuple[bool, str]]:
    choice, is_of_rates = bound.choice, bound.counts is not None
    rates = bound.method in (Method.CLOPPER_PEARSON, Method.GAUSSIAN_ESTIMATE)
    checks = [(is_of_rates is rates, "counts of another method")]
    if rates:
        fits = isinstance(choice, Split | NamedThreshold)
        checks.append((fits and bound.level == 1, f"a choice that has no threshold: {choice}"))
        if bound.counts is not None:
            true, members, false, others = bound.counts
            agree = (
                0 <= true <= members
                and 0 <= false <= others
                and members + others == bound.guesses == bound.counted
                and true + others - false == bound.correct
            )
            checks.append((agree, "rates that do not add up to the guesses"))
        return checks
    if isinstance(choice, NamedThreshold):
        return [*checks, (False, f"a choice that has no ranks: {choice}")]
    if isinstance(choice, Ranks):
        named = choice.k_in + choice.k_out
        checks.append((named == bound.guesses, f"{bound.guesses} guesses, {named} named"))
    level = 1 / hypotheses(choice, bound.canaries)
    checks.append((bound.level == level, f"a level of {bound.level}, the choice allows {level:g}"))
    return checks


def _table(bound: EpsilonBound) -> Contingency:
    if bound.counts is None:
        raise InvalidParameter("bound.counts", found=None, expected="four numbers")
    return Contingency(*bound.counts)
