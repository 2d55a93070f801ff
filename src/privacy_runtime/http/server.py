"""Run an application: uvicorn with limits that slow and talkative clients cannot pass.

Uvicorn has no limit on the time, number or size of request headers; the protocol here has. On stop,
nothing new is taken, requests under way are finished, and streams are told to end.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any, Final

import orjson
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from privacy_core.errors import InvalidParameter
from privacy_runtime.http.streams import STOP

TLS: Final = "privacy_runtime.tls"
"""Key of a request's scope: the connection's TLS object; None: it is plain."""
_SWITCH_S: Final = 0.001
"""For how long a thread may keep the event loop waiting; Python's own figure is five times that."""
_WS_MESSAGE_MAX: Final = 64 * 1024
_PHRASES: Final = {
    400: (b"400 Bad Request", "bad_request", "the request cannot be read"),
    408: (b"408 Request Timeout", "request_too_slow", "the request did not arrive in time"),
    431: (
        b"431 Request Header Fields Too Large",
        "headers_too_large",
        "the headers are more than is read here",
    ),
    503: (b"503 Service Unavailable", "busy", "too many connections; try again"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Where to listen, and how patient to be.

    Args:
        host, port: where.
        workers: processes; more than one need an application that is named, not given.
        connections_most: of one process; further ones get 503.
        headers_s: for the headers of a request to arrive.
        body_s: for the rest of it to arrive; above the application's own limit.
        keep_alive_s: for the next request on a connection.
        stop_s: for requests under way when the server stops.
        headers_most, headers_bytes: how many headers, and how large all of them.
        certificate, key: files in PEM, to speak TLS here; without, a proxy does or nobody.
        tls: how to speak TLS here, in the place of the two; of one process.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    connections_most: int = 4000
    headers_s: float = 10.0
    body_s: float = 60.0
    keep_alive_s: int = 15
    stop_s: int = 10
    headers_most: int = 100
    headers_bytes: int = 64 * 1024
    certificate: str | None = None
    key: str | None = None
    tls: SSLContext | None = None


class PatientConfig(uvicorn.Config):
    """Uvicorn's configuration with ours, so that worker processes find both."""

    def __init__(self, app: ASGIApp | str, options: ServerOptions) -> None:
        self.options = options
        super().__init__(
            app,
            factory=isinstance(app, str),
            host=options.host,
            port=options.port,
            workers=options.workers,
            loop="auto",
            http=PatientProtocol,
            ws="websockets-sansio",
            ws_max_size=_WS_MESSAGE_MAX,
            ws_per_message_deflate=False,  # a compressor a connection costs more than it saves
            log_config=None,
            access_log=False,
            proxy_headers=False,  # `HttpPolicy.proxies` decides whom to believe
            server_header=False,
            timeout_keep_alive=options.keep_alive_s,
            timeout_graceful_shutdown=options.stop_s,
            ssl_certfile=options.certificate,
            ssl_keyfile=options.key,
        )

    def load(self) -> None:
        """Load the application, and tune the interpreter for an event loop beside threads."""
        super().load()  # makes no context of its own where no files are named
        if self.options.tls is not None:
            self.ssl = self.options.tls
        sys.setswitchinterval(_SWITCH_S)
        gc.collect()
        gc.freeze()  # a full collection of a whole application stops every request for 0.1 s


class PatientProtocol(HttpToolsProtocol):
    """HTTP/1.1 that waits for a request so long, reads so much, and tells streams to stop."""

    def __init__(self, config: uvicorn.Config, *rest: Any, **named: Any) -> None:
        super().__init__(config, *rest, **named)
        self._options = getattr(config, "options", None) or ServerOptions()
        self._stop = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._is_head, self._head_bytes, self._field_bytes = False, 0, 0
        self._refusal = 400

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request; or refuse the connection, if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._options.connections_most:
            self._refuse(503)
            return
        self._wait(self._options.headers_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting, and tell a stream."""
        self._wait(None)
        self._stop.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; count what belongs to headers that have not ended."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._is_head:
            self._head_bytes += len(data)
            if self._head_bytes > self._options.headers_bytes:
                self._refuse(431)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._is_head, self._head_bytes, self._refusal = True, 0, 400
        self._field_bytes = 0  # a head that comes in one piece is over before it is counted
        self.scope[STOP] = self._stop  # type: ignore[typeddict-unknown-key]
        self.scope[TLS] = self.transport.get_extra_info("ssl_object")  # type: ignore[typeddict-unknown-key]
        self._wait(self._options.headers_s)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._field_bytes += len(name) + len(value)
        is_large = self._field_bytes > self._options.headers_bytes
        if is_large or len(self.headers) >= self._options.headers_most:
            self._refusal = 431
            raise ValueError("too many headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The headers are there; the body gets its time."""
        self._is_head = False
        self._wait(self._options.body_s)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The whole request is there."""
        self._wait(None)
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over."""
        self._wait(None)
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, in our envelope."""
        del msg
        self._refuse(self._refusal)

    def shutdown(self) -> None:
        """The server stops: streams end."""
        self._stop.set()
        super().shutdown()

    def _wait(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        if self.transport.is_closing():
            return
        if self._is_head:
            self._refuse(408)
        else:
            self.transport.close()

    def _refuse(self, status: int) -> None:
        """Say why in one packet, and close."""
        self._wait(None)
        self._is_head = False
        line, code, message = _PHRASES[status]
        error = {"code": code, "message": message, "details": [], "request_id": ""}
        body = orjson.dumps({"error": error})
        head = [
            b"HTTP/1.1 " + line,
            b"content-type: application/json",
            b"content-length: " + str(len(body)).encode(),
            b"cache-control: no-store",
            b"x-content-type-options: nosniff",
            b"connection: close",
        ]
        if status == 503:
            head.append(b"retry-after: 2")
        self.transport.write(b"\r\n".join(head) + b"\r\n\r\n" + body)
        self.transport.close()


def serve(app: ASGIApp | str, options: ServerOptions | None = None) -> None:
    """Serve until a signal says to stop (SIGTERM, SIGINT).

    Args:
        app: an application; for more than one process the name of a function that makes one,
            `package.module:function`: each process calls it.
        options: where and how.

    Raises:
        InvalidParameter: several processes of an application that is no name.
    """
    numbers = options or ServerOptions()
    if numbers.workers > 1 and not isinstance(app, str):
        raise InvalidParameter(
            "workers", found=numbers.workers, expected="1, or an application given by name"
        )
    config = PatientConfig(app, numbers)
    if numbers.workers == 1:
        uvicorn.Server(config).run()
        return
    Multiprocess(config, sockets=[config.bind_socket()]).run()
