"""Twelve surfaces, two eras on either side: no planted value reaches the model, nor an egress tool.

The surfaces: arguments, content, structured content, resources, prompts, completions, errors,
questions (input-required, sampling, elicitation), `_meta`, descriptions, progress, logs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio
import mcp_types as types
import pytest
from doubles import EMAIL, NAME, PLANTED, SECRET, SSN, connected, server_policy
from leaky import STATE, TEXT, Leaky, handshake_only
from mcp import Client
from mcp.shared.exceptions import MCPError

from privacy_finetuner.context.gateway.policy import Policy, ToolRule, Zone

Act = Callable[[Client, "Seen"], Any]
DIGITS = SSN.replace("-", "")
FORBIDDEN = (*PLANTED, DIGITS, EMAIL.replace("@", "%40"))


class Seen:
    """Everything that the client's side gets to see."""

    def __init__(self) -> None:
        self.things: list[Any] = []
        self.logged = anyio.Event()

    def add(self, thing: Any) -> Any:
        if hasattr(thing, "model_dump"):
            self.things.append(thing.model_dump(by_alias=True, mode="json"))
        else:
            self.things.append(thing)
        return thing

    def text(self) -> str:
        return json.dumps(self.things, ensure_ascii=False, default=str)

    async def progress(self, done: float, total: float | None, message: str | None) -> None:
        self.add(message)

    async def log(self, params: Any) -> None:
        self.add(params)
        self.logged.set()

    async def elicit(self, context: Any, params: Any) -> types.ElicitResult:
        self.add(params)
        return types.ElicitResult(action="accept", content={"ok": f"yes {TEXT}", "type": EMAIL})

    async def sample(self, context: Any, params: Any) -> types.CreateMessageResult:
        self.add(params)
        return types.CreateMessageResult(
            role="assistant", content=types.TextContent(type="text", text=TEXT), model="m"
        )


async def arguments(client: Client, seen: Seen) -> None:
    nested = {"who": TEXT, EMAIL: [TEXT], "json": json.dumps({"a": TEXT}), "ssn": 219099999}
    result = await client.call_tool("notes__write", nested, meta={"note": TEXT})
    assert not result.is_error


async def content(client: Client, seen: Seen) -> None:
    await client.list_tools()
    result = seen.add(await client.call_tool("notes__read", {}, progress_callback=seen.progress))
    assert not result.is_error
    texts = [block.text for block in result.content if isinstance(block, types.TextContent)]
    assert "[EMAIL_" in texts[0]


async def structured(client: Client, seen: Seen) -> None:
    result = seen.add(await client.call_tool("notes__read", {}))
    copy = json.loads(result.content[1].text)
    assert copy["mail"] == result.structured_content["mail"]
    assert copy["ssn"] == result.structured_content["ssn"]
    assert result.structured_content["ssn"].startswith("[US_SSN_")


async def resources(client: Client, seen: Seen) -> None:
    listed = seen.add(await client.list_resources())
    seen.add(await client.list_resource_templates())
    for resource in listed.resources:
        assert resource.uri.startswith("mcp://notes/")
        read = seen.add(await client.read_resource(resource.uri))
        assert read.contents[0].text.startswith("[PERSON_")


async def prompts(client: Client, seen: Seen) -> None:
    listed = seen.add(await client.list_prompts())
    assert [prompt.name for prompt in listed.prompts] == ["notes__greet"]
    seen.add(await client.get_prompt("notes__greet", {"who": TEXT}))


async def completions(client: Client, seen: Seen) -> None:
    ref = types.PromptReference(name="notes__greet")
    result = seen.add(
        await client.complete(ref, {"name": "who", "value": EMAIL}, context_arguments={"a": TEXT})
    )
    assert len(result.completion.values) == 3


async def errors(client: Client, seen: Seen) -> None:
    for name in ("notes__fail", "notes__crash"):
        with pytest.raises(MCPError) as caught:
            await client.call_tool(name, {})
        seen.add([caught.value.message, caught.value.data, str(caught.value)])
    assert "no row for [PERSON_" in seen.text()


async def descriptions(client: Client, seen: Seen) -> None:
    listed = seen.add(await client.list_tools())
    assert "notes__read" in {tool.name for tool in listed.tools}


async def logs(client: Client, seen: Seen) -> None:
    meta = {"io.modelcontextprotocol/logLevel": "debug"}
    await client.call_tool("notes__speak", {}, meta=meta)
    with anyio.fail_after(60):
        await seen.logged.wait()
    assert "[EMAIL_" in seen.text()


async def binary(client: Client, seen: Seen) -> None:
    result = seen.add(await client.call_tool("notes__binary", {}))
    assert "withheld" in result.content[0].text


