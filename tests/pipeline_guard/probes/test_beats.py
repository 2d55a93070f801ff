"""A program by its heartbeat: alive is not making progress."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline_guard.config import Automatic, build
from pipeline_guard.errors import ConfigurationError
from pipeline_guard.heartbeat import Heartbeat
from pipeline_guard.heartbeat.pulses import sealed
from pipeline_guard.model import Fault, Verdict
from pipeline_guard.probes import PROBES
from pipeline_guard.probes.beats import HeartbeatProbe, StragglerProbe
from privacy_runtime.testing import ManualClock

from .conftest import START, look, look_now  # noqa: TID252  of this folder


def beating(path: Path, steps: int = 10, step_s: float = 2.0) -> tuple[Heartbeat, ManualClock]:
    clock = ManualClock(START)
    heart = Heartbeat(path, at_most_every_s=0, clock=clock)
    for step in range(1, steps + 1):
        clock.advance(step_s)
        heart.beat(step, 100)
    return heart, clock


@pytest.mark.parametrize(
    ("step_s", "silent_s", "verdict"),
    [
        (2, 29, Verdict.OK),
        (2, 31, Verdict.CRITICAL),  # the floor of 30 s
        (20, 90, Verdict.OK),
        (20, 110, Verdict.CRITICAL),  # five times the p99 of 20 s
    ],
)
def test_silence_is_a_hang_after_the_longer_of_thirty_seconds_and_five_times_p99(
    tmp_path: Path, step_s: float, silent_s: float, verdict: Verdict
) -> None:
    _, clock = beating(tmp_path / "h.json", step_s=step_s)

    reading = look(HeartbeatProbe(path=tmp_path / "h.json"), clock.monotonic_s() + silent_s)

    assert reading.verdict is verdict
    assert reading.fault is (Fault.HANG if verdict else None)


def test_a_beat_of_the_same_step_is_no_progress(tmp_path: Path) -> None:
    heart, clock = beating(tmp_path / "h.json")
    for _ in range(60):
        clock.advance(1)
        heart.beat(10)

    reading = look(HeartbeatProbe(path=heart.path), clock.monotonic_s())
    assert reading.fault is Fault.HANG
    assert reading.evidence["silent_s"] == 60.0


def test_each_section_has_its_own_limit(tmp_path: Path) -> None:
    heart, clock = beating(tmp_path / "h.json")
    probe = HeartbeatProbe(path=heart.path, sections_s={"checkpoint": 600.0, "eval": Automatic(2)})
    with heart.section("checkpoint"):
        clock.advance(500)
        slow = look(probe, clock.monotonic_s())
        clock.advance(200)
        late = look(probe, clock.monotonic_s())
    with heart.section("eval"):
        first_time = look(probe, clock.monotonic_s() + 800)

    assert [r.verdict for r in (slow, late, first_time)] == [
        Verdict.OK, Verdict.CRITICAL, Verdict.OK,
    ]  # fmt: skip


def test_an_update_that_is_not_finite_is_seen_at_its_step(tmp_path: Path) -> None:
    heart, clock = beating(tmp_path / "h.json")
    heart.beat(11, is_finite=False)

    reading = look(HeartbeatProbe(path=heart.path), clock.monotonic_s())
    assert (reading.verdict, reading.fault) == (Verdict.CRITICAL, Fault.NOT_FINITE)


@pytest.mark.parametrize(
    ("end", "verdict", "fault"),
    [
        (lambda heart: heart.finish(), Verdict.OK, None),
        (lambda heart: heart.stop(), Verdict.WARNING, Fault.CRASH),
        (lambda heart: heart.fail("ValueError"), Verdict.CRITICAL, Fault.CRASH),
        (lambda heart: heart.fail("MemoryError"), Verdict.CRITICAL, Fault.OUT_OF_MEMORY),
        (
            lambda heart: heart.fail("OutOfMemoryError"),
            Verdict.CRITICAL,
            Fault.ACCELERATOR_OUT_OF_MEMORY,
        ),
        (lambda heart: heart.fail("NonFiniteWeights"), Verdict.CRITICAL, Fault.NOT_FINITE),
        (lambda heart: heart.fail("CheckpointNotWritten"), Verdict.CRITICAL, Fault.DISK_FULL),
    ],
)
def test_how_it_ended_is_said_for_as_long_as_the_file_is_there(
    tmp_path: Path, end: Any, verdict: Verdict, fault: Fault | None
) -> None:
    heart, clock = beating(tmp_path / "h.json")
    end(heart)

    reading = look(HeartbeatProbe(path=heart.path), clock.monotonic_s() + 1e6)
    assert (reading.verdict, reading.fault) == (verdict, fault)


def rewritten(path: Path, **changes: Any) -> None:
    document = json.loads(path.read_text())
    document["process"] |= changes
    del document["checksum"]
    path.write_bytes(sealed(json.dumps(document)[:-1]))


def test_a_heartbeat_of_an_earlier_boot_is_a_crash(tmp_path: Path) -> None:
    heart, clock = beating(tmp_path / "h.json")
    rewritten(heart.path, boot="another")

    reading = look(HeartbeatProbe(path=heart.path), clock.monotonic_s())
    assert (reading.verdict, reading.fault) == (Verdict.CRITICAL, Fault.CRASH)


def test_a_heartbeat_of_another_machine_is_judged_by_the_time_of_day(tmp_path: Path) -> None:
    heart, clock = beating(tmp_path / "h.json")
    rewritten(heart.path, boot="another", pid=1)
    probe = HeartbeatProbe(path=heart.path, is_remote=True)

    assert look(probe, clock.monotonic_s() + 10).verdict is Verdict.OK
    assert look(probe, clock.monotonic_s() + 60).fault is Fault.HANG


def test_a_process_id_that_was_given_to_another_is_a_crash(tmp_path: Path) -> None:
    heart, clock = beating(tmp_path / "h.json")
    rewritten(heart.path, started=1)

    assert look(HeartbeatProbe(path=heart.path), clock.monotonic_s()).fault is Fault.CRASH


def test_a_process_of_another_container_is_judged_by_its_progress_alone(tmp_path: Path) -> None:
    heart, clock = beating(tmp_path / "h.json")
    rewritten(heart.path, namespace="pid:[1]", pid=2**22)
    probe = HeartbeatProbe(path=heart.path)

    assert look(probe, clock.monotonic_s()).verdict is Verdict.OK
    assert look(probe, clock.monotonic_s() + 60).fault is Fault.HANG


@pytest.mark.parametrize(
    ("missing", "verdict"),
    [("ok", 0), ("warning", 1), ("critical", 2), ("unknown", 3)],
)
def test_a_file_that_is_not_there_is_what_the_configuration_says(
    tmp_path: Path, missing: str, verdict: int
) -> None:
    assert look(HeartbeatProbe(path=tmp_path / "h.json", missing=missing)).verdict == verdict


@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 4096, b"x" * 9000])
def test_a_damaged_file_is_unknown(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "h.json").write_bytes(content)

    reading = look(HeartbeatProbe(path=tmp_path / "h.json"))
    assert reading.verdict is Verdict.UNKNOWN


def test_a_file_that_never_answers_is_unknown_and_costs_one_thread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "h.json")
    probe = HeartbeatProbe(path=tmp_path / "h.json", answer_s=0.05)

    readings = [look(probe, float(second)) for second in range(3)]

    assert [reading.verdict for reading in readings] == [Verdict.UNKNOWN] * 3
    assert "2 s" in readings[2].summary
    with (tmp_path / "h.json").open("wb"):  # lets the thread go
        pass


def test_the_forms_of_a_configuration_become_limits(tmp_path: Path) -> None:
    parameters = {
        "path": str(tmp_path / "h.json"),
        "sections": {"setup": "15m", "step": "auto*8", "checkpoint": 600},
        "other": "auto",
        "at_least": "1m",
    }
    probe = build("heartbeat", parameters, PROBES, "test")

    assert probe.sections_s == {"setup": 900.0, "step": Automatic(8), "checkpoint": 600.0}
    assert (probe.at_least_s, probe.other_s) == (60.0, Automatic())
    with pytest.raises(ConfigurationError, match="missing"):
        build("heartbeat", {**parameters, "missing": "fine"}, PROBES, "test")


CHILD = """
import sys, time
from pipeline_guard.heartbeat import Heartbeat
heart = Heartbeat(sys.argv[1], at_most_every_s=0)
step = 0
while True:
    step += 1
    heart.beat(step)
    time.sleep(0.02)
    if step == 10: print("go", flush=True)
