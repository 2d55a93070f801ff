"""What is seen of every request: one log line, its figures, its span. Pure ASGI, inside the door.

The route is the template, never the path: a path may hold anything. What the client is told to be
(`request_id`, peer address, organisation, user id) goes into the log and into no figure.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from privacy_runtime import logs, tracing
from privacy_runtime.http.visits import visit_in
from privacy_runtime.metrics import Metrics, table
from privacy_runtime.world import Clock

_log = logs.logger(__name__)
UNMATCHED: Final = "unmatched"
PREFIX: Final = "/api/v1"
"""What routers are included under; a route of one knows its own part of the path only."""
_QUIET: Final = ("/health", "/metrics", "/static")
_STREAM: Final = b"text/event-stream"
_LEAST_REFUSAL: Final = 400


class Observed:
    """Times and counts what passes.

    Args:
        app: what lies behind.
        metrics: where it is counted.
        clock: times.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, clock: Clock) -> None:
        self._app, self._metrics, self._clock = app, metrics, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and watch."""
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        seen = _Seen(self._metrics)
        visit = visit_in(scope)
        started_s = self._clock.monotonic_s()
        method = scope["method"]
        headers = _traced(scope)
        self._metrics.change(table.HTTP_OPEN, 1)
        with (
            logs.bound(request_id=visit.request_id),
            tracing.incoming("http.request", headers, method=method) as span,
        ):
            try:
                await self._app(scope, receive, seen.sending(send))
            finally:
                self._metrics.change(table.HTTP_OPEN, -1)
                seen.ended()
                route = route_of(scope)
                span.note(route=route, status=seen.status)
                self._tell(scope, seen, route, self._clock.monotonic_s() - started_s)

    def _tell(self, scope: Scope, seen: _Seen, route: str, seconds: float) -> None:
        method, status = scope["method"], seen.status
        if not seen.is_stream:
            self._metrics.request(method=method, route=route, status=status, seconds=seconds)
        if status >= _LEAST_REFUSAL:
            self._metrics.add(table.HTTP_REFUSED, status=str(status))
        say = _log.debug if route.startswith(_QUIET) and status < _LEAST_REFUSAL else _log.info
        visit = visit_in(scope)
        who = visit.principal
        say(
            "request",
            method=method,
            route=route,
            status=status,
            duration_ms=round(seconds * 1e3, 2),
            client=visit.address,
            tenant=None if who is None else who.tenant,
            subject=None if who is None else who.subject,
        )

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = visit_in(scope)
        with logs.bound(request_id=visit.request_id), ExitStack() as ending:

            async def watched(message: Message) -> None:
                if message["type"] == "websocket.accept":
                    self._metrics.change(table.STREAMS_OPEN, 1, transport="websocket")
                    ending.callback(
                        self._metrics.change, table.STREAMS_OPEN, -1, transport="websocket"
                    )
                await send(message)

            await self._app(scope, receive, watched)


class _Seen:
    """What went out of one answer."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.status = 500  # nothing was answered: somebody raised, or the client went
        self.is_stream = False

    def sending(self, send: Send) -> Send:
        """`send`, watched."""

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                if any(n == b"content-type" and _STREAM in v for n, v in message["headers"]):
                    self.is_stream = True
                    self._metrics.change(table.STREAMS_OPEN, 1, transport="sse")
            await send(message)

        return watched

    def ended(self) -> None:
        """The answer is over."""
        if self.is_stream:
            self._metrics.change(table.STREAMS_OPEN, -1, transport="sse")


def route_of(scope: Scope) -> str:
    """The template that a request matched, or `unmatched`."""
    route: Any = scope.get("route")
    template = getattr(route, "path", None)
    root, path = scope.get("root_path", ""), scope.get("path", "")
    if isinstance(template, str):
        is_below = path.startswith(f"{PREFIX}/") and not template.startswith(PREFIX)
        return f"{PREFIX}{template}" if is_below else template
    if root and "endpoint" in scope and path.startswith(root):  # a mounted application
        return str(root)
    return UNMATCHED


def _traced(scope: Scope) -> dict[str, str]:
    """The header that carries a trace, if tracing is on for this request at all."""
    for name, value in scope["headers"]:
        if name == b"traceparent":
            return {tracing.HEADER: value.decode("latin-1")}
    return {}
