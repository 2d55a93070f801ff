"""What only a server can do to its clients."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import sqlalchemy as sa

from privacy_runtime.journal import (
    Change,
    Draft,
    ForeignSchema,
    Journal,
    StoreUnavailable,
    View,
)
from privacy_runtime.journal.postgres import PostgresHome
from privacy_runtime.journal.schema import VERSION, migrate
from privacy_runtime.testing import ManualClock

S = "stream"


def one(key: str) -> Any:
    return lambda view: Change([Draft("t", key, {"v": 1})]) if key not in view.entries else Change()


def kill_backend(place: Any, home: PostgresHome) -> None:
    assert home._connection is not None
    place.sql("SELECT pg_terminate_backend(:pid)", pid=home._connection.info.backend_pid)


def test_commits_wait_for_the_servers_disk(postgres_place: Any) -> None:
    home = postgres_place.home()
    home.row(S)
    setting = home._connection.execute("SHOW synchronous_commit").fetchone()[0]
    home.disconnect()

    assert setting == "on"


def test_a_server_whose_machine_is_gone_is_not_waited_for_for_hours(postgres_place: Any) -> None:
    home = postgres_place.home()
    home.row("s")
    settings = home._connection.info.get_parameters()
    home.disconnect()
    assert settings["tcp_user_timeout"] == "25000"
    assert int(settings["keepalives_idle"]) <= 10


def test_a_backend_killed_in_mid_transaction_is_replaced_and_nothing_is_done_twice(
    postgres_place: Any,
) -> None:
    home = postgres_place.home()
    journal = Journal(home, clock=ManualClock())
    attempts = []

    def decide(view: View) -> Change:
        attempts.append(view.head.seq)
        if len(attempts) < 3:
            kill_backend(postgres_place, home)
        return Change([Draft("t", "k1", {})])

    journal.transact(S, decide, keys=("k1",))
    journal.transact(S, one("k2"), keys=("k2",))
    seq = journal.verify(S).seq
    journal.close()

    assert attempts == [0, 0, 0]
    assert seq == 2


def test_an_answer_lost_after_the_commit_is_found_again_by_its_key(postgres_place: Any) -> None:
    home = postgres_place.home()

    class LosesTheFirstAnswer(PostgresHome):
        lost = False

        def commit(self, *args: Any, **options: Any) -> None:
            super().commit(*args, **options)
            if not self.lost:
                self.lost = True
                kill_backend(postgres_place, self)
                from privacy_runtime.journal.contract import ConnectionLost

                raise ConnectionLost("the answer was lost", maybe_written=True)

    home = LosesTheFirstAnswer(postgres_place.url)
    journal = Journal(home, clock=ManualClock())

    assert journal.transact(S, one("k"), keys=("k",)) == []  # the repetition found it
    assert journal.verify(S).seq == 1
    journal.close()


def test_a_backend_killed_between_two_calls_goes_unnoticed(postgres_place: Any) -> None:
    home = postgres_place.home()
    journal = Journal(home, clock=ManualClock())
    for key in ("k1", "k2", "k3"):
        journal.transact(S, one(key), keys=(key,))
        kill_backend(postgres_place, home)

    assert [entry.key for entry in journal.read(S)] == ["k1", "k2", "k3"]
    journal.close()


def test_a_server_that_is_away_is_named_without_its_password() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    url = f"postgresql://ada:hunter2@127.0.0.1:{port}/nowhere"
    journal = Journal(PostgresHome(url), clock=ManualClock(), retry_s=0.05)

    with pytest.raises(StoreUnavailable, match="nothing was written") as refused:
        journal.transact(S, one("k"))

    assert "hunter2" not in str(refused.value)
    assert str(port) in str(refused.value)


def test_a_lock_that_is_not_given_back_is_waited_for_and_then_refused(postgres_place: Any) -> None:
    holder = postgres_place.home()
    holder.begin(S, (), ())
    home = postgres_place.home()
    home.row(S)
    home._connection.execute("SET lock_timeout = '50ms'")
    journal = Journal(home, clock=ManualClock(), retry_s=0.05)

    with pytest.raises(StoreUnavailable, match="lock timeout; nothing was written"):
        journal.transact(S, one("k"))

    holder.rollback()
    journal.transact(S, one("k"))
    journal.close()
    holder.disconnect()


def test_schemas_are_made_migrated_and_refused(empty_schema: str) -> None:
    engine = sa.create_engine(empty_schema.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        migrate(connection, home="old", to=1)
    home = PostgresHome(empty_schema)
    journal = Journal(home, clock=ManualClock())
    journal.transact(S, lambda view: Change([Draft("t", "k", {})], {"d": {"v": 1}}))
    assert journal.verify(S).seq == 1
    journal.close()
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE journal_schema SET version = :v"), {"v": VERSION + 7})
    engine.dispose()

    with pytest.raises(ForeignSchema, match=f"schema version {VERSION + 7}"):
        Journal(PostgresHome(empty_schema), clock=ManualClock()).transact(S, one("k2"))
