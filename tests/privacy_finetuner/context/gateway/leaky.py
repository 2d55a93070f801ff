"""A server that plants values on every surface of the protocol, and keeps what it was told."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import mcp_types as types
from doubles import EMAIL, NAME, SECRET, SSN
from mcp.server import Server
from mcp.server.runner import serve_loop
from mcp.shared.exceptions import MCPError
from mcp.shared.memory import create_client_server_memory_streams
from mcp.shared.message import ServerMessageMetadata

TEXT = f"{NAME} <{EMAIL}> has {SSN}; key {SECRET}"
STATE = f"opaque {EMAIL}\x00\u00e9 state"
URI = f"file:///people/{EMAIL}/notes.txt"
SCHEMA = {
    "type": "object",
    "properties": {"who": {"type": "string", "description": TEXT, "default": EMAIL}},
    "additionalProperties": True,
}
OUTPUT = {
    "type": "object",
    "properties": {
        "mail": {"type": "string", "format": "email", "const": EMAIL},
        "ssn": {"type": "integer"},
        "rows": {"type": "array", "items": {"type": "object"}},
    },
    "additionalProperties": False,
}
STRUCTURED = {
    "mail": EMAIL,
    "ssn": 219099999,
    "rows": [{EMAIL: 1, "note": json.dumps({"inner": TEXT, "ssn": 219099999})}],
}


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Leaky:
    """Makes the server; `heard` holds every argument, answer, address and `_meta` it got."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.states: list[str | None] = []
        self.calls = 0
        self.override: Callable[[str], Any] | None = None
        self.server = Server(
            "leaky",
            on_list_tools=self.list_tools,
            on_call_tool=self.call_tool,
            on_list_resources=self.list_resources,
            on_list_resource_templates=self.list_templates,
            on_read_resource=self.read_resource,
            on_list_prompts=self.list_prompts,
            on_get_prompt=self.get_prompt,
            on_completion=self.complete,
        )
        self.server.add_request_handler(
            "logging/setLevel", types.SetLevelRequestParams, self.set_level
        )

    async def set_level(self, ctx: Any, params: Any) -> types.EmptyResult:
        return types.EmptyResult()

    async def list_tools(self, ctx: Any, params: Any) -> types.ListToolsResult:
        names = ("read", "write", "fail", "crash", "ask", "push", "speak", "binary", EMAIL)
        tools = [
            types.Tool(
                name=name,
                title=TEXT,
                description=TEXT,
                input_schema=SCHEMA,
                output_schema=OUTPUT if name == "read" else None,
                annotations=types.ToolAnnotations(title=TEXT),
                icons=[types.Icon(src="data:text/plain;base64," + b64(TEXT))],
                _meta={"note": TEXT, EMAIL: SSN},
            )
            for name in names
        ]
        return types.ListToolsResult(tools=tools, _meta={"by": NAME})

    async def call_tool(self, ctx: Any, params: types.CallToolRequestParams) -> Any:
        self.calls += 1
        wire = params.model_dump(by_alias=True, mode="json", exclude={"request_state"})
        # The keys of its own questions may come back to it, as its own addresses may.
        wire["inputResponses"] = list((wire["inputResponses"] or {}).values())
        self.heard.append(wire)
        return await getattr(self, f"tool_{params.name}")(ctx, params)

    async def tool_read(self, ctx: Any, params: Any) -> types.CallToolResult:
        await ctx.session.report_progress(0.5, 1.0, f"reading {TEXT}")
        content: list[Any] = [
            types.TextContent(type="text", text=TEXT, _meta={"m": TEXT}),
            types.TextContent(type="text", text=json.dumps(STRUCTURED)),
            types.ResourceLink(
                type="resource_link", uri=URI, name=NAME, title=TEXT, description=TEXT
            ),
            types.EmbeddedResource(
                type="resource",
                resource=types.TextResourceContents(uri=URI, text=TEXT, mime_type="text/plain"),
            ),
            types.EmbeddedResource(
                type="resource",
                resource=types.BlobResourceContents(uri=URI, blob=b64(TEXT), mime_type="text/csv"),
            ),
        ]
        return types.CallToolResult(
            content=content, structured_content=STRUCTURED, _meta={"trace": TEXT}
        )

    async def tool_write(self, ctx: Any, params: Any) -> types.CallToolResult:
        return types.CallToolResult(content=[types.TextContent(type="text", text="written")])

    async def tool_fail(self, ctx: Any, params: Any) -> types.CallToolResult:
        raise MCPError(code=-32011, message=f"no row for {TEXT}", data={"row": TEXT, SECRET: 1})

    async def tool_crash(self, ctx: Any, params: Any) -> types.CallToolResult:
        raise RuntimeError(TEXT)

    async def tool_binary(self, ctx: Any, params: Any) -> types.CallToolResult:
        raw = base64.b64encode(b"\x89PNG\x00" + TEXT.encode()).decode()
        content: list[Any] = [
            types.ImageContent(type="image", data=raw, mime_type="image/png"),
            types.ImageContent(type="image", data=b64(TEXT), mime_type="image/svg+xml"),
            types.AudioContent(type="audio", data=TEXT, mime_type="audio/wav"),
        ]
        return types.CallToolResult(content=content)

    async def tool_speak(self, ctx: Any, params: Any) -> types.CallToolResult:
        await ctx.session.send_notification(
            types.LoggingMessageNotification(
                params=types.LoggingMessageNotificationParams(
                    level="error", data={"row": TEXT, EMAIL: 1}, logger=f"db {EMAIL}"
                )
            ),
            related_request_id=ctx.request_id,
        )
        return types.CallToolResult(content=[types.TextContent(type="text", text="spoken")])

    def questions(self) -> dict[str, Any]:
        return {
            f"form {EMAIL}": types.ElicitRequest(
                params=types.ElicitRequestFormParams(
                    message=f"Is this {TEXT}?",
                    requested_schema={
                        "type": "object",
                        "properties": {"ok": {"type": "string", "description": TEXT}},
                    },
                )
            ),
            "model": types.CreateMessageRequest(
                params=types.CreateMessageRequestParams(
                    messages=[
                        types.SamplingMessage(
                            role="user", content=types.TextContent(type="text", text=TEXT)
                        )
                    ],
                    system_prompt=TEXT,
                    max_tokens=10,
                )
            ),
        }

    async def tool_ask(self, ctx: Any, params: types.CallToolRequestParams) -> Any:
        if params.input_responses is None:
            return types.InputRequiredResult(
                input_requests=self.questions(), request_state=STATE, _meta={"t": TEXT}
            )
        self.states.append(params.request_state)
        return types.CallToolResult(content=[types.TextContent(type="text", text=f"thanks {NAME}")])

    async def tool_push(self, ctx: Any, params: types.CallToolRequestParams) -> Any:
        for question in self.questions().values():
            kind = (
                types.ElicitResult
                if isinstance(question, types.ElicitRequest)
                else types.CreateMessageResult
            )
            answer = await ctx.session.send_request(
                question, kind, metadata=ServerMessageMetadata(related_request_id=ctx.request_id)
            )
            self.heard.append(answer.model_dump(by_alias=True, mode="json"))
        return types.CallToolResult(content=[types.TextContent(type="text", text=f"done {NAME}")])

    async def list_resources(self, ctx: Any, params: Any) -> types.ListResourcesResult:
        return types.ListResourcesResult(
            resources=[
                types.Resource(uri=URI, name=NAME, title=TEXT, description=TEXT),
                types.Resource(uri=URI.replace("@", "%40"), name="encoded"),
            ]
        )

    async def list_templates(self, ctx: Any, params: Any) -> types.ListResourceTemplatesResult:
        template = types.ResourceTemplate(
            uri_template=f"file:///people/{EMAIL}/{{name}}", name=NAME, description=TEXT
        )
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def read_resource(self, ctx: Any, params: Any) -> types.ReadResourceResult:
        # An address that this server gave out itself may come back to it.
        self.heard.append(params.model_dump(by_alias=True, mode="json", exclude={"uri"}))
        contents: list[Any] = [
            types.TextResourceContents(uri=str(params.uri), text=TEXT, _meta={"m": TEXT}),
            types.BlobResourceContents(uri=str(params.uri), blob=b64(TEXT), mime_type="text/plain"),
        ]
        return types.ReadResourceResult(contents=contents)

    async def list_prompts(self, ctx: Any, params: Any) -> types.ListPromptsResult:
        argument = types.PromptArgument(name="who", description=TEXT)
        prompt = types.Prompt(name="greet", title=TEXT, description=TEXT, arguments=[argument])
        return types.ListPromptsResult(prompts=[prompt, types.Prompt(name=EMAIL)])

    async def get_prompt(self, ctx: Any, params: Any) -> types.GetPromptResult:
        self.heard.append(params.model_dump(by_alias=True, mode="json"))
        message = types.PromptMessage(
            role="user", content=types.TextContent(type="text", text=f"Greet {TEXT}")
        )
        return types.GetPromptResult(description=TEXT, messages=[message])

    async def complete(self, ctx: Any, params: Any) -> types.CompleteResult:
        self.heard.append(params.model_dump(by_alias=True, mode="json"))
        return types.CompleteResult(completion=types.Completion(values=[NAME, EMAIL, TEXT]))


@asynccontextmanager
async def handshake_only(server: Server[Any]) -> AsyncIterator[Any]:
    """A transport to a server that knows nothing after 2025."""
    async with (
        create_client_server_memory_streams() as (ours, theirs),
        anyio.create_task_group() as tasks,
    ):

        async def serve() -> None:
            await serve_loop(server, *theirs, lifespan_state={})

        tasks.start_soon(serve)
        try:
            yield ours
        finally:
            tasks.cancel_scope.cancel()
