"""The short way in, on real sockets: hostile, slow, hasty and leaving clients."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import uvicorn
from tests.federated_dp_llm.gateway.parts import (
    DONE,
    KEY,
    LAST,
    MODEL,
    SSE_HEAD,
    Asked,
    Handler,
    House,
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
from tests.federated_dp_llm.gateway.test_tls import certificate

from federated_dp_llm.gateway.completions import CompletionTerms, read
from federated_dp_llm.gateway.front import Front
from federated_dp_llm.gateway.serve import GatewayConfig
from privacy_runtime.http.server import PatientConfig, ServerOptions

ANSWERS = says(answer(completion(7)))


class Place:
    """A gateway that listens, and what its clients do."""

    def __init__(self, home: House, servers: list[Server], server: uvicorn.Server) -> None:
        self.home, self.backends, self.server = home, servers, server
        self.port = server.servers[0].sockets[0].getsockname()[1]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, *pieces: bytes) -> tuple[int, bytes]:
        """Send requests on one connection; the last status, and everything that came back."""
        reader, writer = await self.connect()
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            came = await asyncio.wait_for(reader.read(), 10)
        except ConnectionError:
            came = b""
        writer.close()
        return (int(came.split(b" ", 2)[1]) if came else 0), came

    async def know(self) -> None:
        """Have the credential verified, as the first request of a client does."""
        assert (await self.ask(request(chat(), "Connection: close")))[0] == 200

    def holders(self) -> set[str]:
        """Who holds the connections that are open."""
        return {type(one).__name__ for one in self.server.server_state.connections}


Story = Callable[[Place], Awaitable[Any]]


@asynccontextmanager
async def listening(config: PatientConfig) -> AsyncIterator[uvicorn.Server]:
    config.lifespan = "off"  # the house closes its gateway
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    while not server.started:
        assert not serving.done()
        await asyncio.sleep(0.005)
    try:
        yield server
    finally:
        server.should_exit = True
        await serving


def told(
    story: Story, *handlers: Handler, options: dict[str, Any] | None = None, **more: Any
) -> Any:
    """Run a story at a gateway that listens."""

    async def run() -> Any:
        async with house(*handlers or (ANSWERS,), **more) as (home, servers):
            config = GatewayConfig(home.gateway, ServerOptions(port=0, **(options or {})))
            async with listening(config) as server:
                return await story(Place(home, servers, server))

    return asyncio.run(run())


def request(
    body: bytes, *lines: str, path: str = "/v1/chat/completions", key: str = KEY, length: int = -1
) -> bytes:
    """A request, as clients write it."""
    size = len(body) if length < 0 else length
    head = (f"POST {path} HTTP/1.1", "Host: here", f"Authorization: Bearer {key}")
    return "\r\n".join([*head, f"Content-Length: {size}", *lines, "", ""]).encode() + body


async def one_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """The next answer on a connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    if "content-length" in headers:
        return int(head[0][9:12]), headers, await reader.readexactly(int(headers["content-length"]))
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return int(head[0][9:12]), headers, body


