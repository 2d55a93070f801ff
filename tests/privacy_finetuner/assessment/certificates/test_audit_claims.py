"""What a certificate says of an audit: whole findings, whose verdict follows from their numbers."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from privacy_core.auditing.bounds import EpsilonBound, Method
from privacy_core.auditing.ceilings import Ceiling
from privacy_core.auditing.verdicts import judge
from privacy_finetuner.assessment.certificate_check import verify
from privacy_finetuner.assessment.certificate_errors import CertificateContradicts, NothingToCertify
from privacy_finetuner.assessment.certificate_view import standing_of, view_of
from privacy_runtime.signing import canonical_bytes

DIGEST = "cd" * 32


def a_finding(lower: float = 1.5, theory: float = 4.0) -> dict[str, Any]:
    common: dict[str, Any] = {
        "method": Method.ONE_RUN, "delta": 1e-5, "canaries": 1000, "confidence": 0.95,
        "choice": "split",
    }  # fmt: skip
    bound = EpsilonBound(epsilon=lower, counted=1000, guesses=500, correct=400, **common)
    ceiling = Ceiling(
        epsilon=4.0, attacker="ideal", trials=100, seed=0, expected=2.5,
        standard_error=0.1, low=0.0, high=3.0, **common,
    )  # fmt: skip
    finding: dict[str, Any] = json.loads(judge(bound, theory=theory, ceiling=ceiling).to_json())
    return finding


@pytest.mark.parametrize(
    "report",
    [
        a_finding(),
        {"finding": a_finding(), "auc": 0.51},
        {"findings": [a_finding(), a_finding(0.5)]},
        {"one_run": {"finding": a_finding()}, "attacks": [{"auc": 0.5}]},
    ],
    ids=["itself", "named", "a list", "nested"],
)
def test_an_audit_is_certified_with_its_ceiling_and_outside_the_guarantee(
    made: Any, noon: Any, report: dict[str, Any]
) -> None:
    run = made()
    certificate = run.issue(audit=(report, DIGEST))
    verify(certificate.content, trusted=run.trusted, now=noon)
    view = view_of(standing_of(certificate.content, trusted=run.trusted, now=noon))
    audit = certificate.document["audit"]

    assert audit["outside_guarantee"] is True
    assert audit["report_digest"] == DIGEST
    assert "An ideal attacker with as many canaries" in view.audit[0]
    assert "it does not show that the claim is true" in view.audit[0]
    assert any(said.startswith("the audit") for said in view.not_promised)


@pytest.mark.parametrize("report", [{}, {"auc": 0.5}, {"finding": None}])
def test_a_document_without_a_finding_is_refused(made: Any, report: dict[str, Any]) -> None:
    with pytest.raises(NothingToCertify, match="no finding"):
        made().issue(audit=(report, DIGEST))


@pytest.mark.parametrize(
    ("name", "value"), [("verdict", "violation"), ("text", "All is well."), ("theory", 0.1)]
)
def test_a_finding_that_does_not_follow_is_neither_issued_nor_believed(
    made: Any, noon: Any, name: str, value: object
) -> None:
    run = made()
    forged = {**a_finding(), name: value}
    with pytest.raises(NothingToCertify, match="does not follow"):
        run.issue(audit=(forged, DIGEST))

    document = copy.deepcopy(dict(run.issue(audit=(a_finding(), DIGEST)).document))
    document["audit"]["findings"] = [forged]
    del document["signature"]
    content = canonical_bytes({**document, "signature": run.key.sign(canonical_bytes(document))})
    with pytest.raises(CertificateContradicts, match="finding 1 of the audit"):
        verify(content + b"\n", trusted=run.trusted, now=noon)


def test_the_audit_of_another_run_is_refused(made: Any) -> None:
    with pytest.raises(NothingToCertify, match="of another run"):
        made().issue(audit=({"job_id": "ffff", "findings": [a_finding()]}, DIGEST))


def test_an_audit_that_was_held_against_a_weaker_claim_is_refused(made: Any) -> None:
    with pytest.raises(NothingToCertify, match="held against epsilon 6"):
        made().issue(audit=(a_finding(theory=6.0), DIGEST))


def test_a_violation_can_be_certified_and_is_shown(made: Any, noon: Any) -> None:
    run = made()
    content = run.issue(audit=(a_finding(5.0), DIGEST)).content
    view = view_of(standing_of(content, trusted=run.trusted, now=noon))

    assert "The claim of epsilon 4 is refuted" in view.audit[0]
