"""Real processes: started, stopped, restarted, and never a stranger hit."""

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

from pipeline_guard import processes
from pipeline_guard.errors import RecoveryError
from pipeline_guard.processes import ProcessName, read_pid_file
from pipeline_guard.remedies.actions import locked, run
from pipeline_guard.remedies.options import (
    HalveMicroBatch,
    read_overrides,
    with_overrides,
    write_override,
)
from pipeline_guard.remedies.programs import Restart, ResumeTraining, Start, Terminate
from pipeline_guard.remedies.stacks import CaptureStacks

from .conftest import case  # noqa: TID252  of this folder


def sleeping(tmp_path: Path, script: str = "sleep 60") -> dict[str, Any]:
    return {
        "command": ["/bin/sh", "-c", script],
        "pid_file": str(tmp_path / "pid"),
        "log": str(tmp_path / "log"),
    }


def running(tmp_path: Path) -> ProcessName:
    name = read_pid_file(tmp_path / "pid")
    assert name is not None
    return name


def waited(path: Path, text: str = "") -> str:
    """The content of a file, once it is there and holds a text."""
    for _ in range(500):
        if path.exists() and text in (found := path.read_text()) and found:
            return found
        time.sleep(0.02)
    pytest.fail(f"{path.name} was not written")


def test_a_program_is_started_in_a_session_of_its_own_and_named(tmp_path: Path) -> None:
    settings = sleeping(tmp_path, "echo hello; sleep 60")
    remedy = Start()
    assert remedy.objection(case(settings)) is None

    applied = remedy.apply(case(settings), 10)

    name = running(tmp_path)
    assert name.is_alive()
    assert name.leads_group()
    assert applied.evidence["pid"] == name.pid
    waited(tmp_path / "log", "hello")
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_what_runs_is_not_started_twice(tmp_path: Path) -> None:
    settings = sleeping(tmp_path)
    Start().apply(case(settings), 10)

    assert "runs already" in (Start().objection(case(settings)) or "")
    with pytest.raises(RecoveryError, match="runs already"):
        Start().apply(case(settings), 10)


def test_a_program_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    settings = {**sleeping(tmp_path), "command": ["/nowhere/at-all"]}

    with pytest.raises(RecoveryError, match="nothing was changed"):
        Start().apply(case(settings), 10)
    assert not (tmp_path / "pid").exists()


def test_a_pid_file_that_cannot_be_written_stops_the_program_again(tmp_path: Path) -> None:
    settings = {
        "command": ["/bin/sh", "-c", f"echo $$ > {tmp_path}/mine; sleep 60"],
        "pid_file": str(tmp_path / "no" / "pid"),
    }
    with pytest.raises(RecoveryError, match="stopped again"):
        Start().apply(case(settings), 10)


@pytest.mark.parametrize(
    ("remedy", "settings", "words"),
    [
        (Start(), {}, "'command'"),
        (Start(), {"command": ["x"]}, "'pid_file'"),
        (Restart(), {"command": ["x"]}, "'pid_file'"),
        (Terminate(), {}, "'pid_file'"),
        (ResumeTraining(), {"resume_command": ["x"]}, "'run'"),
        (HalveMicroBatch(), {}, "'pid_file'"),
    ],
)
def test_what_is_not_said_is_an_objection(
    remedy: Any, settings: dict[str, Any], words: str
) -> None:
    assert words in (remedy.objection(case(settings)) or "")


def test_a_command_that_is_one_text_is_refused() -> None:
    with pytest.raises(RecoveryError, match="no list of texts"):
        Start().objection(case({"command": "rm -rf /"}))


def test_a_program_that_listens_ends_at_sigterm(tmp_path: Path) -> None:
    trap = f"trap 'echo saved > {tmp_path}/end; exit 0' TERM"
    script = f"{trap}; echo on > {tmp_path}/on; while :; do sleep 0.05; done"
    settings = sleeping(tmp_path, script)
    Start().apply(case(settings), 10)
    waited(tmp_path / "on")

    applied = Terminate(grace_s=10).apply(case(settings), 20)

    assert "SIGTERM" in applied.summary
    assert (tmp_path / "end").read_text() == "saved\n"


def test_one_that_is_stopped_or_deaf_is_killed_with_its_children(tmp_path: Path) -> None:
    settings = sleeping(tmp_path, f"trap '' TERM; sleep 60 & echo $! > {tmp_path}/child; wait")
    Start().apply(case(settings), 10)
    child = ProcessName.of(int(waited(tmp_path / "child")))
    name = running(tmp_path)
    name.send(signal.SIGSTOP)

    applied = Terminate(grace_s=0.3).apply(case(settings), 10)

    assert "killed" in applied.summary
    assert not name.is_alive()
    assert child is not None
    assert child.ended_within(5)


