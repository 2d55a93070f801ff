"""A real server on a socket: slow, talkative and malformed clients, streams, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
import uvicorn
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from privacy_core.errors import InvalidParameter
from privacy_runtime.http.browser_sessions import csrf_token
from privacy_runtime.http.server import PatientConfig, ServerOptions, serve
from privacy_runtime.identity import Role

OPTIONS = ServerOptions(port=0, headers_s=0.3, body_s=0.6, keep_alive_s=1, stop_s=3)


class Running:
    """An application on a port of the loopback, in a thread."""

    def __init__(self, app: Any, options: ServerOptions) -> None:
        self.server = uvicorn.Server(PatientConfig(app, options))
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def _run(self) -> None:
        async def main() -> None:
            self.loop = asyncio.get_running_loop()
            await self.server._serve()

        asyncio.run(main())

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        assert not self.thread.is_alive()

    def raw(self, data: bytes, *, then: Callable[[socket.socket], None] | None = None) -> bytes:
        """What comes back for these bytes, until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            try:
                connection.sendall(data)
                if then is not None:
                    then(connection)
            except OSError:
                pass  # the server has closed already: what it said is read below
            answer = b""
            try:
                while part := connection.recv(65_536):
                    answer += part
            except ConnectionError:
                pass
            return answer

    def socket(self, path: str, **named: Any) -> ClientConnection:
        return connect(f"ws://127.0.0.1:{self.port}{path}", open_timeout=5, **named)


@pytest.fixture
def running(house: Any) -> Iterator[Running]:
    """The small application, served."""
    running = Running(house.app, OPTIONS)
    yield running
    running.stop()


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def _get(path: str = "/list", *lines: str, method: str = "GET", body: bytes = b"") -> bytes:
    head = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *lines]
    return "\r\n".join([*head, "", ""]).encode() + body


CHUNKED = "Transfer-Encoding: chunked"
CHUNK = b"10000\r\n" + b"x" * 65_536 + b"\r\n"


def _post(*lines: str, body: bytes = b"") -> bytes:
    return _get("/echo", *lines, method="POST", body=body)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (_get(), 200),
        (_get("/list", *(f"X-{n}: 1" for n in range(10_000))), 431),
        (_get("/list", "X: " + "y" * 100_000), 431),
        (b"GET /" + b"x" * 200_000, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9, 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (_get("/list", "Bad Name: 1"), 400),
        (_get("/list", "X: a\x00b"), 400),
        (_get("/list", "Host: evil.example"), 421),
        (b"GET /list HTTP/1.1\r\nConnection: close\r\n\r\n", 421),
        (_post("Content-Length: 5", "Content-Length: 6", body=b"hello!"), 400),
        (_post("Content-Length: 5", CHUNKED, body=b"0\r\n\r\n"), 400),
        (_post(CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"), 200),
        (_post("Transfer-Encoding: xchunked", body=b"5\r\nhello\r\n0\r\n\r\n"), 400),
        (_post(CHUNKED, body=b"zz\r\nhello\r\n0\r\n\r\n"), 400),
        (_post(CHUNKED, body=CHUNK * 20), 413),
        (_post("Content-Length: 99999999"), 413),
        (_get("/../../etc/passwd"), 404),
        (_get("/%2e%2e/%2e%2e/etc/passwd"), 404),
        (_get("/list?limit=%ff%fe"), 422),
        (_get("/list%00"), 404),
        (_get("/list", method="TRACE"), 405),
        (_get("/list", method="CONNECT"), 405),
    ],
)
def test_malformed_requests(running: Running, data: bytes, status: int) -> None:
    answer = running.raw(data)
    assert _status(answer) == status, answer[:300]
    assert b"Traceback" not in answer
    if status >= 400:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"content-type: application/json" in head.lower()
        assert json.loads(body)["error"]["code"]
    assert _status(running.raw(_get())) == 200


def test_the_socket_has_limits_of_its_own() -> None:
    """An application without the front door is guarded too."""

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    running = Running(bare, ServerOptions(port=0, headers_most=10))
    try:
        assert _status(running.raw(_get("/", *(f"X-{n}: 1" for n in range(8))))) == 204
        assert _status(running.raw(_get("/", *(f"X-{n}: 1" for n in range(9))))) == 431
    finally:
        running.stop()


def test_a_request_hidden_in_another_is_not_answered(running: Running) -> None:
    """Smuggling with both lengths: nobody behind or before us may read another end."""
    hidden = b"GET /me HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    lines = ("Transfer-Encoding: chunked", f"Content-Length: {5 + len(hidden)}")
    answer = running.raw(_get("/echo", *lines, method="POST", body=b"0\r\n\r\n" + hidden))
    assert answer.count(b"HTTP/1.1 ") == 1
    assert _status(answer) == 400


def test_slow_headers_a_slow_body_and_an_idle_connection(running: Running) -> None:
    def drip(connection: socket.socket) -> None:
        for _ in range(50):
            time.sleep(0.05)
            connection.sendall(b"x")

    begun = time.monotonic()
    assert _status(running.raw(b"GET /list HTTP/1.1\r\nX: ", then=drip)) == 408
    assert running.raw(b"") == b""
    late = _get("/echo", "Content-Length: 1000", method="POST")
    assert _status(running.raw(late, then=drip)) in (0, 408)
    assert time.monotonic() - begun < 10  # a drip lasts 2.5 s, 50 of them would last for ever


def test_too_many_connections(house: Any) -> None:
    running = Running(house.app, ServerOptions(port=0, connections_most=2))
    held = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(2)]
    try:
        for connection in held:
            connection.sendall(b"GET")
        time.sleep(0.1)
        answer = running.raw(b"")
        assert _status(answer) == 503
        assert b"retry-after" in answer
    finally:
        for connection in held:
            connection.close()
        running.stop()


