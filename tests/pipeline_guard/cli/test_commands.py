"""The command line as its user has it: exit codes, documents, and a whole round."""

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

from pipeline_guard.cli.entry import _COMMANDS, application

_NO_HEAVY = "{'pydantic', 'pandas', 'scipy', 'torch', 'sqlalchemy', 'typer', 'fastapi'}"
ILL = """\
version: 1
mode: observe
defaults: {interval: 200ms, for: 2, clear_after: 2, grace_after_start: 0s}
components: {storage: {}}
checks: [{id: disk, component: storage, type: freshness, path: watched, crit: 1h}]
recoveries:
  - on: {component: storage, fault: stale_data}
    steps: [{command: {command: [/bin/true]}}]
"""


def guard(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline_guard.cli", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def document(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_every_command_has_words_that_help() -> None:
    import typer

    group: Any = typer.main.get_command(application())

    assert set(group.commands) >= {"init", "run", "status", "check", "explain", "silence"}
    for name, command in group.commands.items():
        assert command.get_short_help_str(), name
    assert set(_COMMANDS) >= {"promote", "replay", "test-recovery", "detect"}


def test_a_first_round_from_nothing_to_a_guard_that_runs(tmp_path: Path) -> None:
    assert guard(tmp_path, "init").returncode == 0
    assert guard(tmp_path, "init").returncode == 2
    found = document(guard(tmp_path, "check", "--once", "--json"))
    assert set(found["checks"]) == {"disk", "memory"}
    assert guard(tmp_path, "status").returncode == 3


def test_a_wrong_file_is_one_document_with_every_fault(tmp_path: Path) -> None:
    (tmp_path / "pipeline_guard.yaml").write_text("version: 1\nmod: act\nrate: {actions: -1}\n")
    done = guard(tmp_path, "check", "--json")

    assert done.returncode == 2
    error = document(done)["error"]
    assert error["type"] == "ConfigurationError"
    assert [fault["path"] for fault in error["details"]["faults"]] == ["mod", "rate.actions"]
    assert "pipeline_guard.yaml:2: mod is not a known key; did you mean 'mode'?" in done.stderr


def test_a_daemon_carries_nothing_heavy(tmp_path: Path) -> None:
    code = f"import sys, pipeline_guard.cli.daemon; print(sorted({_NO_HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stdout.strip() == "[]", done.stderr


def until(condition: Any, within_s: float = 90.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture
def running(tmp_path: Path) -> Any:
    (tmp_path / "pipeline_guard.yaml").write_text(ILL)
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline_guard.cli", "run"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield tmp_path, process
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.mark.slow
def test_people_ask_silence_and_promote_a_guard_that_runs(running: Any) -> None:
    folder, _ = running
    database = folder / "pipeline_guard.db"
    until(database.exists)

    def has_noted() -> bool:
        events = guard(folder, "history", "--json")
        return events.returncode == 0 and any(e["kind"] == "noted" for e in document(events))

    until(has_noted)
    status = guard(folder, "status", "--json")
    found = document(status)
    assert status.returncode in (1, 2)
    assert found["recoveries"]["storage.stale_data"]["mode"] == "observe"

    name = found["alerts"][0]["id"]
    told = document(guard(folder, "explain", name[:8], "--json"))
    assert [event["kind"] for event in told["events"]][:2] == ["opened", "noted"]
    assert guard(folder, "explain", "nothing").returncode == 2
    assert guard(folder, "silence", "storage", "--for", "2h").returncode == 0
    assert guard(folder, "silence", "storage", "--for", "soon").returncode == 2
    promoted = document(guard(folder, "promote", "storage.stale_data", "--json"))
    assert promoted == {"recovery": "storage.stale_data", "mode": "act", "is_held_by_file": True}
    assert guard(folder, "promote", "storage.stale").returncode == 2
    kinds = [e["kind"] for e in document(guard(folder, "history", "--verify", "--json"))]
    assert {"silenced", "promoted"} <= set(kinds)


def test_replay_shows_which_alerts_a_change_takes_away(tmp_path: Path) -> None:
    (tmp_path / "pipeline_guard.yaml").write_text(ILL)
    (tmp_path / "calm.yaml").write_text(ILL.replace("for: 2", "for: 4"))
    verdicts = ["ok", "critical", "critical", "ok", "ok", "ok"] * 2 + ["critical"] * 6
    lines = [
        {"at": f"2026-01-01T00:00:{second:02}Z", "check": "disk", "verdict": verdict,
         "fault": None if verdict == "ok" else "stale_data"}
        for second, verdict in enumerate(verdicts)
    ]  # fmt: skip
    (tmp_path / "looks.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    found = document(guard(tmp_path, "replay", "looks.jsonl", "--new", "calm.yaml", "--json"))

    assert (found["alerts_before"], found["alerts_now"]) == (3, 1)
    assert [each["opened"][:19] for each in found["gone"]] == [
        "2026-01-01T00:00:02", "2026-01-01T00:00:08",
    ]  # fmt: skip
    assert found["new"] == []
