"""OpenAI's own client and LangChain's, unmodified, against a running server."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest
import uvicorn
from langchain_openai import ChatOpenAI
from tests.federated_dp_llm.api.conftest import House, Member, house_in

from federated_dp_llm.errors import BudgetTooSmall, NodeUnavailable
from privacy_runtime.http.server import PatientConfig, ServerOptions
from privacy_runtime.identity import Role


@dataclass
class Running:
    """A server in a thread."""

    house: House
    url: str
    doctor: Member

    def client(self, **more: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.doctor.token, **more)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    house = house_in(tmp_path_factory.mktemp("openai") / "home")
    doctor = house.member(Role.ANALYST)
    place = socket.socket()
    place.bind(("127.0.0.1", 0))
    port = place.getsockname()[1]
    server = uvicorn.Server(PatientConfig(house.app, ServerOptions(port=port)))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([place])))
    thread.start()
    while not server.started:
        assert thread.is_alive()
    yield Running(house, f"http://127.0.0.1:{port}", doctor)
    server.should_exit = True
    thread.join(10)
    house.service.close()


def test_the_models_say_which_ones_read_records(running: Running) -> None:
    models = running.client().models.list()

    assert {m.id: m.model_extra["reads_records"] for m in models.data if m.model_extra} == {
        "private": True,
        "public": False,
    }


def test_a_chat_is_answered_and_its_price_stands_in_usage(running: Running) -> None:
    answer = running.client().chat.completions.create(
        model="private",
        messages=[{"role": "user", "content": "which drug helps"}],
        extra_body={"privacy_budget": 0.3},
    )

    assert answer.choices[0].message.content == "echo: which drug helps"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.model_extra is not None
    assert 0 < answer.usage.model_extra["privacy_cost"] <= 0.3
    assert answer.usage.total_tokens == (
        answer.usage.prompt_tokens + answer.usage.completion_tokens
    )


def test_the_public_model_costs_nothing(running: Running) -> None:
    answer = running.client().completions.create(model="public", prompt="what is fever")

    assert answer.choices[0].text == "echo: what is fever"
    assert answer.usage is not None
    assert answer.usage.model_extra is not None
    assert answer.usage.model_extra["privacy_cost"] == 0
    assert running.house.answers.seen[-1].context == "none"


def test_a_streamed_chat_is_the_same_text_and_ends_with_usage(running: Running) -> None:
    stream = running.client().chat.completions.create(
        model="private",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "which drug helps"},
        ],
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"privacy_budget": 0.3},
    )

    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "echo: system: Be brief.\nuser: which drug helps"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None


def test_a_stream_that_breaks_off_is_an_error_for_the_client(running: Running) -> None:
    running.house.answers.failures = {"later": NodeUnavailable("", "gone", 1.0)}
    stream = running.client().chat.completions.create(
        model="public", messages=[{"role": "user", "content": "fail:midway"}], stream=True
    )

    with pytest.raises(openai.APIError):
        list(stream)
    running.house.answers.failures = {}


def test_errors_are_in_the_clients_own_classes(running: Running) -> None:
    client = running.client(max_retries=0)
    ask = client.chat.completions.create
    message: Any = [{"role": "user", "content": "x fail:small"}]
    running.house.answers.failures = {"small": BudgetTooSmall(0.1, 0.8, "a label")}

    with pytest.raises(openai.BadRequestError) as small:
        ask(model="private", messages=message)
    with pytest.raises(openai.NotFoundError):
        ask(model="gpt-4o", messages=message)
    with pytest.raises(openai.BadRequestError, match="top_p"):
        ask(model="private", messages=message, top_p=0.5)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{running.url}/v1", api_key="pf_nobody").models.list()

    running.house.answers.failures = {}
    assert small.value.code == "budget_too_small"
    assert small.value.body["details"][0]["least"] == 0.8  # type: ignore[index]


def test_a_budget_that_ended_is_not_asked_for_again(running: Running) -> None:
    poor = running.house.member(Role.ANALYST, "poor.doctor")
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key=poor.token)
    before = len(running.house.answers.seen)

    def spend() -> None:
        for _ in range(9):
            client.completions.create(
                model="private", prompt="x", extra_body={"privacy_budget": 6.0}
            )

    with pytest.raises(openai.RateLimitError) as ended:
        spend()

    asked = [q for q in running.house.answers.seen[before:] if q.user_id == poor.name]
    assert ended.value.type == "insufficient_quota"
    assert ended.value.response.headers["x-should-retry"] == "false"
    assert len(asked) == len({q.request_id for q in asked})


def test_langchain_asks_and_streams(running: Running) -> None:
    model = ChatOpenAI(
        model="private",
        base_url=f"{running.url}/v1",
        api_key=running.doctor.token,  # type: ignore[arg-type]
        extra_body={"privacy_budget": 0.2},
    )

    assert model.invoke("which drug helps").content == "echo: which drug helps"
    assert "".join(str(c.content) for c in model.stream("which drug")) == "echo: which drug"


def test_a_slow_reader_keeps_no_answer_waiting(running: Running) -> None:
    """The answer is made and settled while its client reads nothing."""
    house = running.house
    house.answers.ended.clear()
    host, port = running.url.removeprefix("http://").split(":")
    body = b'{"model": "private", "prompt": "a question", "stream": true, "privacy_budget": 0.2}'
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {running.doctor.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(head.encode() + body)
        slow.recv(16)

        assert house.answers.ended.wait(20)


def test_a_client_that_leaves_ends_its_answer(running: Running) -> None:
    house = running.house
    house.answers.ended.clear()
    house.answers.gate = asyncio.Event()  # never set: the answer stops after its first piece
    stream = running.client().completions.create(
        model="public", prompt="a long question", stream=True
    )
    next(iter(stream))
    assert not house.answers.ended.is_set()
    stream.close()

    assert house.answers.ended.wait(20)
    house.answers.gate = None
