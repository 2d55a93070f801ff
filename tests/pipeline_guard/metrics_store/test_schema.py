from __future__ import annotations

import math
import sqlite3
import stat
from pathlib import Path

import pytest

from pipeline_guard.errors import MonitoringError
from pipeline_guard.metrics_store import MetricStore, schema
from privacy_runtime.testing import ManualClock


def _open(path: Path) -> MetricStore:
    return MetricStore(path, clock=ManualClock())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / "metrics.db"
    with _open(place) as store:
        for number in range(3_000):
            store.record_one("a", "b", number / 7)
        store.seal()
    return place


def test_a_store_is_its_owners_alone(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_was_recorded_is_there_after_opening_again(path: Path) -> None:
    with _open(path) as store:
        assert len(store.query.points(limit=5_000)) == 3_000


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MonitoringError, match="No such file or directory; nothing was changed"):
        _open(tmp_path / "nowhere" / "metrics.db")


@pytest.mark.parametrize("content", [b"not a database, " * 400, b"PK\x03\x04" + b"\0" * 5_000])
def test_a_file_that_is_no_store_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "metrics.db"
    place.write_bytes(content)

    with pytest.raises(MonitoringError, match=r"nothing was overwritten.*\.recover"):
        _open(place)

    assert place.read_bytes() == content


def test_the_database_of_another_program_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "other.db"
    with sqlite3.connect(place) as other:
        other.execute("CREATE TABLE patients (name TEXT)")
    other.close()
    before = place.read_bytes()

    with pytest.raises(MonitoringError, match="another program"):
        _open(place)

    assert place.read_bytes() == before


def test_a_file_of_the_first_version_keeps_its_points_sealed_and_waiting(path: Path) -> None:
    now = ManualClock().now()
    with sqlite3.connect(path) as file:
        file.execute("DROP TABLE arrivals")
        file.execute(
            "CREATE TABLE hot (row INTEGER PRIMARY KEY, series INTEGER NOT NULL, "
            "at_us INTEGER NOT NULL, value REAL)"
        )
        at_us = int(now.timestamp() * 1e6)
        rows = [(1, at_us + n, n / 3) for n in range(1, 20_001)]
        file.executemany("INSERT INTO hot (series, at_us, value) VALUES (?, ?, ?)", rows)
        file.execute("INSERT INTO hot (series, at_us) VALUES (1, ?)", (at_us + 20_001,))
        file.execute("PRAGMA user_version=1")
    file.close()

    with _open(path) as store:
        found = store.query.points(limit=30_000)
        assert len(found) == 23_001
        assert [p.value for p in found[3_000:-1]] == [n / 3 for n in range(1, 20_001)]
        assert math.isnan(found[-1].value)
        store.seal()
        assert store.query.summaries()[0][1].points == 23_001
    with _open(path) as store:
        assert len(store.query.points(limit=30_000)) == 23_001


def test_a_newer_version_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA user_version=99")
    file.close()

    with pytest.raises(MonitoringError, match=r"version 99.*Use the newer program"):
        _open(path)


def test_a_migration_that_fails_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE extra (a)")
        connection.execute("CREATE TABLE extra (a)")

    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, half))
    with pytest.raises(MonitoringError):
        _open(path)
    monkeypatch.undo()

    with _open(path) as store:
        assert len(store.query.points(limit=5_000)) == 3_000


def test_pages_that_are_damaged_are_reported_with_what_to_do(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    path.write_bytes(content)

    with pytest.raises(MonitoringError, match="nothing was overwritten"), _open(path) as store:
        store.query.points(limit=5_000)


def test_a_chunk_that_is_damaged_names_itself(path: Path) -> None:
    with sqlite3.connect(path) as file:
        file.execute("UPDATE packed SET samples = zeroblob(40) WHERE chunk = 2")
    file.close()

    with _open(path) as store, pytest.raises(MonitoringError, match=r"chunk 2 .* is damaged"):
        store.query.points(limit=5_000)


def test_a_file_that_stays_locked_is_reported(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_S", 0.05)
    with _open(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(MonitoringError, match="locked by another process"):
            store.record_one("a", "b", 1.0)
        other.execute("ROLLBACK")
        other.close()

        store.record_one("a", "b", 1.0)
