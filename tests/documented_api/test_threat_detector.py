"""`ThreatDetector` as the requirement documents write it."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from privacy_finetuner import ThreatDetector, ThreatType

DOCUMENTED = ["alert_threshold", "monitoring_interval", "enable_automated_response", "threat_types"]


@pytest.fixture(autouse=True)
def _own_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_constructor_takes_what_is_documented() -> None:
    parameters = inspect.signature(ThreatDetector).parameters

    assert list(parameters)[:4] == DOCUMENTED
    assert [parameters[name].default for name in DOCUMENTED] == [0.7, 1.0, True, None]
    detector = ThreatDetector(
        alert_threshold=0.8,
        monitoring_interval=0.5,
        enable_automated_response=True,
        threat_types=[
            ThreatType.PRIVACY_BUDGET_EXHAUSTION,
            ThreatType.MODEL_INVERSION,
            ThreatType.DATA_POISONING,
        ],
    )
    assert len(detector.threat_types) == 3


def test_the_documented_loop_runs() -> None:
    detector = ThreatDetector()
    metrics = {
        "privacy_epsilon_used": 1.8,
        "privacy_epsilon_total": 2.0,
        "gradient_l2_norm": 15.2,
        "current_loss": 4.8,
        "accuracy": 0.45,
    }

    alerts = detector.detect_threat(metrics)
    for alert in alerts:
        print(f"Threat: {alert.threat_type.value}")  # noqa: T201  as documented
        print(f"Severity: {alert.threat_level.value}")  # noqa: T201
        print(f"Actions: {alert.recommended_actions}")  # noqa: T201
    assert len(alerts) == 2
    assert detector.get_security_summary()["total_threats_detected"] == 2


def test_the_pipelines_monitoring_starts_and_stops() -> None:
    detector = ThreatDetector(alert_threshold=0.8, enable_automated_response=True)
    detector.start_monitoring()
    try:
        assert detector.get_security_summary()["monitoring_active"]
    finally:
        detector.stop_monitoring()
    assert not detector.get_security_summary()["monitoring_active"]
