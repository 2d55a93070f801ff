"""Requests that end in 404 although they name an object: perhaps somebody else's."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from privacy_finetuner.operations.trespasses import Trespasses
from privacy_runtime.http.visits import visit_in

_NOT_FOUND: Final = 404


class Strays:
    """Notes who was told that an object does not exist. Adds nothing to the answer or its time.

    Args:
        app: the application.
        trespasses: finds out later whose object it was.
    """

    def __init__(self, app: ASGIApp, trespasses: Trespasses) -> None:
        self._app, self._trespasses = app, trespasses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and look at the status of its answer."""

        async def seen(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == _NOT_FOUND:
                self._note(scope)
            await send(message)

        await self._app(scope, receive, seen if scope["type"] == "http" else send)

    def _note(self, scope: Scope) -> None:
        who = visit_in(scope).principal
        if who is None:
            return
        for value in scope.get("path_params", {}).values():
            if isinstance(value, str):
                self._trespasses.not_found(who.tenant, who.subject, value)
