"""A rehearsal hurts real programs, and says what it saw, not what it hoped for."""

from __future__ import annotations

import json
import os
import signal
import sys
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline_guard import processes
from pipeline_guard.cli.entry import application
from pipeline_guard.errors import ConfigurationError
from pipeline_guard.model import Fault
from pipeline_guard.rehearsal import trials
from pipeline_guard.rehearsal.injections import Impossible, SmallDisk, filled, flipped, signalled
from pipeline_guard.rehearsal.scenes import dead_endpoint, stale_data
from pipeline_guard.rehearsal.subjects import GROUP, subject_of, subjects
from pipeline_guard.rehearsal.trials import make_scenes, rehearse
from privacy_runtime.world import SystemClock

NAMES = [
    "crash", "kill", "hang", "not_finite", "out_of_memory", "corrupt_checkpoint", "disk_full",
    "dead_endpoint", "stale_data", "export_failed",
]  # fmt: skip


def test_the_product_offers_a_training_to_rehearse_on() -> None:
    assert set(subjects()) == {"training"}
    assert list(make_scenes(subjects()["training"])) == NAMES


def test_a_dead_endpoint_and_stale_data_are_healed() -> None:
    found = rehearse(["dead_endpoint", "stale_data"], subjects()["training"], clock=SystemClock())

    for trial in found:
        assert trial.healed, trial.note
        assert trial.detected_s is not None
        assert trial.recovered_s is not None
        assert trial.epsilon_difference is None


def test_a_killed_training_is_resumed_and_its_price_is_exact() -> None:
    [trial] = rehearse(["kill"], subjects()["training"], clock=SystemClock())

    assert trial.healed, trial.note
    assert trial.epsilon_difference == 0.0
    assert trial.lost_steps is not None
    assert 0 <= trial.lost_steps <= 40


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "kill"])
def test_every_fault_is_found_and_healed(name: str) -> None:
    if name == "disk_full" and os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    [trial] = rehearse([name], subjects()["training"], clock=SystemClock())

    assert trial.healed, trial.note
    assert trial.epsilon_difference in (None, 0.0)


def test_what_no_recovery_heals_is_not_called_healed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def hopeless(folder: Path) -> trials.Scene:
        scene = dead_endpoint(folder)
        scene.config["recoveries"] = []
        return scene

    monkeypatch.setattr(trials, "make_scenes", lambda _: {"dead_endpoint": hopeless})
    [trial] = rehearse(["dead_endpoint"], subjects()["training"], clock=SystemClock(), limit_s=3.0)

    assert not trial.healed
    assert trial.detected_s is not None
    assert trial.recovered_s is None
    assert "before it was healed" in trial.note


def test_a_ledger_that_says_something_else_is_not_healed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Dear:
        def epsilon_difference(self) -> float:
            return 0.25

    def dear(folder: Path) -> trials.Scene:
        scene = stale_data(folder)
        scene.subject = Dear()  # type: ignore[assignment]  # its price is all that is asked
        return scene

    monkeypatch.setattr(trials, "make_scenes", lambda _: {"stale_data": dear})
    [trial] = rehearse(["stale_data"], subjects()["training"], clock=SystemClock())

    assert not trial.healed
    assert trial.epsilon_difference == 0.25


def test_what_cannot_be_injected_is_said_and_not_called_healed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    [trial] = rehearse(["disk_full"], subjects()["training"], clock=SystemClock())

    assert not trial.healed
    assert trial.detected_s is None
    assert "needs root" in trial.note


def test_unknown_names_are_refused_before_anything_is_hurt() -> None:
    with pytest.raises(ConfigurationError, match="known: crash, kill"):
        rehearse(["kill", "flood"], subjects()["training"], clock=SystemClock())
    with pytest.raises(ConfigurationError, match="no subject 'router'"):
        subject_of("router", subjects())
    with pytest.raises(ConfigurationError, match="known: none"):
        subject_of(None, subjects(metadata.EntryPoints([]).select(group=GROUP)))


def test_the_command_prints_the_documented_list() -> None:
    found = CliRunner().invoke(
        application("test-recovery"), ["test-recovery", "--fault", "dead_endpoint", "--json"]
    )

    assert found.exit_code == 0
    [trial] = json.loads(found.stdout)
    assert {"fault", "detected_s", "recovered_s", "healed", "epsilon_difference"} <= set(trial)
    assert trial["fault"] == "dead_endpoint"


def test_one_bit_is_one_bit(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(range(100)))
    flipped(path)
    changed = path.read_bytes()

    assert sum((a ^ b).bit_count() for a, b in zip(changed, range(100), strict=True)) == 1


def test_a_signal_to_nobody_is_no_injection(tmp_path: Path) -> None:
    with pytest.raises(Impossible):
        signalled(tmp_path / "none.pid", signal.SIGKILL)
    name = processes.start([sys.executable, "-c", "pass"])
    name.ended_within(30)
    processes.write_pid_file(tmp_path / "gone.pid", name)
    with pytest.raises(Impossible):
        signalled(tmp_path / "gone.pid", signal.SIGKILL)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_small_disk_is_soon_full(tmp_path: Path) -> None:
    try:
        disk = SmallDisk.mounted(tmp_path / "disk", 2 << 20)
    except Impossible as error:
        pytest.skip(str(error))
    try:
        filled(disk.folder / "dumps")
        with pytest.raises(OSError, match="No space"):
            (disk.folder / "more").write_bytes(bytes(1 << 20))
    finally:
        disk.unmount()


def test_injuries_are_those_that_the_training_can_do_to_itself(tmp_path: Path) -> None:
    subject = subjects()["training"](tmp_path)

    assert "--injury" in subject.command(is_resumed=False, injury=Fault.NOT_FINITE)
    assert "--resume" in subject.command(is_resumed=True)
    assert "--injury" not in subject.command(is_resumed=True)
