"""Users of an organisation, over HTTP."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient
from tests.privacy_finetuner.api.conftest import PASSWORD, House

from privacy_runtime.identity import Role

USERS = "/api/v1/users"


def test_a_user_is_made_with_a_password_for_one_use(house: House, client: TestClient) -> None:
    admin = house.member(Role.ADMIN)

    made = client.post(
        USERS, json={"name": f"ada.{house.turn}", "role": "trainer"}, headers=admin.headers
    )
    shown = client.get(made.headers["location"], headers=admin.headers)

    assert made.status_code == 201
    assert made.json()["one_time_password"]
    assert "one_time_password" not in shown.json()
    assert (shown.json()["role"], shown.json()["must_change_password"]) == ("trainer", True)


def test_pages_hold_every_user_once(house: House, client: TestClient) -> None:
    admin = house.member(Role.ADMIN)
    made = {f"user-{house.turn}-{n}" for n in range(7)}
    for name in made:
        house.new_user(Role.VIEWER, name=name)

    names: list[str] = []
    cursor: str | None = None
    while cursor is not None or not names:
        params = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = client.get(USERS, params=params, headers=admin.headers).json()
        names += [user["name"] for user in page["items"]]
        cursor = page["next_cursor"]

    assert names == sorted(names)
    assert made < set(names)
    assert len(names) == len(set(names))


def test_a_lowered_role_counts_at_once(house: House, client: TestClient) -> None:
    admin, trainer = house.member(Role.ADMIN), house.member(Role.TRAINER)
    before = client.get("/api/v1/auth/me", headers=trainer.headers)

    changed = client.patch(f"{USERS}/{trainer.id}", json={"role": "viewer"}, headers=admin.headers)
    after = client.get("/api/v1/auth/me", headers=trainer.headers)

    assert changed.json()["role"] == "viewer"
    assert (before.status_code, after.status_code) == (200, 401)


def test_a_disabled_user_is_out_and_comes_back_with_the_password(
    house: House, client: TestClient
) -> None:
    admin, trainer = house.member(Role.ADMIN), house.member(Role.TRAINER)
    login = {"username": trainer.name, "password": PASSWORD}

    client.patch(f"{USERS}/{trainer.id}", json={"is_disabled": True}, headers=admin.headers)
    out = client.post("/auth/login", json=login)
    client.patch(f"{USERS}/{trainer.id}", json={"is_disabled": False}, headers=admin.headers)
    back = client.post("/auth/login", json=login)

    assert (out.status_code, back.status_code) == (401, 200)


@pytest.mark.parametrize("body", [{}, {"role": "viewer", "is_disabled": True}, {"role": "root"}])
def test_a_change_is_one_change(house: House, client: TestClient, body: dict[str, object]) -> None:
    admin = house.member(Role.ADMIN)
    user_id, _ = house.new_user(Role.ANALYST)

    answer = client.patch(f"{USERS}/{user_id}", json=body, headers=admin.headers)
    shown = client.get(f"{USERS}/{user_id}", headers=admin.headers).json()

    assert answer.status_code == 422
    assert (shown["role"], shown["is_disabled"]) == ("analyst", False)


def test_the_last_administrator_stays(house: House, client: TestClient) -> None:
    admin = house.member(Role.ADMIN)

    answer = client.patch(f"{USERS}/{admin.id}", json={"role": "viewer"}, headers=admin.headers)

    assert answer.status_code == 409


def test_a_login_of_ten_minutes_ago_is_too_old_to_make_users(
    house: House, client: TestClient
) -> None:
    admin = house.member(Role.ADMIN)
    house.clock.advance(600)

    answer = client.post(USERS, json={"name": "eve", "role": "admin"}, headers=admin.headers)

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "stale_login")


def test_a_lost_authenticator_is_reset_by_somebody_else(house: House, client: TestClient) -> None:
    admin, officer = house.member(Role.ADMIN), house.member(Role.PRIVACY_OFFICER)

    reset = client.post(f"{USERS}/{officer.id}/mfa-reset", headers=admin.headers)
    own = client.post(f"{USERS}/{admin.id}/mfa-reset", headers=admin.headers)
    login = client.post("/auth/login", json={"username": officer.name, "password": PASSWORD})

    assert (reset.status_code, own.status_code) == (200, 409)
    assert login.status_code == 200
    assert "one_time" not in login.text


def test_sessions_of_a_user_are_ended(house: House, client: TestClient) -> None:
    admin, trainer = house.member(Role.ADMIN), house.member(Role.TRAINER)

    client.delete(f"{USERS}/{trainer.id}/sessions", headers=admin.headers)

    assert client.get("/api/v1/auth/me", headers=trainer.headers).status_code == 401


def test_a_reset_password_is_shown_once_and_must_be_changed(
    house: House, client: TestClient
) -> None:
    admin, trainer = house.member(Role.ADMIN), house.member(Role.TRAINER)

    reset = client.post(f"{USERS}/{trainer.id}/password-reset", headers=admin.headers)
    login = client.post(
        "/auth/login",
        json={"username": trainer.name, "password": reset.json()["one_time_password"]},
    )

    assert login.json()["error"]["code"] == "password_change_required"
