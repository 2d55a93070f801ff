"""The front door: every request passes it first, every answer last. Pure ASGI.

In: proxies that are trusted, host names, the size of the headers, the size and pace of the body.
Out: the request id, the security headers, `no-store` unless said otherwise, and for whatever was
raised an answer that says nothing of the inside.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from privacy_runtime.http.envelope import answer
from privacy_runtime.http.errors import ErrorTable
from privacy_runtime.http.limits import RateLimits
from privacy_runtime.http.policy import HttpPolicy
from privacy_runtime.http.refusals import (
    BodyTooLarge,
    BodyTooSlow,
    Fault,
    HeadersTooLarge,
    InvalidRequest,
    UnknownHost,
)
from privacy_runtime.http.visits import Visit, begin
from privacy_runtime.world import Entropy

REQUEST_ID: Final = b"x-request-id"
_SANE: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")
_DENIAL: Final = "websocket.http.response"
_FIRST: Final = ("http.response.start", "websocket.accept", "websocket.http.response.start")
_ID_BYTES: Final = 12
_REFUSED_SOCKET: Final = 1008  # RFC 6455: policy violation
_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)


class FrontDoor:
    """The outermost layer of an application.

    Args:
        app: what lies behind.
        errors: how exceptions are answered.
        policy: the numbers.
        entropy: for request ids.
        limits: the rate of an address.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        errors: ErrorTable,
        policy: HttpPolicy,
        entropy: Entropy,
        limits: RateLimits | None = None,
    ) -> None:
        self._limits = limits
        self._ids = _Ids(entropy)
        self._app, self._errors, self._policy, self._entropy = app, errors, policy, entropy
        self._names = frozenset(host.lower() for host in policy.hosts if host[0] != "*")
        self._below = tuple(host[1:].lower() for host in policy.hosts if host[0] == "*")
        self._hsts = (
            b"strict-transport-security",
            f"max-age={policy.hsts_s}; includeSubDomains".encode(),
        )
        self._csp = (b"content-security-policy", policy.csp.encode("ascii"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        visit = self._visit(scope)
        out = _Out(self, visit, send)
        inward = receive
        try:
            self._require_form(scope)
            if self._limits is not None:
                await self._limits.admit("address", visit.network, visit)
            if scope["type"] == "http":
                inward = self._limited(scope, receive)
            await self._app(scope, inward, out.send)
        except Exception as error:
            problem = self._errors.answer(error)
            if out.has_begun:
                raise  # half an answer is out: only ending the connection says so
            if scope["type"] == "websocket" and _DENIAL not in scope.get("extensions", {}):
                await send({"type": "websocket.close", "code": _REFUSED_SOCKET})
                return
            response = answer(HTTPConnection(scope), problem, self._policy)
            await response(scope, receive, out.send)

    def _visit(self, scope: Scope) -> Visit:
        given = [value for name, value in scope["headers"] if name == REQUEST_ID]
        if len(given) == 1 and _SANE.fullmatch(given[0]):
            request_id = given[0].decode("ascii")
        else:
            request_id = "req_" + self._ids.next()
        client = scope.get("client")
        visit = Visit(request_id, client[0] if client else "unknown")
        visit.is_tls = scope.get("scheme") in ("https", "wss")
        begin(scope, visit)
        return visit

    def _require_form(self, scope: Scope) -> None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if len(headers) > self._policy.headers_most:
            raise HeadersTooLarge(f"more than {self._policy.headers_most} headers")
        size = sum(len(name) + len(value) for name, value in headers)
        if size > self._policy.headers_limit_bytes:
            raise HeadersTooLarge(f"headers of more than {self._policy.headers_limit_bytes} bytes")
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            raise UnknownHost("the request names a host that this service is not")

    def _is_ours(self, value: bytes) -> bool:
        host = value.decode("latin-1").lower()
        name, colon, port = host.rpartition(":")
        if colon and (not port or port.isdecimal()):
            host = name
        return host in self._names or bool(self._below and host.endswith(self._below))

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """`receive` that reads no more than it may, and does not wait for ever."""
        limit = self._policy.body_limit(scope["path"])
        patience_s = self._policy.body_patience_s(scope["path"])
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        if len(lengths) > 1 or (lengths and not lengths[0].isdigit()):
            raise InvalidRequest([Fault("header.content-length", "should be one number")])
        if lengths and int(lengths[0]) > limit:
            raise BodyTooLarge(limit)
        size, is_whole, deadline = 0, False, 0.0

        async def bounded() -> Message:
            nonlocal size, is_whole, deadline
            if is_whole:
                return await receive()
            loop = asyncio.get_running_loop()
            deadline = deadline or loop.time() + patience_s
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise BodyTooSlow(patience_s) from None
            size += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if size > limit:
                raise BodyTooLarge(limit)
            return message

        return bounded

    def dress(self, message: Message, visit: Visit) -> None:
        """Put on an answer what every answer carries."""
        headers = [*message.get("headers", ()), *visit.headers, *_ALWAYS]
        headers.append((REQUEST_ID, visit.request_id.encode()))
        names = {name.lower() for name, _ in headers}
        if b"cache-control" not in names:
            headers.append((b"cache-control", b"no-store"))
        if b"content-security-policy" not in names:
            headers.append(self._csp)
        if visit.is_tls:
            headers.append(self._hsts)
        message["headers"] = headers


class _Ids:
    """Random names, drawn a thousand at a time: asking the system costs more than a request may."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy, self._drawn, self._at = entropy, b"", 0

    def next(self) -> str:
        if self._at >= len(self._drawn):
            self._drawn, self._at = self._entropy.token_bytes(_ID_BYTES * 1024), 0
        self._at += _ID_BYTES
        return self._drawn[self._at - _ID_BYTES : self._at].hex()


class _Out:
    """`send` that dresses the first message and remembers that it went out."""

    __slots__ = ("_door", "_send", "_visit", "has_begun")

    def __init__(self, door: FrontDoor, visit: Visit, send: Send) -> None:
        self._door, self._visit, self._send = door, visit, send
        self.has_begun = False

    async def send(self, message: Message) -> None:
        if message["type"] in _FIRST:
            self._door.dress(message, self._visit)
            self.has_begun = True
        await self._send(message)
