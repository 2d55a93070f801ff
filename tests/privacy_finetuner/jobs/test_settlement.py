"""Settling a run in the ledger: whatever was killed, nothing stays open and nothing is refunded."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from privacy_finetuner.config import PrivacyConfig, TrainingConfig
from privacy_finetuner.jobs import FolderBusy
from privacy_finetuner.jobs.folder import LOCK_FILE, artefacts_in, forget, locked
from privacy_finetuner.jobs.settlement import Settlement, open_reservations, settle
from privacy_finetuner.training.accounts import LEAST_PART, RunTargets
from privacy_finetuner.training.ledger_account import LedgerAccount
from privacy_finetuner.training.ledger_meter import RESERVATION_TTL_S, LedgerMeter
from privacy_finetuner.training.plan import DPTrainingPlan, make_plan
from privacy_finetuner.training.run_record import RunRecord
from privacy_runtime.budget_store import BudgetStore, Status

RUN = "5f0c2e8d9a1b3c47"
PRIVACY = PrivacyConfig(epsilon=4.0, delta=1e-4)


class Charged:
    """A run as the trainer keeps it: a record on the disk, a meter in the ledger; no model."""

    def __init__(self, yard: Any, folder: Path) -> None:
        self.yard, self.folder = yard, folder
        folder.mkdir(parents=True, exist_ok=True)
        account = LedgerAccount(where=yard.ledger, scope=yard.block, quota=None, clock=yard.clock)
        privacy = account.run_privacy(PRIVACY, RunTargets())

        def plan_with(tried: PrivacyConfig) -> DPTrainingPlan:
            return make_plan(tried, TrainingConfig(epochs=2, batch_size=50), examples=1000)

        _, self.plan = account.fitted(privacy, plan_with, least=LEAST_PART)
        self.meter = LedgerMeter(account, self.plan, RUN, {"epsilon": 4.0, "asked": {}})

    def begin(self) -> None:
        """What happens before the first step."""
        with RunRecord(self.folder) as record:
            record.plan(self.plan.to_json(), RUN, ledger={"account": "a", "quota": None})
        self.meter.begin(charged_steps=0, is_finished=False)

    def steps(self, until: int, *, recorded: bool = True) -> None:
        """Mark steps in the ledger, then in the record."""
        self.meter.watermark(until)
        if recorded:
            with RunRecord(self.folder) as record:
                record.reserve(until)

    def settle(self) -> Settlement:
        """What the jobs room does at the end."""
        self.meter.close()
        return settle(self.folder, self.yard.ledger, clock=self.yard.clock)

    def reservation(self) -> Any:
        """As the ledger has it."""
        with BudgetStore.open(self.yard.ledger, clock=self.yard.clock) as store:
            return store.reservation(f"training:{RUN}")

    @property
    def is_open(self) -> bool:
        return bool(open_reservations(self.yard.ledger, [RUN], clock=self.yard.clock))


@pytest.fixture
def run(yard: Any) -> Charged:
    yard.open_account()
    return Charged(yard, yard.folder / "runs" / "job_x")


def test_no_run_is_nothing(yard: Any) -> None:
    yard.open_account()
    folder = yard.folder / "runs" / "job_x"
    assert settle(folder, yard.ledger, clock=yard.clock) == Settlement()
    folder.mkdir()
    assert settle(folder, yard.ledger, clock=yard.clock) == Settlement()
    (folder / "run.jsonl").touch()
    assert settle(folder, yard.ledger, clock=yard.clock) == Settlement()


def test_a_run_that_took_no_step_is_refunded(run: Charged) -> None:
    run.begin()
    assert run.is_open
    settled = run.settle()
    assert settled.reservation == f"training:{RUN}"
    assert (settled.charged_steps, settled.epsilon, settled.delta) == (0, 0.0, 0.0)
    assert settled.epsilon_planned == run.plan.epsilon()
    assert run.reservation().status is Status.REFUNDED
    assert run.yard.balance().epsilon_remaining == 8.0
    assert not run.is_open


def test_a_stopped_run_is_committed_at_its_mark(run: Charged) -> None:
    run.begin()
    run.steps(8)
    run.steps(16)
    marked = run.reservation().watermark
    settled = run.settle()
    held = run.reservation()
    assert held.status is Status.COMMITTED
    assert held.settled.rdp == marked.rdp
    assert held.settled.basic == held.charge.basic  # the whole plan: docs/decisions/0006
    assert (settled.charged_steps, settled.steps) == (16, run.plan.steps)
    assert settled.epsilon == run.plan.epsilon()


def test_steps_that_only_the_ledger_knows_are_spent(run: Charged) -> None:
    run.begin()
    run.steps(8)
    run.steps(16, recorded=False)  # killed between the two
    marked = run.reservation().watermark
    settled = run.settle()
    assert run.reservation().settled.rdp == marked.rdp
    assert settled.charged_steps == 8


def test_a_run_of_which_all_is_charged_is_committed_whole(run: Charged) -> None:
    run.begin()
    run.steps(run.plan.steps)
    run.settle()
    held = run.reservation()
    assert held.settled == held.charge


def test_settling_again_changes_nothing(run: Charged) -> None:
    run.begin()
    run.steps(8)
    first = run.settle()
    with BudgetStore.open(run.yard.ledger, clock=run.yard.clock) as store:
        head = store.head()
    again = run.settle()
    assert again.reservation is None
    assert (again.epsilon, again.charged_steps) == (first.epsilon, first.charged_steps)
    with BudgetStore.open(run.yard.ledger, clock=run.yard.clock) as store:
        assert store.head() == head


def test_a_run_that_the_trainer_committed_is_left_alone(run: Charged) -> None:
    run.begin()
    run.steps(run.plan.steps)
    run.meter.commit(run.plan.steps)
    assert run.settle().reservation is None
    assert run.reservation().status is Status.COMMITTED


def test_the_attempt_after_a_refund_is_the_one_that_is_ended(run: Charged) -> None:
    run.begin()
    run.meter.abandon()
    again = Charged(run.yard, run.folder)
    again.meter.begin(charged_steps=0, is_finished=False)
    again.steps(8)
    assert again.settle().reservation == f"training:{RUN}:2"
    assert not again.is_open


def test_a_reservation_whose_time_ran_out_is_spent_whole(run: Charged) -> None:
    run.begin()
    run.steps(8)
    run.yard.clock.advance(RESERVATION_TTL_S + 1)
    assert run.settle().reservation is None
    held = run.reservation()
    assert held.settled == held.charge
    assert not run.is_open


def test_a_damaged_record_costs_the_mark_at_least_and_leaves_nothing_open(run: Charged) -> None:
    run.begin()
    run.steps(8)
    path = run.folder / "run.jsonl"
    first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"".join(rest).replace(b'"until":8', b'"until":0'))
    settled = run.settle()
    assert settled.reservation == f"training:{RUN}"
    held = run.reservation()
    assert held.settled == held.charge
    assert not run.is_open


def test_a_folder_has_one_worker_at_a_time(live_yard: Any) -> None:
    folder = live_yard.folder / "runs" / "job_x"
    with locked(folder, clock=live_yard.clock):
        with (
            pytest.raises(FolderBusy, match="job_x"),
            locked(folder, clock=live_yard.clock, wait_s=0.1),
        ):
            pass
        assert (folder / LOCK_FILE).stat().st_mode & 0o777 == 0o600
    with locked(folder, clock=live_yard.clock):
        pass


def test_only_known_files_are_artefacts(tmp_path: Path) -> None:
    for name in (
        "model.safetensors", "report.html", "certificate.json", "training_result.json",
        "audit_canaries.json", "job.log", ".resume", ".noise", ".job.lock", "secret.txt",
    ):  # fmt: skip
        (tmp_path / name).write_bytes(b"x" * 10)
    (tmp_path / "checkpoint-4").mkdir()
    (tmp_path / "config.json").symlink_to("/etc/hostname")
    found = {each.name: each for each in artefacts_in(tmp_path)}
    assert set(found) == {
        "model.safetensors", "report.html", "certificate.json", "training_result.json",
        "audit_canaries.json",
    }  # fmt: skip
    outside = {name for name, each in found.items() if each.outside_guarantee}
    assert outside == {"training_result.json", "audit_canaries.json"}
    assert found["report.html"].size_bytes == 10
    assert found["report.html"].sha256 == hashlib.sha256(b"x" * 10).hexdigest()
    forget(tmp_path)
    assert not (tmp_path / ".resume").exists()
    assert not (tmp_path / ".noise").exists()
