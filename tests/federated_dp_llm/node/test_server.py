"""A node behind its application and the router's client: what passes, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.federated_dp_llm.node.toy import PROMPT, Hospital, opened

from federated_dp_llm.errors import NodeRefused, NodeUnavailable
from federated_dp_llm.federation.client import ANSWER_MAX, NodeClient
from federated_dp_llm.federation.messages import Commit, PublicAsk, Refusal, VoteAsk
from federated_dp_llm.node.server import BODY_MAX, NodeTls, make_app, require_private
from privacy_core.errors import InvalidParameter
from privacy_runtime import tracing

Talk = Callable[[NodeClient], Awaitable[Any]]


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path)


def talk(hospital: Hospital, work: Talk) -> Any:
    """Let a client talk to the application of a node."""

    async def main() -> Any:
        app = make_app(hospital.agent, clock=hospital.clock)
        client = NodeClient(
            "north", "http://node", transport=httpx2.ASGITransport(app, raise_app_exceptions=False)
        )
        try:
            return await work(client)
        finally:
            await client.aclose()

    return asyncio.run(main())


def answered(status: int, body: bytes = b"", **headers: str) -> NodeClient:
    """A client of a node that always answers the same."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, content=body, headers=headers)

    return NodeClient("north", "http://node", transport=httpx2.MockTransport(answer))


def test_a_whole_answer_passes_the_wire(hospital: Hospital) -> None:
    async def work(node: NodeClient) -> None:
        card = await node.card()
        assert (card.node_id, card.slots) == ("north", 8)
        public = await node.public(
            PublicAsk(prompt=PROMPT, released=(), draft=3, candidates=16, reach_logits=0.1)
        )
        handle = await opened(node, hospital.ask())
        step = hospital.step(handle)
        assert public.draft == step.draft
        sums = await node.step(step)
        assert await hospital.agent.step(step) == sums
        ballot = VoteAsk(handle=handle, question="q", options=("amber", "birch"))
        assert sum((await node.vote(ballot)).counts) == 4
        await node.commit(Commit(handle=handle, tokens=2, voted=True))

    talk(hospital, work)
    assert hospital.spent()[1] == 0


def test_refusals_keep_their_code_over_the_wire(hospital: Hospital) -> None:
    async def work(node: NodeClient) -> list[str]:
        codes = []
        ask = hospital.ask()
        await node.open(ask)
        for attempt in (
            node.open(ask),
            node.open(hospital.ask("r-2", clip=1e9)),
            node.open(hospital.ask("r-3", issued_at=0.0)),
            node.step(hospital.step("0" * 32)),
            node.open(msgspec.structs.replace(ask, signature=b"")),
        ):
            with pytest.raises(NodeRefused) as caught:
                await attempt
            codes.append(caught.value.reason)
        return codes

    assert talk(hospital, work) == ["replayed", "terms", "stale", "unknown_session", "unsigned"]


def test_a_busy_node_says_when_to_come_back(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, sessions_max=1)

    async def work(node: NodeClient) -> NodeUnavailable:
        await node.open(hospital.ask("r-1"))
        with pytest.raises(NodeUnavailable) as caught:
            await node.open(hospital.ask("r-2"))
        return caught.value

    error = talk(hospital, work)
    assert (error.reason, error.retry_after_s) == ("busy", 1.0)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "session", b"", 400),
        ("POST", "session", b"\xc1", 400),
        ("POST", "step", msgspec.msgpack.encode({"handle": "x"}), 400),
        ("POST", "step", msgspec.msgpack.encode([1, 2, 3]), 400),
        ("POST", "public", b"\x00" * (BODY_MAX + 1), 413),
        ("GET", "session", b"", 405),
        ("POST", "card", b"", 405),
        ("GET", "nothing", b"", 404),
        ("POST", "../etc", b"", 404),
    ],
)
def test_what_is_no_message_gets_a_refusal(
    hospital: Hospital, method: str, path: str, body: bytes, status: int
) -> None:
    async def main() -> httpx2.Response:
        app = make_app(hospital.agent, clock=hospital.clock)
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url="http://node"
        ) as client:
            return await client.request(method, f"/fed/v1/{path}", content=body)

    answer = asyncio.run(main())

    assert answer.status_code == status
    assert msgspec.msgpack.decode(answer.content, type=Refusal).code == "malformed"


def test_a_prompt_of_a_megabyte_is_refused(hospital: Hospital) -> None:
    long = PublicAsk(prompt="x" * 900_000, released=(), draft=1, candidates=4, reach_logits=0.0)

    async def work(node: NodeClient) -> None:
        await node.public(long)

    with pytest.raises(NodeRefused, match="prompt_too_long"):
        talk(hospital, work)
    with pytest.raises(NodeRefused, match="malformed"):
        talk(hospital, lambda node: node.open(hospital.ask(prompt="x" * (1 << 20))))
    assert hospital.spent() == (0, 0)


def test_a_node_that_fails_says_nothing_of_what_happened(hospital: Hospital) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("knee pain.")

    hospital.model.continuation = broken  # type: ignore[method-assign,assignment]
    ask = PublicAsk(prompt=PROMPT, released=(), draft=1, candidates=4, reach_logits=0.0)

    with pytest.raises(NodeUnavailable) as caught:
        talk(hospital, lambda node: node.public(ask))
    assert caught.value.reason == "unavailable"


