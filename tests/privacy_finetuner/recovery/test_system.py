"""The system with loops of the caller's own: points, strategies, figures."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from privacy_core.errors import InvalidParameter
from privacy_finetuner.config import PrivacyConfig, TrainingConfig
from privacy_finetuner.recovery import (
    FailureRecoverySystem,
    FailureType,
    NoVerifiedPoint,
    RecoveryGivenUp,
    RecoveryRefused,
    Sealing,
    UnknownPoint,
)
from privacy_finetuner.recovery.history import Outcome
from privacy_finetuner.recovery.states import decoded, encoded
from privacy_finetuner.recovery.strategies import STRATEGIES, WAITS_S, Action, wait_s
from privacy_finetuner.training.plan import make_plan
from privacy_runtime.testing import SeededEntropy

MakeSystem = Callable[..., FailureRecoverySystem]
PLAN = make_plan(
    PrivacyConfig(epsilon=4.0, delta=1e-3), TrainingConfig(epochs=10, batch_size=8), examples=32
)
SPENT = {"epsilon_spent": 0.7, "epsilon_total": 2.0, "delta": 1e-5}


def states() -> tuple[dict[str, Any], dict[str, Any]]:
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    return model.state_dict(), optimizer.state_dict()


def keep(system: FailureRecoverySystem, step: int = 100, **options: Any) -> str:
    model, optimizer = states()
    return system.create_recovery_point(
        epoch=1, step=step, model_state=model, optimizer_state=optimizer,
        **{"privacy_state": SPENT, **options},
    )  # fmt: skip


def spoil(folder: Path, number: int, name: str) -> None:
    path = next((folder / "points" / "run" / f"{number:06}").glob(f"{name}*"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and all(map(equal, one, other))
    return bool(one == other)


@pytest.mark.parametrize("is_sealed", [False, True])
def test_what_is_kept_comes_back(
    make_system: MakeSystem, sealing: Sealing, is_sealed: bool
) -> None:
    system = make_system(sealing=sealing if is_sealed else None)
    model, optimizer = states()
    point = system.create_recovery_point(
        3, 1500, model, optimizer, SPENT,
        training_metrics={"loss": 2.5, "epsilon": 0.7},
        system_state={"machine": "a"},
        released_metrics=["epsilon"],
    )  # fmt: skip
    found = system.load_recovery_point(point)

    assert equal(found.model_state, dict(model))
    assert equal(found.optimizer_state, optimizer)
    assert (found.epoch, found.step, found.privacy_state) == (3, 1500, SPENT)
    assert found.released_metrics == {"epsilon": 0.7}
    assert found.outside_guarantee == ({"loss": 2.5} if is_sealed else {})
    assert system.points[-1].is_sealed is is_sealed
    assert system.get_recovery_statistics().points_are_sealed is is_sealed


def test_a_sealed_point_shows_nothing_on_the_disk(
    make_system: MakeSystem, sealing: Sealing, tmp_path: Path
) -> None:
    system = make_system(sealing=sealing)
    keep(system, system_state={"note": "PLANTED-WORD"})

    files = [p for p in (tmp_path / "recovery").rglob("*") if p.is_file()]
    assert files
    assert not any(b"PLANTED-WORD" in path.read_bytes() for path in files)


def test_points_follow_each_other_and_only_the_newest_stay(make_system: MakeSystem) -> None:
    system = make_system(keep_points=2)
    for step in (10, 20, 30):
        keep(system, step)

    first, second = system.points
    assert [first.step, second.step] == [20, 30]
    assert second.parent == first.digest


@pytest.mark.parametrize("is_sealed", [False, True])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.json", "point.json", "manifest"])
def test_a_flipped_bit_is_found_and_the_point_before_is_used(
    make_system: MakeSystem, sealing: Sealing, tmp_path: Path, is_sealed: bool, name: str
) -> None:
    system = make_system(sealing=sealing if is_sealed else None)
    keep(system, 10)
    keep(system, 20)
    spoil(tmp_path / "recovery", 2, name)

    recovery = system.recover(FailureType.CORRUPT_CHECKPOINT, "", ["storage"])
    assert (recovery.step, recovery.point) == (10, "run/000001")
    assert (tmp_path / "recovery" / "aside" / "run-000002").is_dir()
    assert recovery.done == (Action.SET_ASIDE, Action.RETURN)


def test_a_damaged_point_is_read_from_its_copy(
    make_system: MakeSystem, sealing: Sealing, tmp_path: Path
) -> None:
    system = make_system(sealing=sealing, replicas=[tmp_path / "copies", "memory://recovery"])
    point = keep(system, 10)
    spoil(tmp_path / "recovery", 1, "model.safetensors")

    assert system.points[0].id == point
    assert system.load_recovery_point(point).step == 10
    assert system.handle_failure(FailureType.PROCESS_CRASH, "", [])


def test_a_newest_point_that_was_taken_away_is_noticed_where_points_are_sealed(
    make_system: MakeSystem, sealing: Sealing, tmp_path: Path
) -> None:
    system = make_system(sealing=sealing)
    keep(system, 10)
    keep(system, 20)
    shutil.rmtree(tmp_path / "recovery" / "points" / "run" / "000002")
    recovery = system.recover(FailureType.PROCESS_CRASH, "", [])

    assert recovery.step == 10
    assert "number 2, is gone" in recovery.reason


def test_nothing_that_is_whole_is_said_so(make_system: MakeSystem, tmp_path: Path) -> None:
    system = make_system()
    point = keep(system)
    spoil(tmp_path / "recovery", 1, "model.safetensors")

    with pytest.raises(NoVerifiedPoint):
        system.recover(FailureType.PROCESS_CRASH, "", [])
    with pytest.raises(UnknownPoint):
        system.load_recovery_point(point)
    assert system.recoveries[-1].outcome is Outcome.FAILED


def test_a_micro_batch_is_halved_until_it_is_one_example_then_activations_go(
    make_system: MakeSystem,
) -> None:
    system = make_system(max_recovery_attempts=9)
    keep(system)
    failed = FailureType.GPU_MEMORY_ERROR
    found = [system.recover(failed, "", ["gpu"], {"batch_size": 4}).changes for _ in range(3)]

    assert [c.micro_batch for c in found] == [2, 1, 1]
    assert [c.recompute_activations for c in found] == [False, False, True]
    with pytest.raises(RecoveryGivenUp, match="one example"):
        system.recover(failed, "", ["gpu"])


def test_attempts_without_progress_are_bounded_and_progress_resets_them(
    make_system: MakeSystem, waits: list[float]
) -> None:
    system = make_system(max_recovery_attempts=2)
    keep(system)
    crashes = [system.handle_failure(FailureType.PROCESS_CRASH, "", []) for _ in range(3)]
    keep(system, 200)

    assert crashes == [True, True, False]
    assert system.handle_failure(FailureType.PROCESS_CRASH, "", [])
    assert len(waits) == 3
    statistics = system.get_recovery_statistics()
    assert statistics.total_failures == 4
    assert statistics.success_rate == 0.75
    assert statistics.failures_by_type == {FailureType.PROCESS_CRASH: 4}


def test_waits_are_one_five_and_twenty_five_seconds_less_up_to_half() -> None:
    entropy = SeededEntropy(1)
    for attempt, most in enumerate((*WAITS_S, WAITS_S[-1]), start=1):
        found = [wait_s(attempt, entropy) for _ in range(200)]
        assert most / 2 <= min(found)
        assert max(found) <= most


def test_a_recovery_that_does_not_fit_is_refused_with_the_number(make_system: MakeSystem) -> None:
    system = make_system(privacy_threshold=0.9)
    privacy = {"epsilon_total": 4.0, "plan": PLAN.to_json(), "charged_steps": 24}
    keep(system, 16, privacy_state=privacy)
    whole = PLAN.epsilon(PLAN.steps + 8)

    with pytest.raises(RecoveryRefused) as caught:
        system.recover(FailureType.PROCESS_CRASH, "", [])
    assert caught.value.epsilon_needed == whole
    assert f"{whole:.6g} of 4" in str(caught.value)
    assert not system.handle_failure(FailureType.PROCESS_CRASH, "", [])
    assert system.get_recovery_statistics().refused_by_budget == 2
    passing = {"repeat_lost_steps": False}
    assert system.handle_failure(FailureType.NON_FINITE, "", [], {**passing, "learning_rate": 0.1})


def test_most_of_a_budget_spent_is_refused_where_nothing_more_is_known(
    make_system: MakeSystem,
) -> None:
    system = make_system(privacy_threshold=0.8)
    keep(system)

    assert system.handle_failure(FailureType.PROCESS_CRASH, "", [])
    assert not system.recoveries[-1].outlook.is_priced  # type: ignore[union-attr]
    assert not system.handle_failure(FailureType.PROCESS_CRASH, "", [], {"epsilon_spent": 1.61})


def test_no_strategy_touches_the_plan() -> None:
    assert set(STRATEGIES) == set(FailureType)
    assert len(FailureType) == 6
    for strategy in STRATEGIES.values():
        assert strategy.actions[-1] is Action.RETURN


def test_a_description_is_neither_kept_nor_shown(make_system: MakeSystem) -> None:
    system = make_system()
    keep(system)
    system.handle_failure(FailureType.PROCESS_CRASH, "PLANTED-WORD", ["trainer"])

    assert "PLANTED-WORD" not in repr(system.recoveries)


@pytest.mark.parametrize(
    "options",
    [{"privacy_threshold": 0.0}, {"privacy_threshold": 1.1}, {"max_recovery_attempts": 0}],
)
def test_settings_out_of_their_range_are_refused(
    make_system: MakeSystem, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidParameter):
        make_system(**options)


def test_a_state_is_tensors_and_plain_values_only() -> None:
    state = {"a": [1, 2.5, None, "x", (True, torch.ones(2))], 3: {"nan": float("inf")}}

    assert equal(decoded("s", encoded("s", state)), state)
    with pytest.raises(InvalidParameter, match=r"s\.a"):
        encoded("s", {"a": object()})


def test_tensors_that_share_memory_are_kept_each() -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    state = {"one": weight, "two": weight, "view": weight.T}

    assert equal(decoded("s", encoded("s", state)), state)
