from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline_guard.cli.metrics import main
from pipeline_guard.metrics_store import MetricStore
from pipeline_guard.model import MetricPoint
from privacy_runtime.testing import ManualClock

ROOT = Path(__file__).parents[3]
DOCUMENTED = [sys.executable, "-m", "src.mobile_multimodal.guard_metrics"]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path, clock: ManualClock) -> Path:
    place = tmp_path / "metrics.db"
    start = clock.now()
    clock.advance(3 * 3_600)
    with MetricStore(place, clock=clock) as store:
        store.record(
            MetricPoint(start + timedelta(seconds=30 * k), "training", "loss", 2 + (k % 10) / 10)
            for k in range(360)
        )
        store.record([MetricPoint(start, "training", "rows", float("nan"), {"b": "2", "a": "1"})])
    return place


def test_analyze_shows_the_series_of_a_component(
    path: Path, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["--analyze", "training", "--db", str(path), "--json"], clock=clock)

    loss, rows = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (loss["series"], loss["points"], loss["min"], loss["max"]) == ("loss", 360, 2.0, 2.9)
    assert loss["mean"] == pytest.approx(2.45)
    assert loss["newest"] == 2.9
    assert rows["series"] == 'rows{a="1",b="2"}'
    assert (rows["points"], rows["mean"]) == (0, None)


def test_the_table_is_for_people(
    path: Path, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--analyze", "training", "--db", str(path)], clock=clock)
    head, first, second = capsys.readouterr().out.splitlines()

    assert head.split() == [
        "series", "points", "min", "median", "mean", "p95", "max", "newest", "at",
    ]  # fmt: skip
    assert first.split()[:3] == ["loss", "360", "2"]
    assert second.split()[1:4] == ["0", "none", "none"]


def test_baselines_are_learned_and_judge_the_newest_value(
    path: Path, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--db", str(path), "--json"]
    quiet = main(["--baselines", *arguments], clock=clock)
    (learned,) = json.loads(capsys.readouterr().out)
    before = main(["--alerts", *arguments], clock=clock)
    nothing = json.loads(capsys.readouterr().out)
    with MetricStore(path, clock=clock) as store:
        store.record_one("training", "loss", 900.0)
    after = main(["--alerts", *arguments], clock=clock)
    (unusual,) = json.loads(capsys.readouterr().out)
    clock.advance(2 * 3_600)
    later = main(["--alerts", *arguments], clock=clock)

    assert (quiet, before, after, later) == (0, 0, 1, 0)
    assert (learned["points"], learned["version"], learned["learning"]) == (360, 1, False)
    assert nothing == []
    assert (unusual["series"], unusual["newest"]) == ("loss", 900.0)
    assert unusual["scales_away"] > 100


def test_without_baselines_it_says_how_to_make_them(
    path: Path, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["--alerts", "--db", str(path)], clock=clock)

    assert code == 0
    assert "--baselines makes them" in capsys.readouterr().out


def test_a_component_that_was_never_recorded_is_named(
    path: Path, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["--analyze", "router", "--db", str(path)], clock=clock)

    assert code == 0
    assert "no metric of 'router'" in capsys.readouterr().out


@pytest.mark.parametrize("task", [["--analyze", "training"], ["--baselines"], ["--alerts"]])
def test_a_missing_file_is_not_made(
    task: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*task, "--db", str(tmp_path / "none.db"), "--json"])

    error = json.loads(capsys.readouterr().err)["error"]
    assert code == 3
    assert error["type"] == "MonitoringError"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["--baselines", "--alerts"], ["--analyse", "a"]])
def test_a_command_line_that_is_none_ends_with_two(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2


def test_the_documented_address_collects_until_it_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.db"
    collecting = subprocess.Popen(
        [*DOCUMENTED, "--collect", "--db", str(path), "--interval", "0.05"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert collecting.stdout is not None
    first = collecting.stdout.readline()
    with MetricStore(path) as store:
        while len(store.query.points("compute")) < 12:
            time.sleep(0.02)
    os.kill(collecting.pid, signal.SIGTERM)
    rest = collecting.stdout.read()
    collecting.stdout.close()

    assert collecting.wait(timeout=30) == 0
    assert "collecting into" in first
    assert int(rest.split()[0]) >= 12
    shown = subprocess.run(
        [*DOCUMENTED, "--analyze", "compute", "--db", str(path), "--json"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert "memory_used_bytes" in {row["series"] for row in json.loads(shown.stdout)}


def test_both_addresses_lead_to_the_same_collector() -> None:
    code = (
        "from src.mobile_multimodal.guard_metrics import MetricsCollector as a\n"
        "from mobile_multimodal.guard_metrics import MetricsCollector as b\n"
        "assert a is b"
    )

    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_collecting_imports_nothing_heavy() -> None:
    code = (
        "import sys, mobile_multimodal.guard_metrics\n"
        "heavy = {'numpy', 'pandas', 'scipy', 'torch', 'pydantic', 'sqlalchemy', 'fastapi'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
