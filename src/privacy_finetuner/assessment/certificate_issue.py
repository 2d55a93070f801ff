"""Certifying a run: checked against its record and its weights, priced, signed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from privacy_core import dp_events
from privacy_core.errors import InvalidParameter
from privacy_finetuner.assessment.audit_claims import audit_fields
from privacy_finetuner.assessment.certificate import Certificate, outside_guarantee
from privacy_finetuner.assessment.certificate_check import faults_of_content
from privacy_finetuner.assessment.certificate_errors import NothingToCertify
from privacy_finetuner.assessment.certificate_fields import CERTIFICATE_TYPE, CERTIFICATE_VERSION
from privacy_finetuner.assessment.evidence import Evidence, faults_of_statement, read_evidence
from privacy_finetuner.assessment.peer import peer_price
from privacy_finetuner.assessment.plan_check import faults_of_plan, faults_of_prices, prices
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_finetuner.training.statement import ASSUMPTIONS
from privacy_runtime.signing import PublicKey, SigningKey, canonical_bytes, text_of
from privacy_runtime.world import Entropy

VALID_DAYS: Final = 365
_ID_BYTES: Final = 16


def issue(
    folder: Path,
    key: SigningKey,
    *,
    now: datetime,
    entropy: Entropy,
    valid_days: int = VALID_DAYS,
    commitment: Mapping[str, Any] | None = None,
    audit: tuple[Mapping[str, Any], str] | None = None,
) -> Certificate:
    """Certify the finished run in a folder.

    Guarantee: nothing is signed that does not verify: the statement agrees with the run record, the
    weight files are those of the run, two accountants price the event, and the parts of the plan
    fit together.

    Args:
        folder: the output folder of a run.
        key: signs; must be valid now.
        now: when it is issued, with a time zone.
        entropy: for the certificate's id.
        valid_days: days until it expires; not beyond the key's own validity.
        commitment: to the records (`commitment.Opening.commit`); `None`: nothing is said of them.
        audit: an audit's report and the SHA-256 of its file. Outside the guarantee.

    Raises:
        NothingToCertify: the run is not finished, took no step, or something in its folder does
            not fit; the message says what. Nothing was signed.
        KeyExpired: the key is not valid now.
        InvalidParameter: `valid_days` is not positive.
    """
    if valid_days < 1:
        raise InvalidParameter("valid_days", found=valid_days, expected="a whole number >= 1")
    key.public.require_valid_at(now)
    evidence = require_certifiable(folder)
    expires_at = min(text_of(now + timedelta(days=valid_days)), key.public.not_after)
    document = {
        "type": CERTIFICATE_TYPE,
        "version": CERTIFICATE_VERSION,
        "id": entropy.token_bytes(_ID_BYTES).hex(),
        "issued_at": text_of(now),
        "expires_at": expires_at,
        "signer": _signer(key.public),
        "audit": None if audit is None else audit_fields(*audit, job_id=evidence.job_id),
        **_claims(evidence),
        "dataset": {"examples": evidence.plan.examples, "commitment": commitment},
        "outside_guarantee": outside_guarantee(evidence.plan, has_audit=audit is not None),
    }
    signature = key.sign(canonical_bytes(document))
    content = canonical_bytes({**document, "signature": signature}) + b"\n"
    certificate = Certificate.parse(content)
    _refuse_if(faults_of_content(certificate))
    return certificate


def _promise(plan: DPTrainingPlan) -> dict[str, Any]:
    """The guarantee that follows from a plan that was begun."""
    return {
        "epsilon": plan.epsilon(),
        "delta": plan.delta,
        "relation": plan.relation.value,
        "unit": plan.unit.value,
        "max_examples_per_user": plan.max_examples_per_user,
        "accountant": plan.accountant,
    }


def _claims(evidence: Evidence) -> dict[str, Any]:
    """What the run itself vouches for."""
    plan, stated = evidence.plan, evidence.statement or {}
    event = plan.event(plan.priced_steps(evidence.charged_steps))
    peer = peer_price(event, plan.delta, plan.relation)
    return {
        "issued_with": f"privacy-finetuner {stated['libraries']['privacy-finetuner']}",
        "guarantee": _promise(plan),
        "prices": prices(event, plan),
        "peer": None
        if peer is None
        else {"accountant": peer.accountant, "version": peer.version, "epsilon": peer.epsilon},
        "event": dp_events.to_json(event),
        "plan": plan.to_json(),
        "run": {
            "job_id": evidence.job_id,
            "charged_steps": evidence.charged_steps,
            "record_head": evidence.head,
            "record_entries": evidence.entries,
            "engine": stated["engine"],
            "noise": plan.noise_generator,
        },
        "ledger": stated["ledger"],
        "weights": stated["weights"],
        "software": {"python": stated["python"], "libraries": stated["libraries"]},
        "assumptions": list(ASSUMPTIONS),
    }


def _signer(public: PublicKey) -> dict[str, Any]:
    return {
        "algorithm": "Ed25519",
        "key_id": public.key_id,
        "public_key": public.public_key,
        "not_before": public.not_before,
        "not_after": public.not_after,
    }


def require_certifiable(folder: Path) -> Evidence:
    """Read a run; refuse one of which not everything is known and sound.

    Raises:
        NothingToCertify: see `issue`.
    """
    evidence = read_evidence(folder)
    if not evidence.is_finished:
        raise NothingToCertify(
            f"the run in {evidence.folder} is not finished: {evidence.charged_steps} of "
            f"{evidence.plan.steps} steps are charged; resume it, then certify it. Nothing was "
            "signed"
        )
    if not evidence.charged_steps:
        raise NothingToCertify("the run took no step: there is nothing to certify")
    plan = evidence.plan
    faults = [
        *faults_of_statement(evidence),
        *faults_of_plan(plan),
        *faults_of_prices(prices(plan.event(), plan)),
    ]
    _refuse_if(faults)
    return evidence


def _refuse_if(faults: list[str]) -> None:
    if faults:
        raise NothingToCertify(f"no certificate was made: {'; '.join(faults)}")
