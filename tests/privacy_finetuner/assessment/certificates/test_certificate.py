"""Issuing: nothing is signed that does not verify."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import NeighbouringRelation
from privacy_finetuner.assessment.certificate import Certificate
from privacy_finetuner.assessment.certificate_check import verify
from privacy_finetuner.assessment.certificate_errors import NothingToCertify
from privacy_finetuner.assessment.certificate_fields import FIELDS
from privacy_finetuner.training.run_record import RunRecord
from privacy_runtime.signing import KeyExpired, SigningKey, text_of
from privacy_runtime.testing import SeededEntropy


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accounting_mode": "rdp"},
        {"relation": NeighbouringRelation.REPLACE_ONE},
        {"users": 3},
        {"noise_multiplier": 1.5, "epsilon": 50.0},
        {"adaptive_clipping": False},
        {"secure_rng": False},
        {"charged": 8},
        {"epochs": 8, "noise": "banded"},
        {"epochs": 8, "noise": "blt"},
    ],
    ids=str,
)
def test_a_certificate_of_an_honest_run_is_genuine(
    made: Any, noon: Any, options: dict[str, Any]
) -> None:
    run = made(**options)
    certificate = run.issue()
    found = verify(certificate.content, trusted=run.trusted, now=noon, run=run.folder)

    assert found.trusted == run.key.public
    assert certificate.document["guarantee"]["epsilon"] == run.plan.epsilon()
    assert certificate.plan == run.plan
    assert certificate.event == run.plan.event()


def test_a_certificate_has_the_documented_fields(genuine: Certificate, shared_run: Any) -> None:
    document = genuine.document

    assert tuple(document) == FIELDS
    assert document["ledger"]["entry"] == {"seq": 7, "hash": "ab" * 32}
    assert document["prices"]["rdp"] > document["prices"]["pld"] == pytest.approx(4, rel=1e-3)
    assert document["peer"]["epsilon"] == pytest.approx(4, rel=2e-3)
    assert len(document["weights"]) == 2
    assert document["dataset"] == {"examples": 200, "commitment": None}


def test_a_certificate_does_not_outlive_its_key(shared_run: Any) -> None:
    made = shared_run.issue(valid_days=10_000)

    assert made.document["expires_at"] == shared_run.key.public.not_after


def test_the_same_inputs_make_the_same_certificate(shared_run: Any, genuine: Certificate) -> None:
    assert shared_run.issue().content == genuine.content


def test_the_noise_that_is_not_cryptographic_is_named(made: Any) -> None:
    said = made(secure_rng=False).issue().document["outside_guarantee"]

    assert any("not cryptographic" in line for line in said)


def test_an_unfinished_run_is_not_certified(made: Any) -> None:
    with pytest.raises(NothingToCertify, match="not finished: 8 of 16 steps"):
        made(charged=8, finish=False).issue()


def test_a_run_that_took_no_step_is_not_certified(made: Any) -> None:
    with pytest.raises(NothingToCertify, match="no step"):
        made(charged=0).issue()


def test_a_folder_without_a_run_is_not_certified(made: Any, tmp_path: Path) -> None:
    run = made()
    run.folder = tmp_path

    with pytest.raises(NothingToCertify, match=r"no run\.jsonl"):
        run.issue()


def test_weights_that_were_changed_are_not_certified(made: Any) -> None:
    run = made()
    (run.folder / "model-00001.safetensors").write_bytes(b"other weights")

    with pytest.raises(NothingToCertify, match=r"model-00001\.safetensors was changed"):
        run.issue()


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("record_head",), "00" * 32, "another entry"),
        (("charged_steps",), 3, "different numbers of steps"),
        (("plan", "examples"), 400, "cannot be read"),
        (("plan", "clip_norm"), 5.0, "another plan"),
        (("event", "event", "count"), 3, "not the one that the run record charges"),
        (("event",), None, "cannot be read"),
    ],
)
def test_a_statement_that_was_edited_is_not_certified(
    made: Any, place: tuple[str, ...], value: object, said: str
) -> None:
    run = made()
    path = run.folder / "statement.json"
    document = json.loads(path.read_text())
    inner = document
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    path.write_text(json.dumps(document))

    with pytest.raises(NothingToCertify, match=said):
        run.issue()


def test_a_run_record_that_grew_is_not_certified(made: Any) -> None:
    run = made()
    with RunRecord(run.folder) as record:
        record.finish(run.plan.steps)

    with pytest.raises(NothingToCertify, match="another entry of the run record"):
        run.issue()


def test_an_expired_key_signs_nothing(made: Any, noon: Any, tmp_path: Path) -> None:
    run = made()
    run.key = SigningKey.create(tmp_path / "old.pem", SeededEntropy(9), now=noon, valid_days=1)

    with pytest.raises(KeyExpired, match=text_of(noon + timedelta(days=1))):
        run.issue(now=noon + timedelta(days=2))


def test_a_validity_of_no_days_is_refused(made: Any) -> None:
    with pytest.raises(InvalidParameter, match="valid_days"):
        made().issue(valid_days=0)