CARD = {
    "protocol": 1,
    "node_id": "north",
    "slots": 1,
    "weights": "",
    "tokenizer": "",
    "vocabulary": 2,
    "context_length": 2,
    "modes": [],
    "cohorts": [],
}


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b"", "protocol: its answer is no NodeCard"),
        (200, b"\xc1", "protocol: its answer is no NodeCard"),
        (200, msgspec.msgpack.encode({**CARD, "more": 1}), "protocol: its answer is no NodeCard"),
        (
            200,
            msgspec.msgpack.encode({**CARD, "slots": "1"}),
            "protocol: its answer is no NodeCard",
        ),
        (200, msgspec.msgpack.encode({**CARD, "node_id": "south"}), "protocol: another node"),
        (200, msgspec.msgpack.encode({**CARD, "protocol": 2}), "protocol: it speaks 2"),
        (200, b"\x00" * (ANSWER_MAX + 1), "protocol: its answer has more"),
        (404, b"", "status 404"),
        (302, b"", "status 302"),
        (500, b"<html>", "protocol: its answer is no Refusal"),
        (400, msgspec.msgpack.encode(Refusal(code="x" * 99, detail="")), "protocol: no code"),
        (400, msgspec.msgpack.encode(Refusal(code="a\nb", detail="")), "protocol: no code"),
    ],
)
def test_a_node_that_breaks_the_protocol_is_refused(status: int, body: bytes, reason: str) -> None:
    with pytest.raises(NodeRefused) as caught:
        asyncio.run(answered(status, body).card())
    assert caught.value.reason.startswith(reason)


def test_a_node_asks_for_patience_with_a_number_or_none() -> None:
    busy = msgspec.msgpack.encode(Refusal(code="busy", detail=""))
    for given, wanted in (("7", 7.0), ("9999", 60.0), ("soon", 1.0), ("-1", 1.0)):
        with pytest.raises(NodeUnavailable) as caught:
            asyncio.run(answered(503, busy, **{"retry-after": given}).card())
        assert caught.value.retry_after_s == wanted


def test_a_node_that_is_late_or_gone_is_unavailable() -> None:
    async def never(_: httpx2.Request) -> httpx2.Response:
        await asyncio.Event().wait()
        raise AssertionError

    def gone(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    for transport, limit_s in ((never, 0.01), (gone, 5.0)):
        client = NodeClient(
            "north", "http://n", limit_s=limit_s, transport=httpx2.MockTransport(transport)
        )
        with pytest.raises(NodeUnavailable):
            asyncio.run(client.card())


@pytest.mark.parametrize("endpoint", ["node:8443", "ftp://node", ""])
def test_an_endpoint_is_an_address(endpoint: str) -> None:
    with pytest.raises(InvalidParameter):
        NodeClient("north", endpoint)


def test_nothing_is_said_in_plain_to_a_network(tmp_path: Path) -> None:
    require_private("127.0.0.1", None)
    with pytest.raises(InvalidParameter):
        require_private("0.0.0.0", None)  # noqa: S104  that it is refused is the point
    nothing = tmp_path / "none.pem"
    with pytest.raises(InvalidParameter):
        NodeTls(certificate=nothing, key=nothing, client_ca=nothing).context()


def test_a_trace_goes_from_the_router_to_the_node_and_holds_no_text(hospital: Hospital) -> None:
    exporter = InMemorySpanExporter()
    running = tracing.install(None, exporter=exporter)
    try:

        async def work(node: NodeClient) -> None:
            with tracing.span("question"):
                handle = await opened(node, hospital.ask())
                await node.step(hospital.step(handle))
                await node.commit(Commit(handle=handle, tokens=0, voted=False))
                with pytest.raises(NodeRefused):
                    await node.commit(Commit(handle="unknown", tokens=0, voted=False))

        talk(hospital, work)
    finally:
        running.close()

    spans = exporter.get_finished_spans()
    calls = [span for span in spans if span.name == "node.call"]
    answers = [span for span in spans if span.name == "node.answer"]
    assert len({span.context.trace_id for span in spans}) == 1
    assert {span.parent.span_id for span in answers} == {span.context.span_id for span in calls}
    said = [dict(span.attributes) for span in answers]
    routes = {one["privacy_finetuner.route"] for one in said}
    assert routes == {"session", "step", "commit"}
    assert {one["privacy_finetuner.status"] for one in said} == {200, 404}
    written = "".join(span.to_json() for span in spans)
    assert not any(word in written for word in ("cough", "amber", "p-0", PROMPT))


def test_a_prompt_that_is_too_long_is_told_its_room_over_the_wire(hospital: Hospital) -> None:
    async def work(node: NodeClient) -> tuple[int | None, int | None]:
        found = []
        for room in (node.open(hospital.ask(max_tokens=240)), node.open(hospital.ask("r", clip=9))):
            with pytest.raises(NodeRefused) as refused:
                await room
            found.append(refused.value.room)
        return found[0], found[1]

    room, none = talk(hospital, work)

    assert room == hospital.model.room(PROMPT)
    assert none is None