def test_events_are_streamed_and_resumed(running: Running, house: Any, as_bearer: Any) -> None:
    headers = as_bearer(house.user("nora", Role.VIEWER))
    with httpx2.Client(base_url=running.url, headers=headers) as client:
        whole = client.get("/events")
        rest = client.get("/events", headers={"Last-Event-ID": "2"})
        bad = client.get("/events", headers={"Last-Event-ID": "2; DROP"})
    assert whole.headers["content-type"].startswith("text/event-stream")
    assert whole.headers["cache-control"] == "no-store"
    ids = [line for line in whole.text.splitlines() if line.startswith("id:")]
    assert ids == ["id: 1", "id: 2", "id: 3"]
    assert 'data: {"n":1}' in whole.text
    assert [line for line in rest.text.splitlines() if line.startswith("id:")] == ["id: 3"]
    assert bad.status_code == 422
    assert house.access.seats.open == 0


def test_a_stream_ends_with_the_session(running: Running, house: Any, as_bearer: Any) -> None:
    tokens = house.user("nora", Role.VIEWER)
    with (
        httpx2.Client(base_url=running.url, headers=as_bearer(tokens)) as client,
        client.stream("GET", "/events?more=1") as answer,
    ):
        lines = answer.iter_lines()
        heard = 0
        for line in lines:
            if line.startswith(": still here"):
                heard += 1
            if heard == 2:
                break
        house.identity.sessions.log_out(tokens.principal)
        house.clock.advance(2)
        assert all(not line or line.startswith(":") for line in lines)  # and it ends
    _until(lambda: house.access.seats.open == 0 and house.done == ["closed"])


