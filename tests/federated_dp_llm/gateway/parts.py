"""Backends of a few lines on real sockets, and a gateway in front of them, for these tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from federated_dp_llm.gateway.app import Gateway, GatewayPolicy, make_app
from federated_dp_llm.gateway.backends import Backend
from federated_dp_llm.gateway.connection import Limits, Timeouts
from privacy_runtime.allowances import AsyncAllowances, MemoryHome, Store
from privacy_runtime.http.credentials import Credentials
from privacy_runtime.http.refusals import Unauthenticated
from privacy_runtime.identity import Method, Principal, Scope
from privacy_runtime.world import SystemClock

MODEL = "small-8b"
KEY = "the-key-of-a-test"
ACCOUNT = "user/u/tokens"
CAP = 1_000_000
SHORT = Timeouts(
    connect_s=5.0, wait_s=5.0, header_s=5.0, first_byte_s=5.0, idle_s=5.0, total_s=20.0
)
Handler = Callable[["Asked", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PRINCIPAL = Principal(
    subject="u",
    tenant="t",
    scopes=frozenset({Scope.MODELS_QUERY}),
    method=Method.API_KEY,
    authenticated_at=datetime(2026, 1, 1, tzinfo=UTC),
    session="s",
)


def chat(**more: Any) -> bytes:
    """A request for a chat completion."""
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 10}
    return json.dumps({**asked, **more}).encode()


def completion(tokens: int = 7) -> bytes:
    """What a backend answers."""
    usage = {"prompt_tokens": 4, "completion_tokens": tokens - 4, "total_tokens": tokens}
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}}
    return json.dumps({"id": "x", "choices": [choice], "usage": usage}).encode()


def answer(body: bytes, *, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """An answer with a length."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def chunk(data: bytes) -> bytes:
    """One piece of an answer that says no length."""
    return b"%x\r\n%s\r\n" % (len(data), data)


SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
LAST = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def event(**more: Any) -> bytes:
    """One event of a stream."""
    document = {"id": "x", "choices": [{"index": 0, "delta": {"content": "hi"}}], **more}
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def usage_event(tokens: int) -> bytes:
    """The event that holds nothing but the usage."""
    usage = {"prompt_tokens": 4, "completion_tokens": tokens - 4, "total_tokens": tokens}
    return event(choices=[], usage=usage)


@dataclass
class Asked:
    """A request as a backend saw it."""

    head: str
    body: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """The body."""
        return json.loads(self.body)

    @property
    def request_id(self) -> str:
        """The gateway's name for it."""
        lines = dict(line.split(": ", 1) for line in self.head.split("\r\n")[1:] if line)
        return lines["x-request-id"]


@dataclass
class Server:
    """A backend that does what its handler says; one handler for each request."""

    handler: Handler
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    int(line.split(":")[1])
                    for line in head.split("\r\n")
                    if line.lower().startswith("content-length:")
                )
                asked = Asked(head, await reader.readexactly(length))
                self.asked.append(asked)
                await self.handler(asked, reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed.set()
        finally:
            writer.close()


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Server]:
    """A backend on a port of its own."""
    made = Server(handler)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


