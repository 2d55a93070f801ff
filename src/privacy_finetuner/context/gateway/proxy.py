"""The requests of a client, one method each: find the server, rewrite, ask, rewrite, answer.

Every method refuses by itself: a tool call by a result that is an error and says why in our words,
everything else by an error of the protocol. Nothing that a server or a detector said is in either.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_REQUEST,
    CallToolRequestParams,
    CallToolResult,
    CompleteRequestParams,
    CompleteResult,
    EmptyResult,
    GetPromptRequestParams,
    GetPromptResult,
    InputRequiredResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    PromptReference,
    ReadResourceRequestParams,
    ReadResourceResult,
    ResourceTemplateReference,
    SetLevelRequestParams,
    SubscribeRequest,
    SubscribeRequestParams,
    TextContent,
    UnsubscribeRequest,
    UnsubscribeRequestParams,
)

from privacy_finetuner.context.gateway.catalogue import named_by
from privacy_finetuner.context.gateway.desk import PROMPT, Desk
from privacy_finetuner.context.gateway.errors import MessageRefused, Reason
from privacy_finetuner.context.gateway.notices import progress_to, wants_progress
from privacy_finetuner.context.gateway.sessions import Context, Link, Session
from privacy_finetuner.context.gateway.trail import Direction


class Proxy:
    """Answers clients out of the servers behind it. Used from one event loop."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def list_tools(self, ctx: Context, _: PaginatedRequestParams | None) -> ListToolsResult:
        """Serve `tools/list`."""
        session, links = self._desk.of(ctx)
        crossing = self._desk.crossing(session, ctx)
        tools = await self._desk.guarded(
            session, self._desk.catalogue.tools(links.values(), crossing)
        )
        return ListToolsResult(tools=tools)

    async def list_prompts(
        self, ctx: Context, _: PaginatedRequestParams | None
    ) -> ListPromptsResult:
        """Serve `prompts/list`."""
        session, links = self._desk.of(ctx)
        crossing = self._desk.crossing(session, ctx)
        prompts = await self._desk.guarded(
            session, self._desk.catalogue.prompts(links.values(), crossing)
        )
        return ListPromptsResult(prompts=prompts)

    async def list_resources(
        self, ctx: Context, _: PaginatedRequestParams | None
    ) -> ListResourcesResult:
        """Serve `resources/list`."""
        session, links = self._desk.of(ctx)
        crossing = self._desk.crossing(session, ctx)
        found = await self._desk.guarded(
            session, self._desk.catalogue.resources(links.values(), crossing)
        )
        return ListResourcesResult(resources=found)

    async def list_templates(
        self, ctx: Context, _: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        """Serve `resources/templates/list`."""
        session, links = self._desk.of(ctx)
        crossing = self._desk.crossing(session, ctx)
        found = await self._desk.guarded(
            session, self._desk.catalogue.templates(links.values(), crossing)
        )
        return ListResourceTemplatesResult(resource_templates=found)

    async def call_tool(
        self, ctx: Context, params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult:
        """Serve `tools/call`. What is refused is a result that says so, for the model to read."""
        try:
            session, links = self._desk.of(ctx)
            return await self._desk.guarded(session, self._call_tool(session, links, ctx, params))
        except MCPError as error:
            if error.code != INVALID_REQUEST or not isinstance(error.__cause__, MessageRefused):
                raise
            return _refusal(error.__cause__)

    async def get_prompt(
        self, ctx: Context, params: GetPromptRequestParams
    ) -> GetPromptResult | InputRequiredResult:
        """Serve `prompts/get`."""
        session, links = self._desk.of(ctx)
        return await self._desk.guarded(session, self._get_prompt(session, links, ctx, params))

    async def read_resource(
        self, ctx: Context, params: ReadResourceRequestParams
    ) -> ReadResourceResult | InputRequiredResult:
        """Serve `resources/read`."""
        session, links = self._desk.of(ctx)
        return await self._desk.guarded(session, self._read_resource(session, links, ctx, params))

    async def complete(self, ctx: Context, params: CompleteRequestParams) -> CompleteResult:
        """Serve `completion/complete`."""
        session, links = self._desk.of(ctx)
        return await self._desk.guarded(session, self._complete(session, links, ctx, params))

    async def subscribe(self, ctx: Context, params: SubscribeRequestParams) -> EmptyResult:
        """Serve `resources/subscribe` for clients and servers of 2025."""
        session, links = self._desk.of(ctx)
        return await self._desk.guarded(
            session, self._watch(session, links, ctx, params.uri, SubscribeRequest)
        )

    async def unsubscribe(self, ctx: Context, params: UnsubscribeRequestParams) -> EmptyResult:
        """Serve `resources/unsubscribe`."""
        session, links = self._desk.of(ctx)
        return await self._desk.guarded(
            session, self._watch(session, links, ctx, params.uri, UnsubscribeRequest)
        )

    async def set_level(self, ctx: Context, params: SetLevelRequestParams) -> EmptyResult:
        """Serve `logging/setLevel`: servers are asked for this level with every request."""
        _, links = self._desk.of(ctx)
        for link in links.values():
            link.log_level = params.level
        return EmptyResult()

    async def _call_tool(
        self, session: Session, links: dict[str, Link], ctx: Context, params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult:
        link, name = await self._desk.owner(session, links, ctx, params.name)
        cross = self._desk.crossing(session, ctx)(link, name)
        try:
            _require_no_task(params)
            tool = await self._desk.catalogue.tool(link, name, cross)
        except MessageRefused as refusal:
            await cross.refused(Direction.TO_TOOL, refusal.reason)
            raise
        arguments = await cross.to_tool(params.arguments or {}, tool.input_schema)
        meta = await self._desk.meta(link, cross)

        def send(client: Any, answers: Any, state: Any) -> Awaitable[Any]:
            return client.call_tool(  # type: ignore[no-any-return]
                name,
                arguments,
                progress_callback=progress_to(cross) if wants_progress(ctx) else None,
                input_responses=answers,
                request_state=state,
                meta=meta,
                allow_input_required=True,
            )

        result = await self._desk.converse(cross, f"tools/call {params.name}", send, params)
        shown: CallToolResult | InputRequiredResult = await self._desk.shown(result, cross)
        return shown

    async def _get_prompt(
        self, session: Session, links: dict[str, Link], ctx: Context, params: GetPromptRequestParams
    ) -> GetPromptResult | InputRequiredResult:
        candidates = [pair for pair in named_by(self._desk.policy, params.name) if pair[0] in links]
        if len(candidates) != 1:
            raise MessageRefused(Reason.NOT_ALLOWED)
        server, name = candidates[0]
        cross = self._desk.crossing(session, ctx)(links[server], PROMPT + name)
        await self._desk.catalogue.require_names(cross, name)
        arguments = await cross.to_tool(params.arguments or {})
        meta = await self._desk.meta(cross.link, cross)

        def send(client: Any, answers: Any, state: Any) -> Awaitable[Any]:
            return client.get_prompt(  # type: ignore[no-any-return]
                name,
                arguments,
                input_responses=answers,
                request_state=state,
                meta=meta,
                allow_input_required=True,
            )

        result = await self._desk.converse(cross, f"prompts/get {params.name}", send, params)
        shown: GetPromptResult | InputRequiredResult = await self._desk.shown(result, cross)
        return shown

    async def _read_resource(
        self,
        session: Session,
        links: dict[str, Link],
        ctx: Context,
        params: ReadResourceRequestParams,
    ) -> ReadResourceResult | InputRequiredResult:
        cross, uri = await self._desk.address(session, links, ctx, params.uri)
        meta = await self._desk.meta(cross.link, cross)

        def send(client: Any, answers: Any, state: Any) -> Awaitable[Any]:
            return client.read_resource(  # type: ignore[no-any-return]
                uri,
                input_responses=answers,
                request_state=state,
                meta=meta,
                allow_input_required=True,
            )

        result = await self._desk.converse(cross, f"resources/read {params.uri}", send, params)
        shown: ReadResourceResult | InputRequiredResult = await self._desk.shown(result, cross)
        return shown

    async def _complete(
        self, session: Session, links: dict[str, Link], ctx: Context, params: CompleteRequestParams
    ) -> CompleteResult:
        ref = params.ref
        if isinstance(ref, PromptReference):
            candidates = [
                pair for pair in named_by(self._desk.policy, ref.name) if pair[0] in links
            ]
            if len(candidates) != 1:
                raise MessageRefused(Reason.NOT_ALLOWED)
            server, name = candidates[0]
            cross = self._desk.crossing(session, ctx)(links[server], PROMPT + name)
            await self._desk.catalogue.require_names(cross, name)
            own: Any = PromptReference(name=name)
        else:
            cross, uri = await self._desk.address(session, links, ctx, ref.uri)
            own = ResourceTemplateReference(uri=uri)
        await self._desk.catalogue.require_names(cross, params.argument.name)
        argument, others = await cross.to_tool(
            [params.argument.value, (params.context.arguments if params.context else None) or {}]
        )
        await cross.meta()
        named = {"name": params.argument.name, "value": argument}
        result = await cross.ask(
            lambda client: client.complete(own, named, context_arguments=others or None)
        )
        shown = await cross.to_model({"data": result.completion.values})
        completion = result.completion.model_copy(update={"values": shown["data"]})
        return CompleteResult(completion=completion)

    async def _watch(
        self, session: Session, links: dict[str, Link], ctx: Context, address: str, kind: Any
    ) -> EmptyResult:
        cross, uri = await self._desk.address(session, links, ctx, address)
        await cross.meta()
        params = kind.model_fields["params"].annotation(uri=uri)
        await cross.ask(lambda client: client.send_request(kind(params=params), EmptyResult))
        return EmptyResult()


def _require_no_task(params: CallToolRequestParams) -> None:
    """Tasks were an experiment of 2025; their results would come by another way."""
    if params.task is not None:
        raise MessageRefused(Reason.NOT_ALLOWED)


def _refusal(refusal: MessageRefused) -> CallToolResult:
    """A tool call that was refused, as the model reads it."""
    return CallToolResult(content=[TextContent(type="text", text=str(refusal))], is_error=True)