def test_a_client_that_leaves_is_noticed(running: Running, house: Any, as_bearer: Any) -> None:
    headers = as_bearer(house.user("nora", Role.VIEWER))
    with (
        httpx2.Client(base_url=running.url, headers=headers) as client,
        client.stream("GET", "/events?more=1") as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        assert house.access.seats.open == 1
    _until(lambda: house.access.seats.open == 0 and house.done == ["closed"])


def test_one_principal_has_so_many_streams(running: Running, house: Any, as_bearer: Any) -> None:
    house.access.seats._each = 1
    headers = as_bearer(house.user("nora", Role.VIEWER))
    with (
        httpx2.Client(base_url=running.url, headers=headers) as client,
        client.stream("GET", "/events?more=1"),
    ):
        assert client.get("/events").status_code == 429


def test_stopping_ends_streams_and_finishes_requests(house: Any, as_bearer: Any) -> None:
    running = Running(house.app, OPTIONS)
    headers = as_bearer(house.user("nora", Role.TRAINER))
    answers: list[Any] = []

    def order() -> None:
        answers.append(
            httpx2.post(f"{running.url}/orders", json={"count": 15}, headers=headers, timeout=9)
        )

    waiting = threading.Thread(target=order)
    with (
        httpx2.Client(base_url=running.url, headers=headers) as client,
        client.stream("GET", "/events?more=1") as stream,
        running.socket("/ws/mine", additional_headers=headers) as listening,
    ):
        listening.recv(timeout=5)
        lines = stream.iter_lines()
        next(lines)
        waiting.start()
        _until(lambda: "no key" in house.done)
        running.server.should_exit = True
        for line in lines:
            assert not line.startswith("id: 4")
        with pytest.raises(ConnectionClosed):
            listening.recv(timeout=5)
        assert not answers
        running.loop.call_soon_threadsafe(house.gate.set)  # type: ignore[union-attr]
        waiting.join(5)
    assert answers[0].status_code == 201
    running.stop()


@pytest.mark.parametrize("way", ["header", "subprotocol", "first message", "cookie"])
def test_ways_into_a_socket(running: Running, house: Any, way: str) -> None:
    tokens = house.user("nora", Role.VIEWER)
    token = tokens.access_token.reveal()
    named: dict[str, Any] = {
        "header": {"additional_headers": {"Authorization": f"Bearer {token}"}},
        "subprotocol": {"subprotocols": ["pf.v1", f"bearer.{token}"]},
        "first message": {},
        "cookie": {
            "additional_headers": {
                "Cookie": f"session={house.access.sessions.open(tokens).reveal()}"
            },
            "origin": f"http://127.0.0.1:{running.port}",
        },
    }[way]
    with running.socket("/ws/mine", **named) as listening:
        if way == "first message":
            listening.send(json.dumps({"type": "auth", "token": token}))
        assert json.loads(listening.recv(timeout=5)) == {"subject": tokens.principal.subject}
        if way == "subprotocol":
            assert listening.subprotocol == "pf.v1"  # the token is not said back


@pytest.mark.parametrize(
    ("named", "path", "status"),
    [
        ({"additional_headers": {"Authorization": "Bearer nonsense"}}, "/ws/mine", 401),
        ({}, "/ws/mine?token=abc", 422),
        ({}, "/ws/mine?Access_Token=abc", 422),
        ({"additional_headers": {"Cookie": "session=COOKIE"}}, "/ws/mine", 403),
        (
            {"additional_headers": {"Cookie": "session=COOKIE"}, "origin": "http://evil.example"},
            "/ws/mine",
            403,
        ),
        ({"additional_headers": {"Host": "evil.example"}}, "/ws/mine", 421),
        ({"subprotocols": ["bearer.a", "bearer.b"]}, "/ws/mine", 401),
    ],
)
def test_sockets_that_are_refused(
    running: Running, house: Any, named: dict[str, Any], path: str, status: int
) -> None:
    cookie = house.access.sessions.open(house.user("nora", Role.VIEWER)).reveal()
    headers = {
        k: v.replace("COOKIE", cookie) for k, v in named.get("additional_headers", {}).items()
    }
    with pytest.raises(InvalidStatus) as refused:
        running.socket(path, **named | {"additional_headers": headers})
    assert refused.value.response.status_code == status
    assert json.loads(refused.value.response.body)["error"]["code"]


@pytest.mark.parametrize(
    ("first", "path", "code"),
    [
        (None, "/ws/mine", 4401),
        ("nonsense", "/ws/mine", 1008),
        ("[]", "/ws/mine", 1008),
        ('{"type": "auth", "token": "x"}', "/ws/mine", 4401),
        ('{"type": "auth", "token": 7}', "/ws/mine", 4401),
        ('{"type": "hello"}', "/ws/mine", 4401),
        ("x" * 20_000, "/ws/mine", 1008),
        ("GOOD", "/ws/another", 4404),
    ],
)
def test_how_sockets_close(
    running: Running, house: Any, first: str | None, path: str, code: int
) -> None:
    token = house.user("nora", Role.VIEWER).access_token.reveal()
    with running.socket(path) as listening:
        if first is not None:
            good = json.dumps({"type": "auth", "token": token})
            listening.send(first.replace("GOOD", good))
        error = json.loads(listening.recv(timeout=5))
        assert error["error"]["request_id"]
        with pytest.raises(ConnectionClosed):
            listening.recv(timeout=5)
        assert listening.close_code == code
    _until(lambda: house.access.seats.open == 0)


def test_a_socket_ends_with_the_session_and_lives_on_with_a_new_token(
    running: Running, house: Any, as_bearer: Any
) -> None:
    tokens, other = house.user("nora", Role.VIEWER), house.user("olaf", Role.VIEWER)
    with running.socket("/ws/mine", additional_headers=as_bearer(tokens)) as listening:
        listening.recv(timeout=5)
        fresh = house.log_in("nora")
        listening.send(json.dumps({"type": "auth", "token": fresh.access_token.reveal()}))
        time.sleep(0.1)
        house.identity.sessions.log_out(tokens.principal)
        house.clock.advance(2)
        with pytest.raises(TimeoutError):
            listening.recv(timeout=0.3)
        house.identity.sessions.log_out(fresh.principal)
        house.clock.advance(2)
        listening.recv(timeout=5)
        with pytest.raises(ConnectionClosed):
            listening.recv(timeout=5)
        assert listening.close_code == 4401
    with running.socket("/ws/mine", additional_headers=as_bearer(other)) as listening:
        listening.recv(timeout=5)
        stolen = house.log_in("nora").access_token.reveal()
        listening.send(json.dumps({"type": "auth", "token": stolen}))
        listening.recv(timeout=5)
        with pytest.raises(ConnectionClosed):
            listening.recv(timeout=5)
        assert listening.close_code == 4401


def test_a_cookie_from_a_page_of_another_origin_and_its_csrf_token(
    running: Running, house: Any
) -> None:
    cookie = house.access.sessions.open(house.user("nora", Role.VIEWER)).reveal()
    headers = {"Cookie": f"session={cookie}", "X-CSRF-Token": csrf_token(cookie, b"x" * 32)}
    url = f"{running.url}/me"
    assert httpx2.post(url, headers=headers | {"Origin": running.url}).status_code == 200
    assert httpx2.post(url, headers=headers | {"Origin": "http://127.0.0.1:1"}).status_code == 403


def test_processes_need_a_name() -> None:
    with pytest.raises(InvalidParameter, match="workers"):
        serve(lambda scope, receive, send: None, ServerOptions(workers=2))  # type: ignore[arg-type, misc, return-value]


@pytest.mark.slow
def test_two_processes_are_served_by_name_and_stop(tmp_path: Any) -> None:
    (tmp_path / "small.py").write_text(
        "import os\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] != 'http':\n"
        "        return\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': str(os.getpid()).encode()})\n"
        "def make():\n"
        "    return app\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "from privacy_runtime.http.server import ServerOptions, serve\n"
        "if __name__ == '__main__':\n"
        f"    serve('small:make', ServerOptions(port={port}, workers=2))\n"
    )
    (tmp_path / "main.py").write_text(code)
    process = subprocess.Popen([sys.executable, "main.py"], cwd=tmp_path)
    try:
        found: set[str] = set()

        def is_served() -> bool:
            with contextlib.suppress(httpx2.HTTPError):
                found.add(httpx2.get(f"http://127.0.0.1:{port}/").text)
            return bool(found)

        _until(is_served, limit_s=60)
        assert str(process.pid) not in found  # a child serves, the parent watches
    finally:
        process.terminate()
        assert process.wait(20) == 0


def _until(is_so: Callable[[], bool], limit_s: float = 5.0) -> None:
    """Wait until something is so; it must become so."""
    ends = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.02)
