"""The guard's file: whoever opens it first makes it, whole and once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pipeline_guard.errors import MonitoringError
from pipeline_guard.guard.records import Records, connect
from pipeline_guard.guard.tables import VERSION

TOGETHER = 8


def test_a_guard_and_those_who_ask_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    for number in range(10):
        path, faults = tmp_path / f"{number}.db", list[str]()
        path.touch()  # so that those who must find a file find one
        begin = threading.Barrier(TOGETHER)

        def opened(
            path: Path = path, faults: list[str] = faults, begin: threading.Barrier = begin
        ) -> None:
            begin.wait()
            try:
                connection = connect(path, must_exist=True)
                assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
                assert connection.execute("SELECT count(*) FROM status").fetchone() == (0,)
                connection.close()
            except MonitoringError as error:
                faults.append(error.message)

        threads = [threading.Thread(target=opened) for _ in range(TOGETHER)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert faults == []


def test_a_file_of_another_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "guard.db"
    connection = connect(path)
    connection.execute(f"PRAGMA user_version={VERSION + 1}")
    connection.close()

    with pytest.raises(MonitoringError, match=f"version {VERSION + 1}, expected {VERSION}"):
        connect(path)


def test_somebody_who_is_cancelled_does_not_end_the_records(tmp_path: Path) -> None:
    records, held = Records(tmp_path / "guard.db"), threading.Event()
    try:
        records._call(held.wait)  # the thread is busy: what follows waits in its queue
        forgotten = records.load()
        assert forgotten.cancel()
        held.set()

        saved, _ = records.load().result(timeout=10)

        assert not saved.incidents
    finally:
        held.set()
        records.close()
