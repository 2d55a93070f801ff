"""PostgreSQL behind a line that breaks where it hurts: nothing lost, nothing charged twice."""

from __future__ import annotations

import select
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime.allowances import AllowancesUnavailable, Balance, Store, open_allowances

TTL_S = 60.0


class Line:
    """A relay to the server that can be cut: before a commit arrives, or before its answer does.

    Attributes:
        cut: where to cut the next commit; empty: nowhere.
        closed: whether new connections are hung up on.
        cuts: how many there were.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        self._peers: dict[socket.socket, socket.socket] = {}
        self._clients: set[socket.socket] = set()
        self.cut, self.closed, self.cuts = "", False, 0
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._door, self._stopped, *self._peers], [], [])
            if self._stopped in ready:
                break
            for end in ready:
                if end is self._door:
                    self._accept()
                elif end in self._peers:
                    self._relay(end)
        for end in [*self._peers, self._door, self._stopped]:
            end.close()

    def _accept(self) -> None:
        client, _ = self._door.accept()
        if self.closed:
            client.close()
            return
        server = socket.create_connection(self._target)
        self._peers |= {client: server, server: client}
        self._clients.add(client)

    def _relay(self, end: socket.socket) -> None:
        peer = self._peers[end]
        try:
            data = end.recv(1 << 20)
            where = self.cut if end in self._clients and b"COMMIT" in data else ""
            if where == "before its answer":
                peer.sendall(data)
                peer.recv(1 << 16)  # the server has done it
            if where:
                self.cut, self.cuts = "", self.cuts + 1
                data = b""
            peer.sendall(data)
        except OSError:
            data = b""
        if not data:
            for gone in (end, peer):
                del self._peers[gone]
                self._clients.discard(gone)
                gone.close()

    def close(self) -> None:
        """Hang up."""
        self._stop.close()
        self._thread.join()


@pytest.fixture
def line(postgres_place: Any) -> Iterator[Line]:
    """A relay, and `postgres_place` reached through it."""
    parts = urlsplit(postgres_place.where)
    line = Line(parts.hostname or "127.0.0.1", parts.port or 5432)
    user = f"{parts.username}@" if parts.username else ""
    postgres_place.where = parts._replace(netloc=f"{user}127.0.0.1:{line.port}").geturl()
    yield line
    postgres_place.close()
    line.close()


def opened(place: Any, retry_s: float = 5.0) -> Store:
    store: Store = place.open(retry_s=retry_s)
    store.open_accounts({"a": 100})
    store.spend("first", {"a": 1})
    return store


@pytest.mark.parametrize("where", ["before it arrives", "before its answer"])
def test_a_commit_that_is_cut_off_is_repeated_and_charged_once(
    postgres_place: Any, line: Line, where: str
) -> None:
    store = opened(postgres_place)
    line.cut = where
    store.reserve("k", {"a": 10}, ttl_s=TTL_S)
    line.cut = where
    store.settle("k", {"a": 4})

    assert line.cuts == 2
    assert store.balances(["a"])["a"] == Balance(100, 5, 0)


@pytest.mark.parametrize("where", ["before it arrives", "before its answer"])
def test_a_commit_whose_fate_is_not_known_says_so_and_its_key_may_be_repeated(
    postgres_place: Any, line: Line, where: str
) -> None:
    store = opened(postgres_place, retry_s=0.05)
    line.cut, line.closed = where, True
    with pytest.raises(AllowancesUnavailable, match="not known; the same key may be repeated"):
        store.reserve("k", {"a": 10}, ttl_s=TTL_S)
    with pytest.raises(AllowancesUnavailable, match="nothing was changed"):
        store.reserve("other", {"a": 10}, ttl_s=TTL_S)
    line.closed = False
    store.reserve("k", {"a": 10}, ttl_s=TTL_S)

    assert store.balances(["a"])["a"] == Balance(100, 1, 10)


def test_a_server_that_is_gone_changes_nothing_and_may_come_back(
    postgres_place: Any, line: Line
) -> None:
    store = opened(postgres_place, retry_s=0.05)
    line.closed, line.cut = True, "before it arrives"
    for key in ("k", "k2", "k3"):
        with pytest.raises(AllowancesUnavailable):
            store.spend(key, {"a": 1})
    line.closed = False
    store.spend("k4", {"a": 1})

    assert store.balances(["a"])["a"] == Balance(100, 2, 0)


def test_sessions_that_an_operator_ends_are_made_again(postgres_place: Any) -> None:
    store = opened(postgres_place)
    for k in range(3):
        postgres_place.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND query LIKE '%allowance_%'"
        )
        store.spend(f"k{k}", {"a": 1})

    assert store.balances(["a"])["a"] == Balance(100, 4, 0)


def test_stores_that_name_accounts_in_any_order_do_not_wait_for_each_other(
    postgres_place: Any,
) -> None:
    names = [f"p{k}" for k in range(40)]
    stores = [postgres_place.open(), postgres_place.open()]
    stores[0].open_accounts(dict.fromkeys(names, 10_000))
    done: list[int] = []

    def spend(thread: int) -> None:
        mine = names if thread % 2 else names[::-1]
        for count in range(15):
            stores[thread % 2].spend(f"{thread}/{count}", dict.fromkeys(mine, 1))
        done.append(thread)

    team = [threading.Thread(target=spend, args=(k,)) for k in range(6)]
    for member in team:
        member.start()
    for member in team:
        member.join()

    assert len(done) == 6
    assert {balance.spent for balance in stores[0].balances(names).values()} == {90}


def test_a_password_is_in_no_message() -> None:
    with pytest.raises(AllowancesUnavailable) as refused:
        open_allowances("postgresql://somebody:umbrella@127.0.0.1:1/none")

    assert "umbrella" not in f"{refused.value!s} {refused.value!r}"


def test_without_the_driver_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "privacy_runtime.allowances.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InvalidParameter, match=r"privacy-finetuner\[postgres\]"):
        open_allowances("postgresql://127.0.0.1/none")
