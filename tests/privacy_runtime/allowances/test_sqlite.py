"""The SQLite file: private, replaced, busy, full, damaged, of another version."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime.allowances import AllowancesUnavailable, Balance, Store, open_allowances
from privacy_runtime.allowances.sqlite import SqliteHome
from privacy_runtime.testing import ManualClock

TTL_S = 60.0


def test_the_file_is_its_owners_alone(sqlite_place: Any) -> None:
    sqlite_place.open().open_accounts({"a": 1})
    assert stat.S_IMODE(Path(sqlite_place.where).stat().st_mode) == 0o600


def test_a_file_that_others_may_read_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "allowances.db"
    path.touch(0o644)
    with pytest.raises(AllowancesUnavailable, match="the owner alone; nothing was changed"):
        open_allowances(path)


@pytest.mark.parametrize("content", [b"no database" * 100, None])
def test_what_is_no_database_is_not_opened(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "allowances.db"
    if content is None:
        path.mkdir()
    else:
        path.touch(0o600)
        path.write_bytes(content)
    with pytest.raises(AllowancesUnavailable):
        open_allowances(f"sqlite:///{path}")


def test_tables_of_a_newer_version_are_not_touched(sqlite_place: Any) -> None:
    sqlite_place.open().close()
    sqlite_place.sql("UPDATE allowance_schema SET version = 7")
    with pytest.raises(AllowancesUnavailable, match="schema version 7"):
        sqlite_place.open()


def test_no_other_kind_of_place_is_taken_for_one() -> None:
    with pytest.raises(InvalidParameter, match="sqlite:///"):
        open_allowances("redis://127.0.0.1/0")


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_went_away_takes_no_debit(sqlite_place: Any, how: str) -> None:
    store = sqlite_place.open()
    store.open_accounts({"a": 5})
    path = Path(sqlite_place.where)
    path.unlink()
    if how == "replaced":
        path.touch(0o600)

    with pytest.raises(AllowancesUnavailable, match="removed or replaced"):
        store.spend("k", {"a": 1})


def test_a_writer_that_waits_too_long_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "allowances.db"
    store = Store(SqliteHome(path, busy_s=0.01), clock=ManualClock(), retry_s=0.05)
    store.open_accounts({"a": 5})
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for key in ("k", "k2"):
        with pytest.raises(AllowancesUnavailable, match="BUSY; nothing was changed"):
            store.spend(key, {"a": 1})
    other.execute("ROLLBACK")
    other.close()
    store.spend("k", {"a": 1})

    assert store.balances(["a"])["a"] == Balance(5, 1, 0)
    store.close()


def test_what_another_program_wrote_is_seen_by_the_next_group(sqlite_place: Any) -> None:
    store = sqlite_place.open()
    store.open_accounts({"a": 5})
    store.spend("k", {"a": 1})  # its amounts are remembered now
    sqlite_place.sql("UPDATE allowance_accounts SET spent = 5")

    with pytest.raises(Exception, match="a has 0 left"):
        store.spend("k2", {"a": 1})


def test_a_full_disk_loses_nothing_that_was_acknowledged(sqlite_place: Any) -> None:
    store = sqlite_place.open()
    store.open_accounts({"a": 10_000})
    store.close()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            fill(sqlite_place.where, write)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answers:
        said = answers.read().split()
    os.waitpid(child, 0)

    assert "refused" in said, "the disk was never full: this shows nothing"
    assert said[-1] == "after"
    keys = {key for (key,) in sqlite_place.sql("SELECT key FROM allowance_reservations")}
    assert set(said) - {"refused"} <= keys
    (total,) = sqlite_place.sql("SELECT spent FROM allowance_accounts")[0]
    assert total == len(keys)


def fill(where: str, answers: int) -> None:
    """Spend under a limit on the size of files, and go on when it is lifted."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = open_allowances(where)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, hard))
    for count in range(200):
        try:
            store.spend(f"k{count}", {"a": 1})
            os.write(answers, f"k{count} ".encode())
        except AllowancesUnavailable:
            os.write(answers, b"refused ")
            break
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    store.spend("after", {"a": 1})
    os.write(answers, b"after ")
    store.close()


def test_a_row_that_the_database_refuses_fails_alone(durable: Any) -> None:
    store = durable.open()
    store.open_accounts({"damaged": 100, "sound": 100})
    store.reserve("damaged", {"damaged": 10}, ttl_s=TTL_S)
    durable.sql("UPDATE allowance_accounts SET reserved = 0 WHERE name = 'damaged'")
    outcomes: list[str] = []

    def settle() -> None:
        with pytest.raises(AllowancesUnavailable, match="nothing was changed"):
            store.settle("damaged")
        outcomes.append("refused")

    def spend(key: str) -> None:
        store.spend(key, {"sound": 1})
        outcomes.append("spent")

    team = [threading.Thread(target=spend, args=(f"k{k}",)) for k in range(8)]
    team.insert(4, threading.Thread(target=settle))
    for member in team:
        member.start()
    for member in team:
        member.join()

    assert sorted(outcomes) == ["refused", *["spent"] * 8]
    assert store.balances(["sound"])["sound"].spent == 8
