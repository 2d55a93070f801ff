"""Is a certificate genuine? Recomputes everything that follows from something else.

Needs no torch, no database, no network and no run: the certificate is enough. In this order, and
the first failure ends it:

1. form: canonical JSON of a known version, every field there and no other;
2. signature: by the key that the certificate names;
3. sense: event = plan, epsilon = price of the event by each accountant, every derived field;
4. time: certificate and key are valid now;
5. origin: the reader trusts the key;
6. run, where its folder is given: weights, run record, statement.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from privacy_core.dp_events import DpEvent
from privacy_core.errors import PrivacyError
from privacy_core.mechanisms.matrix_factorization import BufferedToeplitz
from privacy_finetuner.assessment.audit_claims import faults_of_claims, faults_of_findings
from privacy_finetuner.assessment.certificate import (
    Certificate,
    outside_guarantee,
)
from privacy_finetuner.assessment.certificate_errors import (
    CertificateContradicts,
    CertificateExpired,
    RunDiffers,
)
from privacy_finetuner.assessment.evidence import faults_of_weights, read_evidence
from privacy_finetuner.assessment.peer import peer_price
from privacy_finetuner.assessment.plan_check import (
    ACCOUNTANTS,
    faults_of_plan,
    faults_of_prices,
    is_same,
    price,
)
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_finetuner.training.statement import ASSUMPTIONS
from privacy_runtime.signing import (
    PublicKey,
    TrustedKeys,
    UnknownKey,
    canonical_bytes,
    instant_of,
    require_signature,
    text_of,
)

# What can be priced in seconds. Anybody can sign a larger plan with a key of their own.
_EXAMPLES_MOST: Final = 1000
_BUFFERED_STEPS_MOST: Final = 200_000
_NUMBERS_MOST: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """A certificate that is genuine, and what that rests on.

    `trusted` is the reader's own entry of the key; `None` where an unknown key was allowed: then
    the certificate is consistent and unchanged, and nobody is known to answer for it. `findings`
    are sentences.
    """

    certificate: Certificate
    trusted: PublicKey | None
    findings: tuple[str, ...]


def verify(
    content: bytes,
    *,
    trusted: TrustedKeys,
    now: datetime,
    allow_unknown_key: bool = False,
    run: Path | None = None,
    with_peer: bool = False,
) -> Verification:
    """Check a certificate; returns only where it is genuine.

    Guarantee: if this returns with `trusted` set, the owner of that key signed exactly these bytes,
    and the epsilon in them is the price of the event in them, by two accountants, within a relative
    1e-6. That the run was as the certificate tells it is what its signer answers for.

    Args:
        content: the file.
        trusted: the keys that the reader trusts.
        now: the time of checking, with a time zone.
        allow_unknown_key: go on without an origin.
        run: also compare with the files of this run folder.
        with_peer: also ask dp-accounting again, where it is installed.

    Raises:
        NotACertificate, NotCanonical, MalformedCertificate, SignatureInvalid,
        CertificateContradicts, CertificateExpired, KeyExpired, UnknownKey, RunDiffers,
        NothingToCertify (the run cannot be read): see `certificate_errors`.
    """
    certificate = Certificate.parse(content)
    document = certificate.document
    require_signature(
        document["signer"]["public_key"], document["signature"], certificate.signed_bytes
    )
    faults = faults_of_content(certificate)
    if faults:
        raise CertificateContradicts(faults)
    findings = [
        "every byte is as it was signed",
        _priced(document),
        *_counted(document),
        *(_asked_peer(certificate) if with_peer else []),
    ]
    _require_valid_at(certificate, now)
    findings.append(f"valid until {document['expires_at']}")
    known = _origin(certificate, trusted, now, allow_unknown_key=allow_unknown_key)
    if run is not None:
        findings.append(_compared(certificate, run))
    return Verification(certificate=certificate, trusted=known, findings=tuple(findings))


def faults_of_content(certificate: Certificate) -> list[str]:
    """What in a certificate cannot be true together. Sentences; empty when it makes sense."""
    document = certificate.document
    if faults := _size_faults(document["plan"]):
        return faults
    try:
        plan, event = certificate.plan, certificate.event
        return [
            *faults_of_plan(plan),
            *_event_faults(plan, event, document),
            *_guarantee_faults(plan, event, document),
            *_derived_faults(plan, document),
            *_time_faults(certificate),
            *_audit_faults(plan, event, document),
        ]
    except PrivacyError as error:
        return [f"plan or event cannot be read: {error}"]
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # Numbers of other kinds, signed by somebody who did not use this program.
        return [f"plan or event cannot be read ({type(error).__name__})"]


def _size_faults(plan: Any) -> list[str]:
    """What would take a verifier minutes, or its memory: no key is known yet to answer for it."""
    correlation = plan["correlation"] or {}
    faults = []
    if plan["max_examples_per_user"] > _EXAMPLES_MOST:
        faults.append(f"more than {_EXAMPLES_MOST} examples a user are not priced here")
    if (
        correlation.get("type") == BufferedToeplitz.__name__
        and plan["steps"] > _BUFFERED_STEPS_MOST
    ):
        faults.append(
            f"buffered noise over more than {_BUFFERED_STEPS_MOST} steps is not priced here"
        )
    if any(isinstance(part, list) and len(part) > _NUMBERS_MOST for part in correlation.values()):
        faults.append(f"a correlation of more than {_NUMBERS_MOST} numbers is not priced here")
    return faults


def _event_faults(plan: DPTrainingPlan, event: DpEvent, document: Any) -> list[str]:
    faults = []
    if canonical_bytes(plan.to_json()) != canonical_bytes(document["plan"]):
        faults.append("the plan is not written as this program writes it")
    if event != plan.event():
        faults.append("the event is not the one that the plan costs")
    if document["run"]["charged_steps"] > plan.steps:
        faults.append(f"more steps are charged than the {plan.steps} that were planned")
    return faults


def _guarantee_faults(plan: DPTrainingPlan, event: DpEvent, document: Any) -> list[str]:
    """The epsilon by its own accountant, and by each of the two that are always asked."""
    found = {name: price(event, plan.delta, name, plan.relation) for name in ACCOUNTANTS}
    faults = faults_of_prices(found)
    claims = [(name, document["prices"][name], found[name]) for name in ACCOUNTANTS]
    own = price(event, plan.delta, plan.accountant, plan.relation)
    claims.append((plan.accountant, document["guarantee"]["epsilon"], own))
    for name, stated, recomputed in claims:
        if (stated is None) != (recomputed is None) or (
            stated is not None and recomputed is not None and not is_same(stated, recomputed)
        ):
            faults.append(f"epsilon is stated as {stated}, {name} finds {recomputed}")
    if found["pld"] is None and found["rdp"] is None:
        faults.append("no accountant has a price for the event")
    peer = document["peer"]
    if peer is not None and peer["epsilon"] is not None:
        # Under a name of our own: a peer that calls itself "pld" must not take pld's place.
        faults += faults_of_prices({"pld": found["pld"], "the peer": peer["epsilon"]})
    return faults


def _audit_faults(plan: DPTrainingPlan, event: DpEvent, document: Any) -> list[str]:
    if document["audit"] is None:
        return []
    findings = document["audit"]["findings"]
    return faults_of_findings(findings) or faults_of_claims(findings, plan=plan, event=event)


def _derived_faults(plan: DPTrainingPlan, document: Any) -> list[str]:
    """Fields that say again what the plan says."""
    ledger = document["ledger"]
    derived = {
        "guarantee.delta": (document["guarantee"]["delta"], plan.delta),
        "guarantee.relation": (document["guarantee"]["relation"], plan.relation.value),
        "guarantee.unit": (document["guarantee"]["unit"], plan.unit.value),
        "guarantee.max_examples_per_user": (
            document["guarantee"]["max_examples_per_user"],
            plan.max_examples_per_user,
        ),
        "guarantee.accountant": (document["guarantee"]["accountant"], plan.accountant),
        "run.noise": (document["run"]["noise"], plan.noise_generator),
        "dataset.examples": (document["dataset"]["examples"], plan.examples),
        "assumptions": (document["assumptions"], list(ASSUMPTIONS)),
        "outside_guarantee": (
            document["outside_guarantee"],
            outside_guarantee(plan, has_audit=document["audit"] is not None),
        ),
        "issued_with": (
            document["issued_with"],
            f"privacy-finetuner {document['software']['libraries'].get('privacy-finetuner')}",
        ),
    }
    if ledger is not None:
        derived["ledger.guarantee.relation"] = (
            ledger["guarantee"]["relation"],
            plan.relation.value,
        )
        derived["ledger.guarantee.unit"] = (ledger["guarantee"]["unit"], plan.unit.value)
        derived["ledger.account"] = (ledger["account"] in ledger["scopes"], True)
    return [
        f"{name} is not what the rest of the certificate says"
        for name, (stated, expected) in derived.items()
        if stated != expected
    ]


def _time_faults(certificate: Certificate) -> list[str]:
    """Instants of one form sort as texts do."""
    document = certificate.document
    signer, issued, expires = document["signer"], document["issued_at"], document["expires_at"]
    faults = []
    if signer["key_id"] != certificate.signer.key_id:
        faults.append("the key id is not that of the public key")
    if not signer["not_before"] <= issued < expires <= signer["not_after"]:
        faults.append("it was issued, or expires, outside the time that its key is valid for")
    return faults


def _require_valid_at(certificate: Certificate, now: datetime) -> None:
    issued, expires = certificate.document["issued_at"], certificate.document["expires_at"]
    if instant_of(issued) > now:
        raise CertificateExpired(f"the certificate is not valid before {issued}, now it is "
                                 f"{text_of(now)}")  # fmt: skip
    if instant_of(expires) < now:
        raise CertificateExpired(f"the certificate expired at {expires}, now it is {text_of(now)}")
    certificate.signer.require_valid_at(now)


def _origin(
    certificate: Certificate, trusted: TrustedKeys, now: datetime, *, allow_unknown_key: bool
) -> PublicKey | None:
    try:
        known = trusted.find(certificate.signer.public_key)
    except UnknownKey:
        if allow_unknown_key:
            return None
        raise
    known.require_valid_at(now)
    return known


def _priced(document: Any) -> str:
    guarantee, found = document["guarantee"], document["prices"]
    said = ", ".join(
        f"{name} {value:.6g}" if value is not None else f"{name} has no price for it"
        for name, value in found.items()
    )
    return (
        f"the event costs epsilon {guarantee['epsilon']:.6g} at delta {guarantee['delta']:g}, "
        f"computed again: {said}"
    )


def _counted(document: Any) -> list[str]:
    """What was done again of an audit; `faults_of_content` did it."""
    if document["audit"] is None:
        return []
    count = len(document["audit"]["findings"])
    return [
        f"{count} findings of an audit: bounds counted again from their guesses, ceilings "
        "simulated again from their seeds"
    ]


def _asked_peer(certificate: Certificate) -> list[str]:
    plan, stated = certificate.plan, certificate.document["peer"]
    found = peer_price(certificate.event, plan.delta, plan.relation)
    if found is None:
        return ["dp-accounting is not installed: it was not asked"]
    if found.epsilon is None:
        return [f"{found.accountant} {found.version} has no price for the event"]
    own = certificate.document["prices"]["pld"]
    faults = [] if own is None else faults_of_prices({"pld": own, found.accountant: found.epsilon})
    # Its own versions may differ by its discretisation, which is 1e-3 of a nat for each loss.
    if stated is not None and stated["epsilon"] is not None:
        drift = abs(stated["epsilon"] - found.epsilon)
        if drift > 1e-2 * max(1.0, found.epsilon):
            faults.append(
                f"{found.accountant} is stated to say {stated['epsilon']:.6g}, it says "
                f"{found.epsilon:.6g}"
            )
    if faults:
        raise CertificateContradicts(faults)
    return [f"{found.accountant} {found.version} says epsilon {found.epsilon:.6g}"]


def _compared(certificate: Certificate, folder: Path) -> str:
    """Compare with what lies in a run's folder now."""
    evidence, document = read_evidence(folder), certificate.document
    faults = faults_of_weights(folder, document["weights"])
    run = document["run"]
    if (run["record_head"], run["record_entries"]) != (evidence.head, evidence.entries):
        faults.append("the run record ends at another entry than the certificate says")
    if run["job_id"] != evidence.job_id or run["charged_steps"] != evidence.charged_steps:
        faults.append("the run record is of another run, or charges other steps")
    if certificate.plan != evidence.plan:
        faults.append("the run record has another plan")
    if faults:
        raise RunDiffers(faults)
    return f"weights and run record in {folder} are those that were certified"
