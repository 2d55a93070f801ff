"""What a signer can put under a good signature, and what a stranger can make a verifier compute."""

from __future__ import annotations

import copy
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.privacy_finetuner.assessment.findings import a_finding, written

from privacy_core import dp_events
from privacy_core.auditing.verdicts import AuditFinding, Verdict
from privacy_core.errors import InvalidParameter, PrivacyError
from privacy_core.guarantee import PrivacyUnit
from privacy_finetuner.assessment.certificate import Certificate, outside_guarantee
from privacy_finetuner.assessment.certificate_check import verify
from privacy_finetuner.assessment.certificate_errors import CertificateContradicts, NotACertificate
from privacy_finetuner.assessment.certificate_fields import CERTIFICATE_TYPE, CERTIFICATE_VERSION
from privacy_finetuner.assessment.plan_check import prices
from privacy_finetuner.config import PrivacyConfig, TrainingConfig
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.training.plan import DPTrainingPlan, make_plan
from privacy_finetuner.training.statement import ASSUMPTIONS
from privacy_runtime.signing import (
    PublicKey,
    SigningKey,
    TrustedKeys,
    canonical_bytes,
)
from privacy_runtime.signing.canonical import DOCUMENT_MAX
from privacy_runtime.testing import SeededEntropy

NOON = datetime(2030, 1, 2, 12, tzinfo=UTC)
DIGEST = "ab" * 32


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return SigningKey.create(
        tmp_path_factory.mktemp("keys") / "key.pem", SeededEntropy(1), now=NOON
    )


def a_plan(**privacy: Any) -> DPTrainingPlan:
    given = {"epsilon": 4.0, "delta": 1e-5, "accounting_mode": "pld"} | privacy
    return make_plan(PrivacyConfig(**given), TrainingConfig(epochs=2, batch_size=25), examples=200)


def document_of(plan: DPTrainingPlan, public: PublicKey, **fields: Any) -> dict[str, Any]:
    """What an honest program would certify of a run with this plan, unsigned."""
    event = plan.event()
    has_audit = fields.get("audit") is not None
    document = {
        "type": CERTIFICATE_TYPE,
        "version": CERTIFICATE_VERSION,
        "id": "ab" * 16,
        "issued_at": "2030-01-02T12:00:00Z",
        "expires_at": "2030-06-02T12:00:00Z",
        "issued_with": "privacy-finetuner 0.1.0",
        "signer": {
            "algorithm": "Ed25519",
            "key_id": public.key_id,
            "public_key": public.public_key,
            "not_before": public.not_before,
            "not_after": public.not_after,
        },
        "guarantee": {
            "epsilon": plan.epsilon(),
            "delta": plan.delta,
            "relation": plan.relation.value,
            "unit": plan.unit.value,
            "max_examples_per_user": plan.max_examples_per_user,
            "accountant": plan.accountant,
        },
        "prices": prices(event, plan),
        "peer": None,
        "event": dp_events.to_json(event),
        "plan": plan.to_json(),
        "run": {
            "job_id": "0123456789abcdef",
            "charged_steps": plan.steps,
            "record_head": DIGEST,
            "record_entries": 4,
            "engine": "one backward pass",
            "noise": plan.noise_generator,
        },
        "ledger": None,
        "dataset": {"examples": plan.examples, "commitment": None},
        "weights": {"model.safetensors": DIGEST},
        "software": {"python": "3.11.7", "libraries": {"privacy-finetuner": "0.1.0"}},
        "audit": None,
        "assumptions": list(ASSUMPTIONS),
        "outside_guarantee": outside_guarantee(plan, has_audit=has_audit),
    }
    return json.loads(json.dumps({**document, **fields}))


def signed(document: dict[str, Any], key: SigningKey) -> bytes:
    signature = key.sign(canonical_bytes(document))
    return canonical_bytes({**document, "signature": signature}) + b"\n"


def check(document: dict[str, Any], key: SigningKey) -> None:
    verify(signed(document, key), trusted=TrustedKeys([key.public]), now=NOON)


def test_the_honest_document_of_this_file_is_genuine(key: SigningKey) -> None:
    for noise in ("independent", "blt"):
        check(document_of(a_plan(noise=noise), key.public), key)


