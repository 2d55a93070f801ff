"""What the servers offer, as one list: allowed, approved, redacted, and named so that it is found.

A tool `search` of the server `notes` is `notes__search` for the client, a prompt likewise, and its
resource `file:///a` is `mcp://notes/file:///a`. A server without a prefix keeps its names; a name
that two of them have is nobody's, and both are left out.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final, TypeVar

import anyio
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from mcp_types import PaginatedRequestParams, Prompt, Resource, ResourceTemplate, Tool

from privacy_core.errors import PrivacyError
from privacy_finetuner.context.gateway import pinning
from privacy_finetuner.context.gateway.crossing import Crossing, within
from privacy_finetuner.context.gateway.errors import MessageRefused, Reason
from privacy_finetuner.context.gateway.policy import SEPARATOR, Policy, ServerPolicy
from privacy_finetuner.context.gateway.schemas import Json, relaxed, without_headers
from privacy_finetuner.context.gateway.sessions import Link
from privacy_finetuner.context.gateway.states import with_server, without_server
from privacy_finetuner.context.gateway.trail import Trail
from privacy_runtime.world import Clock

PAGES_MAX: Final = 100
RECHECK_S: Final = 300.0
_NAME: Final = re.compile(r"[A-Za-z0-9_.\-/]{1,128}")

_Item = TypeVar("_Item")
Crossings = Callable[[Link, str], Crossing]
"""From a way to a server, and a word for the trail, to what a request of its own needs."""


class Catalogue:
    """Lists of tools, prompts and resources. Pins are read from and written to the journal."""

    def __init__(self, policy: Policy, trail: Trail, clock: Clock) -> None:
        self._policy, self._trail, self._clock = policy, trail, clock

    async def tools(self, links: Iterable[Link], crossing: Crossings) -> list[Tool]:
        """All tools of all servers that answer, as the client may see them."""
        listed: list[tuple[str, Tool]] = []

        async def of_one(link: Link) -> None:
            cross = crossing(link, "list")
            await self.refresh(link, cross)
            for tool in link.tools.values():
                shown = await self._shown_tool(tool, cross)
                listed.append((link.policy.name, shown))

        await _each(links, of_one)
        return _unambiguous(listed)

    async def refresh(self, link: Link, cross: Crossing) -> None:
        """Ask a server for its tools, and keep those that are allowed and as approved.

        Raises:
            MessageRefused, MCPError: the server does not answer, or the pins cannot be read.
        """
        meta = await cross.meta()
        everything = await _pages(
            cross, lambda session, page: session.list_tools(params=page), "tools", meta
        )
        names = await self._names(cross, [tool.name for tool in everything])
        allowed = [
            tool for tool in everything if tool.name in names and link.policy.allows(tool.name)
        ]
        try:
            admitted = await self._trail.in_thread(
                partial(
                    pinning.admitted,
                    self._trail.journal,
                    link.policy.name,
                    allowed,
                    new_tools=self._policy.new_tools,
                )
            )
        except (PrivacyError, OSError):
            raise MessageRefused(Reason.AUDIT_FAILED) from None
        link.tools = {tool.name: tool for tool in allowed if tool.name in admitted}
        link.withheld = frozenset(tool.name for tool in allowed) - admitted
        link.listed_at_s, link.generation = self._clock.monotonic_s(), link.upstream.generation

    async def tool(self, link: Link, name: str, cross: Crossing) -> Tool:
        """A tool that may be called, under the server's own name for it.

        Raises:
            MessageRefused: the policy does not allow it, or it changed; the server is down.
        """
        stale = (
            link.listed_at_s is None
            or link.generation != link.upstream.generation
            or self._clock.monotonic_s() - link.listed_at_s > RECHECK_S
        )
        if stale:
            await self.refresh(link, cross)
        if name in link.withheld:
            raise MessageRefused(Reason.TOOL_CHANGED)
        if name not in link.tools:
            raise MessageRefused(Reason.NOT_ALLOWED)
        return link.tools[name]

    async def prompts(self, links: Iterable[Link], crossing: Crossings) -> list[Prompt]:
        """All prompts of all servers that answer."""
        listed: list[tuple[str, Prompt]] = []

        async def of_one(link: Link) -> None:
            cross = crossing(link, "list")
            meta = await cross.meta()
            found = await _pages(
                cross, lambda session, page: session.list_prompts(params=page), "prompts", meta
            )
            arguments = [name for prompt in found for name in _names_in(prompt)]
            names = await self._names(cross, arguments)
            for prompt in found:
                if names.issuperset(_names_in(prompt)):
                    shown = await _rewritten(prompt, cross)
                    shown.name = shown_name(link.policy, prompt.name)
                    for argument, own in zip(
                        shown.arguments or (), prompt.arguments or (), strict=True
                    ):
                        argument.name = own.name
                    listed.append((link.policy.name, shown))

        await _each(links, of_one)
        return _unambiguous(listed)

    async def resources(self, links: Iterable[Link], crossing: Crossings) -> list[Resource]:
        """All resources of all servers that answer."""
        listed: list[Resource] = []

        async def of_one(link: Link) -> None:
            cross = crossing(link, "list")
            meta = await cross.meta()
            found = await _pages(
                cross, lambda session, page: session.list_resources(params=page), "resources", meta
            )
            for resource in found:
                shown = await _rewritten(resource, cross)
                shown.uri = shown_address(cross, meant=resource.uri, rewritten=shown.uri)
                listed.append(shown)

        await _each(links, of_one)
        return listed

    async def templates(self, links: Iterable[Link], crossing: Crossings) -> list[ResourceTemplate]:
        """All resource templates of all servers that answer."""
        listed: list[ResourceTemplate] = []

        async def of_one(link: Link) -> None:
            cross = crossing(link, "list")
            meta = await cross.meta()
            found = await _pages(
                cross,
                lambda session, page: session.list_resource_templates(params=page),
                "resource_templates",
                meta,
            )
            for template in found:
                shown = await _rewritten(template, cross)
                shown.uri_template = with_server(link.policy.name, shown.uri_template)
                listed.append(shown)

        await _each(links, of_one)
        return listed

    async def require_names(self, cross: Crossing, *names: str) -> None:
        """Let names go to a server as they are, if they are names.

        Raises:
            MessageRefused: the client wrote something else in the place of a name.
        """
        if len(await self._names(cross, names)) < len(set(names)):
            raise MessageRefused(Reason.NOT_ALLOWED)

    async def _names(self, cross: Crossing, names: Iterable[str]) -> set[str]:
        """Those that are names: no text of a server's choosing may hide in one."""
        protector = cross.session.protector

        def plain() -> set[str]:
            return {
                name
                for name in names
                if _NAME.fullmatch(name) and not protector.standing(name, protector.detect(name))
            }

        return await within(self._policy.limits.detector_s, plain)

    async def _shown_tool(self, tool: Tool, cross: Crossing) -> Tool:
        protector = cross.session.protector

        def is_plain(constant: Json) -> bool:
            texts = constant if isinstance(constant, list) else [constant]
            return not any(protector.detect(str(text)) for text in texts)

        shown = tool.model_copy(deep=True)
        shown.execution = None
        shown.input_schema = without_headers(tool.input_schema)
        if tool.output_schema is not None:
            shown.output_schema = await within(
                self._policy.limits.detector_s, lambda: relaxed(tool.output_schema, is_plain)
            )
        shown = await _rewritten(shown, cross)
        shown.name = shown_name(cross.link.policy, tool.name)
        return shown


