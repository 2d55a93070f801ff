"""The audit trail over HTTP: one's own part of the chain, in pages, and verified."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient
from tests.privacy_finetuner.api.town import Town, town_in

from privacy_runtime.identity import Role

BASE = "/api/v1/audit-trail"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Town, TestClient]]:
    with town_in(tmp_path_factory.mktemp("audit_trail") / "home") as made:
        yield made


@pytest.fixture
def house(running: tuple[Town, TestClient]) -> Town:
    running[0].move_on()
    return running[0]


@pytest.fixture
def client(running: tuple[Town, TestClient]) -> TestClient:
    return running[1]


def test_an_organisation_sees_its_own_and_no_other(house: Town, client: TestClient) -> None:
    own = house.member(Role.ADMIN)
    other = house.member(Role.ADMIN, at="south")
    mine, theirs = (
        client.get(f"{BASE}?limit=200", headers=each.headers).json()["items"]
        for each in (own, other)
    )

    assert not {each["seq"] for each in mine} & {each["seq"] for each in theirs}
    assert {each["type"] for each in mine} >= {"identity.login", "identity.user_created"}
    text = str(mine)
    assert own.id in text
    assert other.id not in text
    assert other.tenant not in text
    assert own.name not in text  # ids, never names


def test_pages_hold_everything_once(house: Town, client: TestClient) -> None:
    headers = house.member(Role.PRIVACY_OFFICER).headers
    house.member(Role.TRAINER)
    whole = client.get(f"{BASE}?limit=200", headers=headers).json()
    seen, cursor = [], ""
    while cursor is not None:
        page = client.get(f"{BASE}?limit=3{cursor}", headers=headers).json()
        seen += page["items"]
        cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"

    assert seen == whole["items"]
    assert whole["next_cursor"] is None
    logins = client.get(f"{BASE}?type_prefix=identity.login", headers=headers).json()["items"]
    assert {each["type"] for each in logins} == {"identity.login"}


def test_the_chain_verifies(house: Town, client: TestClient) -> None:
    found = client.get(f"{BASE}/verify", headers=house.member(Role.ADMIN).headers).json()

    assert found["is_intact"] is True
    assert (found["broken_at"], found["reason"]) == (None, None)
    assert found["entries"] > 0


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ANALYST, Role.TRAINER])
def test_others_may_not_read_it(house: Town, client: TestClient, role: Role) -> None:
    for path in ("", "/verify"):
        answer = client.get(f"{BASE}{path}", headers=house.member(role).headers)
        assert answer.status_code == 403


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "cursor=x", "cursor=1.WyJ4Il0"])
def test_bad_pages(house: Town, client: TestClient, query: str) -> None:
    answer = client.get(f"{BASE}?{query}", headers=house.member(Role.ADMIN).headers)
    assert answer.status_code == 422
