"""Processes: their end, and why."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pipeline_guard import processes
from pipeline_guard.config import build
from pipeline_guard.errors import ConfigurationError
from pipeline_guard.model import Fault, Verdict
from pipeline_guard.probes import PROBES
from pipeline_guard.probes.running import ProcessProbe, group_from, kills_in
from pipeline_guard.processes import ProcessName

from .conftest import look, look_now  # noqa: TID252  of this folder

# As Linux 6.1 and 5.4 wrote them.
EVENTS_V2 = "low 0\nhigh 0\nmax 31\noom 2\noom_kill 1\noom_group_kill 0\n"
CONTROL_V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"


def started(tmp_path: Path, *command: str) -> tuple[Path, ProcessName]:
    name = processes.start(command)
    processes.write_pid_file(tmp_path / "pid", name)
    return tmp_path / "pid", name


def ended(name: ProcessName) -> None:
    assert name.ended_within(10)


def test_a_process_that_runs_is_well(tmp_path: Path) -> None:
    pid_file, name = started(tmp_path, "sleep", "60")

    reading = look(ProcessProbe(pid_file=pid_file))
    name.send(signal.SIGKILL)
    ended(name)

    assert reading.verdict is Verdict.OK
    assert reading.evidence["pid"] == name.pid


@pytest.mark.parametrize(
    ("code", "may_end", "verdict", "fault"),
    [
        (0, True, Verdict.OK, None),
        (0, False, Verdict.CRITICAL, Fault.CRASH),
        (1, True, Verdict.CRITICAL, Fault.CRASH),
        (77, True, Verdict.CRITICAL, Fault.ACCELERATOR_OUT_OF_MEMORY),
    ],
)
def test_an_exit_code_is_what_the_configuration_says(
    tmp_path: Path, code: int, may_end: bool, verdict: Verdict, fault: Fault | None
) -> None:
    pid_file, name = started(tmp_path, "sh", "-c", f"exit {code}")
    ended(name)
    probe = ProcessProbe(
        pid_file=pid_file,
        may_end=may_end,
        exit_faults={"77": Fault.ACCELERATOR_OUT_OF_MEMORY},
    )

    reading = look(probe)
    again = look(probe)

    assert (reading.verdict, reading.fault) == (verdict, fault)
    assert reading.evidence["exit_code"] == code
    assert again == reading


def test_a_signal_is_named(tmp_path: Path) -> None:
    pid_file, name = started(tmp_path, "sleep", "60")
    name.send(signal.SIGKILL)
    ended(name)

    reading = look(ProcessProbe(pid_file=pid_file))
    assert "SIGKILL" in reading.summary
    assert (reading.fault, reading.evidence["signal"]) == (Fault.CRASH, 9)


def test_the_end_of_a_process_is_seen_at_once_where_the_look_waits_for_it(tmp_path: Path) -> None:
    pid_file, _ = started(tmp_path, "sh", "-c", "sleep 0.3; exit 4")
    before = time.monotonic()

    reading = look_now(ProcessProbe(pid_file=pid_file, watch_s=30))

    assert reading.evidence["exit_code"] == 4
    assert time.monotonic() - before < 15


def test_a_kill_that_the_kernel_counted_is_for_memory(tmp_path: Path) -> None:
    pid_file, name = started(tmp_path, "sleep", "60")
    group = tmp_path / "groups" / "job"
    group.mkdir(parents=True)
    (group / "memory.events").write_text(EVENTS_V2)
    probe = ProcessProbe(pid_file=pid_file, groups=tmp_path / "groups")
    assert look(probe).verdict is Verdict.OK
    probe._seen.group, probe._seen.kills = group, 1

    name.send(signal.SIGKILL)
    ended(name)
    crashed = look(probe)
    (group / "memory.events").write_text(EVENTS_V2.replace("oom_kill 1", "oom_kill 2"))
    out_of_memory = look(probe)

    assert crashed.fault is Fault.CRASH
    assert out_of_memory.fault is Fault.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("lines", "folder", "file", "text", "kills"),
    [
        (["0::/kube/pod1"], "kube/pod1", "memory.events", EVENTS_V2, 1),
        (["9:name=systemd:/", "4:memory:/docker/ab", "0::/"], "memory/docker/ab",
         "memory.oom_control", CONTROL_V1, 3),
        (["4:cpu,memory:/a"], "memory/a", "memory.oom_control", CONTROL_V1, 3),
    ],
)  # fmt: skip
def test_the_control_group_is_found_in_both_versions(
    tmp_path: Path, lines: list[str], folder: str, file: str, text: str, kills: int
) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / file).write_text(text)

    group = group_from(lines, tmp_path)
    assert group is not None
    assert kills_in(group) == kills


def test_a_group_without_a_count_is_none(tmp_path: Path) -> None:
    assert group_from(["0::/gone", "x"], tmp_path) is None


def test_a_process_that_is_no_child_is_gone_without_a_reason(tmp_path: Path) -> None:
    own = ProcessName.of(os.getpid())
    assert own is not None
    processes.write_pid_file(tmp_path / "pid", ProcessName(2**22, 1, own.boot, own.namespace))

    reading = look(ProcessProbe(pid_file=tmp_path / "pid"))
    assert (reading.verdict, reading.fault) == (Verdict.CRITICAL, Fault.CRASH)
    assert "exit_code" not in reading.evidence


def test_an_id_that_another_process_got_later_is_not_taken_for_it(tmp_path: Path) -> None:
    own = ProcessName.of(os.getpid())
    assert own is not None
    processes.write_pid_file(
        tmp_path / "pid", ProcessName(own.pid, own.started - 1, own.boot, own.namespace)
    )

    assert look(ProcessProbe(pid_file=tmp_path / "pid")).verdict is Verdict.CRITICAL


def test_a_process_of_an_earlier_boot_is_gone(tmp_path: Path) -> None:
    processes.write_pid_file(tmp_path / "pid", ProcessName(os.getpid(), 1, "another", ""))

    assert look(ProcessProbe(pid_file=tmp_path / "pid")).fault is Fault.CRASH


@pytest.mark.parametrize("content", ["", "soon", "{}", '{"pid": -1}', "[1]"])
def test_a_file_that_names_nobody_is_unknown(tmp_path: Path, content: str) -> None:
    (tmp_path / "pid").write_text(content)

    assert look(ProcessProbe(pid_file=tmp_path / "pid")).verdict is Verdict.UNKNOWN


def test_no_file_is_unknown_and_a_folder_too(tmp_path: Path) -> None:
    assert look(ProcessProbe(pid_file=tmp_path / "pid")).verdict is Verdict.UNKNOWN
    assert look(ProcessProbe(pid_file=tmp_path)).verdict is Verdict.UNKNOWN


def test_a_number_alone_is_a_process_that_began_before_it_was_written(tmp_path: Path) -> None:
    child = subprocess.Popen(["/bin/sleep", "60"])
    (tmp_path / "pid").write_text(f"{child.pid}\n")
    fresh = look(ProcessProbe(pid_file=tmp_path / "pid"))
    os.utime(tmp_path / "pid", (1_000_000_000, 1_000_000_000))
    leftover = look(ProcessProbe(pid_file=tmp_path / "pid"))
    child.kill()
    child.wait()

    assert fresh.verdict is Verdict.OK
    assert leftover.verdict is Verdict.CRITICAL


@pytest.mark.parametrize("code", ["0", "256", "x", "-1"])
def test_what_is_no_exit_code_is_refused(tmp_path: Path, code: str) -> None:
    parameters = {"pid_file": str(tmp_path), "exit_faults": {code: "crash"}}
    with pytest.raises(ConfigurationError, match="exit codes"):
        build("process", parameters, PROBES, "test")
