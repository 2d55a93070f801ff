"""API keys over HTTP."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient
from tests.privacy_finetuner.api.conftest import House

from privacy_runtime.identity import Role

KEYS = "/api/v1/api-keys"


def test_a_key_is_shown_once_and_works_until_it_is_revoked(
    house: House, client: TestClient
) -> None:
    trainer = house.member(Role.TRAINER)
    body = {"label": "nightly", "scopes": ["jobs:read"], "valid_days": 30}
    made = client.post(KEYS, json=body, headers=trainer.headers)
    key = {"X-API-Key": made.json()["key"]}
    listed = client.get(KEYS, headers=trainer.headers)

    before = client.get("/api/v1/training", headers=key)
    revoked = client.delete(f"{KEYS}/{made.json()['id']}", headers=trainer.headers)
    after = client.get("/api/v1/training", headers=key)

    assert made.status_code == 201
    assert made.json()["key"] not in listed.text
    assert (before.status_code, revoked.status_code, after.status_code) == (200, 204, 401)


def test_a_key_as_bearer_is_a_key_too(house: House, client: TestClient) -> None:
    trainer = house.member(Role.TRAINER)
    body = {"label": "nightly", "scopes": ["jobs:read"]}
    text = client.post(KEYS, json=body, headers=trainer.headers).json()["key"]

    answer = client.get("/api/v1/training", headers={"Authorization": f"Bearer {text}"})

    assert answer.status_code == 200


def test_an_administrator_sees_and_revokes_those_of_others(
    house: House, client: TestClient
) -> None:
    trainer, admin = house.member(Role.TRAINER), house.member(Role.ADMIN)
    body = {"label": "nightly", "scopes": ["jobs:read"]}
    made = client.post(KEYS, json=body, headers=trainer.headers).json()

    seen = client.get(KEYS, headers=admin.headers).json()["items"]
    by_analyst = client.delete(f"{KEYS}/{made['id']}", headers=house.member(Role.ANALYST).headers)
    by_admin = client.delete(f"{KEYS}/{made['id']}", headers=admin.headers)

    assert made["id"] in [key["id"] for key in seen]
    assert (by_analyst.status_code, by_admin.status_code) == (403, 204)


@pytest.mark.parametrize(
    "change",
    [
        {"scopes": []},
        {"scopes": ["jobs:fly"]},
        {"valid_days": 0},
        {"valid_days": 367},
        {"valid_days": 1.5},
        {"label": ""},
        {"label": "x" * 129},
        {"lable": "typo"},
    ],
    ids=str,
)
def test_what_is_no_request_for_a_key_is_refused(
    house: House, client: TestClient, change: dict[str, object]
) -> None:
    trainer = house.member(Role.TRAINER)
    body = {"label": "nightly", "scopes": ["jobs:read"]} | change

    answer = client.post(KEYS, json=body, headers=trainer.headers)

    assert answer.status_code == 422
    assert answer.json()["error"]["details"]
