"""Runs of the trainer that fail for real, and come back."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from privacy_finetuner import FailureRecoverySystem, FailureType
from privacy_finetuner.errors import (
    NonFiniteWeights,
    PrivacyBudgetExhaustedException,
    TrainingInterrupted,
)
from privacy_finetuner.recovery.history import Outcome
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_finetuner.training.run_record import read_state
from privacy_runtime.budget_store import BudgetStore, Reservation, Status
from privacy_runtime.journal import StoreUnavailable
from privacy_runtime.testing import ManualClock

MakeSystem = Callable[..., FailureRecoverySystem]
FORK = multiprocessing.get_context("fork")


def held(ledger: str) -> Reservation:
    """The one reservation of the ledger."""
    with BudgetStore.open(ledger) as store:
        keys = [f.entry.key for f in store.history() if type(f.entry).__name__ == "Reserved"]
        assert len(keys) == 1, "a recovered run has one reservation"
        return store.reservation(keys[0])


def require_exact(ledger: str, folder: Path) -> None:
    """The ledger was charged exactly the plan, once."""
    state = read_state(folder)
    assert state is not None
    assert state.plan is not None
    plan = DPTrainingPlan.from_json(dict(state.plan))
    reservation = held(ledger)
    assert reservation.status is Status.COMMITTED
    assert reservation.charge.event == plan.event()
    assert reservation.settled is not None
    assert reservation.charge.is_within(reservation.settled)
    assert reservation.settled.is_within(reservation.charge)


class At:
    """Does something once, at a step."""

    def __init__(self, step: int, act: Callable[[], object], times: int = 1) -> None:
        self.step, self.act, self.times = step, act, times

    def __call__(self, record: Any) -> None:
        if record.step >= self.step and self.times:
            self.times -= 1
            self.act()


def out_of_memory() -> None:
    raise MemoryError("nothing left")


def test_a_run_without_a_failure_keeps_points_and_changes_nothing(
    train: Callable[..., Any], make_system: MakeSystem, ledger: str, tmp_path: Path
) -> None:
    system = make_system(point_steps=5)
    result = train(recovery=system, save_steps=100)

    assert result.steps == 40
    assert [p.step for p in system.points] == [25, 30, 35]
    assert all(p.ledger["stream"] == "ledger" for p in system.points)
    assert system.get_recovery_statistics().total_failures == 0
    require_exact(ledger, tmp_path / "run")


def test_a_pass_that_does_not_fit_is_halved_and_the_plan_is_the_same(
    train: Callable[..., Any], make_system: MakeSystem, ledger: str, tmp_path: Path
) -> None:
    system = make_system()
    seen: list[Any] = []

    class Look(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            state = read_state(tmp_path / "run")
            seen.append(None if state is None else state.plan)

    fault = At(20, out_of_memory)
    train(recovery=system, on_step=fault, callbacks=[Look()])

    (recovery,) = system.recoveries
    assert recovery.failure is FailureType.GPU_MEMORY_ERROR
    assert recovery.changes.micro_batch == 2048
    assert recovery.step == 16
    assert recovery.outlook is not None
    assert recovery.outlook.steps_lost == 8  # reserved up to 24
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert not (tmp_path / "run" / "recovery.json").exists()
    require_exact(ledger, tmp_path / "run")


class Break(TrainerCallback):
    """Puts NaN into the weights at a step, so many times."""

    def __init__(self, step: int, times: int) -> None:
        self.step, self.times = step, times
        self.rates: list[float] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.rates.append(args.learning_rate)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        if state.global_step >= self.step and self.times:
            self.times -= 1
            with torch.no_grad():
                next(model.parameters()).fill_(float("nan"))


def test_broken_weights_go_back_and_the_rate_is_lowered_once(
    train: Callable[..., Any], make_system: MakeSystem, ledger: str, tmp_path: Path
) -> None:
    system, fault = make_system(), Break(19, times=1)
    result = train(recovery=system, callbacks=[fault])

    assert fault.rates == [1e-3, 5e-4]
    assert all(torch.isfinite(p).all() for p in result.final_model.parameters())
    require_exact(ledger, tmp_path / "run")


def test_weights_that_break_again_end_the_run(
    train: Callable[..., Any], make_system: MakeSystem
) -> None:
    system = make_system()
    with pytest.raises(NonFiniteWeights) as caught:
        train(recovery=system, callbacks=[Break(19, times=9)])

    assert "lowered once" in caught.value.__notes__[0]
    assert [r.outcome for r in system.recoveries] == [Outcome.RECOVERED, Outcome.GIVEN_UP]


def killed(train: Callable[..., Any], system: FailureRecoverySystem, step: int) -> None:
    """Train in a process that is killed at a step."""

    def run() -> None:
        train(recovery=system, on_step=At(step, lambda: os.kill(os.getpid(), signal.SIGKILL)))

    process = FORK.Process(target=run)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.filterwarnings("ignore:This process")  # torch's threads, in a fork that trains alone
def test_a_killed_run_goes_on_from_its_checkpoint(
    train: Callable[..., Any], make_system: MakeSystem, ledger: str, tmp_path: Path
) -> None:
    killed(train, make_system(), 20)
    system = make_system()
    train(recovery=system)

    (recovery,) = system.recoveries
    assert (recovery.failure, recovery.step) == (FailureType.PROCESS_CRASH, 16)
    require_exact(ledger, tmp_path / "run")


@pytest.mark.filterwarnings("ignore:This process")
@pytest.mark.parametrize("is_sealed", [False, True])
def test_a_damaged_checkpoint_is_replaced_by_its_recovery_point(
    train: Callable[..., Any], make_system: MakeSystem, ledger: str, tmp_path: Path, sealing: Any,
    is_sealed: bool,
) -> None:  # fmt: skip
    options = {"sealing": sealing} if is_sealed else {}
    killed(train, make_system(**options), 20)
    run = tmp_path / "run"
    for name in ("checkpoint-8", "checkpoint-16"):
        path = run / name / "model.safetensors"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(bytes(data))
    system = make_system(**options)
    train(recovery=system)

    (recovery,) = system.recoveries
    assert recovery.failure is FailureType.CORRUPT_CHECKPOINT
    assert (recovery.step, recovery.point) == (16, "run/000002")
    require_exact(ledger, run)


@pytest.mark.filterwarnings("ignore:This process")
def test_a_damaged_checkpoint_without_any_other_state_is_not_resumed(
    train: Callable[..., Any], make_system: MakeSystem, tmp_path: Path
) -> None:
    killed(train, make_system(), 20)
    for path in (tmp_path / "run").glob("checkpoint-*/model.safetensors"):
        path.write_bytes(b"nothing")
    shutil.rmtree(tmp_path / "recovery")

    with pytest.raises(Exception, match="no checkpoint that is what was written"):
        train(recovery=make_system())


def test_a_ledger_that_is_away_is_waited_for(
    train: Callable[..., Any], make_system: MakeSystem, ledger: str, tmp_path: Path
) -> None:
    """Its folder is gone, as a network mount is, and comes back later."""
    books, away = tmp_path / "books", tmp_path / "away"
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if away.exists() and len(pauses) > 3:
            away.rename(books)

    system = make_system(pause=pause)
    train(recovery=system, on_step=At(20, lambda: books.rename(away)))

    assert [r.failure for r in system.recoveries] == [FailureType.STORE_AWAY]
    assert len(pauses) > 3
    require_exact(ledger, tmp_path / "run")


def test_a_ledger_that_stays_away_ends_the_run_after_the_deadline(
    train: Callable[..., Any], make_system: MakeSystem, tmp_path: Path
) -> None:
    clock = ManualClock()
    system = make_system(store_deadline_s=60.0, clock=clock, pause=clock.advance)
    with pytest.raises(StoreUnavailable):
        train(
            recovery=system,
            on_step=At(20, lambda: (tmp_path / "books").rename(tmp_path / "away")),
        )

    assert clock.monotonic_s() <= 70
    assert [r.outcome for r in system.recoveries] == [Outcome.FAILED]


def test_a_request_to_stop_is_no_failure(
    train: Callable[..., Any], make_system: MakeSystem
) -> None:
    system = make_system()
    with pytest.raises(TrainingInterrupted):
        train(recovery=system, on_step=At(10, lambda: os.kill(os.getpid(), signal.SIGINT)))

    assert system.recoveries == ()


def test_a_spent_budget_is_no_failure(train: Callable[..., Any], make_system: MakeSystem) -> None:
    train()
    system = make_system()
    with pytest.raises(PrivacyBudgetExhaustedException):
        train(recovery=system, output_dir="other", target_epsilon=8.0)

    assert system.recoveries == ()


def test_a_bug_is_no_failure(train: Callable[..., Any], make_system: MakeSystem) -> None:
    system = make_system()

    def bug() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        train(recovery=system, on_step=At(10, bug))

    assert system.recoveries == ()


def test_attempts_without_progress_end(
    train: Callable[..., Any], make_system: MakeSystem, waits: list[float]
) -> None:
    system = make_system(max_recovery_attempts=2)
    with pytest.raises(MemoryError) as caught:
        train(recovery=system, on_step=At(3, out_of_memory, times=99), save_steps=100)

    assert "brought no progress" in caught.value.__notes__[0]
    assert [r.attempt for r in system.recoveries] == [1, 2, 3]
    assert 0.5 <= waits[0] <= 1
    assert 2.5 <= waits[1] <= 5


def test_with_recovery_switched_off_the_error_is_raised(
    train: Callable[..., Any], make_system: MakeSystem
) -> None:
    system = make_system(auto_recovery_enabled=False)
    with pytest.raises(MemoryError):
        train(recovery=system, on_step=At(10, out_of_memory))

    assert [r.outcome for r in system.recoveries] == [Outcome.OFF]
