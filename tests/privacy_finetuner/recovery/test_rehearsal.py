"""Faults that are injected for real, in processes of their own."""

from __future__ import annotations

import pytest

from privacy_finetuner.recovery import FailureRecoverySystem, FailureType, TestResults

QUICK = [FailureType.PROCESS_CRASH, FailureType.NON_FINITE]


def require_healed(results: TestResults) -> None:
    assert [t for t in results.trials if not t.healed] == []
    assert results.passed
    for trial in results.trials:
        assert trial.epsilon_difference == 0.0
        assert trial.detected_s is not None
        assert trial.recovered_s is not None


@pytest.mark.slow
def test_two_faults_are_injected_and_healed(make_system: type[FailureRecoverySystem]) -> None:
    results = make_system().test_recovery_system(QUICK)

    require_healed(results)
    assert [t.fault for t in results.trials] == QUICK
    assert results.trials[0].lost_steps > 0


@pytest.mark.slow
def test_all_six_faults_are_injected_and_healed(make_system: type[FailureRecoverySystem]) -> None:
    results = make_system().test_recovery_system()

    require_healed(results)
    assert [t.fault for t in results.trials] == list(FailureType)
    assert results.duration_s <= 60
