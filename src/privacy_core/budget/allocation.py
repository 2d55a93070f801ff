"""A total budget divided into shares: training, evaluation, hyper-parameters; epochs and steps.

Money is divided in the ledger's own currency, slot by slot and to the last unit, so the shares add
up to the total exactly. Epsilons would not: a total of epsilon 3 holds more than three shares of
epsilon 1.

Each share becomes a quota account below the project's, and all of them spend from one protection
account. So a share limits its purpose, and the guarantee is the protection account's alone:

    protection/hospital-a/2026-08                 epsilon 8    the guarantee
    quota/clinic/research/ada/triage              epsilon 8    the project
    quota/clinic/research/ada/triage/training     8/10 of it
    quota/clinic/research/ada/triage/evaluation   1/10 of it
    ...

A share's figures are parts of the project's epsilon: where all shares spend at the same order, they
add up to it. A share is no guarantee of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from types import MappingProxyType
from typing import Final

from privacy_core.budget.amounts import EPSILON_BITS, Amounts, as_float
from privacy_core.budget.charges import Charge, Currency, caps_of, epsilon_of_total
from privacy_core.budget.commands import OpenAccount, Signature
from privacy_core.budget.scopes import Scope, ScopeKind
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import Guarantee

USUAL_SHARES: Final[Mapping[str, int]] = MappingProxyType(
    {"training": 8, "evaluation": 1, "hyper_parameters": 1}
)
"""Weights of the three purposes, where nobody says otherwise."""


def divide(total: Amounts, weights: Sequence[int]) -> tuple[Amounts, ...]:
    """Divide amounts by weights; the parts add up to the total exactly, slot by slot.

    Each part is within one unit of its due. Caps may be negative; their parts add up as well.

    Args:
        total: amounts or caps.
        weights: whole numbers >= 0, at least one of them above 0.

    Raises:
        InvalidParameter: the weights are not that.
    """
    if any(isinstance(w, bool) or not isinstance(w, int) or w < 0 for w in weights) or not any(
        weights
    ):
        raise InvalidParameter(
            "weights", found=tuple(weights), expected="whole numbers >= 0, not all of them 0"
        )
    marks = list(accumulate(weights, initial=0))
    return tuple(
        tuple(units * upto // marks[-1] - units * since // marks[-1] for units in total)
        for since, upto in pairwise(marks)
    )


def shares_of(
    project: Scope,
    guarantee: Guarantee,
    *,
    key: str,
    signature: Signature,
    currency: Currency = Currency.RDP,
    weights: Mapping[str, int] = USUAL_SHARES,
) -> tuple[OpenAccount, ...]:
    """The commands that open a project's shares, one quota account for each purpose.

    Args:
        project: the quota scope above them; its own account is opened apart.
        guarantee: what is divided: the project's, or the protection account's.
        key: the beginning of the commands' idempotency keys; the purpose is added.
        signature: who answers for it.
        currency: of the account that is divided.
        weights: by purpose.

    Raises:
        InvalidParameter: the project is not a quota scope with room below, or the weights are not
            whole numbers >= 0.
    """
    if project.kind is not ScopeKind.QUOTA:
        raise InvalidParameter("project", found=str(project), expected="a quota scope")
    caps = caps_of(currency, guarantee.epsilon, guarantee.delta)
    parts = divide(caps, tuple(weights.values()))
    return tuple(
        OpenAccount(
            key=f"{key}:{purpose}",
            scope=Scope(ScopeKind.QUOTA, (*project.path, purpose)),
            guarantee=Guarantee(
                epsilon=_epsilon_of_share(currency, part, guarantee.delta),
                delta=guarantee.delta,
                relation=guarantee.relation,
                unit=guarantee.unit,
            ),
            currency=currency,
            signature=signature,
            caps=part,
        )
        for purpose, part in zip(weights, parts, strict=True)
    )


def steps_within(step: Charge, currency: Currency, caps: Amounts) -> int:
    """How many times `step` fits into caps that nothing was charged to. Training halts there.

    Raises:
        InvalidParameter: the step costs nothing, so no number is the largest.
    """
    amounts = step.in_currency(currency)
    counts = [
        (max(-1, cap) // units) if units else None for units, cap in zip(amounts, caps, strict=True)
    ]
    groups = [[count] for count in counts]
    if currency is Currency.RDP:
        groups = [*groups[:-2], counts[-2:]]
    bounds = [[count for count in group if count is not None] for group in groups]
    if not all(bounds):
        raise InvalidParameter("step", found=amounts, expected="an act that costs something")
    return max(0, *(min(group) for group in bounds))


def steps_by_epoch(steps: int, epochs: int) -> tuple[int, ...]:
    """Spread the steps that fit over epochs as evenly as whole numbers allow; they add up exactly.

    Raises:
        InvalidParameter: `steps` is negative or `epochs` is below 1.
    """
    if steps < 0 or epochs < 1:
        raise InvalidParameter(
            "steps, epochs", found=(steps, epochs), expected="steps >= 0 and epochs >= 1"
        )
    return tuple(part for (part,) in divide((steps,), (1,) * epochs))


def _epsilon_of_share(currency: Currency, caps: Amounts, delta: float) -> float:
    """The figure that the account shows as its cap."""
    match currency:
        case Currency.RDP:
            return as_float(caps[-2], EPSILON_BITS)
        case Currency.GDP:
            return epsilon_of_total(currency, caps, caps, delta)
