"""Webhooks over HTTP: a secret shown once, an address never, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.privacy_finetuner.api.town import Town, town_in

from privacy_runtime.identity import Role

BASE = "/api/v1/webhooks"
BODY = {"url": "https://hooks.example.org/secret-path", "events": ["job_failed"]}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Town, TestClient]]:
    with town_in(tmp_path_factory.mktemp("webhooks") / "home") as made:
        yield made


@pytest.fixture
def house(running: tuple[Town, TestClient]) -> Town:
    running[0].move_on()
    return running[0]


@pytest.fixture
def client(running: tuple[Town, TestClient]) -> TestClient:
    return running[1]


def admin(house: Town, at: str = "north") -> dict[str, str]:
    return house.member(Role.ADMIN, at=at).headers


def added(house: Town, client: TestClient, **changes: Any) -> Any:
    return client.post(BASE, json={**BODY, **changes}, headers=admin(house))


def test_the_secret_is_shown_once_and_the_address_never(house: Town, client: TestClient) -> None:
    made = added(house, client)

    assert made.status_code == 201
    assert made.json()["secret"].startswith("whsec_")
    for path in (BASE, f"{BASE}/{made.json()['webhook_id']}"):
        text = client.get(path, headers=admin(house)).text
        assert "whsec_" not in text
        assert "secret-path" not in text
        assert "hooks.example.org" in text


def test_an_answer_with_a_secret_is_not_kept_for_a_repetition(
    house: Town, client: TestClient
) -> None:
    headers = admin(house) | {"Idempotency-Key": "webhook-number-one"}
    assert client.post(BASE, json=BODY, headers=headers).status_code == 422
    assert client.get(BASE, headers=admin(house)).json()["items"] == []


def test_change_rotate_test_and_remove(house: Town, client: TestClient) -> None:
    made = added(house, client).json()
    path = f"{BASE}/{made['webhook_id']}"
    changed = client.patch(
        path, json={"events": ["security_alert"], "enabled": False}, headers=admin(house)
    ).json()
    assert (changed["events"], changed["enabled"]) == (["security_alert"], False)
    assert changed["stopped_by"] == "person"
    client.patch(path, json={"enabled": True}, headers=admin(house))
    again = client.post(f"{path}/rotate", headers=admin(house)).json()
    assert again["secret"] not in {made["secret"], None}

    sent = client.post(f"{path}/test", headers=admin(house))
    assert sent.status_code == 202
    (delivery,) = client.get(f"{path}/deliveries", headers=admin(house)).json()["items"]
    assert delivery["message_id"] == sent.json()["message_id"]
    assert (delivery["event"], delivery["state"]) == ("test", "waiting")
    again = client.post(f"{BASE}/deliveries/{delivery['delivery_id']}/again", headers=admin(house))
    assert again.status_code == 404  # it was not given up
    assert client.delete(path, headers=admin(house)).status_code == 204
    assert client.get(path, headers=admin(house)).status_code == 404


def test_who_changed_what_is_in_the_trail(house: Town, client: TestClient) -> None:
    path = f"{BASE}/{added(house, client).json()['webhook_id']}"
    client.delete(path, headers=admin(house))

    trail = client.get("/api/v1/audit-trail?type_prefix=webhook.", headers=admin(house)).json()
    assert [each["type"] for each in trail["items"]] == ["webhook.removed", "webhook.added"]
    assert {each["body"]["by"] for each in trail["items"]} == {house.member(Role.ADMIN).id}


def test_a_webhook_of_another_organisation_is_not_found(house: Town, client: TestClient) -> None:
    path = f"{BASE}/{added(house, client).json()['webhook_id']}"
    other = admin(house, "south")

    for method, where, body in (
        ("GET", path, None),
        ("PATCH", path, {"enabled": False}),
        ("DELETE", path, None),
        ("POST", f"{path}/rotate", None),
        ("POST", f"{path}/test", None),
        ("GET", f"{path}/deliveries", None),
    ):
        answer = client.request(method, where, json=body, headers=other)
        assert answer.status_code == 404, (method, where)
    assert client.get(path, headers=admin(house)).json()["enabled"] is True


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "http://hooks.example.org/x"},
        {"url": "https://user:word@hooks.example.org/x"},
        {"url": "https:///x"},
        {"url": "ftp://hooks.example.org"},
        {"url": ""},
        {"url": "x" * 2001},
        {"events": []},
        {"events": ["everything"]},
        {"kind": "pigeon"},
        {"more": 1},
    ],
)
def test_bad_webhooks(house: Town, client: TestClient, changes: dict[str, Any]) -> None:
    assert added(house, client, **changes).status_code == 422
    assert client.get(BASE, headers=admin(house)).json()["items"] == []


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ANALYST, Role.TRAINER, Role.PRIVACY_OFFICER])
def test_only_administrators(house: Town, client: TestClient, role: Role) -> None:
    headers = house.member(role).headers
    assert client.get(BASE, headers=headers).status_code == 403
    assert client.post(BASE, json=BODY, headers=headers).status_code == 403


def test_so_many_and_no_more(house: Town, client: TestClient) -> None:
    answers = [added(house, client).status_code for _ in range(21)]
    assert answers == [201] * 20 + [409]
