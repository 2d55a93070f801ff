"""Logging in, renewing, leaving, and one's own account, over HTTP."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.privacy_finetuner.api.conftest import ADDRESS, PASSWORD, House

from privacy_runtime.identity import Role

LOGIN = "/api/v1/auth/login"
ANOTHER = "velvet marmot 92 plinth"


def login(client: TestClient, name: str, password: str = PASSWORD, **more: Any) -> Any:
    return client.post(LOGIN, json={"username": name, "password": password, **more})


def code_of(answer: Any) -> str:
    return str(answer.json()["error"]["code"])


@pytest.mark.parametrize("path", ["/auth/login", LOGIN])
def test_a_login_has_the_documented_shape(house: House, client: TestClient, path: str) -> None:
    member = house.member(Role.TRAINER)

    answer = client.post(path, json={"username": member.name, "password": PASSWORD})

    assert answer.status_code == 200
    assert set(answer.json()) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert (answer.json()["token_type"], answer.json()["expires_in"]) == ("bearer", 900)
    assert answer.headers["cache-control"] == "no-store"


def test_unknown_name_and_wrong_password_are_one_answer(house: House, client: TestClient) -> None:
    member = house.member(Role.TRAINER)

    wrong, unknown = login(client, member.name, ANOTHER), login(client, "nobody", ANOTHER)

    assert (wrong.status_code, unknown.status_code) == (401, 401)
    wrong_body, unknown_body = wrong.json()["error"], unknown.json()["error"]
    assert {**wrong_body, "request_id": ""} == {**unknown_body, "request_id": ""}
    assert wrong.headers["www-authenticate"].startswith("Bearer")


def test_a_missing_code_is_told_apart_from_a_wrong_one(house: House, client: TestClient) -> None:
    admin = house.member(Role.ADMIN)

    missing = login(client, admin.name)
    wrong = login(client, admin.name, mfa_token="000000")  # noqa: S106  no code of anybody

    assert (missing.status_code, code_of(missing)) == (401, "code_required")
    assert (wrong.status_code, code_of(wrong)) == (401, "login_refused")


def test_that_a_code_is_needed_is_not_told_to_who_has_no_password(
    house: House, client: TestClient
) -> None:
    admin = house.member(Role.ADMIN)

    answer = login(client, admin.name, ANOTHER)

    assert code_of(answer) == "login_refused"


def test_too_many_failures_wait(house: House, client: TestClient) -> None:
    member = house.member(Role.TRAINER)
    for _ in range(5):
        login(client, member.name, ANOTHER)

    answer = login(client, member.name)

    assert (answer.status_code, code_of(answer)) == (429, "login_delayed")
    assert answer.headers["retry-after"] == "30"


def test_a_one_time_password_opens_nothing_but_its_change(house: House, client: TestClient) -> None:
    user_id, first = house.new_user(Role.VIEWER)
    name = house.names[user_id]

    early = login(client, name, first)
    changed = client.post(
        "/api/v1/auth/password",
        json={"username": name, "old_password": first, "new_password": ANOTHER},
    )
    after = login(client, name, ANOTHER)

    assert (early.status_code, code_of(early)) == (403, "password_change_required")
    assert changed.json() == {"status": "done"}
    assert after.status_code == 200


@pytest.mark.parametrize("new", ["short", "password123456", PASSWORD])
def test_a_password_that_cannot_be_used_says_why_and_not_what(
    house: House, client: TestClient, new: str
) -> None:
    member = house.member(Role.TRAINER)

    answer = client.post(
        "/api/v1/auth/password",
        json={"username": member.name, "old_password": PASSWORD, "new_password": new},
    )

    assert (answer.status_code, code_of(answer)) == (422, "password_refused")
    assert new not in answer.text


def test_a_spent_refresh_token_ends_the_session(house: House, client: TestClient) -> None:
    member = house.member(Role.TRAINER)
    first = client.post("/api/v1/auth/refresh", json={"refresh_token": member.refresh}).json()
    house.clock.advance(60)

    stolen = client.post("/api/v1/auth/refresh", json={"refresh_token": member.refresh})
    owner = client.post("/api/v1/auth/refresh", json={"refresh_token": first["refresh_token"]})

    assert (stolen.status_code, owner.status_code) == (401, 401)
    assert first["refresh_token"] not in stolen.text


def test_a_logout_counts_at_once(house: House, client: TestClient) -> None:
    member = house.member(Role.TRAINER)
    headers = member.headers
    before = client.get("/api/v1/auth/me", headers=headers)

    client.post("/api/v1/auth/logout", headers=headers)
    after = client.get("/api/v1/auth/me", headers=headers)

    assert (before.status_code, after.status_code) == (200, 401)


def test_an_administrator_without_a_second_factor_may_only_enrol(
    house: House, client: TestClient
) -> None:
    user_id, first = house.new_user(Role.ADMIN)
    name = house.names[user_id]
    house.service.identity.logins.change_password(name, first, PASSWORD, source=ADDRESS)
    headers = {"Authorization": f"Bearer {login(client, name).json()['access_token']}"}

    refused = client.get("/api/v1/users", headers=headers)
    begun = client.post("/api/v1/auth/mfa", headers=headers)
    seed = base64.b32decode(begun.json()["secret"])
    confirmed = client.post(
        "/api/v1/auth/mfa/confirm", json={"code": house.code(seed)}, headers=headers
    )
    ended = client.get("/api/v1/auth/me", headers=headers)
    again = login(client, name, mfa_token=house.code(seed))
    admin = {"Authorization": f"Bearer {again.json()['access_token']}"}

    assert refused.status_code == 403
    assert len(confirmed.json()["recovery_codes"]) == 10
    assert ended.status_code == 401
    assert client.get("/api/v1/users", headers=admin).status_code == 200


def test_a_recovery_code_counts_once(house: House, client: TestClient) -> None:
    admin = house.member(Role.ADMIN)
    codes = client.post("/api/v1/auth/recovery-codes", headers=admin.headers).json()
    code = codes["recovery_codes"][0]

    first, second = (login(client, admin.name, mfa_token=code) for _ in range(2))

    assert (first.status_code, second.status_code) == (200, 401)


def test_who_asks_is_told_who_they_are(house: House, client: TestClient) -> None:
    member = house.member(Role.VIEWER)

    answer = client.get("/api/v1/auth/me", headers=member.headers).json()

    assert (answer["id"], answer["tenant"], answer["method"]) == (
        member.id, member.tenant, "password",
    )  # fmt: skip
    assert "account:self" in answer["scopes"]


@pytest.mark.parametrize(
    "header",
    [
        {"Authorization": "Bearer "},
        {"Authorization": "Basic YWRtaW46YWRtaW4="},
        {"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."},
        {"X-API-Key": "pf_nothing"},
    ],
)
def test_what_is_no_credential_of_ours_is_refused(
    house: House, client: TestClient, header: dict[str, str]
) -> None:
    answer = client.get("/api/v1/auth/me", headers=header)

    assert answer.status_code == 401


def test_answers_with_secrets_are_never_kept_to_be_given_again(
    house: House, client: TestClient
) -> None:
    admin = house.member(Role.ADMIN)
    headers = {**admin.headers, "Idempotency-Key": "0123456789"}

    answer = client.post("/api/v1/auth/mfa", headers=headers)

    assert (answer.status_code, code_of(answer)) == (422, "invalid_request")