async def questions(client: Client, seen: Seen) -> None:
    result = seen.add(await client.call_tool("notes__ask", {}))
    assert not result.is_error
    assert "Is this [PERSON_" in seen.text()


SURFACES: dict[str, Act] = {
    act.__name__: act
    for act in (
        arguments,
        content,
        structured,
        resources,
        prompts,
        completions,
        errors,
        descriptions,
        logs,
        binary,
    )
}


def policy_with(**changes: Any) -> Policy:
    return Policy(servers=(server_policy(**changes),))


async def run(act: Act, *, mode: str, modern_server: bool, policy: Policy | None = None) -> Leaky:
    """Act as a client, and check that neither side saw what it may not."""
    leaky, seen = Leaky(), Seen()
    target = leaky.server if modern_server else lambda: handshake_only(leaky.server)
    async with connected(
        policy or policy_with(),
        {"notes": target},
        mode=mode,
        logging_callback=seen.log,
        elicitation_callback=seen.elicit,
        sampling_callback=seen.sample,
    ) as (client, world):
        await act(client, seen)
    trail = json.dumps([entry.line() for entry in world.trail()])
    for value in FORBIDDEN:
        assert value not in seen.text()
        assert value not in json.dumps(leaky.heard, ensure_ascii=False)
        assert value not in trail
    assert world.trail()
    world.journal.verify("audit")
    return leaky


@pytest.mark.parametrize("modern_server", [True, False], ids=["to-2026", "to-2025"])
@pytest.mark.parametrize("mode", ["auto", "legacy"], ids=["from-2026", "from-2025"])
@pytest.mark.parametrize("surface", SURFACES)
def test_no_planted_value_passes(surface: str, mode: str, modern_server: bool) -> None:
    async def main() -> None:
        await run(SURFACES[surface], mode=mode, modern_server=modern_server)

    anyio.run(main)


@pytest.mark.parametrize("mode", ["auto", "legacy"], ids=["from-2026", "from-2025"])
def test_a_modern_servers_questions_are_answered_and_its_state_comes_back_byte_for_byte(
    mode: str,
) -> None:
    leaky = anyio.run(lambda: run(questions, mode=mode, modern_server=True))

    assert leaky.states == [STATE]


@pytest.mark.parametrize("mode", ["auto", "legacy"], ids=["from-2026", "from-2025"])
def test_questions_that_an_old_server_pushes_reach_clients_of_both_eras(mode: str) -> None:
    async def push(client: Client, seen: Seen) -> None:
        result = seen.add(await client.call_tool("notes__push", {}))
        assert result.content[0].text.startswith("done [PERSON_")

    leaky = anyio.run(lambda: run(push, mode=mode, modern_server=False))

    assert any("yes [PERSON_" in json.dumps(heard) for heard in leaky.heard)


def test_a_trusted_tool_gets_the_values_of_its_types_and_tokens_of_all_others() -> None:
    rule = ToolRule(pattern="write", zone=Zone.TRUSTED, reveal=frozenset({"EMAIL"}))
    leaky = Leaky()

    async def main() -> None:
        async with connected(policy_with(rules=(rule,)), {"notes": leaky.server}) as (client, _):
            read = await client.call_tool("notes__read", {})
            await client.call_tool("notes__write", {"who": read.content[0].text})

    anyio.run(main)

    written = leaky.heard[-1]["arguments"]["who"]
    assert EMAIL in written
    assert all(value not in written for value in (NAME, SSN, SECRET))


def test_a_number_that_became_a_token_is_a_number_again_for_the_tool_that_may_have_it() -> None:
    rule = ToolRule(pattern="write", zone=Zone.TRUSTED, reveal=frozenset({"US_SSN"}))
    leaky = Leaky()
    leaky_schema = {"type": "object", "properties": {"ssn": {"type": "integer"}}}

    async def main() -> None:
        async with connected(policy_with(rules=(rule,)), {"notes": leaky.server}) as (
            client,
            _,
        ):
            read = await client.call_tool("notes__read", {})
            token = read.structured_content["ssn"]
            await client.list_tools()
            await client.call_tool("notes__write", {"ssn": token})

    original = leaky.list_tools

    async def with_schema(ctx: Any, params: Any) -> types.ListToolsResult:
        result = await original(ctx, params)
        for tool in result.tools:
            if tool.name == "write":
                tool.input_schema = leaky_schema
        return result

    leaky.server.add_request_handler("tools/list", types.PaginatedRequestParams, with_schema)
    anyio.run(main)

    assert leaky.heard[-1]["arguments"]["ssn"] == 219099999