def shown_name(server: ServerPolicy, name: str) -> str:
    """The client's name of a server's tool or prompt."""
    return f"{server.name}{SEPARATOR}{name}" if server.prefix else name


def named_by(policy: Policy, shown: str) -> list[tuple[str, str]]:
    """The servers and own names that a client's name may mean; at most one has a prefix."""
    server, separator, name = shown.partition(SEPARATOR)
    found = policy.server(server) if separator else None
    if found is not None and found.prefix:
        return [(server, name)]
    return [(one.name, shown) for one in policy.servers if not one.prefix]


def shown_address(cross: Crossing, *, meant: str, rewritten: str) -> str:
    """The client's address of a resource; the session remembers what it means."""
    server = cross.link.policy.name
    cross.session.addresses.note(server, shown=rewritten, meant=meant)
    return with_server(server, rewritten)


def meant_address(cross: Crossing, uri: str) -> str | None:
    """The server's own address, if it showed this one to the client."""
    return cross.session.addresses.meant(cross.link.policy.name, uri)


def server_of(address: str, links: dict[str, Link], owner: str | None) -> tuple[Link, str]:
    """The way to the server of an address, and the rest of the address.

    Raises:
        MessageRefused: it is nobody's.
    """
    named = without_server(address)
    if named is not None and named[0] in links:
        return links[named[0]], named[1]
    if owner in links:
        return links[owner], address
    if len(links) == 1 and named is None:
        return next(iter(links.values())), address
    raise MessageRefused(Reason.NOT_ALLOWED)


async def _rewritten(item: _Item, cross: Crossing) -> _Item:
    """A listed thing with its texts rewritten for the model."""
    model: Any = item
    wire = model.model_dump(by_alias=True, mode="json", exclude_none=True)
    return type(model).model_validate(await cross.to_model(wire))  # type: ignore[no-any-return]


async def _pages(
    cross: Crossing,
    ask: Callable[[ClientSession, PaginatedRequestParams], Awaitable[Any]],
    field: str,
    meta: Any,
) -> list[Any]:
    """All pages of a list; a server that never ends is cut off."""
    found: list[Any] = []
    cursor: str | None = None
    for _ in range(PAGES_MAX):
        page = PaginatedRequestParams(cursor=cursor, _meta=meta)
        result = await cross.ask(partial(_turned, ask, page))
        found += getattr(result, field)
        cursor = result.next_cursor
        if cursor is None:
            return found
    raise MessageRefused(Reason.TOO_LARGE)


async def _turned(
    ask: Callable[[ClientSession, PaginatedRequestParams], Awaitable[Any]],
    page: PaginatedRequestParams,
    session: ClientSession,
) -> Any:
    return await ask(session, page)


async def _each(links: Iterable[Link], of_one: Callable[[Link], Awaitable[None]]) -> None:
    """Ask all servers at once; one that does not answer has nothing on the list."""

    async def tolerant(link: Link) -> None:
        try:
            await of_one(link)
        except (MessageRefused, MCPError):
            return

    async with anyio.create_task_group() as tasks:
        for link in links:
            tasks.start_soon(tolerant, link)


def _unambiguous(listed: list[tuple[str, Any]]) -> list[Any]:
    """In the order of server and name; of things with one name none stays."""
    times: dict[str, int] = {}
    for _, item in listed:
        times[item.name] = times.get(item.name, 0) + 1
    ordered = sorted(listed, key=lambda pair: (pair[0], pair[1].name))
    return [item for _, item in ordered if times[item.name] == 1]


def _names_in(prompt: Prompt) -> list[str]:
    return [prompt.name, *(argument.name for argument in prompt.arguments or ())]