def test_a_process_that_got_the_id_later_is_never_signalled(tmp_path: Path) -> None:
    Start().apply(case(sleeping(tmp_path)), 10)
    name = running(tmp_path)
    processes.write_pid_file(
        tmp_path / "pid", ProcessName(name.pid, name.started - 1, name.boot, name.namespace)
    )

    applied = Terminate(grace_s=0.2).apply(case(sleeping(tmp_path)), 10)

    assert applied.summary == "it was gone already"
    assert name.is_alive()


def test_a_process_of_another_container_is_not_signalled(tmp_path: Path) -> None:
    own = ProcessName.of(os.getpid())
    assert own is not None
    processes.write_pid_file(tmp_path / "pid", ProcessName(1, own.started, own.boot, "pid:[7]"))

    with pytest.raises(RecoveryError, match="another container"):
        Terminate().apply(case(sleeping(tmp_path)), 10)


def test_the_guards_own_group_is_never_hit() -> None:
    code = (
        "import os; os.setsid()\n"
        "from pipeline_guard.processes import ProcessName\n"
        "print(ProcessName.of(os.getpid()).leads_group())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


def test_a_restart_ends_the_old_process_and_starts_another(tmp_path: Path) -> None:
    settings = sleeping(tmp_path)
    Start().apply(case(settings), 10)
    before = running(tmp_path)

    applied = Restart(grace_s=1).apply(case(settings), 10)

    after = running(tmp_path)
    assert not before.is_alive()
    assert after.is_alive()
    assert after != before
    assert applied.evidence["stopped"]["pid"] == before.pid


def test_a_training_is_resumed_where_its_folder_is(tmp_path: Path) -> None:
    settings = {
        **sleeping(tmp_path),
        "resume_command": ["/bin/sh", "-c", f"echo resumed > {tmp_path}/said; sleep 60"],
        "run": str(tmp_path / "run"),
    }
    assert "not there" in (ResumeTraining().objection(case(settings)) or "")
    (tmp_path / "run").mkdir()
    assert ResumeTraining().objection(case(settings)) is None

    ResumeTraining().apply(case(settings), 10)

    assert waited(tmp_path / "said") == "resumed\n"
    assert "runs already" in (ResumeTraining().objection(case(settings)) or "")


LEAVING = """
import sys, time
from pathlib import Path
from pipeline_guard.heartbeat import Heartbeat
heart = Heartbeat(Path(sys.argv[1]) / "run" / "heartbeat.json")
heart.fail("MemoryError")
(Path(sys.argv[1]) / "failed").write_text("yes")
time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize(("stays_s", "is_resumed"), [(1.0, True), (60.0, False)])
def test_a_training_that_says_that_it_failed_is_waited_for_while_it_leaves(
    tmp_path: Path, stays_s: float, is_resumed: bool
) -> None:
    (tmp_path / "run").mkdir()
    settings = {
        **sleeping(tmp_path),
        "command": [sys.executable, "-c", LEAVING, str(tmp_path), str(stays_s)],
        "resume_command": ["/bin/sh", "-c", f"echo resumed > {tmp_path}/said; sleep 60"],
        "run": str(tmp_path / "run"),
    }
    Start().apply(case(settings), 10)
    waited(tmp_path / "failed", "yes")
    remedy = ResumeTraining(leave_s=20.0 if is_resumed else 0.2)
    assert remedy.objection(case(settings)) is None

    if is_resumed:
        remedy.apply(case(settings), 30)
        assert waited(tmp_path / "said") == "resumed\n"
    else:
        with pytest.raises(RecoveryError, match="said that it ended, and runs"):
            remedy.apply(case(settings), 30)


HANGING = """
import sys, time
from pathlib import Path
from pipeline_guard.heartbeat import Heartbeat, dump_stacks_on_signal
folder = Path(sys.argv[1])
dump_stacks_on_signal(folder)
heart = Heartbeat(folder / "heartbeat.json")
def hangs_here():
    time.sleep(60)
hangs_here()
"""


def test_stacks_of_a_program_that_can_write_them(tmp_path: Path) -> None:
    settings = {
        "command": [sys.executable, "-c", HANGING, str(tmp_path)],
        "pid_file": str(tmp_path / "pid"),
        "heartbeat": str(tmp_path / "heartbeat.json"),
    }
    Start().apply(case(settings), 10)
    waited(tmp_path / "heartbeat.json")

    applied = CaptureStacks().apply(case(settings), 10)

    assert "hangs_here" in (tmp_path / "stacks.txt").read_text()
    assert applied.evidence["stacks"] == str(tmp_path / "stacks.txt")
    assert running(tmp_path).is_alive()


def test_a_program_that_would_die_of_the_signal_gets_none(tmp_path: Path) -> None:
    settings = {**sleeping(tmp_path), "stacks": str(tmp_path / "stacks.txt")}
    Start().apply(case(settings), 10)

    applied = CaptureStacks(wait_s=0.2).apply(case(settings), 10)

    assert running(tmp_path).is_alive()
    assert applied.evidence["threads"][0]["state"] != "a zombie"


def test_a_program_that_is_stopped_says_so_itself_no_more(tmp_path: Path) -> None:
    settings = sleeping(tmp_path)
    Start().apply(case(settings), 10)
    running(tmp_path).send(signal.SIGSTOP)

    for _ in range(100):
        applied = CaptureStacks(wait_s=0.2).apply(case(settings), 10)
        if applied.evidence["threads"][0]["state"] == "stopped":
            return
        time.sleep(0.02)
    pytest.fail("it is not stopped")


def test_a_half_is_kept_for_every_later_start_and_the_logical_batch_stays(tmp_path: Path) -> None:
    settings = {
        "command": ["/bin/sh", "-c", f'echo "$@" > {tmp_path}/args; sleep 60', "train",
                    "--batch-size", "64", "--micro-batch-tokens", "4096"],
        "pid_file": str(tmp_path / "pid"),
    }  # fmt: skip
    remedy = HalveMicroBatch()
    assert "from 4096 to 2048" in remedy.intent(case(settings))

    first = remedy.apply(case(settings), 10)
    second = remedy.apply(case(settings), 10)
    Start().apply(case(settings), 10)

    assert (first.evidence["before"], second.evidence["after"]) == (4096, 1024)
    assert waited(tmp_path / "args") == "--batch-size 64 --micro-batch-tokens 1024\n"


def test_it_is_not_halved_below_the_least(tmp_path: Path) -> None:
    settings = {"command": ["x", "--micro-batch-tokens=200"], "pid_file": str(tmp_path / "pid")}

    assert "may not go below" in (HalveMicroBatch(least=128).objection(case(settings)) or "")


@pytest.mark.parametrize(
    "document",
    [
        {"batch_size": 1},
        {"noise_multiplier": 1},
        {"micro_batch_tokens": 0},
        {"micro_batch_tokens": "8"},
        [],
    ],
)
def test_no_other_option_can_be_changed_by_the_file(tmp_path: Path, document: object) -> None:
    (tmp_path / "pid.options.json").write_text(json.dumps(document))

    with pytest.raises(ValueError, match=r"options\.json"):
        read_overrides(tmp_path / "pid")
    assert HalveMicroBatch().objection(case({"pid_file": str(tmp_path / "pid")})) is not None
    with pytest.raises(RecoveryError, match="nothing was changed"):
        Start().apply(case(sleeping(tmp_path)), 10)


@pytest.mark.parametrize("name", ["batch_size", "noise_multiplier", "max_grad_norm"])
def test_nothing_that_decides_the_price_can_be_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no option that a recovery may change"):
        write_override(tmp_path / "pid", name, 1)


def test_an_option_takes_the_place_of_each_of_its_forms() -> None:
    changed = {"micro_batch_tokens": 8}

    assert with_overrides(["a", "--micro-batch-tokens", "5", "b"], changed) == (
        "a", "b", "--micro-batch-tokens", "8",
    )  # fmt: skip
    assert with_overrides(["a", "--micro-batch-tokens=5"], changed)[-1] == "8"
    assert with_overrides(["a"], {}) == ("a",)


def test_two_recoveries_of_one_target_do_not_meet() -> None:
    with locked("target"), pytest.raises(RecoveryError, match="another recovery"), locked("target"):
        pass
    with locked("target"):
        pass


def test_a_program_that_is_late_is_killed_with_its_children(tmp_path: Path) -> None:
    script = f"sleep 60 & echo $! > {tmp_path}/child; wait"

    with pytest.raises(RecoveryError, match="was killed"):
        run(["/bin/sh", "-c", script], 1.5)

    child = ProcessName.of(int((tmp_path / "child").read_text()))
    assert child is None or child.ended_within(5)