def says(*pieces: bytes) -> Handler:
    """Answer with these bytes, every time."""

    async def handler(_: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        for piece in pieces:
            writer.write(piece)

    return handler


def says_and_closes(*pieces: bytes) -> Handler:
    """Answer with these bytes and hang up."""

    async def handler(_: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        for piece in pieces:
            writer.write(piece)
        await writer.drain()
        writer.close()

    return handler


def says_and_waits(*pieces: bytes) -> Handler:
    """Answer with these bytes, then nothing until the other side hangs up."""

    async def handler(_: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
        await writer.drain()
        if not await reader.read(1):
            raise ConnectionResetError

    return handler


@dataclass
class Noted:
    """A store of allowances that notes the order of calls among other things that happen."""

    inner: AsyncAllowances
    order: list[str]

    async def reserve(self, key: str, debits: Mapping[str, int], *, ttl_s: float) -> None:
        await self.inner.reserve(key, debits, ttl_s=ttl_s)
        self.order.append(f"held {key}")

    async def settle(
        self, key: str, spent: Mapping[str, int] | None = None, *, is_patient: bool = False
    ) -> None:
        await self.inner.settle(key, spent, is_patient=is_patient)
        self.order.append(f"settled {key}")

    def reserve_then(
        self, key: str, debits: Mapping[str, int], done: Callable[[object], None], *, ttl_s: float
    ) -> None:
        def told(error: object) -> None:
            self.order.append(f"held {key}")
            done(error)

        self.inner.reserve_then(key, debits, told, ttl_s=ttl_s)

    def settle_then(
        self, key: str, spent: Mapping[str, int] | None, done: Callable[[object], None]
    ) -> None:
        def told(error: object) -> None:
            self.order.append(f"settled {key}")
            done(error)

        self.inner.settle_then(key, spent, told)

    async def spend(self, key: str, debits: Mapping[str, int]) -> None:
        await self.inner.spend(key, debits)


@dataclass
class Said:
    """What a client got."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    is_whole: bool = False
    pieces: list[bytes] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.document["error"]["code"])


class Client:
    """An ASGI client; it can read slowly, and leave."""

    def __init__(self, gateway: Any) -> None:
        self.gateway = gateway
        self.left = asyncio.Event()
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.said = Said()
        self.began = asyncio.Event()

    async def ask(
        self,
        body: bytes = b"",
        *,
        path: str = "/v1/chat/completions",
        method: str = "POST",
        key: str = KEY,
    ) -> Said:
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        said = self.said

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await self.left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            await self.may_read.wait()
            if message["type"] == "http.response.start":
                said.status = message["status"]
                said.headers = {k.decode(): v.decode() for k, v in message["headers"]}
                return
            said.pieces.append(message.get("body", b""))
            said.is_whole = not message.get("more_body", False)
            self.began.set()

        headers = [(b"authorization", f"Bearer {key}".encode())] if key else []
        scope = {"type": "http", "method": method, "path": path, "headers": headers}
        await self.gateway(scope, receive, send)
        return said


@dataclass
class House:
    """A gateway, its allowances, and what happened in order."""

    gateway: Gateway
    store: Store
    order: list[str]

    async def ask(self, body: bytes | None = None, **more: Any) -> Said:
        return await Client(self.gateway).ask(chat() if body is None else body, **more)

    @property
    def spent(self) -> int:
        return self.store.balances([ACCOUNT])[ACCOUNT].spent

    @property
    def reserved(self) -> int:
        return self.store.balances([ACCOUNT])[ACCOUNT].reserved


async def authenticate(shown: Credentials) -> Principal:
    if shown.text != KEY:
        raise Unauthenticated("another key")
    return PRINCIPAL


@asynccontextmanager
async def house(
    *handlers: Handler,
    cap: int = CAP,
    slots: int = 8,
    timeouts: Timeouts = SHORT,
    limits: Limits | None = None,
    **more: Any,
) -> AsyncIterator[tuple[House, list[Server]]]:
    """A gateway before backends, one for each handler."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serving(handler)) for handler in handlers]
        store = Store(MemoryHome(), clock=SystemClock())
        store.open_accounts({ACCOUNT: cap})
        order: list[str] = []
        for server in servers:
            server.asked = _Ordered(order)
        policy = replace(
            GatewayPolicy(timeouts=timeouts, limits=limits or Limits(), wait_s=5.0), **more
        )
        gateway = make_app(
            allowances=Noted(AsyncAllowances(store), order),
            backends=[
                Backend(
                    name=f"b{k}",
                    url=f"http://127.0.0.1:{server.port}",
                    models=(MODEL,),
                    slots=slots,
                    speed=100.0 if k == 0 else 1.0,  # the first one is asked first
                )
                for k, server in enumerate(servers)
            ],
            authenticate=authenticate,
            accounts_of=lambda _: (ACCOUNT,),
            policy=policy,
        )
        try:
            yield House(gateway, store, order), servers
        finally:
            await gateway.aclose()
            store.close()


class _Ordered(list[Asked]):
    """Notes when a backend heard of a request."""

    def __init__(self, order: list[str]) -> None:
        super().__init__()
        self.order = order

    def append(self, asked: Asked) -> None:
        super().append(asked)
        self.order.append(f"heard {asked.request_id}")


def refused_port() -> int:
    """A port on which nobody listens."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def until(is_so: Callable[[], object]) -> None:
    """Wait for something that no event tells, ten seconds at most."""
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110  a count of the product's, which tells nobody
            await asyncio.sleep(0.001)
