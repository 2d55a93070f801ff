"""Gates open for a sound system and shut for each thing that is broken in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from privacy_core.accounting import epsilon_of
from privacy_finetuner import PrivacyConfig, PrivateTrainer
from privacy_finetuner.assessment import quality_checks
from privacy_finetuner.assessment.quality import (
    Check,
    CheckFailed,
    CheckResult,
    Outcome,
    SuiteResults,
    System,
    TestConfiguration,
    TestOrchestrator,
    TestResults,
)
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.training.engine.clipping import Clip
from privacy_runtime.testing import ManualClock, SeededEntropy
from privacy_runtime.world import SystemClock

PRIVACY = PrivacyConfig(epsilon=4.0, delta=1e-3)
RECORDS = [{"text": f"note {i}: " + "ab" * (i % 5)} for i in range(32)]
LOOSE: dict[str, Any] = {"most_time_ratio": 1e3}


@pytest.fixture(scope="module")
def finished(
    llama_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PrivateTrainer, Path]:
    folder = tmp_path_factory.mktemp("run")
    trainer = PrivateTrainer(str(llama_folder), PRIVACY, "cpu", enable_context_guard=False)
    trainer.train(RECORDS, epochs=1, batch_size=8, output_dir=str(folder))
    return trainer, folder


def system_of(trainer: PrivateTrainer, folder: Path | None = None, **options: Any) -> System:
    configuration = TestConfiguration(run_folder=folder, **(LOOSE | options))
    return System(trainer, configuration, SystemClock(), SeededEntropy(7))


@pytest.mark.parametrize("mode", ["parallel", "sequential"])
def test_a_sound_run_passes_every_check(finished: tuple[PrivateTrainer, Path], mode: str) -> None:
    trainer, folder = finished
    orchestrator = TestOrchestrator(execution_mode=mode, entropy=SeededEntropy(3))

    results = orchestrator.run_all_tests(trainer, TestConfiguration(run_folder=folder, **LOOSE))

    assert {c.name: c.reason for c in results.checks if c.outcome is not Outcome.PASSED} == {}
    assert results.overall_quality_score == 1.0
    assert results.meets_threshold


def test_looking_costs_the_records_nothing_and_changes_no_weight(
    finished: tuple[PrivateTrainer, Path],
) -> None:
    trainer, folder = finished
    before = trainer.get_privacy_report().lifetime_spent
    weights = (folder / "model.safetensors").read_bytes()

    TestOrchestrator(["privacy_tests", "integration_tests"]).run_all_tests(trainer)

    assert trainer.get_privacy_report().lifetime_spent == before
    assert (folder / "model.safetensors").read_bytes() == weights


def test_the_files_of_the_trainers_own_run_are_looked_at(
    finished: tuple[PrivateTrainer, Path],
) -> None:
    """As the documents call it: no folder is named."""
    results = TestOrchestrator(["security_tests"]).run_all_tests(target_system=finished[0])

    assert {check.outcome for check in results.checks} == {Outcome.PASSED}, results.checks


def test_a_suite_alone_looks_at_the_system_that_was_tested_last(
    finished: tuple[PrivateTrainer, Path],
) -> None:
    orchestrator = TestOrchestrator(["security_tests"])
    with pytest.raises(ConfigurationError, match="nothing to look at"):
        orchestrator.run_specific_suite("security_tests")

    orchestrator.run_all_tests(finished[0])
    found = orchestrator.run_specific_suite("security_tests")

    assert found.suite == "security_tests"


def test_a_trainer_that_ran_nothing_has_nothing_to_check(llama_folder: Path) -> None:
    trainer = PrivateTrainer(str(llama_folder), PRIVACY, "cpu")

    found = TestOrchestrator().run_specific_suite("security_tests", target_system=trainer)

    skipped = {c.name for c in found.checks if c.outcome is Outcome.NOT_RUN}
    assert skipped == {c.name for c in found.checks} - {"errors_hold_no_text"}
    assert found.score == 1.0


def test_a_report_that_understates_its_price_is_caught(
    finished: tuple[PrivateTrainer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, _ = finished
    report = trainer.get_privacy_report()
    assert report.theoretical_guarantees is not None
    lower = replace(
        report.theoretical_guarantees, epsilon=report.theoretical_guarantees.epsilon / 2
    )
    lying = replace(report, theoretical_guarantees=lower)
    monkeypatch.setattr(type(trainer), "get_privacy_report", lambda _: lying)

    with pytest.raises(CheckFailed, match="the report says"):
        quality_checks.price_by_two_accountants(system_of(trainer))


def test_two_accountants_that_contradict_each_other_are_caught(
    finished: tuple[PrivateTrainer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(event: Any, delta: float, accountant: str, **rest: Any) -> float:
        price = epsilon_of(event, delta, accountant, **rest)
        return price / 10 if accountant == "rdp" else price

    monkeypatch.setattr(quality_checks, "epsilon_of", wrong)
    trainer = finished[0]
    with pytest.raises(CheckFailed):
        quality_checks.price_by_two_accountants(system_of(trainer))


def test_half_of_the_noise_is_caught(
    finished: tuple[PrivateTrainer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = quality_checks.GaussianNoise.standard_normal
    monkeypatch.setattr(
        quality_checks.GaussianNoise, "standard_normal", lambda s, n: honest(s, n) / 2
    )
    with pytest.raises(CheckFailed, match="variance"):
        quality_checks.noise_has_the_planned_spread(system_of(finished[0]))


def test_a_sampler_that_favours_an_example_is_caught(
    finished: tuple[PrivateTrainer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Biased(quality_checks.PoissonSampler):
        def draw(self) -> Any:
            import numpy as np

            return np.union1d(super().draw(), [0])

    monkeypatch.setattr(quality_checks, "PoissonSampler", Biased)
    with pytest.raises(CheckFailed, match="were drawn"):
        quality_checks.batches_are_poisson(system_of(finished[0]))


def test_clipping_that_is_off_is_caught(
    finished: tuple[PrivateTrainer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Clip, "factors", lambda _, norms_B: torch.ones_like(norms_B))
    with pytest.raises(CheckFailed, match="bounds"):
        quality_checks.one_example_stays_within_the_bound(system_of(finished[0]))


def test_a_changed_weight_file_is_caught(
    finished: tuple[PrivateTrainer, Path], tmp_path: Path
) -> None:
    trainer, folder = finished
    for path in folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = bytearray((tmp_path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(bytes(weights))

    with pytest.raises(CheckFailed, match="changed after the run"):
        quality_checks.the_run_is_what_it_states(system_of(trainer, tmp_path))
    (tmp_path / "extra.bin").write_bytes(b"")
    with pytest.raises(CheckFailed, match=r"extra\.bin"):
        quality_checks.weights_are_data_alone(system_of(trainer, tmp_path))
    secret = tmp_path / "signing.key"
    secret.write_bytes(b"k")
    secret.chmod(0o644)
    with pytest.raises(CheckFailed, match=r"signing\.key"):
        quality_checks.secrets_are_their_owners(system_of(trainer, tmp_path))


def test_a_check_that_breaks_counts_as_failed_and_hides_what_it_saw(llama_folder: Path) -> None:
    def breaks(system: System) -> str:
        raise ValueError("a patient's name")

    orchestrator = TestOrchestrator(["privacy_tests"])
    system = system_of(PrivateTrainer(str(llama_folder), PRIVACY, "cpu"))
    found = orchestrator._checked(system, Check("breaks", "breaks", breaks), until=1e18)

    assert found.outcome is Outcome.BROKEN
    assert found.reason == "ended with ValueError"


def test_no_check_begins_when_the_time_is_over(llama_folder: Path) -> None:
    trainer = PrivateTrainer(str(llama_folder), PRIVACY, "cpu")
    clock = ManualClock()
    orchestrator = TestOrchestrator(clock=clock)
    check = Check("slow", "slow", lambda _: "done")

    found = orchestrator._checked(system_of(trainer), check, until=clock.monotonic_s())

    assert found.outcome is Outcome.NOT_RUN


def results(*outcomes: tuple[str, Outcome]) -> TestResults:
    return TestResults(
        tuple(
            SuiteResults(suite, (CheckResult("c", "about", outcome, "because", 0.0),))
            for suite, outcome in outcomes
        ),
        quality_threshold=0.5,
    )


def test_a_failed_privacy_check_shuts_the_gate_whatever_the_score(tmp_path: Path) -> None:
    found = results(
        ("privacy_tests", Outcome.FAILED),
        ("security_tests", Outcome.PASSED),
        ("performance_tests", Outcome.PASSED),
        ("integration_tests", Outcome.NOT_RUN),
    )

    assert found.overall_quality_score == pytest.approx(2 / 3)
    assert not found.meets_threshold
    report = TestOrchestrator(clock=ManualClock()).generate_quality_report(found)
    data, page = report.write(tmp_path)
    assert json.loads(data.read_text())["meets_threshold"] is False
    assert "Gate NOT passed" in page.read_text()
    assert "nothing ran" in page.read_text()


def test_nothing_that_ran_is_no_pass() -> None:
    assert not results(("security_tests", Outcome.NOT_RUN)).meets_threshold


@pytest.mark.parametrize(
    "options",
    [
        {"test_suites": ["beauty_tests"]},
        {"test_suites": []},
        {"execution_mode": "both"},
        {"quality_threshold": 1.5},
    ],
)
def test_unknown_names_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        TestOrchestrator(**options)


def test_a_system_that_is_no_trainer_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected a PrivateTrainer"):
        TestOrchestrator().run_all_tests(object())
    with pytest.raises(TypeError):
        TestOrchestrator().run_specific_suite("privacy_tests", target_system=None, sample=3)