def test_a_request_of_somebody_known_is_answered_by_the_front_and_others_by_the_general_way() -> (
    None
):
    async def story(place: Place) -> tuple[set[str], set[str], int]:
        reader, writer = await place.connect()
        seen = []
        for count in (1, 2):
            writer.write(request(chat()))
            await until(lambda count=count: len(place.backends[0].asked) == count)
            seen.append(place.holders())
            go_on.set()
            status, headers, _ = await one_answer(reader)
            assert (status, headers["content-type"]) == (200, "application/json")
            assert len(headers["x-request-id"]) == 32
            assert "date" in headers
            go_on.clear()
        writer.close()
        await until(lambda: not place.home.reserved)
        return *seen, place.home.spent

    go_on = asyncio.Event()

    async def handler(_: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        await go_on.wait()
        writer.write(answer(completion(7)))

    assert told(story, handler) == ({"_General"}, {"Front"}, 14)


class Wire:
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        self.written = b""
        self.is_shut = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_shut = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_shut

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """Nothing reads here."""

    resume_reading = pause_reading


def test_a_request_that_is_split_anywhere_is_one_request() -> None:
    """At every byte, all the splits at once; and one that comes byte by byte."""
    whole = request(chat(), "Content-Type: application/json")
    cuts = [[i] for i in range(1, len(whole))] + [list(range(1, len(whole)))]

    async def story(place: Place) -> list[bytes]:
        await place.know()
        config: Any = place.server.config
        fronts = []
        for cut in cuts:
            wire = Wire()
            front = Front(config._lobby)
            front.connection_made(wire)  # type: ignore[arg-type]  # all of it that is used
            for begin, end in zip([0, *cut], [*cut, len(whole)], strict=True):
                front.data_received(whole[begin:end])
            fronts.append((front, wire))
        await until(lambda: all(b"total_tokens" in wire.written for _, wire in fronts))
        for front, _ in fronts:
            front.connection_lost(None)
        return [wire.written for _, wire in fronts]

    written = told(story)

    assert all(one.count(b"HTTP/1.1 200 OK") == 1 for one in written)


def test_requests_sent_ahead_are_answered_one_by_one_and_in_order() -> None:
    """Those of the short way and of the general one."""
    names = [f"user-{k}" for k in range(5)]
    under_way: list[str] = []

    async def handler(
        asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        del reader
        under_way.append(asked.fields["user"])
        await asyncio.sleep(0.01)
        assert len(under_way) == 1
        under_way.clear()
        named = {**json.loads(completion(7)), "id": asked.fields["user"]}
        writer.write(answer(json.dumps(named).encode()))

    models = b"GET /v1/models HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer " + KEY.encode()

    async def story(place: Place) -> list[str]:
        reader, writer = await place.connect()
        requests = [request(chat(user=name)) for name in names]
        requests[3:3] = [models + b"\r\n\r\n"]
        writer.write(b"".join([*requests[:2]]))
        came = [(await one_answer(reader))[2] for _ in range(2)]
        writer.write(b"".join(requests[2:]))
        came += [(await one_answer(reader))[2] for _ in range(4)]
        writer.close()
        return [json.loads(one).get("id", "models") for one in came]

    assert told(story, handler) == [*names[:3], "models", *names[3:]]


def test_bodies_of_other_lengths_and_other_heads_on_one_connection() -> None:
    """What is remembered of a head never answers for another one."""

    async def story(place: Place) -> list[int]:
        await place.know()
        reader, writer = await place.connect()
        statuses = []
        for body, *more in (
            (chat(),),
            (chat(user="x" * 10),),
            (chat(user="x" * 1000),),
            (chat(), "X-Other: 1"),
            (chat(user="x" * 99), "X-Other: 1"),
            (chat(user="x" * 98), "X-Other: 2"),
            (b"{",),
            (chat(user="x" * 100),),
        ):
            writer.write(request(body, *more))
            statuses.append((await one_answer(reader))[0])
        writer.write(PLAIN.replace(KEY.encode(), b"other"))
        statuses.append((await one_answer(reader))[0])
        writer.close()
        return statuses

    assert told(story) == [200, 200, 200, 200, 200, 200, 400, 200, 401]


HIDDEN = request(chat(user="hidden"))
PLAIN = request(chat(), "Connection: close")
HOSTILE = {
    "both lengths": (request(b"0\r\n\r\n" + HIDDEN, "Transfer-Encoding: chunked"), 400),
    "two lengths": (request(chat(), "Content-Length: 5"), 400),
    "two equal lengths": (request(chat(), f"Content-Length: {len(chat())}"), 400),
    "a length with a sign": (PLAIN.replace(b"Length: ", b"Length: +"), 400),
    "a length that is none": (PLAIN.replace(b"Length: ", b"Length: x"), 400),
    "a length beyond numbers": (request(b"", length=10**30), 400),
    "another coding": (
        PLAIN.replace(b"Content-Length: %d" % len(chat()), b"Transfer-Encoding: xchunked"),
        400,
    ),
    "chunked by a tab": (
        PLAIN.replace(b"Content-Length: %d" % len(chat()), b"Transfer-Encoding: \x0bchunked"),
        400,
    ),
    "a bad chunk": (
        PLAIN.replace(b"Content-Length: %d" % len(chat()), b"Transfer-Encoding: chunked"),
        400,
    ),
    "line feeds only": (PLAIN.replace(b"\r\n", b"\n"), 400),
    "one line feed": (PLAIN.replace(b"here\r\n", b"here\n"), 400),
    "a header behind a line feed": (
        PLAIN.replace(b"here", b"here\nTransfer-Encoding: chunked"),
        400,
    ),
    "a folded header": (PLAIN.replace(b"here", b"here\r\n there"), 400),
    "a space before the colon": (PLAIN.replace(b"Host:", b"Host :"), 400),
    "a space before a name": (PLAIN.replace(b"Host:", b" Host:"), 400),
    "a zero byte": (PLAIN.replace(b"here", b"he\0re"), 400),
    "a bare return": (PLAIN.replace(b"here", b"he\rre"), 400),
    "another version": (PLAIN.replace(b"HTTP/1.1", b"HTTP/9.9"), 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9, 400),
    "a long head": (request(b"", "X: " + "y" * 66_000), 431),
    "many headers": (request(chat(), *(f"X-{n}: 1" for n in range(200))), 431),
    "an endless line": (b"POST /v1/c" + b"x" * 66_000, 431),
    "two credentials": (request(chat(), f"Authorization: Bearer {KEY}", "Connection: close"), 401),
    "another credential": (PLAIN.replace(KEY.encode(), b"another"), 401),
    "no credential": (PLAIN.replace(b"Authorization", b"X-Nothing"), 401),
    "no JSON": (request(b"{", "Connection: close"), 400),
    "a length of zero": (request(b"", "Connection: close"), 400),
    "too large": (request(b"x" * 3000, "Connection: close"), 413),
    "another path": (request(chat(), "Connection: close", path="/v1/chat/completions/x"), 404),
    "another method": (PLAIN.replace(b"POST", b"PUT"), 405),
}


@pytest.fixture(scope="module")
def judged() -> dict[str, tuple[int, bytes, int, bytes]]:
    """Every hostile request at the front, whose client is known, and at the general server."""

    async def story(place: Place) -> dict[str, tuple[int, bytes, int, bytes]]:
        await place.know()
        await until(lambda: place.home.order[-1].startswith("settled"))
        place.home.order.clear()
        found = {}
        general = PatientConfig(place.home.gateway, ServerOptions(port=0))
        async with listening(general) as server:
            other = Place(place.home, place.backends, server)
            for name, (data, _) in HOSTILE.items():
                found[name] = (*await place.ask(data), *await other.ask(data))
        assert place.home.order == []  # nothing was held, nothing was forwarded
        assert (await place.ask(PLAIN))[0] == 200
        return found

    return told(story, body_bytes=2000)


@pytest.mark.parametrize("name", list(HOSTILE))
def test_a_hostile_request_is_refused_once_as_the_general_server_does(
    name: str, judged: dict[str, tuple[int, bytes, int, bytes]]
) -> None:
    status, came, general, _ = judged[name]

    assert status == general == HOSTILE[name][1]
    assert came.count(b"HTTP/1.1 ") == 1
    assert b"Traceback" not in came


def test_chunks_and_expectations_are_answered() -> None:
    body = chat()
    chunks = chunk(body[:20]) + chunk(body[20:]) + LAST
    chunked = PLAIN.replace(b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked")
    expecting = request(body, "Expect: 100-continue", "Connection: close")

    async def story(place: Place) -> list[bytes]:
        await place.know()
        head, _, _ = chunked.partition(b"\r\n\r\n")
        one = (await place.ask(head + b"\r\n\r\n" + chunks))[1]
        reader, writer = await place.connect()
        writer.write(expecting[: -len(body)])
        go_on = await reader.readuntil(b"\r\n\r\n")
        writer.write(body)
        rest = await reader.read()
        writer.close()
        return [one, go_on, rest]

    one, go_on, rest = told(story)

    assert one.startswith(b"HTTP/1.1 200 OK")
    assert go_on == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert rest.startswith(b"HTTP/1.1 200 OK")


def test_a_prompt_of_a_megabyte_and_one_beyond() -> None:
    most = 1024 * 1024
    size = most - len(chat(user=""))

    async def story(place: Place) -> list[int]:
        await place.know()
        at_most = request(chat(user="x" * size), "Connection: close")
        beyond = request(chat(user="x" * (size + 1)), "Connection: close")
        return [(await place.ask(one))[0] for one in (at_most, beyond, PLAIN)]

    assert told(story, cap=10 * most) == [200, 413, 200]


def test_a_large_body_is_not_awaited_for_somebody_unknown() -> None:
    async def story(place: Place) -> bytes:
        reader, writer = await place.connect()
        writer.write(request(b"", key="another", length=1_000_000))  # and nothing of it comes
        came = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        writer.close()
        return came

    assert told(story).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    ("data", "came"),
    [(PLAIN[:60], b"HTTP/1.1 408 "), (PLAIN[:-1], b""), (b"", b""), (b"GET /v1", b"HTTP/1.1 408 ")],
    ids=["head", "body", "nothing", "another head"],
)
def test_who_is_slow_is_not_awaited_for_ever(data: bytes, came: bytes) -> None:
    async def story(place: Place) -> bytes:
        await place.know()
        return (await place.ask(data))[1]

    options = {"headers_s": 0.05, "body_s": 0.05, "keep_alive_s": 1}

    assert told(story, options=options)[: len(came) or 1] == came


def test_a_connection_that_nobody_uses_is_closed_after_its_time() -> None:
    async def story(place: Place) -> tuple[int, bytes]:
        await place.know()
        return await place.ask(request(chat()))  # it is kept, and no other request comes

    status, came = told(story, options={"keep_alive_s": 1})

    assert status == 200
    assert came.count(b"HTTP/1.1 ") == 1


def held(**more: Any) -> int:
    """What is held for a request."""
    return read(chat(**more), CompletionTerms(), is_chat=True).tokens_most


@pytest.mark.parametrize("is_half", [False, True], ids=["closes", "half-closes"])
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_client_that_leaves_ends_the_backends_work_and_pays_what_is_not_known(
    is_stream: bool, is_half: bool
) -> None:
    slow = says_and_waits(SSE_HEAD, chunk(event())) if is_stream else says_and_waits()
    first = True

    async def handler(
        asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nonlocal first
        first, was_first = False, first
        await (ANSWERS if was_first else slow)(asked, reader, writer)

    async def story(place: Place) -> tuple[int, int, set[str]]:
        await place.know()
        reader, writer = await place.connect()
        writer.write(request(chat(stream=is_stream)))
        await until(lambda: len(place.backends[0].asked) == 2)
        if is_stream:
            await reader.readuntil(b"\n\n")
        holders = place.holders()
        if is_half:
            writer.write_eof()
        else:
            writer.close()
        await asyncio.wait_for(place.backends[0].closed.wait(), 5)
        await until(lambda: place.home.gateway.figures.endings["client_left"])
        writer.close()
        return place.home.spent, place.home.reserved, holders

    assert told(story, handler) == (7 + held(stream=is_stream), 0, {"Front"})


def test_streams_pass_and_the_connection_goes_on() -> None:
    stream = says(SSE_HEAD, *(chunk(one) for one in (event(), event(), usage_event(7), DONE)), LAST)

    async def story(place: Place) -> list[tuple[int, dict[str, str], bytes]]:
        reader, writer = await place.connect()
        came = []
        for _ in range(3):
            writer.write(request(chat(stream=True)))
            came.append(await one_answer(reader))
        writer.close()
        await until(lambda: not place.home.reserved)
        assert place.home.spent == 21
        return came

    for status, headers, body in told(story, stream):
        assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert body == event() + event() + DONE


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_backend_that_cuts_is_told_and_the_connection_goes_on(is_stream: bool) -> None:
    if is_stream:
        cutting = says_and_closes(SSE_HEAD, chunk(event()))
    else:
        cutting = says_and_closes(answer(completion())[:-1])

    async def story(place: Place) -> list[tuple[int, bytes]]:
        reader, writer = await place.connect()
        came = []
        for _ in range(2):
            writer.write(request(chat(stream=is_stream)))
            status, _, body = await one_answer(reader)
            came.append((status, body))
        writer.close()
        await until(lambda: not place.home.reserved)
        assert place.home.spent == 2 * held(stream=is_stream)
        return came

    for status, body in told(story, cutting):
        assert status == (200 if is_stream else 502)
        last = body.strip().rsplit(b"\n\n", 1)[-1].removeprefix(b"data: ")
        assert json.loads(last)["error"]["code"] == "backend_connection_lost"
        assert b"[DONE]" not in body


def test_a_client_that_reads_slowly_holds_the_backend_back() -> None:
    sent = 0
    big = event(padding="x" * 60_000)

    async def endless(
        asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nonlocal sent
        if not asked.fields.get("stream"):
            await ANSWERS(asked, reader, writer)
            return
        writer.write(SSE_HEAD)
        for _ in range(400):
            writer.write(chunk(big))
            await writer.drain()
            sent += 1
        writer.write(chunk(DONE) + LAST)

    async def story(place: Place) -> tuple[int, bytes]:
        await place.know()
        reader, writer = await place.connect()
        writer.write(request(chat(stream=True)))
        before = -1
        while sent != before or not sent:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.05)
        assert place.holders() == {"Front"}
        _, _, body = await one_answer(reader)
        writer.close()
        return before, body

    stood, body = told(story, endless)

    assert stood < 300
    assert len(body) == 400 * len(big) + len(DONE)


def test_refusals_of_the_short_way_say_what_the_general_one_says() -> None:
    async def story(place: Place) -> list[tuple[int, dict[str, str], bytes]]:
        reader, writer = await place.connect()
        came = []
        for _ in range(3):
            writer.write(request(chat()))
            came.append(await one_answer(reader))
            await until(lambda: not place.home.reserved)
        writer.close()
        return came

    first, second, third = told(story, cap=held() + 13)

    assert [first[0], second[0], third[0]] == [200, 200, 429]
    assert third[1]["retry-after"] == "60"
    assert json.loads(third[2])["error"]["code"] == "insufficient_quota"


def test_a_failure_of_ours_is_told_and_ends_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(place: Place) -> tuple[int, bytes]:
        await place.know()

        def broken(*_: Any) -> Any:
            raise ZeroDivisionError

        place.home.gateway.counter.accounts_of = broken
        return await place.ask(request(chat()))

    status, came = told(story)

    assert status == 500
    assert json.loads(came.partition(b"\r\n\r\n")[2])["error"]["code"] == "internal_error"
    assert "a request failed here" in caplog.text


def test_too_many_connections_are_refused() -> None:
    async def story(place: Place) -> bytes:
        await place.know()
        held_open = [await place.connect() for _ in range(2)]
        await until(lambda: len(place.server.server_state.connections) == 2)
        came = (await place.ask())[1]
        for _, writer in held_open:
            writer.close()
        await until(lambda: not place.server.server_state.connections)
        await place.know()
        return came

    assert told(story, options={"connections_most": 2}).startswith(b"HTTP/1.1 503 ")


def test_a_server_that_stops_ends_what_it_has_begun() -> None:
    heard, go_on = asyncio.Event(), asyncio.Event()
    count = 0

    async def handler(_: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        del reader
        count += 1
        if count == 2:
            heard.set()
            await go_on.wait()
        writer.write(answer(completion(7)))

    async def story(place: Place) -> tuple[bytes, int]:
        await place.know()
        idle = await place.connect()
        reader, writer = await place.connect()
        writer.write(request(chat()))
        await heard.wait()
        place.server.should_exit = True
        assert await asyncio.wait_for(idle[0].read(), 5) == b""  # nobody waits for it
        go_on.set()
        came = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        idle[1].close()
        await place.home.gateway.figures.none_open()
        return came, place.home.spent

    came, spent = told(story, handler)

    assert came.startswith(b"HTTP/1.1 200 OK")
    assert spent == 14


def test_an_unmodified_client_over_tls_on_the_same_port(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    stream = [SSE_HEAD, *(chunk(one) for one in (event(), usage_event(7), DONE)), LAST]

    async def handler(
        asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        saying = says(*stream) if asked.fields.get("stream") else ANSWERS
        await saying(asked, reader, writer)

    async def story(place: Place) -> tuple[list[str], list[str], str]:
        import httpx

        tls = ssl.create_default_context(cafile=str(pem))
        async with openai.AsyncOpenAI(
            base_url=f"https://127.0.0.1:{place.port}/v1",
            api_key=KEY,
            http_client=httpx.AsyncClient(verify=tls),
            max_retries=0,
        ) as client:
            words: Any = [{"role": "user", "content": "hello"}]
            whole, streamed = [], []
            for _ in range(3):
                got = await client.chat.completions.create(
                    model=MODEL, messages=words, max_tokens=9
                )
                whole.append(str(got.choices[0].message.content))
                async for piece in await client.chat.completions.create(
                    model=MODEL, messages=words, max_tokens=9, stream=True
                ):
                    streamed.append(str(piece.choices[0].delta.content))
            models = [one.id async for one in client.models.list()]
        return whole, streamed, models[0]

    options = {"certificate": str(pem), "key": str(pem)}

    assert told(story, handler, options=options) == (["hi"] * 3, ["hi"] * 3, MODEL)
