"""The gateway: one MCP server in front, clients of the servers behind it, redaction between.

    client  <->  Server  <->  Proxy  <->  Client  <->  server
                                |
                    Passage: find, replace, give back
                                |
                         Trail: the journal

`running()` holds everything that lives while it serves; `server` is the SDK's own, for any of its
transports.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import anyio
from mcp.server import Server
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.models import InitializationOptions
from mcp.server.subscriptions import ListenHandler
from mcp_types import SetLevelRequestParams

from privacy_finetuner.context.gateway.catalogue import Catalogue
from privacy_finetuner.context.gateway.desk import Desk
from privacy_finetuner.context.gateway.policy import Policy
from privacy_finetuner.context.gateway.proxy import Proxy
from privacy_finetuner.context.gateway.sessions import ProtectorFor, Sessions
from privacy_finetuner.context.gateway.trail import Trail
from privacy_finetuner.context.gateway.upstream import Targets
from privacy_runtime.journal import Journal
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

NAME: Final = "privacy-gateway"
INSTRUCTIONS: Final = (
    "Values that identify somebody are replaced by tokens such as [PERSON_7K2Q]. Use a token "
    "wherever you would use the value: tools that may have the value get it. Never invent or "
    "change a token."
)
# The SDK and the HTTP client log frames, headers and validation errors, which quote what they saw.
_TALKATIVE: Final = ("mcp", "client", "httpx2", "httpcore2", "uvicorn", "sse_starlette")


class Gateway:
    """A privacy gateway, ready to be put behind a transport.

    Guarantee: what reaches a client (the side of the model) has passed redaction, on every surface
    of the protocol; what reaches a server carries real values only of the types that the policy
    grants the tool; what could not be examined reached nobody.

    Args:
        policy: what may pass.
        protector_for: makes the redaction of a session (`protectors` makes the product's).
        journal: where pins and the audit trail are kept.
        clock, entropy: the outside world; only tests replace them.
        targets: how servers are reached; tests put servers in this process there.
    """

    def __init__(
        self,
        policy: Policy,
        protector_for: ProtectorFor,
        journal: Journal,
        *,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        targets: Targets | None = None,
    ) -> None:
        clock, entropy = clock or SystemClock(), entropy or SystemEntropy()
        self.policy = policy
        self.trail = Trail(journal, policy_digest=policy.digest, entropy=entropy)
        sessions = Sessions(policy, protector_for, clock=clock, entropy=entropy)
        catalogue = Catalogue(policy, self.trail, clock)
        self._desk = Desk(policy, sessions, self.trail, catalogue, clock=clock, targets=targets)
        self.server = _front(Proxy(self._desk), self._desk)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server[Any]]:
        """Serve while the context is open; then servers are ended and the trail is written."""
        with _quiet():
            async with anyio.create_task_group() as tasks:
                self._desk.attach(tasks)
                tasks.start_soon(self.trail.run)
                tasks.start_soon(self._desk.sweep)
                try:
                    yield self.server
                finally:
                    self._desk.close()
                    with anyio.CancelScope(shield=True):
                        await self.trail.flush()
                    tasks.cancel_scope.cancel()


class _Front(Server[Any]):
    """The SDK's server, which says to clients of 2025 that lists may change."""

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        changes = notification_options or NotificationOptions(True, True, True)
        return super().create_initialization_options(changes, experimental_capabilities, extensions)


def _front(proxy: Proxy, desk: Desk) -> Server[Any]:
    server = _Front(
        NAME,
        version="1",
        instructions=INSTRUCTIONS,
        on_list_tools=proxy.list_tools,
        on_call_tool=proxy.call_tool,
        on_list_resources=proxy.list_resources,
        on_list_resource_templates=proxy.list_templates,
        on_read_resource=proxy.read_resource,
        on_subscribe_resource=proxy.subscribe,
        on_unsubscribe_resource=proxy.unsubscribe,
        on_subscriptions_listen=ListenHandler(desk.bus),
        on_list_prompts=proxy.list_prompts,
        on_get_prompt=proxy.get_prompt,
        on_completion=proxy.complete,
    )
    server.add_request_handler("logging/setLevel", SetLevelRequestParams, proxy.set_level)
    # Its spans would carry names and error texts out of the process.
    server.middleware.clear()
    # No tool is shown with `x-mcp-header` (`schemas.without_headers`), so no headers are to be
    # checked; the SDK would ask for the list of all tools with every call over HTTP to see that.
    server.get_tool_input_schema = _no_headers
    return server


def _no_headers(name: str) -> None:
    """What a tool's schema asks of the request's headers: nothing."""
    del name


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the log lines of libraries that quote messages out of every log."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [logging.NullHandler()], False
    try:
        yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
