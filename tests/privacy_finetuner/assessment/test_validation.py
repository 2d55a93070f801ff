"""`PrivacyValidator` on one small private run, honest and then falsified in every part."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.privacy_finetuner.assessment.findings import a_finding, written

from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import NeighbouringRelation
from privacy_finetuner import PrivacyConfig, PrivacyValidator, PrivateTrainer
from privacy_finetuner.assessment.validation import (
    AuditMissing,
    PrivacyValidationResult,
    ValidationImpossible,
)
from privacy_finetuner.results import TrainingHistory, TrainingResult

CONFIG = PrivacyConfig(epsilon=8.0, delta=1e-4, accounting_mode="pld")


@dataclass
class Trained:
    """A run, with a history that a test may spoil."""

    result: TrainingResult
    history: TrainingHistory
    folder: Path

    def validate(self, **changes: Any) -> PrivacyValidationResult:
        arguments = {
            "model": self.result.final_model,
            "training_history": self.history,
            "privacy_config": CONFIG,
        } | changes
        return PrivacyValidator().validate_privacy_guarantees(**arguments)


@pytest.fixture(scope="module")
def run(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    records = [{"text": f"visit {n}: knee pain"} for n in range(40)]
    return PrivateTrainer(str(llama_folder), CONFIG).train(
        records, epochs=2, batch_size=20, max_length=12,
        output_dir=str(tmp_path_factory.mktemp("validated") / "run"),
    )  # fmt: skip


@pytest.fixture
def trained(run: TrainingResult, tmp_path: Path) -> Trained:
    folder = tmp_path / "run"
    shutil.copytree(run.output_dir, folder)
    history = copy.deepcopy(run.training_history)
    assert history.run is not None
    history.run = replace(history.run, folder=str(folder))
    return Trained(run, history, folder)


def test_an_honest_run_costs_what_was_promised(trained: Trained) -> None:
    found = trained.validate()

    assert found.faults == ()
    assert found.guarantee_verified
    assert found.theoretical_epsilon == trained.result.privacy_spent.epsilon <= 8
    assert found.empirical_epsilon_bound is None
    assert found.prices["rdp"] > found.prices["pld"]
    assert json.loads(json.dumps(found.to_dict()))["guarantee_verified"] is True


@pytest.mark.parametrize(
    ("promised", "said"),
    [
        ({"epsilon": 4.0}, "promised was 4"),
        ({"delta": 1e-6}, "promised was 1e-06"),
        ({"relation": NeighbouringRelation.REPLACE_ONE}, "promised was replace_one"),
    ],
)
def test_a_promise_that_was_not_kept_is_named(
    trained: Trained, promised: dict[str, Any], said: str
) -> None:
    config = PrivacyConfig(**{"epsilon": 8.0, "delta": 1e-4, "accounting_mode": "pld"} | promised)
    found = trained.validate(privacy_config=config)

    assert not found.guarantee_verified
    assert any(said in fault for fault in found.faults), found.faults


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clip_norm": 0.0}, "nothing bounded"),
        ({"loss_std": 0.0}, "released without noise"),
        ({"step": 900}, "not steps of this run"),
    ],
)
def test_a_course_that_the_plan_cannot_have_is_named(
    trained: Trained, change: dict[str, Any], said: str
) -> None:
    trained.history.epochs[-1] = replace(trained.history.epochs[-1], **change)
    found = trained.validate()

    assert not found.guarantee_verified
    assert any(said in fault for fault in found.faults), found.faults


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"event": {"version": 1, "event": {"type": "NoOp"}}}, "not the one that the plan costs"),
        ({"record_head": "00" * 32}, "another entry"),
        ({"charged_steps": 1}, "charges another plan"),
        ({"parameters": {}}, "not the one that the run left"),
    ],
)
def test_an_account_that_was_edited_is_named(
    trained: Trained, change: dict[str, Any], said: str
) -> None:
    assert trained.history.run is not None
    trained.history.run = replace(trained.history.run, **change)
    found = trained.validate()

    assert not found.guarantee_verified
    assert any(said in fault for fault in found.faults), found.faults


def test_a_weight_file_that_was_changed_is_named(trained: Trained) -> None:
    path = trained.folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")

    assert any("was changed" in fault for fault in trained.validate().faults)


def test_a_folder_that_is_gone_is_said_and_no_fault(trained: Trained) -> None:
    shutil.rmtree(trained.folder)
    found = trained.validate()

    assert found.guarantee_verified
    assert any("folder is gone" in said for said in found.findings)


def test_another_model_is_named(trained: Trained) -> None:
    import torch

    model = copy.deepcopy(trained.result.final_model)
    with torch.no_grad():
        next(model.parameters()).flatten()[0].add_(1e-3)
    found = trained.validate(model=model)

    assert not found.guarantee_verified
    assert any("0 are missing and 1 differ" in fault for fault in found.faults)


def test_a_history_without_a_run_is_refused(trained: Trained) -> None:
    with pytest.raises(ValidationImpossible, match="no finished run"):
        trained.validate(training_history=TrainingHistory())


def test_a_plan_that_was_edited_is_refused(trained: Trained) -> None:
    assert trained.history.run is not None
    plan = {**trained.history.run.plan, "steps": 1}
    trained.history.run = replace(trained.history.run, plan=plan)

    with pytest.raises(ValidationImpossible, match="cannot be read"):
        trained.validate()


@pytest.mark.parametrize("method", ["empirical", "both"])
def test_without_an_audit_nothing_empirical_is_said(trained: Trained, method: str) -> None:
    with pytest.raises(AuditMissing, match="audit_canaries"):
        trained.validate(validation_method=method)


def test_an_unknown_method_is_refused(trained: Trained) -> None:
    with pytest.raises(InvalidParameter, match="mathematical_proof"):
        trained.validate(validation_method="trust")


@pytest.mark.parametrize(
    ("guesses", "correct", "is_verified", "said"),
    [
        (200, 180, True, None),
        (1000, 1000, False, "refutes the promise"),
        (8, 8, False, "too small to refute"),
    ],
)
def test_an_audit_can_refute_and_never_prove(
    trained: Trained, guesses: int, correct: int, is_verified: bool, said: str | None
) -> None:
    cost = trained.result.privacy_spent.epsilon
    findings = [
        a_finding(correct, guesses=guesses, theory=cost, delta=1e-4, is_gaussian=is_gaussian)
        for is_gaussian in (False, True)
    ]
    trained.history.audit = {"findings": [written(finding) for finding in findings]}
    for method in ("empirical", "both"):
        found = trained.validate(validation_method=method)

        assert found.guarantee_verified is is_verified, found.faults
        # That of Gaussian shape is larger, and no bound on epsilon without that shape.
        assert found.empirical_epsilon_bound == findings[0].bound.epsilon
        assert findings[0].bound.epsilon <= findings[1].bound.epsilon
        assert said is None or any(said in fault for fault in found.faults), found.faults


def test_an_audit_whose_verdict_was_edited_is_named(trained: Trained) -> None:
    cost = trained.result.privacy_spent.epsilon
    audit = written(a_finding(1000, guesses=1000, theory=cost, delta=1e-4, is_gaussian=True))
    trained.history.audit = {"findings": [audit | {"verdict": "consistent"}]}

    assert any("does not follow" in f for f in trained.validate(validation_method="both").faults)
