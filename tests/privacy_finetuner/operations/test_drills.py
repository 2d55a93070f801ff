"""Attacks that are really carried out: seen or not, answered, and nothing is left of them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from privacy_core.errors import InvalidParameter
from privacy_finetuner.operations import drills
from privacy_finetuner.operations.alerts import ThreatType
from privacy_finetuner.operations.drills import ATTACKS, AttackSimulationResult, Settings, ordinary
from privacy_finetuner.operations.drills.sandbox import opened
from privacy_finetuner.operations.threats import ThreatDetector
from privacy_runtime.testing import SeededEntropy
from privacy_runtime.world import SystemClock

QUICK = [name for name, attack in ATTACKS.items() if attack.is_quick]
CALM = {
    "accuracy": 0.9,
    "accuracy_std": 0.06,
    "epsilon": 8.0,
    "mean_gradient_norm": 0.9,
    "mean_gradient_norm_std": 0.05,
    "clip_norm": 1.0,
}
EFFECTS: dict[str, dict[str, Any]] = {
    "data_poisoning": {"a_later_run_is_refused_with": "source_set_aside"},
    "gradient_outlier": {"round_is_halted": True},
    "brute_force": {"owner_can_log_in_a_day_later": True},
    "checkpoint_tampering": {"run_is_halted": True},
    "unauthorized_access": {"requests_a_minute_afterwards": 6, "token_is_revoked": True},
}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary folders are made here, and counted."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def drill(name: str, seed: int, intensity: float = 1.0, **changes: Any) -> AttackSimulationResult:
    entropy = SeededEntropy(seed)
    settings = Settings(**changes)
    return drills.carry_out(name, intensity, settings, clock=SystemClock(), entropy=entropy)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", QUICK)
def test_an_attack_is_seen_answered_and_gone(name: str, seed: int, place: Path) -> None:
    found = drill(name, seed)

    assert found.detected
    assert found.rule in ATTACKS[name].rules
    assert found.delay_s is not None
    assert found.acts_until_detected is not None
    assert found.evidence
    assert EFFECTS.get(name, {}).items() <= found.effects.items()
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("seed", [1, 2])
def test_an_ordinary_week_raises_no_alarm(seed: int, place: Path) -> None:
    with opened(Settings(), SeededEntropy(100 + seed)) as sandbox:
        alarms = ordinary.week(sandbox, CALM, [CALM, CALM])

    assert [alarm.rule for alarm in alarms] == []
    assert list(place.iterdir()) == []


def test_what_is_not_watched_for_is_not_seen_and_not_answered() -> None:
    found = drill("data_poisoning", 1, threat_types=frozenset({ThreatType.TAMPERING}))

    assert (found.detected, found.delay_s, found.responses) == (False, None, ())
    assert found.effects["a_later_run_is_refused_with"] is None


def test_with_responses_off_nothing_is_changed() -> None:
    found = drill("unauthorized_access", 1, is_answering=False)

    assert {each["outcome"] for each in found.responses} == {"would_have"}
    assert found.effects == {"requests_a_minute_afterwards": None, "token_is_revoked": False}


def test_a_weak_attack_may_go_unseen_and_the_result_says_so() -> None:
    found = drill("unauthorized_access", 1, 0.05)

    assert (found.detected, found.acts, found.acts_until_detected) == (False, 2, None)


def test_the_detector_uses_its_own_threshold_and_types() -> None:
    detector = ThreatDetector(threat_types=[ThreatType.TAMPERING])

    assert detector.simulate_attack("tampering").rule == "sealed_state"
    assert not detector.simulate_attack("data_poisoning").detected
    assert detector.get_security_summary().total_threats_detected == 0


@pytest.mark.parametrize(("name", "intensity"), [("nonsense", 0.5), ("brute_force", 0.0)])
def test_what_cannot_be_carried_out_is_refused(name: str, intensity: float) -> None:
    with pytest.raises(InvalidParameter):
        drill(name, 1, intensity)


@pytest.mark.slow
@pytest.mark.parametrize("name", [each for each in ATTACKS if each not in QUICK])
def test_an_attack_on_a_model_is_seen(name: str, place: Path) -> None:
    found = drill(name, 1)

    assert found.detected
    assert list(place.iterdir()) == []
