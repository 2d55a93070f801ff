"""The gateway's section of a configuration; two applications behind one path."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.federated_dp_llm.gateway.parts import (
    Client,
    answer,
    chat,
    completion,
    house,
    says,
)

from federated_dp_llm.gateway.backends import Strategy
from federated_dp_llm.gateway.by_model import ByModel
from federated_dp_llm.gateway.charges import Unit
from federated_dp_llm.gateway.options import GatewayOptions
from privacy_core.errors import InvalidParameter

BACKEND = {"name": "b", "url": "http://10.0.0.1:8000", "models": ["m"]}


def test_a_section_becomes_backends_and_numbers(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("the-backends-own-key\n")
    section = {
        "backends": [{**BACKEND, "slots": 96, "key_file": str(key)}],
        "unit": "requests",
        "strategy": "fastest_free",
        "header_s": 30.0,
    }

    options = GatewayOptions.of(section)

    (backend,) = options.values()
    assert (backend.slots, backend.key and backend.key.reveal()) == (96, "the-backends-own-key")
    policy = options.policy()
    assert (policy.unit, policy.strategy) == (Unit.REQUESTS, Strategy.FASTEST_FREE)
    assert policy.timeouts.header_s == 30.0


@pytest.mark.parametrize(
    "section",
    [
        {},
        {"backends": "b"},
        {"backends": [BACKEND], "strategie": "fastest_free"},
        {"backends": [{**BACKEND, "slot": 3}]},
        {"backends": [BACKEND], "unit": "euros"},
    ],
)
def test_a_section_with_a_fault_is_refused(section: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        GatewayOptions.of(section)


@pytest.mark.parametrize(
    "more", [{"attempts": 0}, {"idle_s": 0.0}, {"waiting_most": -1}, {"tokens": 0}]
)
def test_numbers_out_of_range_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        GatewayOptions.of({"backends": [BACKEND], **more}).policy()


def test_a_missing_key_file_is_refused_by_the_backends_name() -> None:
    options = GatewayOptions.of({"backends": [{**BACKEND, "key_file": "/nowhere/key"}]})

    with pytest.raises(InvalidParameter, match=r"gateway\.backends\.b"):
        options.values()


@pytest.mark.parametrize(
    ("body", "path", "who"),
    [
        (chat(), "/v1/chat/completions", "gateway"),
        (chat(model="private"), "/v1/chat/completions", "other"),
        (b"no json", "/v1/completions", "other"),
        (b"", "/v1/inference", "other"),
    ],
)
def test_the_model_decides_who_answers_and_the_body_is_whole(
    body: bytes, path: str, who: str
) -> None:
    async def other(scope: Any, receive: Any, send: Any) -> None:
        del scope
        heard = (await receive())["body"]
        await send({"type": "http.response.start", "status": 299, "headers": []})
        await send({"type": "http.response.body", "body": heard})

    async def story() -> tuple[int, bytes]:
        async with house(says(answer(completion()))) as (home, _):
            said = await Client(ByModel(home.gateway, other)).ask(body, path=path)
            return said.status, said.body

    status, heard = asyncio.run(story())

    if who == "gateway":
        assert status == 200
        assert heard == completion()
    else:
        assert (status, heard) == (299, body)


def test_the_section_of_the_docs_is_one() -> None:
    import yaml

    page = Path(__file__).parents[3] / "docs" / "router_gateway.md"
    block = page.read_text().split("```yaml\n")[1].split("```")[0]

    options = GatewayOptions.of(yaml.safe_load(block)["gateway"])

    assert options.policy()
