"""Servers whose lists change while they are used: the client hears of it, in both eras."""

from __future__ import annotations

from typing import Any

import anyio
import mcp_types as types
import pytest
from doubles import connected, server_policy
from mcp.server import Server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged

from privacy_finetuner.context.gateway.policy import Policy


class Changing:
    """A server that has one more tool each time it is asked to grow."""

    def __init__(self) -> None:
        self.names = ["grow"]
        self.bus = InMemorySubscriptionBus()
        self.server = Server(
            "s",
            on_list_tools=self.list_tools,
            on_call_tool=self.call_tool,
            on_subscriptions_listen=ListenHandler(self.bus),
        )

    async def list_tools(self, ctx: Any, params: Any) -> types.ListToolsResult:
        schema: dict[str, Any] = {"type": "object"}
        return types.ListToolsResult(
            tools=[types.Tool(name=name, input_schema=schema) for name in self.names]
        )

    async def call_tool(self, ctx: Any, params: Any) -> types.CallToolResult:
        self.names.append(f"tool{len(self.names)}")
        await self.bus.publish(ToolsListChanged())
        return types.CallToolResult(content=[types.TextContent(type="text", text="grown")])


@pytest.mark.parametrize("mode", ["auto", "legacy"], ids=["from-2026", "from-2025"])
def test_a_new_tool_is_announced_listed_and_callable(mode: str) -> None:
    async def main() -> set[str]:
        heard = anyio.Event()

        async def message(found: Any) -> None:
            if isinstance(found, types.ToolListChangedNotification):
                heard.set()

        changing = Changing()
        policy = Policy(servers=(server_policy(),))
        async with (
            connected(policy, {"notes": changing.server}, mode=mode, message_handler=message) as (
                client,
                _,
            ),
            anyio.create_task_group() as tasks,
        ):
            if mode == "auto":
                ready = anyio.Event()

                async def listen() -> None:
                    async with client.listen(tools_list_changed=True) as changes:
                        ready.set()
                        async for _ in changes:
                            heard.set()

                tasks.start_soon(listen)
                await ready.wait()
            await client.list_tools()
            with anyio.fail_after(10):
                while not heard.is_set():
                    await client.call_tool("notes__grow", {})
                    await anyio.sleep(0.05)
            result = await client.call_tool("notes__tool1", {})
            assert not result.is_error
            listed = await client.list_tools(cache_mode="bypass")
            tasks.cancel_scope.cancel()
        return {tool.name for tool in listed.tools}

    assert {"notes__grow", "notes__tool1"} <= anyio.run(main)
