"""Answers of the gateway as messages of ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Final

from federated_dp_llm.gateway.presence import Presence
from federated_dp_llm.gateway.relay import Headers

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Any, Receive, Send], Awaitable[None]]
_STREAM: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class AsgiReply:
    """Where an answer goes, through a server's `send`. As a block: `Presence`.

    Args:
        receive, send: of the request.
    """

    __slots__ = ("_presence", "_receive", "_send")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._presence: Presence | None = None

    async def whole(self, status: int, body: bytes, request_id: str, headers: Headers = ()) -> None:
        """Send a JSON document."""
        own = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            (b"x-request-id", request_id.encode()),
        ]
        start = {"type": "http.response.start", "status": status, "headers": [*own, *headers]}
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})

    async def begin(self, request_id: str) -> None:
        """Send the header of a stream of events."""
        headers = [*_STREAM, (b"x-request-id", request_id.encode())]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def piece(self, data: bytes) -> None:
        """Send some of them."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes) -> None:
        """Send the last."""
        await self._send({"type": "http.response.body", "body": data})

    def __enter__(self) -> None:
        """Begin to look whether the client is still there."""
        self._presence = Presence(self._receive)
        self._presence.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Look no more."""
        if self._presence is not None:
            self._presence.__exit__(kind, error, trace)
