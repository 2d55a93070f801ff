"""The way by callbacks: straight where nothing is unusual, otherwise exactly as the coroutine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.federated_dp_llm.gateway.parts import (
    Asked,
    Handler,
    answer,
    chat,
    completion,
    house,
    says,
    says_and_closes,
    says_and_waits,
    until,
)
from tests.federated_dp_llm.gateway.test_front import ANSWERS, Place, held, request, told

NO_USAGE = json.dumps({"id": "x", "choices": []}).encode()
ENCODED = answer(completion(7)).replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n", 1)


def then(handler: Handler, *, after: int = 1) -> Handler:
    """Answers the first requests, which open connections, and then something else."""
    left = after

    async def both(
        asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nonlocal left
        left -= 1
        await (ANSWERS if left >= 0 else handler)(asked, reader, writer)

    return both


def test_a_plain_completion_needs_no_coroutine_and_is_paid_and_noted() -> None:
    async def story(place: Place) -> dict[str, Any]:
        await place.know()

        async def never(*_: Any, **__: Any) -> None:
            raise AssertionError("a coroutine")

        place.home.gateway.counter.answer = never  # type: ignore[method-assign]
        status, _ = await place.ask(request(chat(), "Connection: close"))
        figures = place.home.gateway.figures
        await figures.none_open()
        members = place.home.gateway.backends.members
        return {
            "status": status,
            "spent": place.home.spent,
            "reserved": place.home.reserved,
            "answered": figures.endings["answered"],
            "in_flight": sum(one.in_flight for one in members),
            "timed": all(one.seconds > 0 for one in members),
        }

    assert told(story) == {
        "status": 200,
        "spent": 14,
        "reserved": 0,
        "answered": 2,
        "in_flight": 0,
        "timed": True,
    }


OUTCOMES: dict[str, Handler] = {
    "answered": ANSWERS,
    "refused by the backend": says(answer(b'{"error": 1}', status="400 Bad Request")),
    "not found": says(answer(b"{}", status="404 Not Found")),
    "cannot now": says(answer(b"{}", status="503 Service Unavailable")),
    "failed": says(answer(b"{}", status="500 Oh")),
    "a teapot": says(answer(b"{}", status="418 Teapot")),
    "no JSON": says(answer(b"<html>")),
    "no usage": says(answer(NO_USAGE)),
    "more than was held": says(answer(completion(5000))),
    "an encoding": says(ENCODED),
    "no HTTP": says_and_closes(b"SSH-2.0\r\n\r\n"),
    "closed": says_and_closes(b""),
    "cut": says_and_closes(answer(completion(7))[:-4]),
}


@pytest.mark.parametrize("name", OUTCOMES)
@pytest.mark.parametrize("backends", [1, 2])
def test_whatever_a_backend_does_both_ways_say_and_charge_the_same(
    name: str, backends: int
) -> None:
    def handlers() -> list[Handler]:
        return [then(OUTCOMES[name], after=backends)] * backends

    async def seen(place: Place | None, home: Any, ask: Callable[[], Any]) -> dict[str, Any]:
        for _ in range(backends):  # they take turns: each opens its connection
            if place is None:
                await home.ask()
            else:
                await place.know()
        await home.gateway.figures.none_open()
        before = home.spent
        status, body = await ask()
        await home.gateway.figures.none_open()
        gateway = home.gateway
        return {
            "status": status,
            "body": body,
            "spent": home.spent - before,
            "reserved": home.reserved,
            "endings": dict(gateway.figures.endings),
            "retries": gateway.relay.retries,
            "failed": sum(one.failed for one in gateway.backends.members),
            "tally": [one.breaker.tally for one in gateway.backends.members],
            "beyond": (gateway.charges.beyond, gateway.charges.unpaid, gateway.charges.unsettled),
            "in_flight": sum(one.in_flight for one in gateway.backends.members),
        }

    async def plain() -> dict[str, Any]:
        async with house(*handlers()) as (home, _):

            async def ask() -> tuple[int, Any]:
                said = await home.ask()
                return said.status, said.body

            return await seen(None, home, ask)

    async def story(place: Place) -> dict[str, Any]:
        async def ask() -> tuple[int, bytes]:
            status, came = await place.ask(request(chat(), "Connection: close"))
            return status, came.partition(b"\r\n\r\n")[2]

        return await seen(place, place.home, ask)

    assert told(story, *handlers()) == asyncio.run(plain())


@pytest.mark.parametrize("broken", ["accounts_of", "take_now", "covers"])
def test_a_failure_of_ours_at_any_step_is_told_and_leaves_nothing_held(
    broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(place: Place) -> tuple[int, int, int, int]:
        await place.know()
        gateway = place.home.gateway

        def fails(*_: Any) -> Any:
            raise ZeroDivisionError

        where = {"take_now": gateway.backends, "covers": gateway.charges}
        setattr(where.get(broken, gateway.counter), broken, fails)
        status, _ = await place.ask(request(chat(), "Connection: close"))
        await gateway.figures.none_open()
        in_flight = sum(one.in_flight for one in gateway.backends.members)
        return status, place.home.spent, place.home.reserved, in_flight

    status, spent, reserved, in_flight = told(story)

    # After an answer that was sent, the failure is logged, and no more.
    assert status == (200 if broken == "covers" else 500)
    assert spent == (14 if broken == "covers" else 7)
    assert (reserved, in_flight) == (0, 0)
    assert "a request failed here" in caplog.text


def test_a_client_that_leaves_while_its_cost_is_being_held_pays_nothing() -> None:
    async def story(place: Place) -> tuple[int, int, int, int]:
        await place.know()
        debits: Any = place.home.gateway.charges._debits
        inner, answers = debits.reserve_then, []

        def later(key: str, amounts: Any, done: Callable[[object], None], *, ttl_s: float) -> None:
            inner(key, amounts, lambda error: answers.append((done, error)), ttl_s=ttl_s)

        debits.reserve_then = later
        _, writer = await place.connect()
        writer.write(request(chat()))
        await until(lambda: answers)
        writer.close()
        await until(lambda: not place.server.server_state.connections)
        (done, error) = answers[0]
        done(error)
        figures = place.home.gateway.figures
        await until(lambda: figures.endings["client_left"])
        return place.home.spent, place.home.reserved, len(place.backends[0].asked), figures.open

    assert told(story) == (7, 0, 1, 0)


def test_what_a_server_cannot_wait_for_is_ended_and_paid_in_full() -> None:
    async def story(place: Place) -> tuple[bytes, int, int]:
        await place.know()
        reader, writer = await place.connect()
        writer.write(request(chat()))
        await until(lambda: len(place.backends[0].asked) == 2)
        place.server.should_exit = True
        try:
            came = await asyncio.wait_for(reader.read(), 10)
        except ConnectionError:
            came = b""
        writer.close()
        await asyncio.wait_for(place.home.gateway.figures.none_open(), 5)
        return came, place.home.spent, place.home.reserved

    said = told(story, then(says_and_waits()), options={"stop_s": 1})

    assert said == (b"", 7 + held(), 0)
