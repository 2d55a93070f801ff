"""Who may call what: every route x every role x nobody x an object of another organisation.

The table below is written by hand and is the expectation. A route that is not in it fails the first
test: whoever adds one says here who may call it.

    V viewer   A analyst   T trainer   P privacy officer   D administrator   * anybody at all
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from tests.privacy_finetuner.api.conftest import House, house_in

from privacy_runtime.identity import Role

ROLES = {
    "V": Role.VIEWER,
    "A": Role.ANALYST,
    "T": Role.TRAINER,
    "P": Role.PRIVACY_OFFICER,
    "D": Role.ADMIN,
}
EXPECTED = """
POST    /auth/login                                                         *
POST    /api/v1/auth/login                                                  *
POST    /api/v1/auth/refresh                                                *
POST    /api/v1/auth/password                                               *
GET     /api/v1/auth/sessions                                               VATPD
DELETE  /api/v1/auth/sessions/{session_id}                                  VATPD
GET     /api/v1/auth/me                                                     VATPD
POST    /api/v1/auth/logout                                                 VATPD
POST    /api/v1/auth/mfa                                                    VATPD
POST    /api/v1/auth/mfa/confirm                                            VATPD
POST    /api/v1/auth/recovery-codes                                         VATPD
GET     /api/v1/users                                                       PD
POST    /api/v1/users                                                       D
GET     /api/v1/users/{user_id}                                             PD
PATCH   /api/v1/users/{user_id}                                             D
POST    /api/v1/users/{user_id}/password-reset                              D
POST    /api/v1/users/{user_id}/mfa-reset                                   D
DELETE  /api/v1/users/{user_id}/sessions                                    D
GET     /api/v1/api-keys                                                    ATD
POST    /api/v1/api-keys                                                    ATD
DELETE  /api/v1/api-keys/{key_id}                                           ATD
POST    /api/v1/training/start                                              T
GET     /api/v1/training                                                    VATPD
GET     /api/v1/training/{job_id}                                           VATPD
GET     /api/v1/training/{job_id}/status                                    VATPD
POST    /api/v1/training/{job_id}/cancel                                    T
GET     /api/v1/training/{job_id}/events                                    VATPD
GET     /api/v1/training/{job_id}/history                                   VATPD
GET     /api/v1/training/{job_id}/privacy-report                            VATPD
GET     /api/v1/training/{job_id}/report                                    VATPD
GET     /api/v1/training/{job_id}/artefacts                                 VATPD
GET     /api/v1/training/{job_id}/artefacts/{name}                          VATPD
GET     /api/v1/training/{job_id}/certificate                               VATPD
GET     /api/v1/models                                                      VATPD
GET     /api/v1/datasets                                                    ATP
POST    /api/v1/datasets/release                                            P
DELETE  /api/v1/datasets/{name}                                             T
PUT     /api/v1/datasets/{name}                                             T
GET     /api/v1/certificates                                                VATPD
GET     /api/v1/certificates/{job_id}                                       VATPD
POST    /api/v1/certificates/verify                                         VATPD
GET     /api/v1/budgets                                                     VATPD
GET     /api/v1/budgets/accounts/{account:path}                             VATPD
GET     /api/v1/budgets/forecast/{account:path}                             VATPD
GET     /api/v1/budgets/history/{account:path}                              VATPD
GET     /api/v1/budgets/spending/{account:path}                             VATPD
GET     /api/v1/budgets/timeline/{account:path}                             VATPD
POST    /api/v1/budgets/grants                                              P
GET     /api/v1/budgets/requests                                            VATPD
POST    /api/v1/budgets/requests                                            AT
GET     /api/v1/budgets/requests/{request_id}                               VATPD
POST    /api/v1/budgets/requests/{request_id}/approve                       P
POST    /api/v1/budgets/requests/{request_id}/decline                       P
POST    /api/v1/budgets/requests/{request_id}/withdraw                      AT
POST    /api/v1/protect                                                     ATP
POST    /api/v1/protect/batch                                               ATP
POST    /api/v1/protect/explain                                             ATP
POST    /api/v1/protect/reveal                                              P
POST    /api/v1/generate                                                    AT
GET     /api/v1/security/status                                             PD
GET     /api/v1/security/alerts                                             PD
POST    /api/v1/security/alerts/{alert_id}/acknowledge                      PD
GET     /api/v1/security/restraints                                         PD
POST    /api/v1/security/restraints/{user_id}/lift                          PD
GET     /api/v1/compliance/data-processing                                  P
POST    /api/v1/compliance/data-processing                                  P
GET     /api/v1/compliance/data-processing/export                           P
GET     /api/v1/compliance/data-processing/{processing_id}                  P
POST    /api/v1/compliance/data-processing/{processing_id}/end              P
GET     /api/v1/compliance/data-subject-request                             P
POST    /api/v1/compliance/data-subject-request                             P
POST    /api/v1/compliance/data-subject-request/search                      P
GET     /api/v1/compliance/data-subject-request/{request_id}                P
POST    /api/v1/compliance/data-subject-request/{request_id}/complete       P
POST    /api/v1/compliance/data-subject-request/{request_id}/evidence       P
POST    /api/v1/compliance/data-subject-request/{request_id}/extend         P
POST    /api/v1/compliance/data-subject-request/{request_id}/refuse         P
POST    /api/v1/compliance/data-subject-request/{request_id}/withdraw       P
GET     /api/v1/compliance/deadlines                                        P
GET     /api/v1/compliance/erasure-plan                                     P
GET     /api/v1/compliance/summary                                          P
POST    /api/v1/compliance/verifications                                    P
GET     /api/v1/scaling/status                                              TD
POST    /api/v1/scaling/manual                                              D
GET     /api/v1/webhooks                                                    D
POST    /api/v1/webhooks                                                    D
GET     /api/v1/webhooks/{webhook_id}                                       D
PATCH   /api/v1/webhooks/{webhook_id}                                       D
DELETE  /api/v1/webhooks/{webhook_id}                                       D
GET     /api/v1/webhooks/{webhook_id}/deliveries                            D
POST    /api/v1/webhooks/{webhook_id}/rotate                                D
POST    /api/v1/webhooks/{webhook_id}/test                                  D
POST    /api/v1/webhooks/deliveries/{delivery_id}/again                     D
GET     /api/v1/audit-trail                                                 PD
GET     /api/v1/audit-trail/verify                                          PD
GET     /health                                                             *
GET     /health/live                                                        *
GET     /health/ready                                                       *
GET     /metrics                                                            TD
"""
ELSEWHERE = {
    "/openapi.json": "the document of the API: test_openapi",
    "/mcp": "calls the API with the caller's credentials: tests of mcp_server",
    "/ws/v1/jobs/{job_id}": "test_events",
    "/static": "files of this program",
    "/{rest:elsewhere}": "the page for what is not there",
}
"""Routes of another kind, and where they are proved."""
PAGES = "page "
"""Pages are named so; tests/privacy_finetuner/dashboard has a matrix of its own."""
OWN_LAST = "/api/v1/auth/logout"


@dataclass(frozen=True, order=True)
class Row:
    """A line of the table."""

    method: str
    path: str
    roles: str


def rows() -> list[Row]:
    return [Row(*line.split()) for line in EXPECTED.strip().splitlines()]


def routes_of(app: FastAPI) -> Iterator[tuple[str, str, str]]:
    """Method, path and name of every route of an application, whoever added it."""
    for route in app.routes:
        if hasattr(route, "effective_route_contexts"):
            for context in route.effective_route_contexts():
                inner: Any = context.starlette_route or context
                for method in getattr(inner, "methods", None) or context.methods or {"WS"}:
                    yield method, getattr(inner, "path", "") or context.path, str(inner.name)
        else:
            bare: Any = route
            for method in getattr(bare, "methods", None) or {"ANY"}:
                yield method, bare.path, str(bare.name)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = house_in(tmp_path_factory.mktemp("matrix") / "home")
    for at in ("north", "south"):
        for role in Role:
            house.member(role, at=at)
    yield house
    house.service.close()


@pytest.fixture(scope="module")
def client(house: House) -> Iterator[TestClient]:
    with TestClient(house.app) as made:
        yield made


@pytest.fixture(scope="module")
def things(house: House, client: TestClient) -> dict[str, dict[str, str]]:
    """An object of every kind in both organisations, by the name of its path parameter."""
    return {at: _made(house, client, at) for at in ("north", "south")}


def _made(house: House, client: TestClient, at: str) -> dict[str, str]:
    def post(role: Role, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = client.post(f"/api/v1{path}", json=body, headers=house.member(role, at=at).headers)
        assert answer.status_code < 300, (path, answer.text)
        return dict(answer.json())

    account = {"account": "notes/2026", "epsilon": 4.0, "reason": "ethics vote 17"}
    post(Role.PRIVACY_OFFICER, "/budgets/grants", account | {"delta": 1e-6})
    asked = post(Role.TRAINER, "/budgets/requests", account | {"epsilon": 1.0})
    key = post(Role.TRAINER, "/api-keys", {"label": "matrix", "scopes": ["jobs:read"]})
    processing = post(
        Role.PRIVACY_OFFICER,
        "/compliance/data-processing",
        {
            "data_categories": ["personal_identifiers"],
            "processing_purpose": "machine_learning",
            "legal_basis": "legitimate_interests",
            "data_subjects_count": 50,
            "storage_location": "eu-west-1",
            "retention_period": 365,
        },
    )
    person = {"data_subject_id": "subject_12345"}
    token = post(Role.PRIVACY_OFFICER, "/compliance/verifications", person | {"means": "in_person"})
    opened = post(
        Role.PRIVACY_OFFICER,
        "/compliance/data-subject-request",
        {
            **person,
            "request_type": "access",
            "region": "EU",
            "verification_token": token["verification_token"],
        },
    )
    webhook = post(
        Role.ADMIN,
        "/webhooks",
        {"url": "https://hooks.example.org/x", "events": ["training_complete"]},
    )
    return {
        "job_id": house.job(at=at),
        "user_id": house.new_user(Role.VIEWER, at=at)[0],
        "key_id": key["id"],
        "request_id": asked["request_id"],
        "subject_request": opened["request_id"],
        "account:path": "notes/2026",
        "processing_id": processing["processing_id"],
        "webhook_id": webhook.get("webhook_id") or webhook["id"],
        "name": "report.html",
        "alert_id": "alert_" + "0" * 24,
        "delivery_id": "dlv_none",
        "session_id": house.service.identity.tokens.verify(
            house.member(Role.VIEWER, at=at).token
        ).session,
    }


def _filled(path: str, things: dict[str, str]) -> str:
    if "data-subject-request" in path:
        path = path.replace("{request_id}", things["subject_request"])
    for name, value in things.items():
        path = path.replace("{" + name + "}", value)
    assert "{" not in path, path
    return path


def _call(client: TestClient, row: Row, path: str, headers: dict[str, str]) -> Any:
    """Call a route with a body that is never right, so that nothing is done by those who may."""
    body = {"json": {"no such field": 1}} if row.method in ("POST", "PATCH", "PUT") else {}
    with client.stream(row.method, path, headers=headers, **body) as answer:
        if "event-stream" in answer.headers.get("content-type", ""):
            return answer.status_code
        answer.read()
        return answer.status_code


def test_every_route_has_an_expectation(house: House) -> None:
    known = {(row.method, row.path) for row in rows()}
    found = {
        (method, path)
        for method, path, name in routes_of(house.app)
        if method != "HEAD" and path not in ELSEWHERE and not name.startswith(PAGES)
    }

    assert found == known


def test_nobody_gets_in_without_credentials(house: House, client: TestClient) -> None:
    missing = _made_up()
    wrong = []
    for row in rows():
        status = _call(client, row, _filled(row.path, missing), {})
        if (status == 401) is (row.roles == "*"):
            wrong.append(f"{row.method} {row.path}: {status}")

    assert wrong == []


def test_a_role_may_what_the_table_says_and_nothing_else(house: House, client: TestClient) -> None:
    missing = _made_up()
    wrong = []
    for letter, role in ROLES.items():
        for row in sorted(rows(), key=lambda row: row.path == OWN_LAST):
            status = _call(client, row, _filled(row.path, missing), house.member(role).headers)
            may = row.roles == "*" or letter in row.roles
            is_open = row.roles == "*"
            if (not is_open and (status == 403) is may) or status in (401, 405) or status >= 500:
                wrong.append(f"{role}: {row.method} {row.path}: {status}")
        house.renew(role)  # it was logged out

    assert wrong == []


def test_an_object_of_another_organisation_is_not_there(
    house: House, client: TestClient, things: dict[str, dict[str, str]]
) -> None:
    """Whoever may ask for their own gets 404 for a foreign one, as for one that never was."""
    wrong = []
    for row in rows():
        if "{" not in row.path or "{account:path}" in row.path or row.method == "PUT":
            continue  # the name of an account or of a data set means one's own, always
        letter = row.roles[0]
        headers = house.member(ROLES[letter]).headers
        foreign = _call_valid(client, row, _filled(row.path, things["south"]), headers)
        if foreign != 404:
            wrong.append(f"{row.method} {row.path}: {foreign}")

    assert wrong == []


def test_one_s_own_object_is_there(
    house: House, client: TestClient, things: dict[str, dict[str, str]]
) -> None:
    """The test above could pass because everything answers 404: here nothing may."""
    reads = [
        row
        for row in rows()
        if row.method == "GET" and "{" in row.path and not row.path.endswith(("/events", "/{name}"))
    ]
    wrong = []
    for row in reads:
        headers = house.member(ROLES[row.roles[0]]).headers
        status = _call(client, row, _filled(row.path, things["north"]), headers)
        if status not in (200, 409):  # 409: not ready yet
            wrong.append(f"{row.method} {row.path}: {status}")

    assert wrong == []


def test_accounts_of_two_organisations_with_one_name_are_two(
    house: House, client: TestClient, things: dict[str, dict[str, str]]
) -> None:
    officer = house.member(Role.PRIVACY_OFFICER, at="north")
    more = {"account": "notes/2026", "epsilon": 2.0, "reason": "vote 18"}
    client.post("/api/v1/budgets/grants", json=more, headers=officer.headers)

    path = "/api/v1/budgets/accounts/notes/2026"
    caps = {
        at: client.get(path, headers=house.member(Role.VIEWER, at=at).headers).json()["epsilon"]
        for at in ("north", "south")
    }

    assert caps == {"north": 6.0, "south": 4.0}


def test_a_key_may_less_than_its_owner(house: House, client: TestClient) -> None:
    trainer = house.member(Role.TRAINER)
    body = {"label": "reads", "scopes": ["jobs:read"]}
    text = client.post("/api/v1/api-keys", json=body, headers=trainer.headers).json()["key"]

    reads = client.get("/api/v1/training", headers={"X-API-Key": text})
    starts = client.post("/api/v1/training/start", json={}, headers={"X-API-Key": text})

    assert (reads.status_code, starts.status_code) == (200, 403)


@pytest.mark.parametrize("scope", ["results:outside_guarantee", "users:write", "budgets:grant"])
def test_no_key_carries_what_asks_for_a_person(
    house: House, client: TestClient, scope: str
) -> None:
    admin = house.member(Role.ADMIN)

    answer = client.post(
        "/api/v1/api-keys", json={"label": "too much", "scopes": [scope]}, headers=admin.headers
    )

    assert answer.status_code == 403


@pytest.mark.parametrize("letter", "VATD")
def test_exact_figures_are_refused_to_everybody_but_the_officer(
    house: House, client: TestClient, things: dict[str, dict[str, str]], letter: str
) -> None:
    job = things["north"]["job_id"]
    headers = house.member(ROLES[letter]).headers
    wanted = {"include": "outside_guarantee"}

    statuses = {
        client.get(f"/api/v1/training/{job}{part}", params=wanted, headers=headers).status_code
        for part in ("", "/history", "/artefacts", "/artefacts/training_result.json", "/events")
    }

    assert statuses == {403}


def _call_valid(client: TestClient, row: Row, path: str, headers: dict[str, str]) -> int:
    """Call a route with a body that is right: the object is looked for after the body is read."""
    reason = {"reason": "looked at it"}
    by_end: dict[str, dict[str, Any]] = {
        "{user_id}": {"is_disabled": True},
        "{webhook_id}": {"enabled": False},
        "evidence": {"label": "export log", "sha256": "0" * 64},
        **dict.fromkeys(
            ("acknowledge", "approve", "decline", "end", "extend", "lift", "refuse", "withdraw"),
            reason,
        ),
    }
    body: dict[str, Any] = {}
    if row.method in ("POST", "PATCH"):
        body = {"json": by_end.get(row.path.rsplit("/", 1)[1], {})}
    return int(client.request(row.method, path, headers=headers, **body).status_code)


def _made_up() -> dict[str, str]:
    """Ids of things that never were."""
    names = (
        "job_id", "user_id", "key_id", "request_id", "account:path", "processing_id", "webhook_id",
        "alert_id", "delivery_id", "subject_request", "session_id",
    )  # fmt: skip
    return {**dict.fromkeys(names, "x_none"), "name": "report.html"}