@pytest.mark.parametrize("noise", ["banded", "blt"])
def test_correlated_noise_for_users_of_several_examples_has_no_price(
    noise: str, key: SigningKey
) -> None:
    """It was priced as independent noise: the whole run's multiplier, amplified by sampling."""
    plan = make_plan(
        PrivacyConfig(epsilon=4.0, delta=1e-5, accounting_mode="pld", noise=noise),
        TrainingConfig(epochs=4, batch_size=25),
        examples=400,
    )
    with pytest.raises(ConfigurationError, match="several groups"):
        replace(plan, unit=PrivacyUnit.USER, max_examples_per_user=2)

    document = document_of(plan, key.public)
    document["plan"] |= {"unit": "user", "max_examples_per_user": 2}
    with pytest.raises(CertificateContradicts, match="several groups"):
        check(document, key)


@pytest.mark.parametrize("name", ["pld", "rdp", "dp_accounting.pld"])
def test_a_peer_cannot_take_the_place_of_our_own_price(name: str, key: SigningKey) -> None:
    peer = {"accountant": name, "version": "9", "epsilon": 0.001}
    with pytest.raises(CertificateContradicts, match="no upper bound lies that far below"):
        check(document_of(a_plan(), key.public, peer=peer), key)


@pytest.mark.parametrize(
    ("noise", "change"),
    [
        ("blt", {"steps": 10**11, "steps_asked": 10**11}),
        ("blt", {"steps": 3_000_000, "steps_asked": 3_000_000}),
        ("independent", {"unit": "user", "max_examples_per_user": 10**9}),
        ("blt", {"correlation": {"type": "BufferedToeplitz", "decays": [0.0] * 10**5,
                                 "weights": [0.0] * 10**5}}),
    ],
    ids=["memory", "time", "users", "buffers"],
)  # fmt: skip
def test_a_stranger_cannot_keep_a_verifier_busy(
    noise: str, change: dict[str, Any], key: SigningKey
) -> None:
    """Everything is priced before the key is looked up: any key will do to get here."""
    document = document_of(a_plan(noise=noise), key.public)
    document["plan"] |= change
    began = time.process_time()
    with pytest.raises(CertificateContradicts, match="not priced here"):
        check(document, key)
    assert time.process_time() - began < 5


def test_a_file_above_the_longest_is_not_even_parsed() -> None:
    with pytest.raises(NotACertificate, match="at most"):
        Certificate.parse(b"[" + b"1," * (DOCUMENT_MAX // 2 + 1) + b"1]\n")


@pytest.mark.parametrize("depth", [40, 200, 320, 5000])
@pytest.mark.parametrize("place", ["event", "correlation", "audit"])
def test_deep_nesting_is_refused_in_words(depth: int, place: str, key: SigningKey) -> None:
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    document = document_of(a_plan(), key.public)
    mark = "@@@@"
    match place:
        case "audit":
            document["audit"] = {
                "outside_guarantee": True, "findings": [{"a": mark}], "report_digest": DIGEST,
            }  # fmt: skip
        case "event":
            document["event"] = {"version": 1, "event": {"a": mark}}
        case _:
            document["plan"]["correlation"] = {"a": mark}
    body = canonical_bytes(document).replace(b'"@@@@"', deep)
    signature = b',"signature":"' + key.sign(body).encode() + b'","signer":{'
    content = body.replace(b',"signer":{', signature) + b"\n"
    with pytest.raises(PrivacyError):
        verify(content, trusted=TrustedKeys([key.public]), now=NOON)


@pytest.mark.parametrize(
    "instant",
    [
        "\u0662\u0660\u0663\u0660-01-02T12:00:00Z",
        "\uff12\uff10\uff13\uff10-01-02T12:00:00Z",
        "2030-01-02T12:00:60Z",
        "2030-01-02T24:00:00Z",
        "2030-01-02T12:00:00+00:00",
        "2030-01-02T12:00:00.0Z",
        "0000-01-02T12:00:00Z",
    ],
)
def test_an_instant_has_one_spelling(instant: str, key: SigningKey) -> None:
    document = document_of(a_plan(), key.public, issued_at=instant)
    with pytest.raises(PrivacyError):
        check(document, key)


@pytest.mark.parametrize(
    "spelling", [b"1e400", b"-0", b"-0.0", b"NaN", b"4.0", b"0.4e1", b"1E1", b"+4", b"04"]
)
def test_a_number_has_one_spelling(spelling: bytes, key: SigningKey) -> None:
    document = document_of(a_plan(), key.public)
    document["guarantee"]["epsilon"] = 987654321
    content = signed(document, key).replace(b"987654321", spelling)
    with pytest.raises(PrivacyError):
        verify(content, trusted=TrustedKeys([key.public]), now=NOON)


# Audits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed", [{"delta": 1e-6}, {"is_gaussian": True}, {"delta": 1e-4}], ids=str
)
def test_an_audit_cannot_be_held_against_a_claim_of_another_size(
    changed: dict[str, Any], key: SigningKey
) -> None:
    """A lower bound above 4 on a run that promises 4, and the word "consistent"."""
    finding = a_finding(200, theory=9.0, **changed)
    assert finding.verdict is Verdict.CONSISTENT
    audit = {
        "outside_guarantee": True, "findings": [written(finding)], "report_digest": DIGEST,
    }  # fmt: skip
    with pytest.raises(CertificateContradicts, match="was held against epsilon 9"):
        check(document_of(a_plan(), key.public, audit=audit), key)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("ceiling", "canaries", 100_000),
        ("ceiling", "method", "f_dp"),
        ("ceiling", "delta", 0.1),
        ("ceiling", "choice", {"kind": "ranks", "k_in": 1, "k_out": 1, "seed": 0}),
        ("bound", "assumes", ["canaries are independent trials"]),
    ],
)
def test_a_finding_that_nobody_would_have_judged_cannot_be_read(
    part: str, name: str, value: object
) -> None:
    finding = written(a_finding(180, theory=4.0))
    forged = copy.deepcopy(finding)
    forged[part][name] = value
    if name == "assumes":  # the text says so too
        forged["text"] = forged["text"].replace(
            "guesses right).", "guesses right; if canaries are independent trials)."
        )
    with pytest.raises(InvalidParameter):
        AuditFinding.from_json(json.dumps(forged))
    assert AuditFinding.from_json(json.dumps(finding)).verdict is Verdict.CONSISTENT


