"""Asking a neighbour: one thread at a time, never elsewhere, and nothing that is raised."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.privacy_finetuner.watching import answering, until

from privacy_finetuner.environment.neighbours import Guard
from privacy_finetuner.service.neighbour import AGAIN_S, Neighbour, Question, figure, words
from privacy_runtime.secret import Secret
from privacy_runtime.testing import ManualClock


class Counting:
    """Answers how often it was asked, once it may."""

    def __init__(self) -> None:
        self.asked = 0
        self.headers: list[dict[bytes, bytes]] = []
        self.may = threading.Event()
        self.may.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        self.asked += 1
        self.headers.append(dict(scope["headers"]))
        number = self.asked
        await asyncio.to_thread(self.may.wait)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(number).encode()})


@pytest.fixture
def counting() -> Iterator[tuple[Counting, str]]:
    app = Counting()
    with answering(app) as address:
        yield app, address
        app.may.set()


def neighbour(url: str, clock: ManualClock) -> Neighbour[str]:
    def read(found: Mapping[str, Any], fault: str) -> str:
        return fault or str(found["count"])

    place = Guard(url=Secret(url), key=Secret("the-key"), limit_s=10.0)
    return Neighbour(place, clock, questions=[Question(name="count", path="/count")], read=read)


def test_whoever_comes_while_it_is_asked_gets_what_was_known(
    counting: tuple[Counting, str],
) -> None:
    app, address = counting
    clock = ManualClock()
    found = neighbour(address, clock)
    assert found.view() == "1"
    clock.advance(AGAIN_S)
    app.may.clear()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(found.view)
        until(lambda: app.asked == 2)
        assert [found.view() for _ in range(5)] == ["1"] * 5
        app.may.set()
        assert slow.result() == "2"
    assert found.view() == "2"
    assert app.asked == 2


def test_what_is_older_than_half_a_minute_is_waited_for(counting: tuple[Counting, str]) -> None:
    app, address = counting
    clock = ManualClock()
    found = neighbour(address, clock)
    found.view()
    clock.advance(3600)
    app.may.clear()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(found.view) for _ in range(4)]
        until(lambda: app.asked == 2)
        app.may.set()
        assert {each.result() for each in asked} == {"2"}


def test_the_key_goes_to_the_address_and_by_no_proxy(
    counting: tuple[Counting, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app, address = counting
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert neighbour(address, ManualClock()).view() == "1"
    assert app.headers[0][b"authorization"] == b"Bearer the-key"
    assert app.headers[0][b"accept-encoding"] == b"identity"


@pytest.mark.parametrize("url", ["http://[fe80::1%25]:80x", "ftp://127.0.0.1/", ""])
def test_an_address_that_is_none_reaches_nobody(url: str) -> None:
    assert neighbour(url, ManualClock()).view() == "unreachable"


@pytest.mark.parametrize("value", [True, "1", None, [1], float("inf"), float("nan"), 10**400])
def test_what_is_no_finite_number_is_no_figure(value: object) -> None:
    with pytest.raises((ValueError, OverflowError)):
        figure(value)
    assert figure(3) == 3.0


def test_words_are_short_and_can_be_shown() -> None:
    assert words("\ud800ab" * 99, 4) == "?ab?"
    assert words(7) == "7"
