"""Two applications behind one path: the gateway for its models, another one for the rest."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from federated_dp_llm.gateway.app import Gateway
from federated_dp_llm.gateway.asgi import AsgiApp, Receive, Send
from federated_dp_llm.gateway.backends import PATHS
from federated_dp_llm.gateway.completions import model_of


class ByModel:
    """An ASGI application that looks whose model a completion asks, before anything else.

    What the gateway does not serve, or nobody can read, goes to the other application with its
    whole body, as does every other path. Nothing is decided here but who answers.

    Args:
        gateway: for completions of its backends' models.
        otherwise: for everything else, the server's start and stop included: it closes the gateway.
    """

    def __init__(self, gateway: Gateway, otherwise: AsgiApp) -> None:
        self.gateway, self.otherwise = gateway, otherwise

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Read a completion's body, and hand it on."""
        app: AsgiApp = self.otherwise
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in PATHS:
            body, receive = await self._heard(receive)
            if model_of(body) in self.gateway.backends.models:
                app = self.gateway
        await app(scope, receive, send)

    async def _heard(self, receive: Receive) -> tuple[bytes, Receive]:
        """The body, as far as anybody reads it, and how to receive it again."""
        messages = [await receive()]
        size = len(messages[0].get("body", b""))
        while messages[-1].get("more_body") and size <= self.gateway.policy.body_bytes:
            messages.append(await receive())
            size += len(messages[-1].get("body", b""))
        heard = iter(messages)

        async def again() -> MutableMapping[str, Any]:
            return next(heard, None) or await receive()

        return b"".join(message.get("body", b"") for message in messages), again
