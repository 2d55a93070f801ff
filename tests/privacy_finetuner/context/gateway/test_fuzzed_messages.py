"""Messages of random shape, with planted values in random places and disguises, both ways."""

from __future__ import annotations

import base64
import json
import re
from typing import Any
from urllib.parse import quote

import anyio
import mcp_types as types
import numpy as np
import pytest
from doubles import EMAIL, NAME, SECRET, SSN, connected, server_policy
from mcp.server import Server
from mcp.shared.exceptions import MCPError

from privacy_core.redaction.detection import PatternDetector
from privacy_finetuner.context.gateway.policy import Policy

DIGITS = SSN.replace("-", "")
WORDS = (
    "the",
    "visit",
    "of",
    "Monday",
    "\N{WAVE DASH}",
    "\n",
    "{",
    "]",
    "\\",
    '"',
    "é",
    "null",
    "👩‍⚕️",
    "%",
)


TOKEN = re.compile(r"\[[A-Z_]+_\d+\]")


class Fuzz:
    """Random JSON. `planted` are the values that must not pass."""

    def __init__(self, seed: int, planted: tuple[str, ...]) -> None:
        self.random = np.random.default_rng(seed)  # noqa: TID251  a fixed seed
        self.planted = planted

    def pick(self, options: Any) -> Any:
        return options[int(self.random.integers(len(options)))]

    def noise(self) -> str:
        return " ".join(self.pick(WORDS) for _ in range(int(self.random.integers(4))))

    def text(self, depth: int = 0) -> str:
        value = self.pick(self.planted) if self.random.random() < 0.6 else self.noise()
        plain = f"{self.noise()} {value} {self.noise()}"
        disguise = int(self.random.integers(8)) if depth < 3 else 0
        if disguise == 1:
            return json.dumps(self.tree(depth + 2))
        if disguise == 2:
            return json.dumps({self.text(depth + 1): self.text(depth + 1)}, ensure_ascii=False)
        if disguise == 3:
            return "data:text/plain;base64," + base64.b64encode(plain.encode()).decode()
        if disguise == 4:
            return f"https://h.example/p/{quote(value, safe='')}?q={quote(value)}"
        if disguise == 5:
            return json.dumps(plain)
        return plain

    def tree(self, depth: int = 0) -> Any:
        kind = int(self.random.integers(7 if depth < 4 else 3))
        if kind == 0:
            return self.pick([None, True, 3, -1.5, 10**12])
        if kind in (1, 2):
            return self.text(depth)
        if kind == 3:
            return {"ssn": int(DIGITS), "n": self.tree(depth + 1)}
        if kind == 4:
            return {self.text(depth + 1): self.tree(depth + 1) for _ in range(2)}
        return [self.tree(depth + 1) for _ in range(int(self.random.integers(4)))]

    def blob(self) -> str:
        return base64.b64encode(self.text().encode()).decode()

    def block(self) -> Any:
        kind = int(self.random.integers(6))
        uri = f"file:///{quote(self.pick(self.planted))}/x"
        meta = {"k": self.tree(2)}
        if kind == 0:
            return types.ResourceLink(
                type="resource_link", uri=uri, name=self.text(), description=self.text(), _meta=meta
            )
        if kind == 1:
            inner: Any = types.TextResourceContents(uri=uri, text=self.text(), _meta=meta)
            return types.EmbeddedResource(type="resource", resource=inner)
        if kind == 2:
            inner = types.BlobResourceContents(uri=uri, blob=self.blob(), mime_type=self.text())
            return types.EmbeddedResource(type="resource", resource=inner)
        if kind == 3:
            return types.ImageContent(type="image", data=self.blob(), mime_type="image/svg+xml")
        return types.TextContent(type="text", text=self.text(), _meta=meta)

    def result(self) -> Any:
        if self.random.random() < 0.1:
            raise MCPError(code=-32050, message=self.text(), data=self.tree())
        blocks = [self.block() for _ in range(1 + int(self.random.integers(3)))]
        return types.CallToolResult(
            content=blocks,
            structured_content={"tree": self.tree()},
            is_error=bool(self.random.random() < 0.2),
            _meta={"m": self.tree(2)},
        )


async def exchange(count: int, seed: int, planted: tuple[str, ...], detector: Any) -> list[str]:
    """Call a tool so many times; return everything that either side got, as text."""
    fuzz = Fuzz(seed, planted)
    heard: list[Any] = []

    async def list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[types.Tool(name="go", input_schema={"type": "object"})])

    async def call_tool(ctx: Any, params: Any) -> Any:
        heard.append([params.arguments, ctx.meta])
        await ctx.session.report_progress(0.5, 1.0, fuzz.text())
        return fuzz.result()

    seen: list[Any] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        seen.append(message)

    server = Server("s", on_list_tools=list_tools, on_call_tool=call_tool)
    policy = Policy(servers=(server_policy(),))
    policy = Policy(servers=policy.servers, limits=policy.limits.__class__(calls_per_minute=10**6))
    async with connected(policy, {"notes": server}, detector=detector) as (client, _):
        for _ in range(count):
            try:
                result = await client.call_tool(
                    "notes__go",
                    {"tree": fuzz.tree()},
                    meta={"m": fuzz.tree(2)},
                    progress_callback=progress,
                )
                seen.append(result.model_dump(by_alias=True, mode="json"))
            except MCPError as error:
                seen.append([error.message, error.data])
    return [json.dumps(thing, ensure_ascii=False, default=str) for thing in (*seen, *heard)]


def decoded(text: str) -> str:
    """A message, and what is behind the base64 in it."""
    parts = [text]
    for word in text.replace('"', " ").replace("\\", " ").replace(",", " ").split():
        if len(word) > 15 and len(word) % 4 == 0:
            try:
                parts.append(base64.b64decode(word, validate=True).decode())
            except ValueError:
                continue
    return "\n".join(parts)


def leaks(texts: list[str], planted: tuple[str, ...]) -> list[str]:
    forms = {form for value in planted for form in (value, quote(value), quote(value, safe=""))}
    forms = {form for form in forms if form} | {DIGITS}
    return [form for text in texts for form in forms if form in decoded(text)]


def run(count: int, seed: int, planted: tuple[str, ...], detector: Any = None) -> list[str]:
    texts = anyio.run(lambda: exchange(count, seed, planted, detector))
    assert len(texts) >= 2 * count
    assert sum(bool(TOKEN.search(text)) for text in texts) > count / 4
    return leaks(texts, planted)


def test_500_random_messages_carry_no_planted_value_either_way() -> None:
    assert run(500, seed=1, planted=(EMAIL, SSN, SECRET, NAME)) == []


def test_the_check_itself_finds_what_it_looks_for() -> None:
    blob = base64.b64encode(f"a {EMAIL}".encode()).decode()

    assert leaks([json.dumps({"blob": blob})], (EMAIL,)) == [EMAIL]
    assert leaks([quote(EMAIL)], (EMAIL,)) != []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_10000_random_messages_carry_no_planted_value_either_way(seed: int) -> None:
    assert run(1000, seed=100 + seed, planted=(EMAIL, SSN, SECRET, NAME)) == []


def test_random_messages_through_the_products_own_detector() -> None:
    planted = (EMAIL, "DE89 3704 0044 0532 0130 00", "4111 1111 1111 1111")

    assert run(60, seed=3, planted=planted, detector=PatternDetector()) == []
