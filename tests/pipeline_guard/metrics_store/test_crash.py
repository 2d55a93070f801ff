from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline_guard.metrics_store import MetricStore
from privacy_runtime.testing import ManualClock

BATCH = 100
WRITER = """
import sys
from datetime import timedelta
from pipeline_guard.metrics_store import MetricStore
from pipeline_guard.model import MetricPoint
from privacy_runtime.testing import DEFAULT_START, ManualClock

path, begin, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = MetricStore(path, clock=ManualClock())
number = begin
while True:
    store.record(
        MetricPoint(DEFAULT_START - timedelta(milliseconds=n), "a", f"m{n % 3}", float(n))
        for n in range(number, number + size)
    )
    number += size
    print(number, flush=True)
    if number // size % 7 == 0:
        store.seal()
"""


def _write_until_killed(path: Path, begin: int, after_s: float) -> int:
    """Return how many points the writer said were recorded before it was killed."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(begin), str(BATCH)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    acknowledged = int(writer.stdout.readline())
    time.sleep(after_s)
    os.kill(writer.pid, signal.SIGKILL)
    lines = writer.stdout.read().split("\n")
    writer.wait()
    writer.stdout.close()
    return max([acknowledged, *(int(line) for line in lines[:-1])])


@pytest.mark.parametrize(
    "kills", [6, pytest.param(60, marks=pytest.mark.slow)], ids=["six", "sixty"]
)
def test_a_kill_loses_no_acknowledged_point_and_doubles_none(tmp_path: Path, kills: int) -> None:
    path = tmp_path / "metrics.db"
    number = 0
    for kill in range(kills):
        acknowledged = _write_until_killed(path, number, after_s=0.02 + 0.037 * (kill % 11))
        with MetricStore(path, clock=ManualClock()) as store:
            points = store.query.points(limit=1_000_000)
            found = sorted(point.value for point in points)
            assert found == [float(n) for n in range(len(found))]
            assert acknowledged <= len(found) <= acknowledged + BATCH
            store.seal()
            with store._reading() as connection:
                counts = connection.execute(
                    "SELECT (SELECT sum(points) FROM chunks), "
                    "(SELECT sum(n) FROM rollups WHERE step_s = 60), "
                    "(SELECT sum(n) FROM rollups WHERE step_s = 3600)"
                ).fetchone()
                whole = connection.execute("PRAGMA integrity_check").fetchone()[0]
        assert counts == (len(found),) * 3
        assert whole == "ok"
        number = len(found)


def test_several_processes_write_and_seal_one_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.db"
    MetricStore(path, clock=ManualClock()).close()
    code = WRITER.replace("while True:", "while number < begin + 2_000:")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path), str(10_000 * k), str(BATCH)],
            stdout=subprocess.DEVNULL,
        )
        for k in range(3)
    ]

    codes = [writer.wait(timeout=120) for writer in writers]

    assert codes == [0, 0, 0]
    with MetricStore(path, clock=ManualClock()) as store:
        found = sorted(point.value for point in store.query.points(limit=100_000))
        assert store.query.summaries()[0][1].points == 2_000
    assert found == [float(10_000 * k + n) for k in range(3) for n in range(2_000)]
