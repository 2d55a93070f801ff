"""A heartbeat: what it says, when, and what it survives."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline_guard.heartbeat import Ended, Heartbeat, Pulse, read_pulse
from pipeline_guard.heartbeat.pulses import sealed
from pipeline_guard.processes import ProcessName
from privacy_runtime.testing import ManualClock


class Beating:
    """A heartbeat on a clock that stands still."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.path = folder / "heartbeat.json"
        self.heart = Heartbeat(self.path, at_most_every_s=0, clock=self.clock)

    def pulse(self) -> Pulse:
        return read_pulse(self.path)


@pytest.fixture
def beating(tmp_path: Path) -> Beating:
    return Beating(tmp_path)


def test_it_begins_in_setup_and_is_in_step_from_the_first_beat(beating: Beating) -> None:
    assert beating.pulse().section == "setup"

    beating.heart.beat(1, 10)

    pulse = beating.pulse()
    assert (pulse.section, pulse.step, pulse.steps) == ("step", 1, 10)


def test_it_names_this_process_so_that_no_other_is_meant(beating: Beating) -> None:
    assert beating.pulse().process == ProcessName.of(os.getpid())


def test_the_same_step_again_is_alive_but_no_progress(beating: Beating) -> None:
    beating.heart.beat(1)
    beating.clock.advance(40)
    beating.heart.beat(1)

    assert beating.pulse().progress_s == 0.0
    beating.heart.beat(2)
    assert beating.pulse().progress_s == 40.0


def test_entering_and_leaving_a_section_is_progress(beating: Beating) -> None:
    beating.heart.beat(1)
    beating.clock.advance(5)
    with beating.heart.section("checkpoint"):
        assert beating.pulse().section == "checkpoint"
        assert beating.pulse().progress_s == 5.0
        beating.clock.advance(7)

    assert beating.pulse().section == "step"
    assert beating.pulse().progress_s == 12.0


def test_what_a_section_inside_a_step_took_is_not_the_steps(beating: Beating) -> None:
    beating.heart.beat(1)
    beating.clock.advance(2)
    with beating.heart.section("eval"):
        beating.clock.advance(100)
    beating.clock.advance(1)
    beating.heart.beat(2)
    beating.clock.advance(1)
    beating.heart.beat(2)

    spans = beating.pulse().spans
    assert spans["eval"].max_s == 100
    assert spans["step"].max_s == 3


def test_a_section_with_beats_of_its_own_is_measured_by_them(beating: Beating) -> None:
    with beating.heart.section("eval"):
        for step in range(1, 6):
            beating.clock.advance(4)
            beating.heart.beat(step)

    beating.clock.advance(2)
    beating.heart.beat(9)
    spans = beating.pulse().spans
    assert (spans["eval"].count, spans["eval"].max_s) == (5, 4)


def test_a_section_is_left_also_by_an_error(beating: Beating) -> None:
    beating.heart.beat(1)
    with pytest.raises(ZeroDivisionError), beating.heart.section("eval"):
        raise ZeroDivisionError

    assert beating.pulse().section == "step"


@pytest.mark.parametrize("name", ["", "Step", "a b", "x" * 33, "läuft", '"'])
def test_a_section_that_is_no_short_plain_name_is_refused(beating: Beating, name: str) -> None:
    with pytest.raises(ValueError, match="not entered"), beating.heart.section(name):
        pass


def test_the_file_stays_small_whatever_is_said(beating: Beating) -> None:
    def enter(number: int) -> None:
        with beating.heart.section(f"{'s' * 28}_{number}"):
            beating.clock.advance(12_345.678901)

    for number in range(15):
        enter(number)
    with pytest.raises(ValueError, match="at most 16"):
        enter(15)
    beating.heart.beat(10**15, 10**15)
    beating.heart.fail("x" * 10_000)

    assert beating.path.stat().st_size == 4_096
    assert beating.pulse().reason == "x" * 64


