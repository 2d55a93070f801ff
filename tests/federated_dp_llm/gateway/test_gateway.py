"""Requests through the gateway: paid first, forwarded once, and charged what they used."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from tests.federated_dp_llm.gateway.parts import (
    DONE,
    LAST,
    SHORT,
    SSE_HEAD,
    Asked,
    Client,
    Handler,
    House,
    Said,
    Server,
    answer,
    chat,
    chunk,
    completion,
    event,
    house,
    says,
    says_and_closes,
    says_and_waits,
    until,
    usage_event,
)

from federated_dp_llm.gateway.charges import Unit
from federated_dp_llm.gateway.completions import CompletionTerms, read


def held(**more: Any) -> int:
    """What is held for a request."""
    return read(chat(**more), CompletionTerms(), is_chat=True).tokens_most


HELD = held()
Story = Callable[[House, list[Server]], Coroutine[Any, Any, Any]]


def told(story: Story, *handlers: Handler, **more: Any) -> Any:
    """Run a story in a house."""

    async def run() -> Any:
        async with house(*handlers, **more) as (home, servers):
            return await story(home, servers)

    return asyncio.run(run())


def one(*handlers: Handler, body: bytes | None = None, **more: Any) -> tuple[Said, int, int]:
    """Ask once; the answer, what was spent and what is still held."""

    async def story(home: House, _: list[Server]) -> tuple[Said, int, int]:
        said = await home.ask(body)
        return said, home.spent, home.reserved

    return told(story, *handlers, **more)


def streamed(*pieces: bytes, is_cut: bool = False) -> Handler:
    """A stream of these pieces."""
    whole = [SSE_HEAD, *(chunk(piece) for piece in pieces)]
    return says_and_closes(*whole) if is_cut else says(*whole, LAST)


def test_an_answer_is_passed_on_and_its_usage_is_charged() -> None:
    said, spent, reserved = one(says(answer(completion(7))))

    assert said.status == 200
    assert said.document["usage"]["total_tokens"] == 7
    assert (spent, reserved) == (7, 0)


def test_a_backend_hears_of_a_request_only_after_its_cost_is_held() -> None:
    async def story(home: House, servers: list[Server]) -> tuple[list[str], list[str]]:
        await asyncio.gather(*(home.ask() for _ in range(20)))
        return home.order, [asked.request_id for asked in servers[0].asked]

    order, ids = told(story, says(answer(completion())))

    assert len(ids) == len(set(ids)) == 20
    for one_id in ids:
        places = [order.index(f"{what} {one_id}") for what in ("held", "heard", "settled")]
        assert places == sorted(places)


def test_an_exhausted_account_is_refused_and_nothing_is_forwarded() -> None:
    async def story(home: House, servers: list[Server]) -> tuple[list[Said], int, int]:
        said = [await home.ask() for _ in range(3)]
        return said, len(servers[0].asked), home.spent

    said, forwarded, spent = told(story, says(answer(completion(9))), cap=HELD + 9)

    assert [one.status for one in said] == [200, 200, 429]
    assert said[2].code == "insufficient_quota"
    assert said[2].headers["retry-after"] == "60"
    assert (forwarded, spent) == (2, 18)


def test_two_requests_at_once_cannot_both_have_the_last_of_an_allowance() -> None:
    async def story(home: House, _: list[Server]) -> tuple[list[int], int]:
        said = await asyncio.gather(*(home.ask() for _ in range(30)))
        return sorted(one.status for one in said), home.spent

    statuses, spent = told(story, says(answer(completion(HELD))), cap=5 * HELD)

    assert statuses == [200] * 5 + [429] * 25
    assert spent == 5 * HELD


def test_requests_can_be_what_is_counted() -> None:
    assert one(says(answer(completion(900))), unit=Unit.REQUESTS)[1:] == (1, 0)
    refused = says(answer(b"{}", status="400 Bad Request"))
    assert one(refused, unit=Unit.REQUESTS)[1:] == (0, 0)


def test_what_a_backend_used_beyond_what_was_held_is_charged_too() -> None:
    _, spent, reserved = one(says(answer(completion(HELD + 50))))

    assert (spent, reserved) == (HELD + 50, 0)


@pytest.mark.parametrize(
    ("handler", "status", "code", "spent"),
    [
        (says_and_closes(), 502, "backend_connection_lost", HELD),
        (says_and_closes(answer(completion())[:-1]), 502, "backend_connection_lost", HELD),
        (says(b"garbage\r\n\r\n"), 502, "backend_malformed_answer", HELD),
        (says(answer(b"no json")), 502, "backend_malformed_answer", HELD),
        (says(answer(b"x" * 5000)), 502, "backend_answer_too_large", HELD),
        (says_and_waits(), 504, "backend_header_timeout", HELD),
        (says(answer(b"{}", status="500 Oh")), 502, "backend_refused", HELD),
        (says(answer(b"{}", status="503 Busy")), 503, "overloaded", 0),
        (says(answer(b"{}", status="429 Slow")), 503, "overloaded", 0),
        (says(answer(b"{}", status="401 Who")), 502, "backend_refused", 0),
    ],
    ids=["cut", "cut in body", "garbage", "no json", "huge", "silent", "500", "503", "429", "401"],
)
def test_a_fault_of_the_only_backend_is_told_and_charged_unless_nothing_was_begun(
    handler: Handler, status: int, code: str, spent: int
) -> None:
    from federated_dp_llm.gateway.connection import Limits

    said, charged, reserved = one(
        handler, timeouts=replace(SHORT, header_s=0.05), limits=Limits(body_bytes=4000)
    )

    assert (said.status, said.code) == (status, code)
    assert (charged, reserved) == (spent, 0)


def test_a_refusal_of_the_request_itself_is_the_clients_to_read_and_costs_nothing() -> None:
    body = json.dumps({"error": {"message": "context too long", "code": "context_length"}}).encode()

    said, spent, reserved = one(says(answer(body, status="400 Bad Request")))

    assert (said.status, said.body) == (400, body)
    assert (spent, reserved) == (0, 0)


@pytest.mark.parametrize(
    ("first", "spent"),
    [
        (says_and_closes(), None),
        (says_and_waits(), None),
        (says(answer(b"{}", status="500 Oh")), None),
        (says(answer(b"{}", status="503 Busy")), 7),
    ],
    ids=["cut", "silent", "500", "503"],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_another_backend_is_asked_before_the_first_byte(
    first: Handler, spent: int | None, is_stream: bool
) -> None:
    """Once the first one may have worked for it, all that is held is spent."""
    second = streamed(event(), usage_event(7), DONE) if is_stream else says(answer(completion(7)))

    async def story(home: House, servers: list[Server]) -> tuple[Said, int, list[int]]:
        said = await home.ask(chat(stream=is_stream))
        return said, home.spent, [len(server.asked) for server in servers]

    said, charged, heard = told(story, first, second, timeouts=replace(SHORT, header_s=0.05))

    assert said.status == 200
    assert heard == [1, 1]
    assert charged == (spent or held(stream=is_stream))


@pytest.mark.parametrize("is_stream", [False, True])
def test_nobody_else_is_asked_once_an_answer_has_begun(is_stream: bool) -> None:
    first = (
        streamed(event(), is_cut=True) if is_stream else says_and_closes(answer(completion())[:-1])
    )

    async def story(home: House, servers: list[Server]) -> list[int]:
        await home.ask(chat(stream=is_stream))
        return [len(server.asked) for server in servers]

    assert told(story, first, says(answer(completion()))) == [1, 0]


def test_a_stream_is_passed_on_whole_and_its_usage_is_charged() -> None:
    said, spent, reserved = one(
        streamed(event(), event(), usage_event(7), DONE), body=chat(stream=True)
    )

    assert said.headers["content-type"].startswith("text/event-stream")
    assert said.body == event() + event() + DONE  # the client did not ask for the usage
    assert said.is_whole
    assert (spent, reserved) == (7, 0)


def test_a_client_that_asks_for_the_usage_of_a_stream_sees_it() -> None:
    asked = chat(stream=True, stream_options={"include_usage": True})

    said, spent, _ = one(streamed(event(), usage_event(7), DONE), body=asked)

    assert said.body == event() + usage_event(7) + DONE
    assert spent == 7


@pytest.mark.parametrize(
    "handler",
    [
        streamed(event(), is_cut=True),
        streamed(event()),
        streamed(event(), event()[:20]),
        says_and_waits(SSE_HEAD, chunk(event())),
        says(SSE_HEAD, chunk(event()), b"zz\r\n"),
    ],
    ids=["cut", "ends without [DONE]", "ends in an event", "stops", "garbage"],
)
def test_a_stream_that_breaks_off_ends_with_an_error_and_all_is_charged(handler: Handler) -> None:
    said, spent, reserved = one(
        handler, body=chat(stream=True), timeouts=replace(SHORT, idle_s=0.05)
    )

    assert said.status == 200
    assert said.body.startswith(event())
    *_, last, empty = said.body.split(b"\n\n")
    assert empty == b""
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"].startswith("backend_")
    assert b"[DONE]" not in said.body
    assert (spent, reserved) == (held(stream=True), 0)


def test_events_arrive_as_they_come() -> None:
    async def story(home: House, _: list[Server]) -> list[bytes]:
        client = Client(home.gateway)
        asking = asyncio.create_task(client.ask(chat(stream=True)))
        await client.began.wait()
        first = list(client.said.pieces)
        go_on.set()
        await asking
        return first

    go_on = asyncio.Event()

    async def handler(_: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        writer.write(SSE_HEAD + chunk(event()))
        await go_on.wait()
        writer.write(chunk(event() + DONE) + LAST)

    assert told(story, handler) == [event()]


def test_a_slow_client_holds_the_backend_back() -> None:
    sent = 0
    big = event(padding="x" * 60_000)

    async def endless(_: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        del reader
        writer.write(SSE_HEAD)
        for _ in range(400):
            writer.write(chunk(big))
            await writer.drain()
            sent += 1
        writer.write(chunk(DONE) + LAST)

    async def story(home: House, _: list[Server]) -> tuple[int, Said]:
        client = Client(home.gateway)
        client.may_read.clear()
        asking = asyncio.create_task(client.ask(chat(stream=True)))
        before = -1
        while sent != before or not sent:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.05)
        client.may_read.set()
        return before, await asking

    held, said = told(story, endless)

    assert held < 300
    assert len(said.body) == 400 * len(big) + len(DONE)


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_client_that_leaves_ends_the_backends_work_and_pays_what_is_not_known(
    is_stream: bool,
) -> None:
    handler = says_and_waits(SSE_HEAD, chunk(event())) if is_stream else says_and_waits()

    async def story(home: House, servers: list[Server]) -> tuple[int, int, int]:
        client = Client(home.gateway)
        asking = asyncio.create_task(client.ask(chat(stream=is_stream)))
        await until(lambda: servers[0].asked)
        if is_stream:
            await client.began.wait()
        client.left.set()
        await asking
        await asyncio.wait_for(servers[0].closed.wait(), 5)
        return home.spent, home.reserved, home.gateway.figures.endings["client_left"]

    assert told(story, handler) == (held(stream=is_stream), 0, 1)


def test_a_client_that_leaves_while_it_waits_for_a_backend_pays_nothing() -> None:
    async def story(home: House, servers: list[Server]) -> tuple[int, int]:
        first = Client(home.gateway)
        one_task = asyncio.create_task(first.ask(chat()))
        await until(lambda: servers[0].asked)
        second = Client(home.gateway)
        two_task = asyncio.create_task(second.ask(chat()))
        await until(lambda: home.gateway.backends.waiting)
        second.left.set()
        await two_task
        seen = home.spent, home.gateway.backends.waiting
        first.left.set()
        await one_task
        return seen

    assert told(story, says_and_waits(), slots=1) == (0, 0)


def test_what_a_stream_has_counted_is_what_a_client_that_leaves_pays() -> None:
    running = {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5}

    async def story(home: House, _: list[Server]) -> int:
        client = Client(home.gateway)
        asking = asyncio.create_task(client.ask(chat(stream=True)))
        await client.began.wait()
        client.left.set()
        await asking
        return home.spent

    assert told(story, says_and_waits(SSE_HEAD, chunk(event(usage=running)))) == 5


def test_more_waiting_than_is_allowed_is_refused_before_anything_is_held() -> None:
    async def story(home: House, servers: list[Server]) -> tuple[Said, int]:
        clients = [Client(home.gateway) for _ in range(3)]
        tasks = [asyncio.create_task(client.ask(chat())) for client in clients]
        await until(lambda: home.gateway.backends.waiting == 2)
        held = len([one for one in home.order if one.startswith("held")])
        said = await home.ask()
        new = len([one for one in home.order if one.startswith("held")]) - held
        for client in clients:
            client.left.set()
        await asyncio.gather(*tasks)
        return said, new

    said, new = told(story, says_and_waits(), slots=1, waiting_most=2)

    assert (said.status, said.code) == (503, "overloaded")
    assert "retry-after" in said.headers
    assert new == 0


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"key": ""}, 401, "invalid_api_key"),
        ({"key": "another"}, 401, "invalid_api_key"),
        ({"path": "/v1/other"}, 404, "unknown_url"),
        ({"method": "GET"}, 405, "method_not_allowed"),
        ({"body": b"{"}, 400, "invalid_json"),
        ({"body": b"[]"}, 400, "invalid_json"),
        ({"body": chat(model="large")}, 404, "model_not_found"),
        ({"body": chat(max_tokens=0)}, 400, "invalid_value"),
        ({"body": chat(messages=[])}, 400, "invalid_value"),
        ({"body": b"x" * 2_000_000}, 413, "request_too_large"),
    ],
)
def test_what_is_refused_is_neither_held_nor_forwarded(
    more: dict[str, Any], status: int, code: str
) -> None:
    async def story(home: House, servers: list[Server]) -> tuple[Said, list[str]]:
        return await home.ask(**more), home.order

    said, order = told(story, says(answer(completion())))

    assert (said.status, said.code) == (status, code)
    assert order == []
    assert len(said.headers["x-request-id"]) == 32


def test_the_clients_credentials_do_not_reach_a_backend() -> None:
    async def story(home: House, servers: list[Server]) -> Asked:
        await home.ask(chat(user="someone"))
        return servers[0].asked[0]

    asked = told(story, says(answer(completion())))

    assert "authorization" not in asked.head.lower()
    assert asked.fields["user"] == "someone"  # what the gateway does not read goes on as it is


def test_a_backend_that_fails_is_left_in_peace() -> None:
    async def story(home: House, servers: list[Server]) -> tuple[list[int], int, int]:
        said = [await home.ask() for _ in range(40)]
        return [one.status for one in said], len(servers[0].asked), len(servers[1].asked)

    statuses, broken, sound = told(story, says_and_closes(), says(answer(completion())))

    assert statuses == [200] * 40
    assert broken < 10
    assert sound == 40


def test_places_are_given_back_however_a_request_ends() -> None:
    async def story(home: House, _: list[Server]) -> list[int]:
        for body in (chat(), chat(stream=True), b"{", chat(model="large")):
            await home.ask(body)
        client = Client(home.gateway)
        client.left.set()
        await client.ask(chat())
        return [member.in_flight for member in home.gateway.backends.members]

    assert told(story, says_and_closes(), streamed(event(), DONE)) == [0, 0]


def test_the_models_are_those_that_backends_serve() -> None:
    async def story(home: House, _: list[Server]) -> tuple[Said, Said]:
        shown = await home.ask(path="/v1/models", method="GET")
        return shown, await home.ask(path="/v1/models", method="GET", key="")

    shown, refused = told(story, says())

    assert [one["id"] for one in shown.document["data"]] == ["small-8b"]
    assert refused.status == 401


def test_figures_name_backends_and_endings_and_nothing_that_a_client_sent() -> None:
    async def story(home: House, _: list[Server]) -> str:
        await home.ask()
        await home.ask(chat(model="a-name-of-the-clients"))
        registry = CollectorRegistry()
        registry.register(home.gateway.figures)
        return generate_latest(registry).decode()

    text = told(story, says(answer(completion(7))))

    assert 'federated_gateway_requests_total{ending="answered"} 1.0' in text
    assert 'federated_gateway_requests_total{ending="refused"} 1.0' in text
    assert "federated_gateway_charged_total 7.0" in text
    assert 'federated_gateway_backend_requests_total{backend="b0",ending="answered"} 1.0' in text
    assert 'federated_gateway_request_seconds_bucket{le="+Inf"} 2.0' in text
    assert "a-name-of-the-clients" not in text
