"""A notifier over SQLite or PostgreSQL, a receiver that does as it is told, and time."""

from __future__ import annotations

import http.server
import ipaddress
import os
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from privacy_runtime.notify import Notifier, NotifyOptions, Posting
from privacy_runtime.testing import ManualClock
from privacy_runtime.world import SystemEntropy

LOOPBACK = Posting(allowed=(ipaddress.ip_network("127.0.0.0/8"),), allow_http=True, limit_s=5.0)


class PlainSeal:
    """Seals by turning around, for its owner only: enough to see that nothing is kept plain."""

    def seal(self, data: bytes, *, purpose: str, owner: str) -> bytes:
        return f"{purpose}|{owner}|".encode() + data[::-1]

    def open(self, sealed: bytes, *, purpose: str, owner: str) -> bytes:
        head = f"{purpose}|{owner}|".encode()
        assert sealed.startswith(head)
        return sealed[len(head) :][::-1]


@dataclass
class Receiver:
    """What arrived, and what is answered: status codes in turn, then 200."""

    url: str
    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.taken]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Answering(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.taken.append(({k.lower(): v for k, v in self.headers.items()}, body))
            status, headers = found.answers.pop(0) if found.answers else (200, {})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    found = Receiver(f"http://127.0.0.1:{server.server_port}/hook/s3cret-path")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "notify.db")
        return
    url = os.environ.get("TEST_DATABASE_URL")
    if not url:
        pytest.skip("no PostgreSQL: set TEST_DATABASE_URL")
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    schema = f"notify_{uuid.uuid4().hex[:12]}"
    with engine.begin() as connection:
        connection.execute(sa.text(f"CREATE SCHEMA {schema}"))
    yield f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{schema}"
    with engine.begin() as connection:
        connection.execute(sa.text(f"DROP SCHEMA {schema} CASCADE"))
    engine.dispose()


def opened(where: str, clock: ManualClock, **options: Any) -> Notifier:
    options.setdefault("posting", LOOPBACK)
    return Notifier.open(
        where,
        seal=PlainSeal(),
        clock=clock,
        entropy=SystemEntropy(),
        options=NotifyOptions(**options),
    )


@pytest.fixture
def notifier(where: str, clock: ManualClock) -> Iterator[Notifier]:
    found = opened(where, clock)
    yield found
    found.close()


def deliver_all(notifier: Notifier) -> int:
    """Deliver until nothing is due; how many attempts that were."""
    count = 0
    while notifier.deliverer.deliver_one():
        count += 1
    return count