def test_an_end_is_said_and_takes_the_durations_with_it(beating: Beating) -> None:
    beating.clock.advance(3)
    beating.heart.beat(1)
    beating.heart.finish()

    pulse = beating.pulse()
    assert (pulse.ended, dict(pulse.spans)) == (Ended.FINISHED, {})


def test_not_finite_is_said_at_once_although_beats_come_fast(tmp_path: Path) -> None:
    clock = ManualClock()
    heart = Heartbeat(tmp_path / "h.json", at_most_every_s=60, clock=clock)
    clock.advance(1)
    heart.beat(1)
    assert read_pulse(heart.path).step is None

    heart.beat(2, is_finite=False)

    assert read_pulse(heart.path).is_finite is False


def test_a_disk_that_refuses_does_not_stop_the_program(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    heart = Heartbeat(folder / "h.json", at_most_every_s=0)
    (folder / "h.json").unlink()
    folder.rmdir()

    heart.beat(1)
    folder.mkdir()
    heart.beat(2)

    assert read_pulse(heart.path).step == 2


def test_it_is_for_its_owner_alone_and_leaves_nothing_beside_it(beating: Beating) -> None:
    beating.heart.beat(1)

    assert beating.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in beating.path.parent.iterdir()] == ["heartbeat.json"]


def test_a_reader_never_finds_half_a_file(tmp_path: Path) -> None:
    heart = Heartbeat(tmp_path / "h.json", at_most_every_s=0)
    done = threading.Event()
    wrong: list[Exception] = []

    def read() -> None:
        while not done.is_set():
            try:
                read_pulse(heart.path)
            except (OSError, ValueError) as error:
                wrong.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for step in range(3_000):
        heart.beat(step, 10 ** (step % 12))
    done.set()
    reader.join()

    assert wrong == []


def test_what_a_killed_process_said_last_stays_readable(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pipeline_guard.heartbeat import Heartbeat\n"
        "heart = Heartbeat(sys.argv[1], at_most_every_s=0)\nstep = 0\n"
        "while True:\n    step += 1\n    heart.beat(step)\n"
        "    if step == 50: print('go', flush=True)"
    )
    path = tmp_path / "h.json"
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    child.kill()
    child.wait()
    child.stdout.close()

    pulse = read_pulse(path)
    assert (pulse.step or 0) >= 50
    assert pulse.ended is None
    assert pulse.process is not None
    assert not pulse.process.is_alive()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"[]", "not a heartbeat"),
        (b'{"version": 2}', "version 1"),
        (b'{"version": 1}', "checksum"),
        (sealed('{"version": 1'), "lacks a field"),
        (sealed('{"version": 1').replace(b"1,", b"1 ,").rstrip(), "checksum"),
        (b" " * 20_000, "longer"),
    ],
)
def test_what_is_no_heartbeat_is_said_to_be_none(
    tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "h.json").write_bytes(content)

    with pytest.raises(ValueError, match=words):
        read_pulse(tmp_path / "h.json")


def test_a_limit_is_the_longer_of_the_floor_and_a_multiple_of_what_was_seen(
    beating: Beating,
) -> None:
    for step in range(1, 50):
        beating.clock.advance(20)
        beating.heart.beat(step)
    pulse = beating.pulse()

    def limit(section: str, at_least_s: float) -> float:
        return pulse.limit_s(section, factor=5, at_least_s=at_least_s, before_s=900)

    assert limit("step", 30) == pytest.approx(100, rel=0.05)
    assert limit("step", 300) == 300
    assert limit("eval", 30) == 900


@pytest.mark.slow
def test_a_beat_that_is_written_takes_at_most_sixty_microseconds(tmp_path: Path) -> None:
    heart = Heartbeat(tmp_path / "h.json", at_most_every_s=0)
    rounds = []
    for _ in range(20):
        before = time.thread_time()
        for step in range(500):
            heart.beat(step, 500)
        rounds.append((time.thread_time() - before) / 500)

    assert statistics.median(rounds) <= 60e-6
