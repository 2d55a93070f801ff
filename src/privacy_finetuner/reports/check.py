"""Price a run again from what it stored, look at its weights, and compare."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from privacy_core import dp_events
from privacy_core.accounting import epsilon_of
from privacy_core.dp_events import DpEvent
from privacy_core.errors import UnsupportedEvent
from privacy_finetuner.assessment.evidence import faults_of_weights
from privacy_finetuner.reports.folder import RunFolder

# The same event priced twice by the same code; only the JSON in between may round.
_SAME: Final = 1e-9
_OTHER: Final = {"pld": "rdp", "rdp": "pld", "gdp": "pld"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What a second computation says about a reported epsilon.

    `epsilon_reported` is what the folder claims (what the run record charges, where no report was
    written).
    `epsilon_other` is the price by another accountant, `None` where that one refuses the event.
    `findings` are sentences; `agrees` is false when any of them is a contradiction.
    """

    epsilon_reported: float
    epsilon_recomputed: float
    accountant: str
    epsilon_other: float | None
    accountant_other: str
    agrees: bool
    findings: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """Write the check as JSON-ready data."""
        return asdict(self)


def check(run: RunFolder) -> Check:
    """Recompute the epsilon of a run from its stored event, by its accountant and another one.

    It contradicts when the reported figure is not the price of the stored event, when the stored
    event is not what the run record charges, when a tight bound is above a loose one, or when a
    weight file is not the one that the run stated. Every weight file is read.

    Raises:
        MalformedEvent: the stored event is not one that this version knows.
        UnsupportedEvent: the plan's own accountant cannot price the stored event.
    """
    plan, priced = run.plan, run.plan.priced_steps(run.charged_steps)
    report = run.report or {}
    stored = report.get("event")
    event = plan.event(priced) if stored is None else dp_events.from_json(stored)
    recomputed = epsilon_of(event, plan.delta, plan.accountant, relation=plan.relation)
    guarantee = report.get("theoretical_guarantees") or {}
    reported = float(guarantee.get("epsilon", plan.epsilon(priced)))
    other = _OTHER[plan.accountant]
    second = _price(event, run, other)
    faults: list[str] = []
    if not math.isclose(reported, recomputed, rel_tol=_SAME, abs_tol=_SAME):
        faults.append(
            f"the report says epsilon {reported:.6g}, the stored event costs {recomputed:.6g}"
        )
    if event != plan.event(priced):
        faults.append("the stored event is not the one that the run record charges")
    claims = {
        "the training result": (run.result or {}).get("epsilon"),
        "the statement": (run.statement or {}).get("guarantee", {}).get("epsilon"),
    }
    for who, claim in claims.items():
        if claim is not None and not math.isclose(claim, reported, rel_tol=_SAME):
            faults.append(f"{who} says epsilon {claim:.6g}, the report {reported:.6g}")
    if second is not None and _contradicts(plan.accountant, recomputed, second):
        faults.append(
            f"{plan.accountant} says {recomputed:.6g} and {other} says {second:.6g}: they cannot "
            "both be right"
        )
    weights = (run.statement or {}).get("weights") or {}
    if run.statement is not None:
        faults += faults_of_weights(run.folder, weights)
    return Check(
        epsilon_reported=reported,
        epsilon_recomputed=recomputed,
        accountant=plan.accountant,
        epsilon_other=second,
        accountant_other=other,
        agrees=not faults,
        findings=faults
        or _agreement(recomputed, plan.accountant, second, other, weights=len(weights)),
    )


def _price(event: DpEvent, run: RunFolder, accountant: str) -> float | None:
    try:
        return epsilon_of(event, run.plan.delta, accountant, relation=run.plan.relation)
    except UnsupportedEvent:
        return None


def _contradicts(accountant: str, first: float, second: float) -> bool:
    """Whether two upper bounds of one number cannot both come from sound accountants.

    pld is tight to 1e-3: no sound bound is lower by more than that.
    """
    loose, tight = (second, first) if accountant == "pld" else (first, second)
    return loose < tight * (1 - 1e-3)


def _agreement(
    epsilon: float, accountant: str, second: float | None, other: str, *, weights: int
) -> list[str]:
    said = [f"the stored event costs epsilon {epsilon:.6g} by {accountant}, as reported"]
    if second is None:
        said.append(f"{other} has no price for this event")
    else:
        said.append(f"{other}, another method, says at most {second:.6g}: consistent")
    if weights:
        said.append(f"all weight files ({weights}) are those that the run left")
    return said
