"""What is seen of every request: its time, status and trace, by route template. Pure ASGI."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from federated_dp_llm.monitoring.figures import Figures
from privacy_runtime import logs, tracing
from privacy_runtime.http.visits import visit_in
from privacy_runtime.world import Clock

_log = logs.logger(__name__)
UNMATCHED: Final = "unmatched"
_LEAST_REFUSAL: Final = 400


class Observed:
    """Times and counts what passes, and writes one line a refusal.

    Args:
        app: what lies behind.
        figures: where it is counted.
        clock: times.
    """

    def __init__(self, app: ASGIApp, *, figures: Figures, clock: Clock) -> None:
        self._app, self._figures, self._clock = app, figures, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and watch."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s, status = self._clock.monotonic_s(), 500

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        method = scope["method"]
        with tracing.incoming("http.request", _traced(scope), method=method) as span:
            try:
                await self._app(scope, receive, seen)
            finally:
                endpoint = getattr(scope.get("route"), "path", UNMATCHED)
                span.note(route=endpoint, status=status)
                self._tell(scope, endpoint, status, self._clock.monotonic_s() - began_s)

    def _tell(self, scope: Scope, endpoint: str, status: int, seconds: float) -> None:
        method = scope["method"]
        self._figures.request(method=method, endpoint=endpoint, status=status, seconds=seconds)
        if status >= _LEAST_REFUSAL:
            _log.info(
                "request refused",
                method=method,
                route=endpoint,
                status=status,
                request_id=visit_in(scope).request_id,
            )


def _traced(scope: Scope) -> dict[str, str]:
    """The header that carries a caller's trace."""
    for name, value in scope["headers"]:
        if name == b"traceparent":
            return {tracing.HEADER: value.decode("latin-1")}
    return {}
