"""`FailureRecoverySystem` as the requirement documents show it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def documented(name: str) -> list[tuple[str, Any]]:
    from privacy_finetuner import FailureRecoverySystem

    parameters = inspect.signature(getattr(FailureRecoverySystem, name)).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD,)
    return [(p.name, p.default) for p in parameters if p.kind in kinds and p.name != "self"]


def test_the_signatures_are_the_documented_ones() -> None:
    empty = inspect.Parameter.empty

    assert documented("__init__") == [
        ("checkpoint_dir", "recovery_checkpoints"),
        ("max_recovery_attempts", 3),
        ("auto_recovery_enabled", True),
        ("privacy_threshold", 0.9),
    ]
    assert documented("create_recovery_point") == [
        ("epoch", empty),
        ("step", empty),
        ("model_state", empty),
        ("optimizer_state", empty),
        ("privacy_state", empty),
        ("training_metrics", None),
        ("system_state", None),
    ]
    assert documented("handle_failure") == [
        ("failure_type", empty),
        ("description", empty),
        ("affected_components", empty),
        ("metadata", None),
    ]
    assert documented("get_recovery_statistics") == []


def test_the_documented_examples_run() -> None:
    from privacy_finetuner import FailureRecoverySystem, FailureType

    recovery_system = FailureRecoverySystem(
        checkpoint_dir="./recovery",
        max_recovery_attempts=5,
        auto_recovery_enabled=True,
        privacy_threshold=0.8,
    )
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recovery_id = recovery_system.create_recovery_point(
        epoch=3,
        step=1500,
        model_state=model.state_dict(),
        optimizer_state=optimizer.state_dict(),
        privacy_state={"epsilon_spent": 0.7, "epsilon_total": 2.0, "delta": 1e-5},
    )
    success = recovery_system.handle_failure(
        failure_type=FailureType.GPU_MEMORY_ERROR,
        description="Out of GPU memory during batch processing",
        affected_components=["gpu", "trainer"],
        metadata={"batch_size": 32, "model_size": "7B"},
    )

    assert recovery_id == "run/000001"
    assert success is True
    assert recovery_system.recoveries[-1].changes.micro_batch == 16
    assert recovery_system.get_recovery_statistics().successful_recoveries == 1


def test_there_are_six_failures() -> None:
    from privacy_finetuner import FailureType

    assert len(FailureType) == 6
