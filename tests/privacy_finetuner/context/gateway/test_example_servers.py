"""The example servers of the official SDK, unmodified, behind the gateway.

They are not installed with the SDK: `MCP_SDK_EXAMPLES` names `examples/servers` of a checkout of
modelcontextprotocol/python-sdk. Without it, these tests are skipped.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from doubles import EMAIL, PLANTED, make_world, server_policy
from leaky import TEXT, handshake_only
from mcp import Client
from mcp.server import Server
from mcp.shared.exceptions import MCPError

from privacy_finetuner.context.gateway.policy import Policy, StdioTarget
from privacy_finetuner.context.gateway.upstream import target_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def examples() -> Path:
    folder = Path(os.environ.get("MCP_SDK_EXAMPLES", "/nonexistent"))
    if not folder.is_dir():
        pytest.skip("MCP_SDK_EXAMPLES names no folder")
    return folder


def over_stdio(examples: Path, name: str) -> Policy:
    module = f"mcp_{name.replace('-', '_')}"
    target = StdioTarget(
        command=(sys.executable, "-m", module), env={"PYTHONPATH": str(examples / name)}
    )
    return Policy(servers=(replace(server_policy("example"), target=target),))


async def through(policy: Policy, act: Any, **options: Any) -> Any:
    world = make_world(policy, {})
    world.gateway._desk._targets = target_of
    async with world.gateway.running() as server, Client(server, **options) as client:
        return await act(client)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_simple_prompt_gets_and_gives_tokens(examples: Path, mode: str) -> None:
    async def act(client: Client) -> str:
        listed = await client.list_prompts()
        found = await client.get_prompt("example__simple", {"context": TEXT, "topic": EMAIL})
        return listed.model_dump_json() + found.model_dump_json()

    text = anyio.run(lambda: through(over_stdio(examples, "simple-prompt"), act, mode=mode))

    assert "example__simple" in text
    assert "[EMAIL_" in text
    assert all(value not in text for value in PLANTED)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_simple_resource_is_read_and_its_errors_quote_nothing(examples: Path, mode: str) -> None:
    async def act(client: Client) -> tuple[str, str]:
        listed = await client.list_resources()
        read = [await client.read_resource(one.uri) for one in listed.resources]
        with pytest.raises(MCPError) as caught:
            await client.read_resource(f"mcp://example/file:///{EMAIL}.txt")
        return "".join(one.model_dump_json() for one in read), str(caught.value)

    text, error = anyio.run(
        lambda: through(over_stdio(examples, "simple-resource"), act, mode=mode)
    )

    assert "sample text resource" in text
    assert EMAIL not in error


def test_structured_output_still_fits_the_schema_that_the_client_sees(examples: Path) -> None:
    async def act(client: Client) -> types.CallToolResult:
        await client.list_tools()
        return await client.call_tool("example__get_weather", {"city": EMAIL})

    result = anyio.run(lambda: through(over_stdio(examples, "structured-output-lowlevel"), act))

    assert not result.is_error
    assert isinstance(result.structured_content["temperature"], float)


@pytest.mark.parametrize("modern_server", [True, False], ids=["to-2026", "to-2025"])
@pytest.mark.parametrize("mode", ["auto", "legacy"], ids=["from-2026", "from-2025"])
def test_everything_works_behind_the_gateway_and_shows_no_planted_value(
    examples: Path, mode: str, modern_server: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(examples / "everything-server"))
    module: Any = importlib.import_module("mcp_everything_server.server")
    everything: Server[Any] = module.mcp._lowlevel_server
    seen: list[Any] = []

    async def elicit(context: Any, params: Any) -> types.ElicitResult:
        seen.append(params.model_dump(mode="json"))
        wanted = getattr(params, "requested_schema", {}).get("properties", {})
        return types.ElicitResult(action="accept", content={name: TEXT for name in wanted})

    async def sample(context: Any, params: Any) -> types.CreateMessageResult:
        seen.append(params.model_dump(mode="json"))
        content = types.TextContent(type="text", text=TEXT)
        return types.CreateMessageResult(role="assistant", content=content, model="m")

    async def roots(context: Any) -> types.ListRootsResult:
        return types.ListRootsResult(roots=[types.Root(uri=f"file:///home/{EMAIL}", name=TEXT)])

    async def tour(client: Client, *, prefix: str) -> set[str]:
        """Use everything there is; return what gave an answer."""
        answered = set()
        for tool in (await client.list_tools()).tools:
            wanted = tool.input_schema.get("properties", {})
            texts = {name: TEXT for name, kind in wanted.items() if kind.get("type") == "string"}
            try:
                with anyio.fail_after(20):
                    result = await client.call_tool(tool.name, texts)
                seen.append(result.model_dump(by_alias=True, mode="json"))
                answered.add(tool.name.removeprefix(prefix))
            except (MCPError, RuntimeError) as error:
                seen.append(str(error))
        for prompt in (await client.list_prompts()).prompts:
            given = {argument.name: TEXT for argument in prompt.arguments or ()}
            try:
                found = await client.get_prompt(prompt.name, given)
                seen.append(found.model_dump(mode="json"))
                answered.add(prompt.name.removeprefix(prefix))
            except MCPError as error:
                seen.append(str(error))
        return answered

    async def main() -> tuple[set[str], set[str]]:
        options: Any = {
            "elicitation_callback": elicit,
            "sampling_callback": sample,
            "list_roots_callback": roots,
        }
        target = everything if modern_server else (lambda: handshake_only(everything))
        plain = everything if modern_server else handshake_only(everything)
        async with Client(plain, **options) as client:
            direct = await tour(client, prefix="")
        seen.clear()
        world = make_world(Policy(servers=(server_policy("all"),)), {"all": target})
        async with (
            world.gateway.running() as server,
            Client(server, mode=mode, **options) as client,
        ):
            return direct, await tour(client, prefix="all__")

    direct, through_gateway = anyio.run(main)

    text = json.dumps(seen, ensure_ascii=False, default=str)
    assert all(value not in text for value in PLANTED)
    assert "test_simple_text" in direct
    assert direct - through_gateway == set()
