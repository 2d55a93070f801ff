"""What a certificate says of an audit: whole findings, never a bound without its ceiling.

A finding is `privacy_core.auditing.verdicts.AuditFinding`. It carries its numbers, and everything
else in it follows from them: the bound from the guesses that it counts, the ceiling from a seeded
simulation, the verdict from both and the claim, the claim from the plan. All of it is done again
here. What a reader has to believe is how many guesses were made and how many were right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from privacy_core.dp_events import DpEvent
from privacy_core.errors import InvalidParameter, UnsupportedEvent
from privacy_core.guarantee import NeighbouringRelation
from privacy_finetuner.assessment.certificate_errors import NothingToCertify
from privacy_finetuner.assessment.plan_check import price
from privacy_finetuner.training.plan import DPTrainingPlan

if TYPE_CHECKING:
    from privacy_core.auditing.ceilings import Ceiling

_SAME: Final = 1e-3
_FINDINGS_MOST: Final = 8
_SIMULATED_MOST: Final = 4_000_000
"""Canaries times trials of all ceilings together: a second or two. Anybody can sign more."""
_OFF: Final = 0.1
"""Standard errors by which two machines may differ in a simulation with the same seed."""
_FLOOR_SHARE: Final = 0.1
_BETWEEN: Final = NeighbouringRelation.ADD_OR_REMOVE_ONE
_FINDING: Final = {"version", "verdict", "theory", "bound", "ceiling", "text"}


def audit_fields(report: Mapping[str, Any], digest: str, *, job_id: str) -> dict[str, Any]:
    """The field `audit` of a certificate.

    Args:
        report: an audit's JSON: a finding, or a document that holds some (`finding`, `findings`).
        digest: SHA-256 of the file it came from.
        job_id: of the run; an audit that names another one is refused.

    Raises:
        NothingToCertify: there is no finding in it, one whose verdict does not follow, or it is of
            another run.
    """
    findings = list(findings_in(report))
    faults = ["it holds no finding"] if not findings else faults_of_findings(findings)
    if report.get("job_id", job_id) != job_id:
        faults.append("it is of another run")
    if faults:
        raise NothingToCertify(f"the audit cannot be certified: {'; '.join(faults)}")
    return {"outside_guarantee": True, "findings": findings, "report_digest": digest}


def findings_in(report: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The findings of an audit's document, wherever in it they stand."""
    if set(report) == _FINDING:
        return [report]
    found: list[Mapping[str, Any]] = []
    for value in report.values():
        inner = value if isinstance(value, list) else [value]
        for each in inner:
            if isinstance(each, Mapping):
                found += findings_in(each)
    return found


def faults_of_findings(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which findings say what does not follow from their numbers. Sentences.

    Bounds are counted again and ceilings simulated again, so it takes a fraction of a second.
    """
    if not findings:
        return []
    if len(findings) > _FINDINGS_MOST:
        return [f"more than {_FINDINGS_MOST} findings are not looked at here"]
    from privacy_core.auditing.verdicts import AuditFinding  # noqa: PLC0415 -- loads statistics

    faults: list[str] = []
    ceilings: list[tuple[int, Ceiling]] = []
    for number, finding in enumerate(findings, start=1):
        try:
            read = AuditFinding.from_json(json.dumps(finding, allow_nan=False))
        except (InvalidParameter, ArithmeticError) as error:
            faults.append(f"finding {number} of the audit: {error}")
        else:
            ceilings.append((number, read.ceiling))
    return faults or _faults_of_ceilings(ceilings)


def _faults_of_ceilings(ceilings: Sequence[tuple[int, Ceiling]]) -> list[str]:
    """Which ceilings are not what their simulation gives."""
    from privacy_core.auditing.ceilings import simulated_again  # noqa: PLC0415 -- likewise

    if sum(found.canaries * found.trials for _, found in ceilings) > _SIMULATED_MOST:
        return [f"ceilings of more than {_SIMULATED_MOST} canaries are not simulated again here"]
    faults = []
    for number, stated in ceilings:
        try:
            again = simulated_again(stated)
        except (InvalidParameter, ArithmeticError, TypeError, ValueError) as error:
            faults.append(f"finding {number} of the audit, its ceiling: {error}")
            continue
        allowed = _OFF * again.standard_error + 1e-6
        pairs = {
            name: (getattr(stated, name), getattr(again, name))
            for name in ("expected", "standard_error", "low", "high")
        }
        faults += [
            f"finding {number} of the audit: {name} of its ceiling is stated as {said}, its "
            f"simulation gives {found:.6g}"
            for name, (said, found) in pairs.items()
            if not abs(said - found) <= allowed
        ]
    return faults


def faults_of_claims(
    findings: Sequence[Mapping[str, Any]], *, plan: DPTrainingPlan, event: DpEvent
) -> list[str]:
    """Which findings were held against a weaker claim than the run makes. Sentences.

    The claim is priced again at the delta of each bound: one record in or out, or, for a bound of
    Gaussian shape, the Gaussian that dominates the event. A ceiling is that of an attacker on a run
    of exactly this price, or on this very run.
    """
    faults = []
    for number, finding in enumerate(findings, start=1):
        bound, limit = finding["bound"], finding["ceiling"]
        cost = price(event, bound["delta"], plan.accountant, _BETWEEN)
        claim = cost if not bound["assumes"] else _dominating(bound, event)
        if claim is None or float(finding["theory"]) > claim * (1 + _SAME):
            said = "has no price" if claim is None else f"is {claim:.6g}"
            faults.append(
                f"finding {number} of the audit was held against epsilon {finding['theory']}, "
                f"promised at its delta {said}"
            )
        if cost is None or not _is_close(float(limit["epsilon"]), cost):
            faults.append(
                f"the ceiling of finding {number} is that of epsilon {limit['epsilon']}, the run "
                f"costs {cost}"
            )
        if limit["run"] is not None and not _is_of(limit["run"], plan):
            faults.append(f"the ceiling of finding {number} is that of another run")
    return faults


def _dominating(bound: Mapping[str, Any], event: DpEvent) -> float | None:
    """The price of the Gaussian that dominates the event; `None` without one."""
    from privacy_core.accounting import dominating_gaussian  # noqa: PLC0415 -- only where asked

    floor = bound["delta_floor"] or _FLOOR_SHARE * bound["delta"]
    try:
        return dominating_gaussian(event, delta_floor=floor, relation=_BETWEEN).epsilon(
            bound["delta"]
        )
    except UnsupportedEvent:
        return None


def _is_close(first: float, second: float) -> bool:
    return first == second or abs(first - second) <= _SAME * second


def _is_of(run: Mapping[str, Any], plan: DPTrainingPlan) -> bool:
    """Whether a white-box ceiling was simulated for the run of this plan."""
    return bool(
        _is_close(run["noise_multiplier"], plan.gradient_noise_multiplier)
        and _is_close(run["sample_rate"], plan.sampling_probability)
        and run["steps"] == plan.steps
        and run["likelihood_ratio"] is True
    )


def lower_bound(findings: Sequence[Mapping[str, Any]]) -> float | None:
    """The largest lower bound on epsilon that assumes nothing; `None` where there is none.

    Each has its own delta and confidence; the largest is what a reader should worry about first. A
    bound of Gaussian shape is not one on epsilon: it refutes a mu, and an honest run that is not
    Gaussian may have a smaller epsilon than that mu costs.
    """
    return max(
        (float(found["bound"]["epsilon"]) for found in findings if not found["bound"]["assumes"]),
        default=None,
    )
