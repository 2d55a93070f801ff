"""`ThreatDetector`: what it says, what it refuses to look at, whom it tells, and what it does."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privacy_core.errors import InvalidParameter
from privacy_finetuner import ThreatDetector, ThreatType
from privacy_finetuner.operations.errors import PrivateFigure, SourceSetAside
from privacy_finetuner.operations.responses import ANSWERED
from privacy_finetuner.operations.trail import STREAM
from privacy_runtime.journal import Journal
from privacy_runtime.testing import ManualClock, MemoryHome

DOCUMENTED = {
    "privacy_epsilon_used": 1.8,
    "privacy_epsilon_total": 2.0,
    "gradient_l2_norm": 15.2,
    "current_loss": 4.8,
    "accuracy": 0.45,
}


@pytest.fixture
def journal() -> Iterator[Journal]:
    made = Journal(MemoryHome(), clock=ManualClock())
    yield made
    made.close()


@pytest.fixture
def detector(journal: Journal) -> Iterator[ThreatDetector]:
    made = ThreatDetector(monitoring_interval=0.05, journal=journal)
    yield made
    made.stop_monitoring()


def answers(journal: Journal) -> list[dict[str, Any]]:
    return [entry.body for entry in journal.read(STREAM) if entry.type == ANSWERED]


def test_the_documented_example_gives_sensible_alerts(detector: ThreatDetector) -> None:
    alerts = detector.detect_threat(DOCUMENTED)

    assert {(each.threat_type.value, each.threat_level.value) for each in alerts} == {
        ("privacy_budget_exhaustion", "high"),
        ("data_poisoning", "high"),
    }
    assert all(each.recommended_actions for each in alerts)
    assert not any(
        "noise" in act and "raise" in act for a in alerts for act in a.recommended_actions
    )


@pytest.mark.parametrize(
    "name", ["per_example_losses", "batch_loss", "raw_gradient_norm", "sample_loss", "logits"]
)
def test_a_figure_that_was_never_released_is_refused(detector: ThreatDetector, name: str) -> None:
    with pytest.raises(PrivateFigure, match="Nothing was judged"):
        detector.detect_threat({**DOCUMENTED, name: 0.5})

    assert detector.get_security_summary().total_threats_detected == 0


def test_a_list_of_figures_is_refused_whatever_it_is_called(detector: ThreatDetector) -> None:
    with pytest.raises(PrivateFigure):
        detector.detect_threat({"accuracy": np.ones(3)})  # type: ignore[dict-item]  # the test


def test_a_figure_that_no_rule_knows_is_named_and_not_looked_at(detector: ThreatDetector) -> None:
    assert detector.detect_threat({"moon_phase": 0.5}) == []

    assert detector.get_security_summary().ignored_figures == ("moon_phase",)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_figure_that_is_no_amount_is_refused(detector: ThreatDetector, value: float) -> None:
    with pytest.raises(InvalidParameter):
        detector.detect_threat({"privacy_epsilon_used": value})


@pytest.mark.parametrize(
    ("used", "level"), [(1.5, None), (1.6, "medium"), (1.8, "high"), (2.0, "critical")]
)
def test_the_level_follows_the_share_of_the_budget(
    detector: ThreatDetector, used: float, level: str | None
) -> None:
    found = detector.detect_threat({"privacy_epsilon_used": used, "privacy_epsilon_total": 2.0})

    assert [each.threat_level.value for each in found] == ([] if level is None else [level])


def test_an_alert_grows_and_is_told_again_only_then(detector: ThreatDetector) -> None:
    told: list[str] = []
    budget = ThreatType.PRIVACY_BUDGET_EXHAUSTION
    detector.register_alert_handler(budget, lambda alert: told.append(alert.threat_level.value))
    for used in (1.6, 1.6, 1.8, 1.8, 2.0):
        detector.detect_threat({"privacy_epsilon_used": used, "privacy_epsilon_total": 2.0})

    assert told == ["medium", "high", "critical"]


def test_a_handler_that_raises_stops_nobody(detector: ThreatDetector) -> None:
    told: list[str] = []

    def broken(_: object) -> None:
        raise RuntimeError

    for handler in (broken, lambda alert: told.append(alert.rule), broken):
        detector.register_alert_handler(ThreatType.DATA_POISONING, handler)
    detector.detect_threat(DOCUMENTED)

    assert told == ["gradient_bound"]
    assert detector.get_security_summary()["failed_handlers"] == 2


def test_only_the_types_that_are_asked_for_are_watched_for(journal: Journal) -> None:
    detector = ThreatDetector(threat_types=[ThreatType.DATA_POISONING], journal=journal)

    assert [each.rule for each in detector.detect_threat(DOCUMENTED)] == ["gradient_bound"]


def test_the_threshold_is_compared_with_the_confidence(journal: Journal) -> None:
    updates = {f"s{n}": 1.0 * np.eye(8)[n] for n in range(8)}
    updates["s3"] *= 3.2
    anything = ThreatDetector(alert_threshold=0, journal=journal)
    (alert,) = anything.detect_threat({}, {"updates": updates})
    above = ThreatDetector(alert_threshold=min(1.0, alert.confidence + 1e-6), journal=journal)

    assert 0.5 < alert.confidence < 1
    assert alert.evidence[0]["silo"] == "s3"
    assert above.detect_threat({}, {"updates": updates}) == []


@pytest.mark.parametrize("wrong", [{"alert_threshold": 1.1}, {"monitoring_interval": 0}])
def test_numbers_outside_their_domain_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidParameter):
        ThreatDetector(**wrong)  # type: ignore[arg-type]  # the test


def test_every_response_is_journaled_once(detector: ThreatDetector, journal: Journal) -> None:
    for _ in range(3):
        alerts = detector.detect_threat(DOCUMENTED)
    found = answers(journal)

    assert {(each["rule"], each["act"], each["outcome"]) for each in found} == {
        ("run_budget", "new_plan", "impossible"),
        ("gradient_bound", "halt", "done"),
        ("gradient_bound", "new_plan", "impossible"),
    }
    assert len(found) == 3
    assert detector.is_halted()
    assert alerts[0].responses


def test_without_automated_response_it_says_what_it_would_have_done(journal: Journal) -> None:
    detector = ThreatDetector(enable_automated_response=False, journal=journal)
    alerts = detector.detect_threat(DOCUMENTED)
    (halt,) = [r for a in alerts for r in a.responses if r["act"] == "halt"]

    assert halt["outcome"] == "would_have"
    assert not detector.is_halted()
    assert {each["outcome"] for each in answers(journal)} == {"would_have", "impossible"}


def test_more_noise_is_proposed_as_a_new_plan_and_nothing_is_changed(
    detector: ThreatDetector,
) -> None:
    plan = {"sample_rate": 0.01, "steps": 100, "delta": 1e-5}
    (alert,) = detector.detect_threat(
        {"privacy_epsilon_used": 1.8, "privacy_epsilon_total": 2.0}, {"plan": plan}
    )
    (proposal,) = alert.responses

    assert proposal["outcome"] == "done"
    assert proposal["says"].startswith("proposed, not begun: a new plan of 100 steps")
    assert "epsilon 0.2 with noise multiplier" in proposal["says"]


def test_a_source_that_changed_is_set_aside_until_somebody_releases_it(
    detector: ThreatDetector, tmp_path: Path
) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text('{"text": "a"}\n')
    assert detector.detect_threat({}, {"dataset": path, "source": "notes"}) == []
    path.write_text('{"text": "b"}\n')
    (alert,) = detector.detect_threat({}, {"dataset": path, "source": "notes"})

    assert alert.rule == "source_changed"
    (tmp_path / "renamed.jsonl").write_bytes(path.read_bytes())
    for name in ("notes.jsonl", "renamed.jsonl"):
        with pytest.raises(SourceSetAside):
            detector.require_free(tmp_path / name)
    detector.quarantine.release("local", alert.about["sha256"], by="u_1", reason="it was meant")
    detector.require_free(path)


def test_the_thread_sees_what_it_watches(detector: ThreatDetector, tmp_path: Path) -> None:
    path, seen = tmp_path / "notes.jsonl", threading.Event()
    path.write_text("one\n")
    detector.watch_source(path)
    detector.register_alert_handler(ThreatType.DATA_POISONING, lambda _: seen.set())
    for _ in range(3):
        detector.start_monitoring()
    assert sum(t.name == "threat-detector" for t in threading.enumerate()) == 1
    assert detector.get_security_summary().monitoring_active
    path.write_text("two\n")

    assert seen.wait(20)
    detector.stop_monitoring()
    detector.stop_monitoring()
    summary = detector.get_security_summary()
    assert not summary.monitoring_active
    assert summary["total_threats_detected"] == 1
    assert dict(summary)["threats_by_type"] == {"data_poisoning": 1}


def test_a_source_that_went_away_does_not_end_the_thread(
    detector: ThreatDetector, tmp_path: Path
) -> None:
    path, seen = tmp_path / "notes.jsonl", threading.Event()
    path.write_text("one\n")
    detector.watch_source(path)
    path.unlink()
    detector.register_alert_handler(ThreatType.DATA_POISONING, lambda _: seen.set())
    detector.start_monitoring()
    path.write_text("two\n")

    assert seen.wait(20)


def test_a_program_ends_although_it_forgot_to_stop(tmp_path: Path) -> None:
    program = (
        "from privacy_finetuner import ThreatDetector; d = ThreatDetector(); d.start_monitoring();"
        "print(d.get_security_summary()['monitoring_active'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        check=True,
    )

    assert done.stdout.strip() == "True"


def test_names_of_the_documents_lead_to_one_type() -> None:
    from privacy_finetuner import AttackSimulationResult, SecuritySummary, ThreatAlert
    from privacy_finetuner.operations.alerts import Alert

    assert ThreatAlert is Alert
    assert len(ThreatType) == 8
    assert "total_threats_detected" in SecuritySummary.__annotations__
    assert "detected" in AttackSimulationResult.__annotations__
