"""The child's own words about its end: codes, and nothing of this machine or of the records."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from privacy_core.errors import PrivacyError
from privacy_finetuner.cli.request import Settings, TrainRequest
from privacy_finetuner.errors import (
    CheckpointError,
    CheckpointNotWritten,
    DatasetError,
    PrivacyBudgetExhaustedException,
)
from privacy_finetuner.jobs import child, lines
from privacy_finetuner.jobs.attempt import Attempt
from privacy_finetuner.jobs.errors import JobStoreUnavailable, LeaseLost
from privacy_finetuner.jobs.lines import Task
from privacy_finetuner.jobs.process import Child
from privacy_runtime.files import WriteFailed
from privacy_runtime.journal import StoreUnavailable
from privacy_runtime.world import SystemClock, SystemEntropy


def task(yard: Any, **more: Any) -> Task:
    given: dict[str, Any] = {
        "job": "job_x",
        "spec": yard.spec(account="notes/2026"),
        "model": "/srv/models/secret-place",
        "dataset": "/srv/data/records.jsonl",
        "eval_dataset": None,
        "folder": str(yard.folder / "runs" / "job_x"),
        "ledger": "postgresql://user:word@host/db",
        "keys": str(yard.folder),
        "worker_process": os.getpid(),
    }
    return Task(**(given | more))


def chained(error: PrivacyError, cause: BaseException) -> PrivacyError:
    error.__cause__ = cause
    return error


EXHAUSTED = PrivacyBudgetExhaustedException(
    epsilon_requested=8, epsilon_remaining=1, delta_requested=1e-5, delta_remaining=1e-5
)
FULL = OSError(errno.ENOSPC, "no space")
FAILS = OSError(errno.EIO, "Ada Lovelace's disk")


@pytest.mark.parametrize(
    ("error", "code", "may_pass"),
    [
        (EXHAUSTED, "budget_exhausted", False),
        (DatasetError("no field"), "dataset_error", False),
        (StoreUnavailable("db", reason="away", state="nothing"), "store_unavailable", True),
        (
            chained(WriteFailed(Path("x"), reason="no space", state="intact"), FULL),
            "disk_full",
            True,
        ),
        (
            chained(CheckpointError("not saved"), chained(CheckpointError("inner"), FULL)),
            "disk_full",
            True,
        ),
        (chained(CheckpointNotWritten("not saved"), FAILS), "disk_error", True),
        (CheckpointNotWritten("not saved (RuntimeError)"), "checkpoint_not_written", True),
        (CheckpointError("damaged"), "checkpoint_error", False),
    ],
)
def test_a_refusal_keeps_its_code(
    small_yard: Any, error: PrivacyError, code: str, may_pass: bool
) -> None:
    end = child._refused(error, task(small_yard))
    assert (end.how, end.code, end.may_pass) == (lines.FAILED, code, may_pass)
    assert end.message


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), "out_of_memory"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), "out_of_memory"),
        (FULL, "disk_full"),
        (FAILS, "disk_error"),
        (KeyError("Ada Lovelace"), "internal_error"),
        (RuntimeError("token of patient 7"), "internal_error"),
    ],
)
def test_the_words_of_anything_else_stay_in_the_log(error: Exception, code: str) -> None:
    end = child._broken(error)
    assert end.code == code
    assert "Ada" not in (end.message or "")
    assert "patient" not in (end.message or "")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (chained(WriteFailed(Path("x"), reason="no space", state="intact"), FULL), "disk_full"),
        (chained(WriteFailed(Path("x"), reason="broken", state="intact"), FAILS), "disk_error"),
    ],
)
def test_a_certificate_that_the_disk_refused_is_written_by_the_next_attempt(
    small_yard: Any, monkeypatch: pytest.MonkeyPatch, error: PrivacyError, code: str
) -> None:
    """The run is finished, so the next attempt trains nothing."""

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("privacy_finetuner.assessment.certificate_issue.issue", refuse)
    asked = task(small_yard)
    with pytest.raises(WriteFailed) as caught:
        child._handed_over(asked, child.Story(os.dup(2)), SystemClock(), SystemEntropy(), ())
    end = child._refused(caught.value, asked)
    assert (end.code, end.may_pass) == (code, True)


def test_paths_and_addresses_of_this_machine_are_not_told(small_yard: Any) -> None:
    asked = task(small_yard)
    said = (
        f"{asked.dataset}, line 3; {asked.model}/config.json; {asked.folder}/checkpoint-3; "
        f"--ledger {asked.ledger}"
    )
    assert child._public(said, asked) == (
        "sample:records, line 3; sample:model/config.json; the job's folder/checkpoint-3; "
        "--ledger LEDGER"
    )


def start(argument: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "privacy_finetuner.jobs.child"]
    return subprocess.run(command, input=argument, capture_output=True, check=False)


def test_a_child_without_a_task_or_with_another_parent_does_nothing(small_yard: Any) -> None:
    assert start(b"").returncode == child.STOPPED_EXIT
    orphan = task(small_yard, worker_process=1)
    ended = start(orphan.line())
    assert (ended.returncode, ended.stdout) == (child.STOPPED_EXIT, b"")
    assert not Path(orphan.folder).exists()


class Unsteady:
    """Leases whose database is away for some questions."""

    def __init__(self, leases: Any, failures: int) -> None:
        self._leases, self._failures = leases, failures
        self.lease_s = leases.lease_s
        self.told: list[Any] = []

    def _maybe(self) -> None:
        self._failures -= 1
        if self._failures >= 0:
            raise JobStoreUnavailable("db", reason="away")

    def tell(self, claim: Any, story: Any, **figures: Any) -> None:
        self._maybe()
        self.told += story
        self._leases.tell(claim, story, **figures)

    def renew(self, claim: Any) -> bool:
        self._maybe()
        return bool(self._leases.renew(claim))

    def is_cancelled(self, claim: Any) -> bool:
        self._maybe()
        return False


def attempt(yard: Any, script: str, leases: Any) -> Attempt:
    yard.submit()
    claim = yard.leases().claim("w")
    process = Child.start(
        task(yard, folder=str(yard.jobs.folder(claim.job))), command=yard.script(script)
    )
    return Attempt(claim, leases, process, SystemClock(), threading.Event(), lambda: None)


def test_lines_wait_while_the_database_is_away(live_yard: Any) -> None:
    leases = Unsteady(live_yard.leases(), failures=2)
    one = attempt(
        live_yard,
        """
        for n in range(8):
            tell("step", step=n, steps=8)
            time.sleep(0.2)
        end()
        """,
        leases,
    )
    assert one.run().end is not None
    assert [body["step"] for _, body in [*leases.told, *one.story]] == list(range(8))


def test_a_child_is_killed_when_the_database_is_away_for_a_lease(live_yard: Any) -> None:
    live_yard.lease_s = 0.5
    leases = Unsteady(live_yard.leases(), failures=10**6)
    one = attempt(live_yard, 'tell("step", step=1)\ntime.sleep(600)', leases)
    with pytest.raises(LeaseLost):
        one.run()
    assert one.child.has_exited()


def test_a_flood_of_steps_does_not_grow_memory(live_yard: Any) -> None:
    leases = Unsteady(live_yard.leases(), failures=10**6)
    one = attempt(
        live_yard,
        """
        tell("epoch", epoch=1)
        for n in range(3000):
            tell("step", step=n)
        end()
        """,
        leases,
    )
    one.run()
    assert len(one.story) == 1000
    assert one.story[0][1] == {"epoch": 1}
    assert one.story[-1][1] == {"step": 2999}
    assert one.figures["step"] == 2999


@pytest.mark.parametrize(
    ("training", "size"),
    [
        ({}, 12),
        ({"batch_size": 40}, 40),
        ({"unit": "user", "user_field": "who", "max_examples_per_user": 2}, 8),
    ],
)
def test_a_job_that_names_no_batch_size_has_that_of_the_command_line(
    small_yard: Any, tmp_path: Path, training: dict[str, Any], size: int
) -> None:
    data = tmp_path / "records.jsonl"
    rows = [{"text": "a b", "who": f"u{n % 50}"} for n in range(200)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = TrainRequest(model="m", data=data, epsilon=3.0, output=tmp_path, **training)
    job = task(small_yard, spec=small_yard.spec(training=training), dataset=str(data))

    assert child._options(job)["batch_size"] == size
    assert Settings.of(asked).batch_size == size
