"""What a certificate says of an audit: whole findings, never a bound without its ceiling.

A finding is `privacy_core.auditing.verdicts.AuditFinding`. It carries its numbers, and its verdict
follows from them: reading one judges it again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from privacy_core.dp_events import DpEvent
from privacy_core.errors import InvalidParameter, UnsupportedEvent
from privacy_core.guarantee import NeighbouringRelation
from privacy_finetuner.assessment.certificate_errors import NothingToCertify
from privacy_finetuner.assessment.plan_check import price

_SAME: Final = 1e-3
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
    """Which findings say what does not follow from their numbers. Sentences."""
    if not findings:
        return []
    from privacy_core.auditing.verdicts import AuditFinding  # noqa: PLC0415 -- loads statistics

    faults = []
    for number, finding in enumerate(findings, start=1):
        try:
            AuditFinding.from_json(json.dumps(finding, allow_nan=False))
        except InvalidParameter as error:
            faults.append(f"finding {number} of the audit: {error}")
    return faults


def faults_of_claims(
    findings: Sequence[Mapping[str, Any]], *, event: DpEvent, accountant: str
) -> list[str]:
    """Which findings were held against a weaker claim than the run makes. Sentences.

    The claim is priced again at the delta of each bound: one record in or out, or, for a bound of
    Gaussian shape, the Gaussian that dominates the event.
    """
    faults = []
    for number, finding in enumerate(findings, start=1):
        claim = _claim(finding["bound"], event, accountant)
        if claim is None or float(finding["theory"]) > claim * (1 + _SAME):
            said = "has no price" if claim is None else f"is {claim:.6g}"
            faults.append(
                f"finding {number} of the audit was held against epsilon {finding['theory']}, "
                f"promised at its delta {said}"
            )
    return faults


def _claim(bound: Mapping[str, Any], event: DpEvent, accountant: str) -> float | None:
    """What a run with this event promises, in the terms of a bound; `None` without a price."""
    if not bound["assumes"]:
        return price(event, bound["delta"], accountant, _BETWEEN)
    from privacy_core.accounting import dominating_gaussian  # noqa: PLC0415 -- only where asked

    floor = bound["delta_floor"] or _FLOOR_SHARE * bound["delta"]
    try:
        return dominating_gaussian(event, delta_floor=floor, relation=_BETWEEN).epsilon(
            bound["delta"]
        )
    except UnsupportedEvent:
        return None


def lower_bound(findings: Sequence[Mapping[str, Any]]) -> float | None:
    """The largest certified lower bound on epsilon among findings; `None` where there are none.

    Each has its own delta and confidence; the largest is what a reader should worry about first.
    """
    return max((float(finding["bound"]["epsilon"]) for finding in findings), default=None)
