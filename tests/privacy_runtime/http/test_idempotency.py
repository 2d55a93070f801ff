"""POST once: replays, conflicts, crashes, and secrets that are never kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from privacy_runtime.http import Idempotency
from privacy_runtime.http.tables import ANSWERS
from privacy_runtime.identity import Role

pytestmark = pytest.mark.anyio
KEY = {"Idempotency-Key": "order-0001-abcd"}


@pytest.fixture
def headers(house: Any, as_bearer: Any) -> dict[str, str]:
    """Of a trainer, with a key."""
    return as_bearer(house.user("nora", Role.TRAINER)) | KEY


async def test_a_repeated_post_gets_the_first_answer(house: Any, headers: Any) -> None:
    async with house.client(headers=headers) as client:
        first = await client.post("/orders", json={"count": 2})
        second = await client.post("/orders", json={"count": 2})
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    assert len(house.done) == 1


async def test_another_body_is_a_conflict(house: Any, headers: Any) -> None:
    async with house.client(headers=headers) as client:
        await client.post("/orders", json={"count": 2})
        answer = await client.post("/orders", json={"count": 3})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "idempotency_conflict")
    assert len(house.done) == 1


async def test_a_key_is_its_owners(house: Any, headers: Any, as_bearer: Any) -> None:
    other = as_bearer(house.user("olaf", Role.TRAINER)) | KEY
    async with house.client() as client:
        for each in (headers, other):
            answer = await client.post("/orders", json={"count": 2}, headers=each)
            assert "idempotency-replayed" not in answer.headers
        stranger = await client.post("/orders", json={"count": 2}, headers=KEY)
    assert stranger.status_code == 401
    assert len(set(house.done)) == 2


async def test_two_at_once_act_once(house: Any, headers: Any) -> None:
    async with house.client(headers=headers) as client:
        first = asyncio.create_task(client.post("/orders", json={"count": 15}))
        await house.entered.wait()
        second = await client.post("/orders", json={"count": 15})
        house.gate.set()
        answer = await first
        third = await client.post("/orders", json={"count": 15})
    assert (second.status_code, second.json()["error"]["code"]) == (409, "in_progress")
    assert second.headers["retry-after"] == "1"
    assert (answer.status_code, third.content) == (201, answer.content)
    assert len(house.done) == 1


async def test_what_was_refused_may_be_tried_again_and_what_broke_may_not(
    house: Any, headers: Any
) -> None:
    async with house.client(headers=headers) as client:
        for _ in range(2):
            assert (await client.post("/orders", json={"count": 0})).status_code == 422
            assert (await client.post("/orders", json={"count": 13})).status_code == 409
        assert len(house.done) == 2
        first = await client.post("/orders", json={"count": 14})
        second = await client.post("/orders", json={"count": 14})
    assert (first.status_code, second.status_code) == (500, 500)
    assert second.headers["idempotency-replayed"] == "true"
    assert second.json()["error"]["request_id"] == first.json()["error"]["request_id"]
    assert len(house.done) == 3


async def test_a_process_that_died_under_the_request(house: Any, headers: Any) -> None:
    """The lease ends, the request runs again, and the handler sees the same operation."""
    async with house.client(headers=headers) as client:
        await client.post("/orders", json={"count": 2})
        dying = sa.update(ANSWERS).values(status=None, headers=None, body=None)
        house.identity.store.database.change(lambda c: c.execute(dying))
        assert (await client.post("/orders", json={"count": 2})).status_code == 409
        house.clock.advance(31)
        assert (await client.post("/orders", json={"count": 3})).status_code == 409
        assert (await client.post("/orders", json={"count": 2})).status_code == 201
    assert len(house.done) == 2
    assert len(set(house.done)) == 1


async def test_a_key_is_kept_for_a_day(house: Any, headers: Any, as_bearer: Any) -> None:
    idempotency = Idempotency(house.access)
    async with house.client(headers=headers) as client:
        await client.post("/orders", json={"count": 2})
    house.clock.advance(86_399)
    assert idempotency.purge() == 0
    house.clock.advance(2)
    async with house.client(headers=as_bearer(house.log_in("nora")) | KEY) as client:
        answer = await client.post("/orders", json={"count": 3})
    assert answer.status_code == 201
    house.clock.advance(86_401)
    assert idempotency.purge() == 1


async def test_secrets_are_not_kept(house: Any, headers: Any) -> None:
    async with house.client(headers=headers) as client:
        answer = await client.post("/secrets")
        del client.headers["Idempotency-Key"]
        plain = await client.post("/secrets")
    assert answer.status_code == 422
    assert answer.json()["error"]["details"][0]["kind"] == "idempotency_not_offered"
    assert plain.status_code == 200
    rows = house.identity.store.read(lambda c: c.execute(sa.select(ANSWERS)).all())
    assert rows == []


@pytest.mark.parametrize("key", ["short", "x" * 129, "with space", "ümlaut-key"])
async def test_keys_that_are_none(house: Any, headers: Any, key: str) -> None:
    async with house.client(headers=headers | {"Idempotency-Key": key.encode()}) as client:
        answer = await client.post("/orders", json={"count": 2})
    assert answer.status_code == 422
    assert house.done == []


async def test_a_key_on_a_get_means_nothing(house: Any, headers: Any) -> None:
    async with house.client(headers=headers) as client:
        for _ in range(2):
            answer = await client.get("/me")
            assert answer.status_code == 200
            assert "idempotency-replayed" not in answer.headers