"""


@pytest.fixture
def child(tmp_path: Path) -> Any:
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "h.json")], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_stopped_process_hangs_and_a_continued_one_does_not(child: Any, tmp_path: Path) -> None:
    probe = HeartbeatProbe(path=tmp_path / "h.json", at_least_s=0.5, other_s=Automatic(2))
    assert look_now(probe).verdict is Verdict.OK

    child.send_signal(signal.SIGSTOP)
    time.sleep(1.0)
    hung = look_now(probe)
    child.send_signal(signal.SIGCONT)
    time.sleep(0.5)

    assert (hung.verdict, hung.fault) == (Verdict.CRITICAL, Fault.HANG)
    assert look_now(probe).verdict is Verdict.OK


def test_a_killed_process_is_a_crash_at_the_next_look(child: Any, tmp_path: Path) -> None:
    probe = HeartbeatProbe(path=tmp_path / "h.json")
    assert look_now(probe).verdict is Verdict.OK

    child.kill()
    child.wait()

    assert look_now(probe).fault is Fault.CRASH


def test_one_that_lags_behind_is_named_after_five_rounds(tmp_path: Path) -> None:
    for name, step_s in (("a", 1.0), ("b", 1.05), ("c", 2.0)):
        (tmp_path / name).mkdir()
        beating(tmp_path / name / "heartbeat.json", step_s=step_s)
    probe = StragglerProbe(folder=tmp_path)

    readings = [look(probe) for _ in range(5)]

    assert [reading.verdict for reading in readings] == [Verdict.OK] * 4 + [Verdict.WARNING]
    assert readings[-1].fault is Fault.STRAGGLER
    assert readings[-1].evidence["behind"] == ["c/heartbeat.json"]


def test_one_alone_lags_behind_nobody(tmp_path: Path) -> None:
    beating(tmp_path / "heartbeat.json")

    assert look(StragglerProbe(folder=tmp_path, pattern="*.json")).verdict is Verdict.UNKNOWN
