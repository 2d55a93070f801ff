"""A certificate in words: what is promised, about whom, by whom, and how to check it.

One `View` holds the words; page, paper and model card (`certificate_page`, `certificate_paper`)
only set them. Nothing is shown of a certificate that was changed or contradicts itself: such a page
would lend it a face.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from privacy_finetuner.assessment.certificate import Certificate
from privacy_finetuner.assessment.certificate_check import Verification, verify
from privacy_finetuner.assessment.certificate_errors import CertificateExpired
from privacy_runtime.signing import KeyExpired, TrustedKeys, UnknownKey, text_of

VERIFY_COMMAND: Final = "privacy-finetuner certificate verify certificate.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Whether a certificate may be relied on now. `findings` are sentences."""

    certificate: Certificate
    is_genuine: bool
    verdict: str
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A certificate in words. `tables` are titles with rows of name and value."""

    claim: str
    about: str
    verdict: str
    is_genuine: bool
    promised: Sequence[str]
    not_promised: Sequence[str]
    assumptions: Sequence[str]
    audit: Sequence[str]
    tables: Mapping[str, Sequence[tuple[str, str]]]
    checks: Sequence[str]
    fingerprint: str
    issued_with: str


def standing_of(content: bytes, *, trusted: TrustedKeys, now: datetime) -> Standing:
    """Check a certificate in order to show it.

    One that is out of date, or signed by a key that the reader does not trust, can be shown, and
    says so at its top.

    Raises:
        CertificateError, SigningError: it was changed, or contradicts itself: it is not shown.
    """
    try:
        found: Verification = verify(content, trusted=trusted, now=now)
    except (CertificateExpired, KeyExpired, UnknownKey) as error:
        return Standing(
            certificate=Certificate.parse(content),
            is_genuine=False,
            verdict=str(error),
            findings=(),
        )
    name = found.trusted.name if found.trusted is not None else ""
    return Standing(
        certificate=found.certificate,
        is_genuine=True,
        verdict=f"genuine when checked at {text_of(now)}: signed by {name or 'a trusted key'}",
        findings=found.findings,
    )


def view_of(standing: Standing) -> View:
    """Put a certificate into words."""
    document, certificate = standing.certificate.document, standing.certificate
    guarantee = document["guarantee"]
    return View(
        claim=f"ε = {figure(guarantee['epsilon'])}, δ = {figure(guarantee['delta'])}",
        about=f"for each {_unit(document)} in the training data, "
        f"{guarantee['relation'].replace('_', ' ')}; an upper bound by the "
        f"{guarantee['accountant']} accountant",
        verdict=standing.verdict,
        is_genuine=standing.is_genuine,
        promised=_promised(document),
        not_promised=document["outside_guarantee"],
        assumptions=document["assumptions"],
        audit=_audit(document["audit"]),
        tables={
            "The mechanism": _mechanism(document),
            "The price, by independent accountants": _prices(document),
            "The run": _run(document),
            "The signature": _signature(document),
        },
        checks=standing.findings,
        fingerprint=certificate.fingerprint,
        issued_with=document["issued_with"],
    )


def figure(value: float | None) -> str:
    """A number for people: four digits."""
    if value is None:
        return "no price"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def certainty(epsilon: float) -> str:
    """How sure of a membership one can become from even odds, delta aside. Rounded up.

    Source: Dwork & Roth 2014, Definition 2.4, by Bayes' rule.
    """
    share = 1 / (1 + math.exp(-epsilon)) if epsilon < 700 else 1.0
    return f"{min(100.0, math.ceil(share * 10000) / 100):g} %"


def _promised(document: Mapping[str, Any]) -> list[str]:
    guarantee, unit = document["guarantee"], _unit(document)
    epsilon, delta = guarantee["epsilon"], figure(guarantee["delta"])
    change = (
        "been exchanged for another"
        if guarantee["relation"] == "replace_one"
        else "been left out of the data, or put in"
    )
    factor = f"{math.exp(epsilon):,.4g}" if epsilon < 9 else f"e^{epsilon:.4g}"
    said = [
        "Take anything that somebody may read, sample or compute from this model. Had any one "
        f"{unit} {change}, its probability would be within a factor of {factor} of what it is, "
        f"apart from a slack of {delta}.",
        f"Somebody who starts at even odds on whether one {unit} was used can become at most "
        f"{certainty(epsilon)} sure, that slack aside. This is the worst case, for an attacker "
        "who knows everything else.",
    ]
    if unit == "user":
        said.append(
            "A user is protected with all of the records that were used of them, at most "
            f"{guarantee['max_examples_per_user']:,} each."
        )
    else:
        said.append(
            "The unit is one record: a person with k records is protected more weakly, with at "
            f"most about k times this epsilon. There were {document['dataset']['examples']:,} "
            "records."
        )
    return said


def _mechanism(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    plan = document["plan"]
    rows = [
        ("Sampling", f"{plan['sampler'].replace('_', ' ')}, {_share(plan)} of the data a step"),
        ("Steps", f"{plan['steps']:,} priced, {document['run']['charged_steps']:,} taken"),
        ("Noise multiplier", figure(plan["noise_multiplier"])),
        ("Clipping", f"{figure(plan['clip_norm'])} at the start ({plan['clip_rule']})"),
        ("Noise generator", document["run"]["noise"]),
        ("Gradients", document["run"]["engine"]),
    ]
    if plan["canaries"]:
        rows.append(("Audit canaries", f"{plan['canaries']:,}, each in the data by a fair coin"))
    if plan["correlation"] is not None:
        rows.insert(3, ("Noise of different steps", plan["correlation"]["type"]))
    return rows


def _prices(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    peer = document["peer"]
    rows = [(name, figure(value)) for name, value in document["prices"].items()]
    if peer is not None:
        rows.append((f"{peer['accountant']} {peer['version']}", figure(peer["epsilon"])))
    return rows


def _run(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    run, ledger = document["run"], document["ledger"]
    rows = [("Job", run["job_id"]), ("Head of the run record", run["record_head"])]
    if ledger is None:
        rows.append(("Ledger", "none was charged"))
    else:
        entry = ledger["entry"]
        rows.append(("Ledger account", ledger["account"]))
        if entry is not None:
            rows.append(("Ledger entry", f"{entry['seq']}, {entry['hash']}"))
    commitment = document["dataset"]["commitment"]
    rows.append(
        ("Records", "not named" if commitment is None else f"commitment {commitment['value']}")
    )
    rows += [(f"SHA-256 of {name}", digest) for name, digest in document["weights"].items()]
    libraries = document["software"]["libraries"]
    rows.append(("Software", ", ".join(f"{name} {v}" for name, v in libraries.items())))
    return rows


def _signature(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    signer = document["signer"]
    return [
        ("Key id", grouped(signer["key_id"])),
        ("Issued", document["issued_at"]),
        ("Expires", document["expires_at"]),
        ("Certificate", document["id"]),
    ]


def _audit(audit: Mapping[str, Any] | None) -> list[str]:
    """What an audit found, always with what it could have found, in the audit's own words."""
    if audit is None:
        return []
    return [f"Verdict {each['verdict']}: {each['text']}" for each in audit["findings"]]


def grouped(key_id: str) -> str:
    """A key id as people compare it: in groups of four."""
    return " ".join(key_id[i : i + 4] for i in range(0, len(key_id), 4))


def _unit(document: Mapping[str, Any]) -> str:
    return "user" if document["guarantee"]["unit"] == "user" else "record"


def _share(plan: Mapping[str, Any]) -> str:
    return f"{100 * min(1.0, plan['expected_batch_size'] / plan['examples']):.3g} %"
