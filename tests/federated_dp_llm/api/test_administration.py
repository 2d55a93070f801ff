"""Logins, users, budgets, settings: what changes, who is told, and what is written down."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.federated_dp_llm.api.conftest import PASSWORD, House, Member, config_in, house_in

from federated_dp_llm.api.service import Service
from federated_dp_llm.config import Department
from privacy_core.errors import InvalidParameter
from privacy_runtime.identity import Role
from privacy_runtime.identity.codes import code_at, step_of


def log_in(house: House, client: TestClient, path: str, who: Member) -> Any:
    body = {"user_id": who.name, "password": PASSWORD}
    if who.name in house.seeds:
        house.clock.advance(30)
        body["mfa_code"] = code_at(house.seeds[who.name], step_of(house.clock.now()))
    return client.post(path, json=body)


@pytest.mark.parametrize("path", ["/v1/auth", "/auth"])
def test_a_login_has_the_documented_answer_and_its_token_counts(
    house: House, client: TestClient, doctor: Member, path: str
) -> None:
    answer = log_in(house, client, path, doctor).json()

    assert answer["user_id"] == doctor.name
    assert answer["department"] == "emergency"
    assert "models:query" in answer["permissions"]
    assert answer["privacy_budget"] == pytest.approx(10.0)
    headers = {"Authorization": f"Bearer {answer['token']}"}
    asked = client.post("/inference", json={"prompt": "a question"}, headers=headers)
    assert asked.status_code == 200


def test_the_budget_in_a_token_decides_nothing(
    house: House, client: TestClient, doctor: Member
) -> None:
    """Two logins before anything is spent say 10; the account knows better."""
    tokens = [log_in(house, client, "/auth", doctor).json()["token"] for _ in range(2)]
    statuses = []
    for turn in range(4):
        headers = {"Authorization": f"Bearer {tokens[turn % 2]}"}
        body = {"prompt": "a question", "privacy_budget": 5.0}
        statuses.append(client.post("/inference", json=body, headers=headers).status_code)

    assert statuses[-1] == 429


def test_guessing_is_delayed_and_raises_an_alert(
    house: House, client: TestClient, doctor: Member
) -> None:
    body = {"user_id": doctor.name, "password": "wrong"}
    for _ in range(8):
        answer = client.post("/auth", json=body)
        if answer.status_code == 429:
            house.clock.advance(1000)

    alerts = [e for e in house.service.journal.read("security") if e.type == "security.alert"]
    assert [e.body["kind"] for e in alerts][-1] == "brute_force"
    assert doctor.name not in alerts[-1].body_text


def test_a_key_for_a_program_asks_and_changes_nothing(client: TestClient, doctor: Member) -> None:
    made = client.post("/v1/auth/keys", json={"label": "ward pc"}, headers=doctor.headers).json()
    headers = {"Authorization": f"Bearer {made['api_key']}"}

    assert client.get("/v1/models", headers=headers).status_code == 200
    assert client.post("/v1/auth/keys", json={"label": "x"}, headers=headers).status_code == 403


def test_an_administrator_makes_a_user_who_belongs_somewhere(
    house: House, client: TestClient
) -> None:
    headers = house.member(Role.ADMIN).headers
    body = {"user_id": "nurse.joy", "role": "analyst", "departments": ["surgery"]}

    made = client.post("/v1/admin/users", json=body, headers=headers)
    moved = client.put(
        "/v1/admin/users/nurse.joy/departments", json={"departments": ["er"]}, headers=headers
    )

    assert made.status_code == 200
    assert made.json()["one_time_password"]
    assert moved.json()["departments"] == ["er"]
    assert client.post("/v1/admin/users", json=body, headers=headers).status_code == 409


def test_a_grant_raises_one_users_cap_and_says_who_and_why(
    house: House, client: TestClient, doctor: Member
) -> None:
    officer = house.member(Role.PRIVACY_OFFICER)
    path = f"/v1/privacy/budget/{doctor.name}"
    client.post("/inference", json={"prompt": "x"}, headers=doctor.headers)

    granted = client.post(
        f"{path}/grants",
        json={"epsilon": 2.0, "reason": "second study, protocol 12"},
        headers=officer.headers,
    ).json()

    assert granted["total_budget"] == pytest.approx(12.0, abs=1e-3)
    entry = next(
        e for e in reversed(list(house.service.journal.read("router"))) if e.type == "router.grant"
    )
    assert (entry.body["by"], entry.body["reason"]) == (
        officer.subject,
        "second study, protocol 12",
    )


def test_unusual_spending_is_an_alert_once_a_day(
    house: House, client: TestClient, doctor: Member
) -> None:
    def ask(epsilon: float) -> None:
        headers = {
            "Authorization": f"Bearer {log_in(house, client, '/auth', doctor).json()['token']}"
        }
        body = {"prompt": "x", "privacy_budget": epsilon}
        assert client.post("/inference", json=body, headers=headers).status_code == 200

    def alerts() -> int:
        found = house.service.journal.read("security")
        return sum(
            e.body.get("kind") == "unusual_consumption" and e.body["user"] == doctor.name
            for e in found
        )

    ask(0.1)
    assert alerts() == 0
    house.clock.advance(86_400)
    ask(0.2)
    assert alerts() == 0
    ask(0.5)
    ask(0.5)

    assert alerts() == 1


def change(client: TestClient, house: House, **body: Any) -> Any:
    admin = house.log_in(house.member(Role.ADMIN).name).access_token.reveal()
    return client.put("/v1/admin/config", json=body, headers={"Authorization": f"Bearer {admin}"})


DOCUMENTED = {
    "privacy": {"epsilon_per_query": 0.1, "max_budget_per_user": 10.0, "delta": 1e-5},
    "performance": {
        "max_concurrent_requests": 100,
        "cache_size": 10000,
        "connection_pool_size": 50,
    },
    "security": {"token_expiry_hours": 8, "require_mfa": True, "audit_retention_days": 365},
}


def test_the_documented_change_is_taken_and_says_what_needs_a_restart(
    house: House, client: TestClient
) -> None:
    answer = change(client, house, **DOCUMENTED)

    assert answer.status_code == 200
    assert answer.json()["changed"] == ["security.require_mfa"]
    assert answer.json()["needs_restart"] == ["security.require_mfa"]
    change(client, house, security={"require_mfa": False})


def test_a_lifetime_cap_changes_with_a_reason_and_reaches_open_accounts(
    house: House, client: TestClient, doctor: Member
) -> None:
    client.post("/inference", json={"prompt": "x"}, headers=doctor.headers)
    more = {"privacy": {"max_budget_per_user": 14.0}}

    assert change(client, house, **more).status_code == 422
    raised = change(client, house, **more, reason="ethics board, 2026-03-01")
    lowered = change(
        client, house, privacy={"max_budget_per_user": 10.0}, reason="back to what it was"
    )

    assert raised.status_code == 200
    assert "open ones keep theirs" in lowered.json()["notes"][0]
    standing = house.service.standings.of_users([doctor.name])[doctor.name]
    assert standing.total == pytest.approx(14.0)


@pytest.mark.parametrize(
    "body",
    [
        {"privacy": {"delta": 1e-6}, "reason": "a better delta"},
        {"privacy": {"epsilon_per_query": 11.0}},
        {"privacy": {"max_budget_per_user": 0}},
        {"performance": {"max_concurrent_requests": 0}},
        {"security": {"authentication": "none"}},
        {"server": {"port": 1}},
    ],
)
def test_a_change_with_one_fault_changes_nothing(
    house: House, client: TestClient, body: dict[str, Any]
) -> None:
    before = house.service.config

    answer = change(client, house, **body)

    assert answer.status_code == 422
    assert house.service.config == before


def test_more_than_may_be_answered_at_once_is_told_to_come_back(
    house: House, client: TestClient, doctor: Member
) -> None:
    house.service.figures.in_flight += 100

    answer = client.post("/inference", json={"prompt": "x"}, headers=doctor.headers)

    house.service.figures.in_flight -= 100
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "overloaded")
    assert answer.headers["retry-after"] == "1"


def test_settings_and_use_are_known_after_a_restart(tmp_path: Any) -> None:
    house = house_in(tmp_path / "home")
    with TestClient(house.app) as client:
        doctor = house.member(Role.ANALYST)
        client.post(
            "/inference", json={"prompt": "x", "privacy_budget": 1.0}, headers=doctor.headers
        )
        change(client, house, performance={"max_prompt_characters": 77})
        spent = house.service.standings.of_users([doctor.name])[doctor.name].consumed
    house.service.close()

    again = house_in(tmp_path / "home")

    assert again.service.config.performance.max_prompt_characters == 77
    assert again.service.standings.of_users([doctor.name])[doctor.name].consumed == spent > 0
    assert again.service.records.departments_of(doctor.name) == ("emergency",)
    again.service.close()


def test_another_delta_needs_a_home_of_its_own(tmp_path: Any) -> None:
    house_in(tmp_path / "home").service.close()

    with pytest.raises(InvalidParameter, match="delta"):
        Service.open(config_in(tmp_path / "home", privacy={"delta": 1e-6}))


def test_a_department_that_reads_no_records_is_answered_without_them(tmp_path: Any) -> None:
    from dataclasses import replace

    departments = {"emergency": Department(context="none")}
    house = house_in(tmp_path / "home", change=lambda c: replace(c, departments=departments))
    with TestClient(house.app) as client:
        headers = house.member(Role.ANALYST).headers
        free = client.post("/inference", json={"prompt": "x"}, headers=headers)
        asked = client.post(
            "/inference", json={"prompt": "x", "context": "records"}, headers=headers
        )

    assert (free.json()["mechanism"], free.json()["privacy_cost"]) == ("public", 0.0)
    assert asked.status_code == 422
    house.service.close()


def test_the_figures_have_the_documented_names_and_no_users(
    house: House, client: TestClient, doctor: Member
) -> None:
    client.post("/inference", json={"prompt": "x"}, headers=doctor.headers)
    text = client.get("/metrics", headers=house.member(Role.TRAINER).headers).text

    for name in (
        "request_latency_seconds",
        "requests_total",
        "errors_total",
        "auth_failures_total",
        "access_violations_total",
        "cache_hit_ratio",
        "released_tokens_total",
    ):
        assert name in text, name
    assert doctor.name not in text
    assert "privacy_finetuner_" not in text


@pytest.mark.parametrize("path", ["/v1/health", "/health"])
def test_health_has_the_documented_shape(client: TestClient, path: str) -> None:
    found = client.get(path).json()

    assert set(found) == {"status", "timestamp", "version", "components", "metrics"}
    assert set(found["components"]) == {
        "privacy_accountant", "quantum_planner", "load_balancer", "database", "cache",
    }  # fmt: skip
    assert set(found["metrics"]) == {
        "requests_per_second", "average_response_time", "error_rate", "cache_hit_rate",
    }  # fmt: skip
