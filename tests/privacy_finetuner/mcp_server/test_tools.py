"""The tools with the official client: in memory, over standard streams, and at `/mcp`."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from mcp import Client as McpClient
from mcp import StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from tests.privacy_finetuner.client.house import House

from privacy_core.guarantee import Guarantee, NeighbouringRelation, PrivacyUnit
from privacy_finetuner.client import AsyncClient, Client
from privacy_finetuner.governance.accounts import scope_of
from privacy_finetuner.mcp_server import server_of
from privacy_finetuner.mcp_server.clients import OneClient
from privacy_runtime.budget_store import Signature

T = TypeVar("T")
Talk = Callable[[McpClient], Awaitable[T]]

TOOLS = {
    "start_training", "training_status", "cancel_training", "list_jobs", "privacy_report",
    "certificate", "budget", "request_budget", "protect", "explain_redactions", "list_datasets",
    "list_models",
}  # fmt: skip
CHANGES = {"start_training", "cancel_training", "request_budget"}


@asynccontextmanager
async def in_memory(house: House, key: str) -> AsyncIterator[McpClient]:
    async with (
        AsyncClient(house.url, api_key=key) as client,
        McpClient(server_of(OneClient(client))) as connected,
    ):
        yield connected


@asynccontextmanager
async def over_http(house: House, key: str) -> AsyncIterator[McpClient]:
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
        transport = streamable_http_client(f"{house.url}/mcp", http_client=http)
        async with McpClient(transport) as connected:
            yield connected


@asynccontextmanager
async def over_stdio(house: House, key: str) -> AsyncIterator[McpClient]:
    parameters = StdioServerParameters(
        command=str(Path(sys.executable).with_name("privacy-finetuner")),
        args=["mcp", "--url", house.url],
        env={"PRIVACY_FINETUNER_API_KEY": key, "PATH": os.environ["PATH"], "HOME": "/nonexistent"},
    )
    async with McpClient(stdio_client(parameters)) as connected:
        yield connected


WAYS = {"memory": in_memory, "http": over_http}


@pytest.fixture(params=WAYS)
def ask(request: pytest.FixtureRequest, house: House, key: str) -> Callable[[Talk[Any]], Any]:
    """Talks with the tools, in memory and over HTTP."""

    def run(talk: Talk[Any]) -> Any:
        async def connected() -> Any:
            async with WAYS[request.param](house, key) as client:
                return await talk(client)

        return asyncio.run(connected())

    return run


def call(ask: Any, name: str, /, **arguments: Any) -> Any:
    result = ask(lambda client: client.call_tool(name, arguments))
    assert not result.is_error, result.content
    return result.structured_content


def refused(ask: Any, name: str, /, **arguments: Any) -> str:
    result = ask(lambda client: client.call_tool(name, arguments))
    assert result.is_error
    return str(result.content[0].text)


def test_the_tools_say_what_they_do_and_change(ask: Any) -> None:
    tools = {tool.name: tool for tool in ask(lambda client: client.list_tools()).tools}

    assert set(tools) == TOOLS
    for name, tool in tools.items():
        assert tool.description
        assert tool.output_schema
        assert tool.annotations.read_only_hint is (name not in CHANGES)
        assert tool.annotations.open_world_hint is False
    assert tools["start_training"].annotations.destructive_hint
    assert tools["cancel_training"].annotations.idempotent_hint
    assert set(tools["start_training"].input_schema["required"]) == {
        "model_name", "dataset_path", "epsilon",
    }  # fmt: skip


def test_a_job_is_started_listed_and_ended(ask: Any) -> None:
    names = call(ask, "list_models")["names"], call(ask, "list_datasets")["names"]
    started = call(
        ask, "start_training", model_name="sample:model", dataset_path="sample:records",
        epsilon=2.0, epochs=1, batch_size=256, name="by an assistant",
    )  # fmt: skip
    listed = call(ask, "list_jobs", status="queued", limit=5)["jobs"]
    ended = call(ask, "cancel_training", job_id=started["job_id"])
    again = call(ask, "cancel_training", job_id=started["job_id"])

    assert "sample:model" in names[0]
    assert "sample:records" in names[1]
    assert started["job_id"] in {job["job_id"] for job in listed}
    assert ended["status"] == again["status"] == "cancelled"


def test_the_same_request_key_starts_one_job(ask: Any, trainer: Client, house: House) -> None:
    asked = {
        "model_name": "sample:model", "dataset_path": "sample:records", "epsilon": 1.0,
        "request_key": f"key-{os.urandom(6).hex()}",
    }  # fmt: skip
    first, second = (call(ask, "start_training", **asked)["job_id"] for _ in range(2))
    trainer.jobs.cancel_training(first)

    assert first == second


def test_waiting_reports_progress_and_ends_with_the_job(ask: Any, house: House, job: str) -> None:
    story = house.story(job)
    story.step(2)
    seen: list[tuple[float, float | None, str | None]] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        seen.append((done, total, message))

    def work() -> None:
        story.step(6)
        story.epoch(1, 2.5)
        story.end()

    threading.Timer(1.5, work).start()
    result = ask(
        lambda client: client.call_tool(
            "training_status", {"job_id": job, "wait_s": 30}, progress_callback=progress
        )
    )

    assert result.structured_content["status"] == "succeeded"
    assert [done for done, _, _ in seen] == [2, 6]
    assert seen[0][1:] == (10, "running, epsilon 0.2")
    assert seen[-1][2] == "succeeded, epsilon 0.6, loss 2.5"


def test_without_waiting_the_answer_comes_at_once(ask: Any, job: str) -> None:
    found = call(ask, "training_status", job_id=job)

    assert (found["status"], found["step"], found["privacy_spent"]["epsilon"]) == ("queued", 0, 0)


def test_the_certificate_and_the_report_are_what_the_job_left(
    ask: Any, house: House, job: str
) -> None:
    story = house.story(job)
    text = '{"type": "privacy-certificate"}\n'
    story.file("certificate.json", text.encode())
    found = call(ask, "certificate", job_id=job)
    resource = ask(
        lambda client: client.read_resource(f"privacy-finetuner://jobs/{job}/certificate")
    )

    assert found == {"job_id": job, "certificate": text}
    assert resource.contents[0].text == text
    with pytest.raises((MCPError, ExceptionGroup)) as missed:
        ask(lambda client: client.read_resource("privacy-finetuner://jobs/job_0/report"))
    assert "[not_found" in str(_inner(missed.value))


def _inner(error: BaseException) -> BaseException:
    """What a task group has wrapped."""
    return _inner(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def test_budget_is_shown_and_asked_for(ask: Any, house: House) -> None:
    account = f"notes/{os.urandom(4).hex()}"
    _open(house, account)
    shown = call(ask, "budget", account=account)["accounts"]
    everything = call(ask, "budget")["accounts"]
    made = call(ask, "request_budget", account=account, epsilon=2.0, reason="a second study")

    assert [(one["account"], one["epsilon"], one["epsilon_spent"]) for one in shown] == [
        (account, 8.0, 0.0)
    ]
    assert account in {one["account"] for one in everything}
    assert (made["status"], made["epsilon"]) == ("pending", 2.0)


def _open(house: House, account: str) -> None:
    promise = Guarantee(
        epsilon=8.0,
        delta=1e-5,
        relation=NeighbouringRelation.ADD_OR_REMOVE_ONE,
        unit=PrivacyUnit.EXAMPLE,
    )
    house.service.ledger.open_account(
        f"open-{account}",
        scope_of(house.tenant, account),
        promise,
        signature=Signature(person="officer", reason="a test"),
    )


def test_a_text_comes_back_without_what_was_found(ask: Any) -> None:
    text = "Process payment for John Doe, card 4111-1111-1111-1111"
    found = call(ask, "protect", text=text, level="high")
    explained = ask(lambda client: client.call_tool("explain_redactions", {"text": text}))

    assert found["protected_text"] == "Process payment for [PERSON], card [PAYMENT_CARD]"
    assert found["counts"]["PAYMENT_CARD"] == 1
    assert "4111" not in explained.model_dump_json()
    assert explained.structured_content["decisions"]


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [("training_status", {"job_id": "job_0"}, "not_found"),
     ("start_training", {"model_name": "sample:model", "dataset_path": "/etc/passwd",
                         "epsilon": 1.0}, "unknown_dataset"),
     ("privacy_report", {"job_id": "../users"}, ""),
     ("budget", {"account": "nobody/knows"}, "")],
)  # fmt: skip
def test_a_refusal_is_a_tool_error_with_its_code(
    ask: Any, name: str, arguments: dict[str, Any], code: str
) -> None:
    text = refused(ask, name, **arguments)

    assert text.removeprefix("Error executing tool ").startswith("[" + code) or code in text
    assert "Traceback" not in text
    assert "pf_" not in text


@pytest.mark.parametrize(
    "arguments",
    [{"epsilon": 0}, {"epsilon": -1}, {"epsilon": "much"}, {"epsilon": 1, "delta": 1},
     {"epsilon": 1, "batch_size": 0}, {"epsilon": 1, "request_key": "ä" * 9}, {}],
)  # fmt: skip
def test_bad_arguments_reach_nobody(ask: Any, house: House, arguments: dict[str, Any]) -> None:
    before = len(house.service.jobs.find(house.tenant, limit=1000))
    asked = {"model_name": "sample:model", "dataset_path": "sample:records", **arguments}
    text = refused(ask, "start_training", **asked)

    assert "pf_" not in text
    assert len(house.service.jobs.find(house.tenant, limit=1000)) == before


def test_what_the_caller_may_not_is_refused_with_not_allowed(house: House, trainer: Client) -> None:
    key = trainer.api_keys.create_api_key("reads only", ["jobs:read"]).key.reveal()

    async def run() -> Any:
        async with over_http(house, key) as client:
            return await client.call_tool(
                "start_training",
                {"model_name": "sample:model", "dataset_path": "sample:records", "epsilon": 1.0},
            )

    result = asyncio.run(run())

    assert result.is_error
    assert "[not_allowed" in result.content[0].text


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer no"}, {"Authorization": "Basic eDp5"}, {"X-API-Key": "pf_a_b"},
     {"Cookie": "session=x"}],
)  # fmt: skip
def test_nobody_comes_in_over_http_without_credentials(
    house: House, headers: dict[str, str]
) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accept = {"Accept": "application/json, text/event-stream"}
    answer = httpx2.post(f"{house.url}/mcp", json=body, headers={**accept, **headers})

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["error"]["code"]


def test_a_call_over_http_is_the_callers_own_act(house: House, key: str, trainer: Client) -> None:
    async def run() -> Any:
        async with over_http(house, key) as client:
            return await client.call_tool(
                "start_training",
                {"model_name": "sample:model", "dataset_path": "sample:records", "epsilon": 1.0},
            )

    job = asyncio.run(run()).structured_content["job_id"]
    owner = trainer.jobs.get_training(job).owner
    trainer.jobs.cancel_training(job)

    assert owner == trainer.account.me().id


def test_the_tools_run_over_standard_streams(house: House, key: str, job: str) -> None:
    async def run() -> tuple[Any, Any]:
        async with over_stdio(house, key) as client:
            tools = await client.list_tools()
            found = await client.call_tool("training_status", {"job_id": job})
            return tools, found

    tools, found = asyncio.run(run())

    assert {tool.name for tool in tools.tools} == TOOLS
    assert found.structured_content["job_id"] == job
    assert key not in found.model_dump_json()
