"""The pooled client against backends that do what they should not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from tests.federated_dp_llm.gateway.parts import (
    LAST,
    SHORT,
    Handler,
    answer,
    chunk,
    refused_port,
    says,
    says_and_closes,
    says_and_waits,
    serving,
    until,
)

from federated_dp_llm.gateway import faults
from federated_dp_llm.gateway.client import Origin, Pool
from federated_dp_llm.gateway.connection import Answer, Limits
from privacy_core.errors import InvalidParameter

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
BODY = b"a question"


def head_of(pool: Pool, body: bytes = BODY) -> bytes:
    return pool.head("/v1/x") + b"content-length: %d\r\nx-request-id: r\r\n\r\n" % len(body)


async def asked(
    handler: Handler, *, is_stream: bool = False, times: int = 1, **options: Any
) -> tuple[list[Any], Any]:
    """Ask a backend some times; what came, and the backend."""
    found: list[Any] = []
    async with serving(handler) as server:
        pool = Pool("b", f"http://127.0.0.1:{server.port}", **options)
        try:
            for _ in range(times):
                try:
                    got = await pool.ask(head_of(pool), BODY, is_stream=is_stream)
                    pieces = [got.body()]
                    while is_stream and (piece := await got.piece()):
                        pieces.append(piece)
                    found.append((got.status, b"".join(pieces)))
                except faults.BackendFault as fault:
                    found.append(fault)
        finally:
            await pool.aclose()
        assert pool.get_statistics()["size"] == 0
    return found, server


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        ((answer(b"hello"),), b"hello"),
        ((CHUNKED, chunk(b"he"), chunk(b"llo"), LAST), b"hello"),
        ((b"HTTP/1.1 100 Continue\r\n\r\n", answer(b"hello")), b"hello"),
        ((b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", answer(b"")), b""),
    ],
    ids=["length", "chunked", "after 100", "empty after 103"],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_whole_answer_arrives_and_its_connection_is_used_again(
    pieces: tuple[bytes, ...], whole: bytes, is_stream: bool
) -> None:
    found, server = asyncio.run(asked(says(*pieces), is_stream=is_stream, times=3))

    assert found == [(200, whole)] * 3
    assert server.connections == 1


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    told = b"HTTP/1.1 200 OK\r\n\r\nhello"

    found, server = asyncio.run(asked(says_and_closes(told), times=2))

    assert found == [(200, b"hello")] * 2
    assert server.connections == 2


@pytest.mark.parametrize(
    ("handler", "options", "kind", "is_begun"),
    [
        (says_and_closes(), {}, faults.ConnectionLost, False),
        (says_and_closes(b"HTTP/1.1 200 OK\r\ncont"), {}, faults.ConnectionLost, False),
        (says_and_closes(answer(b"hello")[:-1]), {}, faults.ConnectionLost, True),
        (says_and_closes(CHUNKED + chunk(b"he")), {}, faults.ConnectionLost, True),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n"), {}, faults.MalformedAnswer, False),
        (says(CHUNKED + b"zz\r\n"), {}, faults.MalformedAnswer, False),
        (
            says(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
            {},
            faults.MalformedAnswer,
            False,
        ),
        (says(b"HTTP/1.1 100 Continue\r\n\r\n" * 20), {}, faults.MalformedAnswer, False),
        (
            says(b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 2_000_000),
            {},
            faults.AnswerTooLarge,
            False,
        ),
        (says(answer(b"hello")), {"limits": Limits(body_bytes=4)}, faults.AnswerTooLarge, False),
        (
            says_and_waits(),
            {"timeouts": replace(SHORT, header_s=0.03)},
            faults.HeaderTimeout,
            False,
        ),
        (
            says_and_waits(b"HTTP/1.1 200 OK\r\ncontent-"),
            {"timeouts": replace(SHORT, header_s=0.03)},
            faults.HeaderTimeout,
            False,
        ),
        (
            says_and_waits(CHUNKED),
            {"timeouts": replace(SHORT, first_byte_s=0.03)},
            faults.FirstByteTimeout,
            False,
        ),
        (
            says_and_waits(CHUNKED + chunk(b"he")),
            {"timeouts": replace(SHORT, idle_s=0.03)},
            faults.IdleTimeout,
            True,
        ),
        (
            says_and_waits(CHUNKED + chunk(b"he")),
            {"timeouts": replace(SHORT, total_s=0.03)},
            faults.TotalTimeout,
            True,
        ),
    ],
    ids=[
        *("cut before anything", "cut in the header", "cut in the body", "cut in chunks"),
        *("garbage", "garbage in chunks", "switches protocols", "only interim answers"),
        *("huge header", "huge body", "silent", "slow header", "no first byte", "stops", "late"),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_every_way_to_fail_is_an_error_of_its_own(
    handler: Handler,
    options: dict[str, Any],
    kind: type[faults.BackendFault],
    is_begun: bool,
    is_stream: bool,
) -> None:
    if is_stream and "limits" in options:
        options = {"limits": Limits(stream_bytes=4)}

    (fault,), _ = asyncio.run(asked(handler, is_stream=is_stream, **options))

    assert type(fault) is kind
    assert (fault.is_sent, fault.is_begun) == (True, is_begun)


def test_nothing_was_sent_to_a_backend_that_does_not_listen() -> None:
    async def ask() -> None:
        pool = Pool("b", f"http://127.0.0.1:{refused_port()}")
        await pool.ask(head_of(pool), BODY)

    with pytest.raises(faults.ConnectFailed) as failed:
        asyncio.run(ask())

    assert not failed.value.is_sent


def test_a_second_answer_to_one_request_is_given_to_nobody() -> None:
    found, server = asyncio.run(asked(says(answer(b"one") + answer(b"two")), times=3))

    assert found == [(200, b"one")] * 3
    assert server.connections == 3


def test_a_connection_that_was_closed_while_idle_is_replaced() -> None:
    async def ask() -> tuple[list[bytes], int]:
        async with serving(says_and_closes(answer(b"hello"))) as server:
            pool = Pool("b", f"http://127.0.0.1:{server.port}")
            bodies = []
            for _ in range(3):
                got = await pool.ask(head_of(pool), BODY)
                bodies.append(got.body())
                for connection in list(pool._idle):
                    connection.idle_since -= 1.0  # so that it is looked at
                await asyncio.sleep(0)
            await pool.aclose()
            return bodies, len(server.asked)

    bodies, count = asyncio.run(ask())

    assert bodies == [b"hello"] * 3
    assert count == 3


def test_a_full_pool_makes_wait_and_then_refuses() -> None:
    async def ask() -> tuple[dict[str, float], list[Any]]:
        async with serving(says_and_waits()) as server:
            times = replace(SHORT, wait_s=0.03, header_s=60.0, total_s=60.0)
            pool = Pool("b", f"http://127.0.0.1:{server.port}", max_size=1, timeouts=times)
            first = asyncio.create_task(pool.ask(head_of(pool), BODY))
            await until(lambda: server.asked)
            second = pool.ask(head_of(pool), BODY)
            refused = (await asyncio.gather(second, return_exceptions=True))[0]
            seen = pool.get_statistics()
            first.cancel()
            await asyncio.wait([first])
            await server.closed.wait()  # the backend hears that nobody waits any more
            await pool.aclose()
            return seen, [refused]

    seen, (refused,) = asyncio.run(ask())

    assert isinstance(refused, faults.PoolExhausted)
    assert not refused.is_sent
    assert (seen["active"], seen["idle"], seen["utilization"]) == (1, 0, 1.0)


def test_who_waits_gets_the_connection_that_comes_free() -> None:
    async def ask() -> tuple[int, list[int]]:
        async with serving(says(answer(b"hello"))) as server:
            pool = Pool("b", f"http://127.0.0.1:{server.port}", max_size=2)
            got = await asyncio.gather(*(pool.ask(head_of(pool), BODY) for _ in range(40)))
            await pool.aclose()
            return server.connections, [one.status for one in got]

    connections, statuses = asyncio.run(ask())

    assert statuses == [200] * 40
    assert connections == 2


def test_connections_are_opened_ahead_up_to_the_least_size() -> None:
    async def ask() -> dict[str, float]:
        async with serving(says(answer(b"hello"))) as server:
            pool = Pool("b", f"http://127.0.0.1:{server.port}", min_size=1, max_size=4)
            pool.resize(3, 6)
            pool.enable_connection_preallocation()
            await until(lambda: pool.get_statistics()["idle"] >= 3)
            seen = pool.get_statistics()
            await pool.aclose()
            return seen

    seen = asyncio.run(ask())

    assert seen["size"] == seen["idle"] == 3
    assert (seen["current_min"], seen["current_max"]) == (3, 6)


def test_a_slow_reader_makes_the_backend_wait() -> None:
    sent = 0

    async def endless(_: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        del reader
        writer.write(CHUNKED)
        for _ in range(2000):
            writer.write(chunk(b"x" * 65536))
            await writer.drain()
            sent += 65536
        writer.write(LAST)

    async def ask() -> tuple[int, int]:
        async with serving(endless) as server:
            pool = Pool("b", f"http://127.0.0.1:{server.port}", timeouts=SHORT)
            got: Answer = await pool.ask(head_of(pool), BODY, is_stream=True)
            before = -1
            while sent != before or not sent:  # until nothing moves any more
                before = sent
                await asyncio.sleep(0.05)
            held = sent
            size = 0
            while piece := await got.piece():
                size += len(piece)
            await pool.aclose()
            return held, size

    held, size = asyncio.run(ask())

    assert held < 32 * 1024 * 1024  # what the system's own buffers hold, and not all of it
    assert size == 2000 * 65536


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://a", "http://", "http://u:p@a", "http://a?x=1", "http://a#f", "http://a:99999"),
        *("http://a/b\r\nx: y", "http://a b", "http://\u00e4"),
    ],
)
def test_only_plain_addresses_are_taken(url: str) -> None:
    with pytest.raises(InvalidParameter):
        Origin.of(url)


@pytest.mark.parametrize("sizes", [(-1, 1), (2, 1), (0, 0)])
def test_sizes_that_cannot_be_are_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(InvalidParameter):
        Pool("b", "http://a", min_size=sizes[0], max_size=sizes[1])


def test_no_header_can_be_smuggled_in() -> None:
    pool = Pool("b", "http://a")

    with pytest.raises(InvalidParameter):
        pool.head("/v1/x", [("authorization", "Bearer a\r\nx-evil: 1")])
