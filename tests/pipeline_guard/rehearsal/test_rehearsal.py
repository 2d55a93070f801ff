"""A rehearsal hurts real programs, and says what it saw, not what it hoped for."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline_guard import processes
from pipeline_guard.cli.entry import application
from pipeline_guard.errors import ConfigurationError
from pipeline_guard.model import Fault
from pipeline_guard.rehearsal.injections import Impossible, SmallDisk, filled, flipped, signalled
from pipeline_guard.rehearsal.scenes import dead_endpoint, training_scenes
from pipeline_guard.rehearsal.stage import Repertoire, Scene
from pipeline_guard.rehearsal.subjects import GROUP, scenes_of, subjects
from pipeline_guard.rehearsal.trials import rehearse
from privacy_finetuner.recovery.watched import watched_training
from privacy_runtime.world import SystemClock

NAMES = [
    "crash", "kill", "hang", "not_finite", "out_of_memory", "corrupt_checkpoint", "disk_full",
    "dead_endpoint", "stale_data", "export_failed",
]  # fmt: skip
QUICK = ("corrupt_checkpoint", "dead_endpoint", "stale_data")
"""Among the ordinary tests. The first one kills a training, too."""


@pytest.fixture(scope="module")
def scenes() -> Repertoire:
    return training_scenes(watched_training)


def test_the_products_offer_what_can_be_hurt(scenes: Repertoire) -> None:
    offered = subjects()

    assert list(offered["training"]) == NAMES == list(scenes)
    assert set(scenes_of(None, offered)) >= set(NAMES)
    assert scenes_of("training", offered) == offered["training"]


def test_stale_data_is_healed(scenes: Repertoire) -> None:
    [trial] = rehearse(["stale_data"], scenes, clock=SystemClock())

    assert trial.healed, trial.note
    assert trial.detected_s is not None
    assert trial.recovered_s is not None
    assert trial.epsilon_difference is None


def test_a_killed_training_with_a_damaged_checkpoint_goes_on_and_its_price_is_exact(
    scenes: Repertoire,
) -> None:
    [trial] = rehearse(["corrupt_checkpoint"], scenes, clock=SystemClock())

    assert trial.healed, trial.note
    assert trial.epsilon_difference == 0.0
    assert trial.lost_steps is not None
    assert 0 <= trial.lost_steps <= 60


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in QUICK])
def test_every_fault_is_found_and_healed(name: str, scenes: Repertoire) -> None:
    if name == "disk_full" and os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    [trial] = rehearse([name], scenes, clock=SystemClock())

    assert trial.healed, trial.note
    assert trial.epsilon_difference in (None, 0.0)


def test_what_no_recovery_heals_is_not_called_healed() -> None:
    def hopeless(folder: Path) -> Scene:
        scene = dead_endpoint(folder)
        scene.config["recoveries"] = []
        return scene

    [trial] = rehearse(["hopeless"], {"hopeless": hopeless}, clock=SystemClock(), limit_s=2.0)

    assert not trial.healed
    assert trial.detected_s is not None
    assert trial.recovered_s is None
    assert "before it was healed" in trial.note


def test_a_fault_known_before_its_injection_returned_counts_and_a_wrong_ledger_is_not_healed() -> (
    None
):
    class Dear:
        def epsilon_difference(self) -> float:
            return 0.25

    def slow(folder: Path) -> Scene:
        scene = dead_endpoint(folder)
        inject, scene.subject = scene.inject, Dear()

        def injected() -> None:
            inject()
            time.sleep(1.5)  # the guard is faster than that

        scene.inject = injected
        return scene

    [trial] = rehearse(["slow"], {"slow": slow}, clock=SystemClock(), limit_s=30.0)

    assert trial.detected_s is not None
    assert trial.recovered_s is not None
    assert not trial.healed
    assert trial.epsilon_difference == 0.25


def test_a_scene_that_cannot_begin_takes_no_other_with_it() -> None:
    def broken(folder: Path) -> Scene:
        scene = dead_endpoint(folder)
        scene.config["checks"][0]["answer"] = "0s"
        return scene

    known = {"broken": broken, "so is this": broken}
    found = rehearse(known, known, clock=SystemClock())

    assert [trial.fault for trial in found] == list(known)
    for trial in found:
        assert not trial.healed
        assert "answer" in trial.note


def test_what_cannot_be_injected_is_said_and_not_called_healed(
    monkeypatch: pytest.MonkeyPatch, scenes: Repertoire
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    [trial] = rehearse(["disk_full"], scenes, clock=SystemClock())

    assert not trial.healed
    assert trial.detected_s is None
    assert "needs root" in trial.note


def test_unknown_names_are_refused_before_anything_is_hurt(scenes: Repertoire) -> None:
    with pytest.raises(ConfigurationError, match="known: crash, kill"):
        rehearse(["kill", "flood"], scenes, clock=SystemClock())
    with pytest.raises(ConfigurationError, match="no subject 'boiler'"):
        scenes_of("boiler", {"training": scenes})
    with pytest.raises(ConfigurationError, match="known: none"):
        scenes_of(None, subjects(metadata.EntryPoints([]).select(group=GROUP)))


def test_scenes_of_one_name_are_asked_for_by_subject(scenes: Repertoire) -> None:
    known = {"training": scenes, "router": {"kill": dead_endpoint, "router_kill": dead_endpoint}}

    with pytest.raises(ConfigurationError, match="have a scene 'kill'"):
        scenes_of(None, known)
    assert set(scenes_of("router", known)) == {"kill", "router_kill"}


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
        stop = threading.Event()
        with ThreadPoolExecutor(1) as others:
            others.submit(_written_until, stop, disk.folder / "log")
            filled(disk.folder / "dumps")
            stop.set()
        assert (disk.folder / "dumps" / "core.dump").stat().st_size > 0
        with pytest.raises(OSError, match="No space"):
            (disk.folder / "more").write_bytes(bytes(1 << 20))
    finally:
        disk.unmount()


def _written_until(stop: threading.Event, log: Path) -> None:
    """Somebody else's appends: they take what was free a moment ago."""
    with log.open("ab", buffering=0) as file, suppress(OSError):
        while not stop.is_set():
            file.write(bytes(512))


def test_injuries_are_those_that_the_training_can_do_to_itself(tmp_path: Path) -> None:
    subject = watched_training(tmp_path)

    assert "--injury" in subject.command(is_resumed=False, injury=Fault.NOT_FINITE)
    assert "--resume" in subject.command(is_resumed=True)
    assert "--injury" not in subject.command(is_resumed=True)
