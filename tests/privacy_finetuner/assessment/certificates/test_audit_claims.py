"""What a certificate says of an audit: whole findings, whose verdict follows from their numbers."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from tests.privacy_finetuner.assessment.findings import a_finding as finding_of
from tests.privacy_finetuner.assessment.findings import written

from privacy_core.auditing import WhiteBox, judge, white_box_ceiling
from privacy_finetuner.assessment.certificate_check import verify
from privacy_finetuner.assessment.certificate_errors import CertificateContradicts, NothingToCertify
from privacy_finetuner.assessment.certificate_view import standing_of, view_of
from privacy_runtime.signing import canonical_bytes

DIGEST = "cd" * 32


def a_finding(correct: int = 170, theory: float = 4.0) -> dict[str, Any]:
    return written(finding_of(correct, theory=theory, cost=4.0))


@pytest.mark.parametrize(
    "report",
    [
        a_finding(),
        {"finding": a_finding(), "auc": 0.51},
        {"findings": [a_finding(), a_finding(120)]},
        {"one_run": {"finding": a_finding()}, "attacks": [{"auc": 0.5}]},
    ],
    ids=["itself", "named", "a list", "nested"],
)
def test_an_audit_is_certified_with_its_ceiling_and_outside_the_guarantee(
    made: Any, noon: Any, report: dict[str, Any]
) -> None:
    run = made()
    certificate = run.issue(audit=(report, DIGEST))
    found = verify(certificate.content, trusted=run.trusted, now=noon)
    assert any("counted again from their guesses" in said for said in found.findings)
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
    content = run.issue(audit=(a_finding(200), DIGEST)).content
    view = view_of(standing_of(content, trusted=run.trusted, now=noon))

    assert "The claim of epsilon 4 is refuted" in view.audit[0]


def with_findings(run: Any, findings: list[dict[str, Any]]) -> bytes:
    """A certificate with these findings, soundly signed by a program that checks nothing."""
    document = copy.deepcopy(dict(run.issue(audit=(a_finding(), DIGEST)).document))
    document["audit"]["findings"] = findings
    del document["signature"]
    signature = run.key.sign(canonical_bytes(document))
    return canonical_bytes({**document, "signature": signature}) + b"\n"


@pytest.mark.parametrize(
    ("part", "name", "value", "said"),
    [
        ("bound", "correct", 200, "bound.epsilon"),
        ("bound", "epsilon", 0.5, "bound.epsilon"),
        ("bound", "guesses", 199, "199 guesses, 200 named"),
        ("bound", "counted", 900, "900 of 1000 canaries counted"),
        ("bound", "level", 0.5, "a level of 0.5"),
        ("bound", "mu", 1.0, "bound.mu"),
        ("ceiling", "expected", 3.5, "its simulation gives"),
        ("ceiling", "standard_error", 0.0, "its simulation gives"),
        ("ceiling", "seed", 7, "its simulation gives"),
        ("ceiling", "epsilon", 8.0, "its simulation gives"),
        ("ceiling", "trials", 11, "its simulation gives"),
        ("ceiling", "trials", 10**9, "not simulated again"),
        ("ceiling", "trials", 2, "its ceiling: trials"),
    ],
)
def test_a_number_of_a_finding_follows_from_its_counts_or_its_seed(
    made: Any, noon: Any, part: str, name: str, value: object, said: str
) -> None:
    """Everything is written as it would be, texts too: only the numbers do not hang together."""
    run, forged = made(), a_finding()
    text = forged["text"]
    forged[part][name] = value
    shown = forged["ceiling"]
    forged["text"] = (
        f"With 95% confidence epsilon is at least {forged['bound']['epsilon']:.3g} at delta 1e-05 "
        f"(1000 canaries, {forged['bound']['correct']} of {forged['bound']['guesses']} guesses "
        f"right). An ideal attacker with as many canaries would have certified "
        f"{shown['expected']:.2f} on average (simulated, +- {shown['standard_error']:.2f})."
        + text[text.index(" This is") :]
    )

    with pytest.raises(CertificateContradicts, match=said):
        verify(with_findings(run, [forged]), trusted=run.trusted, now=noon)


def test_a_ceiling_of_another_run_is_refused(made: Any, noon: Any) -> None:
    """Of a run that leaks more, an ideal attacker certifies more: "consistent" would be cheap."""
    run = made()
    louder = written(finding_of(170, theory=4.0, cost=8.0))
    with pytest.raises(CertificateContradicts, match="ceiling of finding 1 is that of epsilon 8"):
        verify(with_findings(run, [louder]), trusted=run.trusted, now=noon)


@pytest.mark.parametrize("fits", [True, False])
def test_a_white_box_ceiling_is_that_of_the_plan(made: Any, noon: Any, *, fits: bool) -> None:
    run = made()
    plan = run.plan
    cost = plan.epsilon()
    watched = WhiteBox(
        noise_multiplier=plan.gradient_noise_multiplier * (1 if fits else 0.8),
        sample_rate=plan.sampling_probability,
        steps=plan.steps,
        epsilon=cost,
    )
    plain = finding_of(170, theory=cost)
    limit = white_box_ceiling(watched, 1e-5, 1000, choice=plain.bound.choice, trials=10)
    content = with_findings(run, [written(judge(plain.bound, theory=cost, ceiling=limit))])
    if fits:
        verify(content, trusted=run.trusted, now=noon)
    else:
        with pytest.raises(CertificateContradicts, match="ceiling of finding 1 is that of another"):
            verify(content, trusted=run.trusted, now=noon)


@pytest.mark.parametrize("theory", ["nan", "1e400", math.inf, -1, True, None])
def test_a_claim_that_is_no_number_refutes_nothing(made: Any, noon: Any, theory: object) -> None:
    """Nothing is above nan, and everything would be "consistent" with it."""
    run, forged = made(), a_finding()
    forged["theory"] = "inf" if theory == math.inf else theory
    forged["text"] = forged["text"].replace("claim of epsilon 4", "claim of epsilon nan")
    with pytest.raises(CertificateContradicts):
        verify(with_findings(run, [forged]), trusted=run.trusted, now=noon)


def test_a_stranger_cannot_ask_for_many_findings(made: Any, noon: Any) -> None:
    run = made()
    with pytest.raises(CertificateContradicts, match="more than 8 findings"):
        verify(with_findings(run, [a_finding()] * 9), trusted=run.trusted, now=noon)