def test_a_bound_follows_from_the_guesses_that_it_counts(key: SigningKey) -> None:
    """200 of 200 guesses right certify epsilon 4.17; a signer may write 0.1 and "consistent"."""
    finding = written(a_finding(200, theory=4.0))
    assert finding["verdict"] == "violation"
    honest = finding["bound"]["epsilon"]
    finding["bound"]["epsilon"], finding["verdict"] = 0.1, "consistent"
    finding["text"] = (
        finding["text"]
        .replace(f"at least {honest:.3g}", "at least 0.1")
        .replace(
            "The claim of epsilon 4 is refuted.",
            "This is consistent with the claim of epsilon 4; it does not show that the claim is "
            "true.",
        )
    )
    audit = {"outside_guarantee": True, "findings": [finding], "report_digest": DIGEST}
    with pytest.raises(CertificateContradicts, match="its own counts come to"):
        check(document_of(a_plan(), key.public, audit=audit), key)


def test_a_verdict_cannot_stand_on_a_ceiling_that_nobody_simulated(key: SigningKey) -> None:
    """An audit of eight guesses could find next to nothing; 3.9 of 4 is written in its place."""
    finding = written(a_finding(8, guesses=8, theory=4.0))
    assert finding["verdict"] == "inconclusive"
    found = finding["ceiling"]["expected"]
    finding["ceiling"]["expected"], finding["verdict"] = 3.9, "consistent"
    text = finding["text"].replace(f"certified {found:.2f}", "certified 3.90")
    finding["text"] = text[: text.index(" That is less")] + (
        " This is consistent with the claim of epsilon 4; it does not show that the claim is true."
    )
    audit = {"outside_guarantee": True, "findings": [finding], "report_digest": DIGEST}
    with pytest.raises(CertificateContradicts, match="its simulation gives"):
        check(document_of(a_plan(), key.public, audit=audit), key)


def test_a_delta_that_promises_nothing_is_no_guarantee(key: SigningKey) -> None:
    """Delta 0.9 for each of 200 records: publishing 180 of them whole keeps that promise."""
    with pytest.raises(CertificateContradicts):
        check(document_of(replace(a_plan(), delta=0.9), key.public), key)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "x\n", "x\u202e"])
def test_the_name_of_a_weight_file_is_no_path(name: str, key: SigningKey) -> None:
    document = document_of(a_plan(), key.public, weights={f"{name}.safetensors": DIGEST})
    with pytest.raises(PrivacyError):
        check(document, key)
