"""What several processes share: sessions of browsers and answers to repeat, on PostgreSQL."""

import asyncio
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from privacy_runtime.http import HttpPolicy
from privacy_runtime.http.browser_sessions import csrf_token
from privacy_runtime.http.tables import TABLES, prepare
from privacy_runtime.identity import Role

pytestmark = pytest.mark.anyio


@pytest.fixture
def where() -> Iterator[str]:
    """A schema of this test's own."""
    url = os.environ.get("TEST_DATABASE_URL")
    if url is None:
        pytest.skip("no PostgreSQL: set TEST_DATABASE_URL")
    import psycopg
    from psycopg.sql import SQL, Identifier

    schema = f"http_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SQL("CREATE SCHEMA {}").format(Identifier(schema)))
        try:
            mark = "&" if "?" in url else "?"
            yield f"{url}{mark}options=-csearch_path%3D{schema}&application_name={schema}"
        finally:
            connection.execute(SQL("DROP SCHEMA {} CASCADE").format(Identifier(schema)))


@pytest.fixture
def houses(where: str, house_class: Any, tmp_path: Path) -> Iterator[list[Any]]:
    """Two processes of one deployment."""
    first = house_class(tmp_path, HttpPolicy(), where=where)
    second = house_class(tmp_path, HttpPolicy(), where=where, beside=first)
    yield [first, second]
    for house in (first, second):
        house.identity.close()


async def test_a_session_holds_in_every_process_and_ends_in_every_one(houses: list[Any]) -> None:
    one, other = houses
    tokens = one.user("nora", Role.TRAINER)
    cookie = one.access.sessions.open(tokens).reveal()
    headers = {"Cookie": f"session={cookie}", "X-CSRF-Token": csrf_token(cookie, b"m" * 32)}
    async with one.client(headers=headers) as here, other.client(headers=headers) as there:
        assert (await here.post("/me")).status_code == 200
        assert (await there.post("/me")).status_code == 200
        one.identity.sessions.log_out(tokens.principal)
        one.access.forget(tokens.principal.session)
        assert (await here.post("/me")).status_code == 401
        other.clock.advance(1)  # the other believes it for a second at most
        assert (await there.post("/me")).status_code == 401


async def test_one_key_at_two_processes_acts_once(houses: list[Any], as_bearer: Any) -> None:
    one, other = houses
    headers = as_bearer(one.user("nora", Role.TRAINER)) | {"Idempotency-Key": "order-0001-abcd"}
    async with one.client(headers=headers) as here, other.client(headers=headers) as there:
        answers = await asyncio.gather(
            *(c.post("/orders", json={"count": 2}) for c in (here, there) for _ in range(10))
        )
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert len(one.done) + len(other.done) == 1
        again = await there.post("/orders", json={"count": 2})
        assert again.headers["idempotency-replayed"] == "true"


async def test_two_processes_that_start_at_once(houses: list[Any]) -> None:
    databases = [house.identity.store.database for house in houses]
    databases[0].change(TABLES.drop_all)
    await asyncio.gather(*(asyncio.to_thread(prepare, database) for database in databases * 4))


async def test_connections_that_were_cut_are_made_anew(houses: list[Any], as_bearer: Any) -> None:
    import sqlalchemy as sa

    one, other = houses
    headers = as_bearer(one.user("nora", Role.TRAINER))
    cut = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
        "AND application_name = current_setting('application_name')"
    )
    async with one.client(headers=headers) as client:
        assert (await client.get("/me")).status_code == 200
        assert other.identity.store.database.change(lambda c: c.execute(cut).all())
        one.clock.advance(1)
        assert (await client.get("/me")).status_code == 200
