"""What only a file can suffer."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from privacy_runtime.journal import Change, Draft, ForeignSchema, Journal, StoreUnavailable, View
from privacy_runtime.journal.schema import ENTRIES, MIGRATIONS, VERSION, migrate
from privacy_runtime.journal.sqlite import SqliteHome
from privacy_runtime.testing import ManualClock

S = "stream"


def one(key: str) -> Any:
    return lambda view: Change([Draft("t", key, {"v": 1})])


def open_at(path: Path, retry_s: float = 0.05) -> Journal:
    return Journal(SqliteHome(path, busy_s=0.05), clock=ManualClock(), retry_s=retry_s)


def test_the_file_and_its_companions_are_the_owners_alone(tmp_path: Path) -> None:
    journal = open_at(tmp_path / "j.db")
    journal.transact(S, one("k"))

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    journal.close()

    assert modes == {"j.db": 0o600, "j.db-wal": 0o600, "j.db-shm": 0o600}


def test_commits_wait_for_the_disk(tmp_path: Path) -> None:
    home = SqliteHome(tmp_path / "j.db")
    home.row(S)
    assert home._connection is not None
    pragma = {
        name: home._connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("synchronous", "journal_mode")
    }
    home.disconnect()

    assert pragma == {"synchronous": 2, "journal_mode": "wal"}


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_goes_away_in_mid_transaction_is_noticed(
    tmp_path: Path, replaced: bool
) -> None:
    path = tmp_path / "j.db"
    journal = open_at(path)
    journal.transact(S, one("k1"))

    def lose_the_file(view: View) -> Change:
        path.rename(tmp_path / "elsewhere.db")
        if replaced:
            shutil.copy(tmp_path / "elsewhere.db", path)
        return Change([Draft("t", "k2", {})])

    with pytest.raises(StoreUnavailable, match="removed or replaced"):
        journal.transact(S, lose_the_file)
    with pytest.raises(StoreUnavailable, match="nothing was written"):
        journal.transact(S, one("k2"))
    with pytest.raises(StoreUnavailable):
        list(journal.read(S))
    journal.close()
    with pytest.raises(StoreUnavailable):
        journal.transact(S, one("k2"))
    assert path.exists() is replaced  # no empty ledger was made in its place


def test_a_locked_file_is_waited_for_and_then_refused(tmp_path: Path) -> None:
    journal = open_at(tmp_path / "j.db")
    journal.transact(S, one("k1"))
    other = sqlite3.connect(tmp_path / "j.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match="locked; nothing was written"):
        journal.transact(S, one("k2"))
    assert [entry.key for entry in journal.read(S)] == ["k1"]
    other.execute("ROLLBACK")
    other.close()
    journal.transact(S, one("k2"))
    journal.close()


def test_what_is_not_a_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    path.write_bytes(b"a shopping list, " * 100)

    with pytest.raises(StoreUnavailable, match="not a database"):
        open_at(path).transact(S, one("k"))

    assert path.read_bytes() == b"a shopping list, " * 100


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="No such file"):
        open_at(tmp_path / "missing" / "j.db").transact(S, one("k"))


def test_a_newer_schema_is_refused_and_not_a_byte_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    with sqlite3.connect(path) as newer:
        newer.execute("CREATE TABLE journal_schema (version INTEGER NOT NULL)")
        newer.execute("INSERT INTO journal_schema VALUES (?)", (VERSION + 1,))
    newer.close()
    before = path.read_bytes()

    with pytest.raises(ForeignSchema, match=f"schema version {VERSION + 1}.*nothing was changed"):
        open_at(path).transact(S, one("k"))

    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["j.db"]


@pytest.mark.parametrize("versions", [[], [1, 2], [0], [-1]])
def test_a_schema_without_one_known_version_is_refused(tmp_path: Path, versions: list[int]) -> None:
    path = tmp_path / "j.db"
    with sqlite3.connect(path) as odd:
        odd.execute("CREATE TABLE journal_schema (version INTEGER NOT NULL)")
        odd.executemany("INSERT INTO journal_schema VALUES (?)", [(v,) for v in versions])
    odd.close()

    with pytest.raises(ForeignSchema):
        open_at(path).transact(S, one("k"))


def test_the_first_schema_is_migrated_and_its_entries_kept(tmp_path: Path) -> None:
    reference = open_at(tmp_path / "reference.db")
    (entry,) = reference.transact(S, one("k1"))
    reference.close()
    path = tmp_path / "j.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        migrate(connection, home="old", to=1)
        row = {name: getattr(entry, name) for name in entry.__dataclass_fields__}
        connection.execute(sa.insert(ENTRIES).values(row))
        connection.execute(
            sa.text("INSERT INTO journal_streams VALUES (:stream, :seq, :hash, :at)"),
            {name: row[name] for name in ("stream", "seq", "hash", "at")},
        )
    engine.dispose()

    journal = open_at(path)
    assert journal.verify(S).hash == entry.hash
    journal.transact(S, lambda view: Change([Draft("t", "k2", {})], {"d": {"v": 1}}))
    assert journal.verify(S).seq == len(MIGRATIONS) == 2
    journal.close()


def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    code = """
    import resource, sys
    from privacy_runtime.journal import Change, Draft, Journal, StoreUnavailable
    from privacy_runtime.journal.sqlite import SqliteHome
    from privacy_runtime.testing import ManualClock
    journal = Journal(SqliteHome(sys.argv[1]), clock=ManualClock(), retry_s=0.1)
    journal.transact("s", lambda view: Change([Draft("t", "first", {})]))
    # A limit on file size makes the kernel refuse a write in the middle, as a full disk does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))
    written = 1
    try:
        for k in range(1000):
            journal.transact("s", lambda view: Change([Draft("t", str(k), {"x": "y" * 9000})]))
            written += 1
    except StoreUnavailable as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(written, journal.verify("s").seq)
    journal.transact("s", lambda view: Change([Draft("t", "last", {})]))
    print(journal.verify("s").seq)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "j.db")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    refused, counts, after = done.stdout.splitlines()
    written, found = map(int, counts.split())
    assert "disk" in refused, done.stderr
    assert written == found < 1000
    assert int(after) == found + 1
