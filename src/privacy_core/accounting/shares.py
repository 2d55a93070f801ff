"""One epsilon divided among batches of data, so that together they cost exactly that.

What "together" means is a choice, and the shares follow it:

=============  ======================================  ========================================
composition    who is in which batch                   the shares
=============  ======================================  ========================================
`basic`        anybody in any                          add up to the total, to the last bit
`gaussian`     anybody in any; each share is spent on  squares of their mu add up to the mu of
               one Gaussian release at the same delta  the total; several times more for each
`parallel`     everybody in one batch only             the largest is the total
=============  ======================================  ========================================

A share is a promise about the batch it belongs to; under `parallel` the promise to everybody is the
total.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from fractions import Fraction
from typing import TypeVar

from privacy_core.accounting.gdp import gaussian_epsilon, gaussian_mu
from privacy_core.errors import InvalidParameter

_E = TypeVar("_E", bound=StrEnum)

_FLOOR = Fraction(1, 10)
"""Scores below it count as it: a batch that is not sensitive at all must not take everything."""


class Composition(StrEnum):
    """How the prices of the batches become one price."""

    BASIC = "basic"
    GAUSSIAN = "gaussian"
    PARALLEL = "parallel"


class Allocation(StrEnum):
    """Which batch gets how much, from its score s."""

    SENSITIVITY_AWARE = "sensitivity_aware"
    """Proportional to 1 / max(s, 0.1): twice as sensitive, half the epsilon."""

    UNIFORM = "uniform"
    """The same for every batch."""

    PROPORTIONAL = "proportional"
    """Proportional to s: where the score says how much a batch matters, not how it hurts."""

    LEAST_VARIANCE = "least_variance"
    """Proportional to s^(2/3): with s the sensitivity of a Laplace release of each batch, no other
    division has a smaller sum of variances, 2 sum (s / epsilon)^2 (Lagrange)."""


def epsilon_shares(
    scores: Sequence[float],
    total_epsilon: float,
    *,
    allocation: Allocation | str = Allocation.SENSITIVITY_AWARE,
    composition: Composition | str = Composition.BASIC,
    delta: float | None = None,
) -> tuple[float, ...]:
    """Divide an epsilon among batches by their scores.

    Guarantee: under `basic` the exact sum of the shares is at most `total_epsilon`, and their float
    sum (`math.fsum`) equals it; under `gaussian` one Gaussian release of each share at `delta`
    composes to at most `total_epsilon` at `delta`; under `parallel` the largest share is the total.

    Args:
        scores: one for each batch, in [0, 1]. They must be public, or released by a mechanism that
            was paid for: shares that follow private scores tell about them.
        total_epsilon: > 0, finite.
        allocation: the rule.
        composition: what "together" means.
        delta: of `gaussian`, in (0, 1); not read otherwise.

    Raises:
        InvalidParameter: a number is outside its domain, or a name is unknown; also where every
            score is 0 and the rule is proportional to it.
    """
    rule, together = _named(Allocation, "allocation", allocation), _composition(composition)
    weights = _weights(scores, rule)
    if not 0 < total_epsilon < math.inf:
        raise InvalidParameter("total_epsilon", found=total_epsilon, expected="a finite number > 0")
    match together:
        case Composition.BASIC:
            return _exact_parts(total_epsilon, weights)
        case Composition.PARALLEL:
            most = max(weights)
            return tuple(total_epsilon * float(weight / most) for weight in weights)
        case Composition.GAUSSIAN:
            if delta is None or not 0 < delta < 1:
                raise InvalidParameter("delta", found=delta, expected="a number above 0, below 1")
            mu, whole = gaussian_mu(total_epsilon, delta), sum(weights)
            return tuple(
                gaussian_epsilon(mu * math.sqrt(float(weight / whole)), delta) * (1 - 1e-9)
                for weight in weights
            )


def _weights(scores: Sequence[float], rule: Allocation) -> list[Fraction]:
    if not scores or not all(0 <= score <= 1 for score in scores):
        found = next((score for score in scores if not 0 <= score <= 1), "no scores")
        raise InvalidParameter("scores", found=found, expected="at least one, each in [0, 1]")
    exact = [Fraction(score) for score in scores]
    match rule:
        case Allocation.UNIFORM:
            weights = [Fraction(1)] * len(exact)
        case Allocation.SENSITIVITY_AWARE:
            weights = [1 / max(score, _FLOOR) for score in exact]
        case Allocation.PROPORTIONAL:
            weights = exact
        case Allocation.LEAST_VARIANCE:
            weights = [Fraction(float(score) ** (2 / 3)) for score in exact]
    if not any(weights):
        raise InvalidParameter("scores", found="0 everywhere", expected="one above 0 to divide by")
    return weights


def _exact_parts(total: float, weights: Sequence[Fraction]) -> tuple[float, ...]:
    """Floats in these proportions whose exact sum is the total.

    All of them are whole multiples of one step that every part can hold exactly; marks on the way
    from 0 to the total are rounded down to it, and a part is the way between two marks.
    """
    units, scale = Fraction(total).as_integer_ratio()
    while units < 2**52:
        units, scale = units * 2, scale * 2
    whole, upto, since, parts = sum(weights), Fraction(0), 0, []
    for weight in weights:
        upto += weight
        mark = int(units * upto / whole)
        parts.append((mark - since) / scale)
        since = mark
    return tuple(parts)


def _composition(value: Composition | str) -> Composition:
    return _named(Composition, "composition", value)


def _named(kind: type[_E], name: str, value: str) -> _E:
    try:
        return kind(value)
    except ValueError as error:
        known = ", ".join(member.value for member in kind)
        raise InvalidParameter(name, found=value, expected=f"one of {known}") from error
