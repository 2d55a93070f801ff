"""What all requests of clients share: whose they are, what they may, how they reach a server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import anyio
from anyio.abc import TaskGroup
from mcp.server.subscriptions import InMemorySubscriptionBus
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_REQUEST,
    LOG_LEVEL_META_KEY,
    ClientCapabilities,
    InputRequiredResult,
)
from pydantic import ValidationError

from privacy_finetuner.context.gateway.catalogue import (
    Catalogue,
    meant_address,
    named_by,
    server_of,
    shown_address,
)
from privacy_finetuner.context.gateway.crossing import Crossing, internal_error
from privacy_finetuner.context.gateway.errors import MessageRefused, Reason
from privacy_finetuner.context.gateway.leaves import Json
from privacy_finetuner.context.gateway.notices import change_to_client, log_to_client
from privacy_finetuner.context.gateway.policy import Policy, ServerPolicy
from privacy_finetuner.context.gateway.questions import Exchange, Send, answers_for
from privacy_finetuner.context.gateway.sessions import Context, Link, Session, Sessions
from privacy_finetuner.context.gateway.trail import Trail
from privacy_finetuner.context.gateway.upstream import Targets, Upstream
from privacy_runtime.world import Clock

_Result = TypeVar("_Result")
RESOURCE: Final = "resource"
PROMPT: Final = "prompt "
LIST: Final = "list"
SWEEP_S: Final = 60.0


class Desk:
    """Where every request of a client begins. Used from one event loop.

    Args:
        policy: what may pass.
        sessions: whose tokens.
        trail: where it is written down.
        catalogue: what the servers offer.
        clock: of the connections' pauses.
        targets: how servers are reached; tests put servers in this process there.
    """

    def __init__(
        self,
        policy: Policy,
        sessions: Sessions,
        trail: Trail,
        catalogue: Catalogue,
        *,
        clock: Clock,
        targets: Targets | None = None,
    ) -> None:
        self.bus = InMemorySubscriptionBus()
        self.policy, self.catalogue = policy, catalogue
        self._sessions, self._trail = sessions, trail
        self._clock, self._targets = clock, targets
        self._tasks: TaskGroup | None = None

    def attach(self, tasks: TaskGroup) -> None:
        """Let connections and waiting requests live in this task group."""
        self._tasks = tasks

    async def sweep(self) -> None:
        """End idle sessions, for ever."""
        while True:
            await anyio.sleep(SWEEP_S)
            self._sessions.sweep()

    def close(self) -> None:
        """End all sessions and connections."""
        self._sessions.close()

    def of(self, ctx: Context) -> tuple[Session, dict[str, Link]]:
        """The session of a request, and its ways to the servers.

        Raises:
            MCPError: there are too many sessions.
        """
        try:
            session = self._sessions.of(ctx)
        except MessageRefused as refusal:
            raise MCPError(code=INVALID_REQUEST, message=str(refusal)) from refusal
        links = session.links(self.policy, ctx.session.client_capabilities, self._link)
        for link in links.values():
            link.last_context = ctx
        return session, links

    def crossing(self, session: Session, ctx: Context) -> Callable[[Link, str], Crossing]:
        """From a way to a server, and a word for the trail, to what its request needs."""

        def of(link: Link, tool: str) -> Crossing:
            is_tool = not tool.startswith((PROMPT, RESOURCE, LIST))
            grant = link.policy.grant(tool if is_tool else None)
            return Crossing(self.policy, self._trail, session, link, ctx, tool, grant)

        return of

    async def guarded(self, session: Session, work: Awaitable[_Result]) -> _Result:
        """Count the call, and turn every failure into words of ours."""
        entered = False
        try:
            session.rate.enter()
            entered = True
            return await work
        except MessageRefused as refusal:
            raise MCPError(code=INVALID_REQUEST, message=str(refusal)) from refusal
        except MCPError:
            raise
        except Exception:  # noqa: BLE001  a failure of the gateway must not quote what it failed on
            raise internal_error() from None
        finally:
            if entered:
                session.rate.leave()
            else:
                work.close()  # type: ignore[attr-defined]  # a coroutine that will not run

    async def owner(
        self, session: Session, links: dict[str, Link], ctx: Context, shown: str
    ) -> tuple[Link, str]:
        """The way to the one server that has a tool of this name."""
        candidates = [
            (links[server], name)
            for server, name in named_by(self.policy, shown)
            if server in links
        ]
        if len(candidates) > 1:
            found = []
            for link, name in candidates:
                if link.listed_at_s is None:
                    await self.catalogue.refresh(link, self.crossing(session, ctx)(link, LIST))
                if name in link.tools or name in link.withheld:
                    found.append((link, name))
            candidates = found
        if len(candidates) != 1:
            raise MessageRefused(Reason.NOT_ALLOWED)
        return candidates[0]

    async def address(
        self, session: Session, links: dict[str, Link], ctx: Context, address: str
    ) -> tuple[Crossing, str]:
        """The server of an address, and the address as the server knows it."""
        link, rest = server_of(address, links, session.addresses.owner(address))
        cross = self.crossing(session, ctx)(link, RESOURCE)
        meant = meant_address(cross, rest)
        if meant is not None:
            return cross, meant
        changed = await cross.message_to_tool({"uri": rest})
        return cross, str(changed["uri"])

    async def meta(self, link: Link, cross: Crossing) -> Any:
        """The `_meta` of a request to a server; with the log level that the client asked for."""
        level = (cross.context.meta or {}).get(LOG_LEVEL_META_KEY) or link.log_level
        return await cross.meta(extra={LOG_LEVEL_META_KEY: level} if level else None)

    async def converse(self, cross: Crossing, purpose: str, send: Send, params: Any) -> Any:
        """Send a request, or go on with one whose questions the client has answered."""
        responses = {
            key: answer.model_dump(by_alias=True, mode="json", exclude_none=True)
            for key, answer in (params.input_responses or {}).items()
        }
        if params.request_state is None:
            if responses:
                raise MessageRefused(Reason.UNKNOWN_STATE)
            return await self._exchange(cross, purpose, send).run(None, None)
        state = cross.session.seal.open(params.request_state, purpose=purpose)
        if "suspended" in state:
            waiting = cross.session.suspended.get(state["suspended"])
            if waiting is None:
                raise MessageRefused(Reason.UNKNOWN_STATE)
            return await waiting.resume(cross, responses)
        keys = state["keys"]
        if not set(responses) <= set(keys):
            raise MessageRefused(Reason.UNKNOWN_STATE)
        answers = {keys[key]: await cross.message_to_tool(one) for key, one in responses.items()}
        return await self._exchange(cross, purpose, send).run(answers or None, state["state"])

    def _exchange(self, cross: Crossing, purpose: str, send: Send) -> Exchange:
        if self._tasks is None:
            raise MessageRefused(Reason.UPSTREAM_DOWN)
        return Exchange(cross, purpose, send, self._tasks)

    async def shown(self, result: Any, cross: Crossing) -> Any:
        """A server's result as the model may see it."""
        if isinstance(result, InputRequiredResult):
            return result
        wire = result.model_dump(by_alias=True, mode="json", exclude_none=True)
        changed = await cross.to_model(wire)
        _readdress(wire, changed, cross)
        try:
            return type(result).model_validate(changed)
        except ValidationError:
            raise MessageRefused(Reason.MALFORMED) from None

    def _link(self, session: Session, server: ServerPolicy, can: ClientCapabilities) -> Link:
        """A way to a server, for a client that can do these things."""
        calls: list[Exchange] = []

        def newest() -> Crossing | None:
            if calls:
                return calls[-1].crossing
            context = link.last_context
            return None if context is None else self.crossing(session, context)(link, RESOURCE)

        async def logging(params: Any) -> None:
            if (crossing := newest()) is not None:
                await log_to_client(crossing, params)

        async def message(found: Any) -> None:
            await change_to_client(link, newest(), self.bus, found)

        callbacks = answers_for(calls, can, logging=logging, message=message)
        upstream = Upstream(server, callbacks, clock=self._clock, targets=self._targets)
        if self._tasks is not None:
            upstream.attach(self._tasks)
        link = Link(server, upstream, calls=calls)
        return link


def _readdress(raw: Json, shown: Json, cross: Crossing) -> None:
    """Give the resources in a rewritten result the addresses by which the client can read them."""
    if isinstance(raw, list) and isinstance(shown, list):
        for one, other in zip(raw, shown, strict=False):
            _readdress(one, other, cross)
    elif isinstance(raw, dict) and isinstance(shown, dict):
        kind = raw.get("type")
        is_resource = kind == "resource_link" or (
            kind is None and ("text" in raw or "blob" in raw) and "uri" in raw
        )
        if is_resource and shown.get("uri"):
            shown["uri"] = shown_address(cross, meant=raw["uri"], rewritten=shown["uri"])
        for key in ("content", "contents", "messages", "resource"):
            _readdress(raw.get(key), shown.get(key), cross)
