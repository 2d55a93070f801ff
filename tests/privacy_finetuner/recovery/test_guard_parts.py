"""What the guard gets: a gate, probes and a remedy that know privacy."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline_guard.errors import RecoveryError
from pipeline_guard.model import Case, Fault, Moment, PipelineComponent, Reading, Verdict
from privacy_core.dp_events import Gaussian
from privacy_core.errors import BudgetExhausted
from privacy_core.guarantee import NeighbouringRelation, PrivacyUnit
from privacy_finetuner.recovery import FailureRecoverySystem, Sealing
from privacy_finetuner.recovery.guard_parts import (
    CheckpointIntegrity,
    PrivacyBurn,
    PrivacyGate,
    ResumeFromVerified,
)
from privacy_finetuner.recovery.points import RecoveryPoints
from privacy_runtime.budget_store import BudgetStore, charge_of, protection
from privacy_runtime.plugins import PluginMetadata

NOW = Moment(at=datetime(2026, 1, 1, tzinfo=UTC), monotonic_s=0.0)


def case(**settings: Any) -> Case:
    return Case(
        id="1", component=PipelineComponent.MODEL_TRAINING, fault=Fault.CRASH, check="c",
        since=NOW.at, reading=Reading(verdict=Verdict.CRITICAL, summary="gone"), settings=settings,
    )  # fmt: skip


@pytest.fixture
def stopped(
    train: Callable[..., Any], make_system: Callable[..., FailureRecoverySystem], tmp_path: Path
) -> Path:
    """A run that ended at step 20 of 40, with its points."""

    def stop(record: Any) -> None:
        if record.step == 20:
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError):
        train(recovery=make_system(), on_step=stop)
    return tmp_path / "run"


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def test_a_run_inside_its_reservation_may_go_on(stopped: Path, ledger: str) -> None:
    permit = PrivacyGate(ledger=ledger).permit(case(run=str(stopped)), "resume_training")

    assert permit.is_allowed
    assert permit.figures["epsilon_needed"] <= permit.figures["epsilon_total"] == 8.0
    assert permit.figures["steps_left"] == 16


def test_a_run_whose_reservation_is_gone_may_not(stopped: Path, tmp_path: Path) -> None:
    other = str(tmp_path / "other.db")
    BudgetStore.open(other).close()
    permit = PrivacyGate(ledger=other).permit(case(run=str(stopped)), "resume_training")

    assert not permit.is_allowed
    assert "of 8" in permit.reason


def test_what_takes_no_private_step_is_let_through(stopped: Path, tmp_path: Path) -> None:
    gate = PrivacyGate(ledger=str(tmp_path / "missing" / "ledger.db"))

    assert gate.permit(case(run=str(stopped)), "clean").is_allowed
    assert gate.permit(case(), "restart").is_allowed


def test_a_damaged_checkpoint_is_put_back_from_its_point(stopped: Path, tmp_path: Path) -> None:
    for name in ("checkpoint-8", "checkpoint-16"):
        spoil(stopped / name / "model.safetensors")
    remedy = ResumeFromVerified(run=stopped, points=tmp_path / "recovery")

    assert remedy.objection(case()) is None
    done = remedy.apply(case(), 60.0)
    assert done.evidence["step"] == 16
    assert done.evidence["point"] == "run/000002"
    assert "8 steps are lost and stay charged" in done.summary


def test_a_remedy_without_a_run_objects(tmp_path: Path) -> None:
    assert "needs" in (ResumeFromVerified().objection(case()) or "")
    remedy = ResumeFromVerified(run=tmp_path, points=tmp_path)
    assert "no run" in (remedy.objection(case()) or "")
    with pytest.raises(RecoveryError, match="nothing was changed"):
        remedy.apply(case(), 1.0)


@pytest.mark.parametrize("damaged", [(), (1,), (2,), (1, 2)])
def test_points_are_read_back(tmp_path: Path, damaged: tuple[int, ...]) -> None:
    points = RecoveryPoints(tmp_path)
    for step in (1, 2):
        points.keep({"weights": bytes(100)}, epoch=0, step=step)
    for number in damaged:
        spoil(tmp_path / "points" / "run" / f"{number:06}" / "weights")
    reading = CheckpointIntegrity(points=tmp_path).look(NOW)

    expected = (
        Verdict.OK if not damaged else Verdict.WARNING if 2 not in damaged else Verdict.CRITICAL
    )
    assert reading.verdict is expected
    assert reading.measurements["damaged"] == len(damaged)
    assert (reading.fault is Fault.CORRUPT_CHECKPOINT) == bool(damaged)


def test_sealed_points_are_read_with_the_keys_of_the_account(tmp_path: Path) -> None:
    memory = tmp_path / "memory.db"
    with Sealing.of_account(memory=memory) as sealing:
        RecoveryPoints(tmp_path / "p", sealing=sealing).keep({"w": b"x" * 99}, epoch=0, step=1)
    probe = CheckpointIntegrity(points=tmp_path / "p", sealed=True, memory=memory)
    before = probe.look(NOW)
    spoil(tmp_path / "p" / "points" / "run" / "000001" / "w.sealed")

    assert before.verdict is Verdict.OK
    assert probe.look(NOW).verdict is Verdict.CRITICAL


def test_a_folder_that_is_not_there_is_not_well(tmp_path: Path) -> None:
    assert CheckpointIntegrity(points=tmp_path / "no").look(NOW).verdict is Verdict.UNKNOWN


def test_the_burn_of_a_run_is_its_price_to_finish(stopped: Path, ledger: str) -> None:
    reading = PrivacyBurn(run=stopped, ledger=ledger).look(NOW)

    assert reading.verdict is Verdict.OK
    assert reading.measurements["epsilon_needed"] <= 8.0


def test_an_account_that_is_used_up_soon_is_said_so(ledger: str) -> None:
    probe = PrivacyBurn(ledger=ledger, account="protection/notes/2026", warn_s=7200, crit_s=1800)
    scope = protection("notes", "2026")
    verdicts, readings = [], []
    with BudgetStore.open(ledger) as store:
        for hour in range(6):
            charge = charge_of(
                Gaussian(4.0), delta=1e-6, relation=NeighbouringRelation.ADD_OR_REMOVE_ONE,
                unit=PrivacyUnit.EXAMPLE,
            )  # fmt: skip
            for number in range(12):
                key = f"{hour}-{number}"
                try:
                    store.reserve(key, protection=(scope,), charge=charge, ttl_s=60)
                except BudgetExhausted:
                    break
                store.commit(f"{key}:c", key)
            moment = Moment(at=NOW.at, monotonic_s=3600.0 * hour)
            readings.append(probe.look(moment))
            verdicts.append(readings[-1].verdict)

    assert verdicts[0] is Verdict.OK
    assert verdicts[-1] is not Verdict.OK
    assert readings[-1].fault is Fault.BUDGET_BURN
    assert readings[-1].measurements["epsilon_per_day"] > 0


def test_a_ledger_that_cannot_be_read_is_not_well(tmp_path: Path) -> None:
    probe = PrivacyBurn(ledger=str(tmp_path / "no" / "ledger.db"), account="protection/a/b")
    assert probe.look(NOW).verdict is Verdict.UNKNOWN
    with pytest.raises(ValueError, match="must be named"):
        PrivacyBurn()


@pytest.mark.parametrize("part", [CheckpointIntegrity, PrivacyBurn, ResumeFromVerified])
def test_parts_are_plugins(part: Any) -> None:
    assert isinstance(part.plugin_metadata, PluginMetadata)
