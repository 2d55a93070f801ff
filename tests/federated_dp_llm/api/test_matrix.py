"""Who may call what: every route x every role x nobody.

The table is written by hand and is the expectation; a route that is not in it fails the first test.

    V viewer   A analyst   T trainer   P privacy officer   D administrator   * anybody at all
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from tests.federated_dp_llm.api.conftest import House

from privacy_runtime.identity import Role

ROLES = {
    "V": Role.VIEWER,
    "A": Role.ANALYST,
    "T": Role.TRAINER,
    "P": Role.PRIVACY_OFFICER,
    "D": Role.ADMIN,
}
EXPECTED = """
POST    /v1/inference                               AT
POST    /inference                                  AT
POST    /v1/chat/completions                        AT
POST    /v1/completions                             AT
GET     /v1/models                                  AT
GET     /v1/privacy/budget/status                   PD
GET     /privacy/budget/status                      PD
GET     /v1/privacy/budget/history/{user_id}        VATPD
GET     /privacy/budget/history/{user_id}           VATPD
GET     /v1/privacy/budget/{user_id}                VATPD
GET     /privacy/budget/{user_id}                   VATPD
POST    /v1/privacy/budget/{user_id}/grants         P
POST    /v1/auth                                    *
POST    /auth                                       *
POST    /v1/auth/refresh                            *
POST    /v1/auth/password                           *
POST    /v1/auth/logout                             VATPD
POST    /v1/auth/mfa                                VATPD
POST    /v1/auth/mfa/confirm                        VATPD
POST    /v1/auth/keys                               ATD
GET     /v1/admin/users                             PD
POST    /v1/admin/users                             D
PUT     /v1/admin/users/{user_id}/departments       D
GET     /v1/admin/nodes                             PD
POST    /v1/admin/nodes                             D
DELETE  /v1/admin/nodes/{node_id}                   D
GET     /v1/admin/config                            PD
PUT     /v1/admin/config                            D
GET     /v1/health                                  *
GET     /health                                     *
GET     /v1/metrics                                 TD
GET     /metrics                                    TD
GET     /openapi.json                               *
"""
ENDS_SESSION = ("/v1/auth/logout",)
UNKNOWN = "somebody.else"


def rows() -> list[tuple[str, str, str]]:
    return [tuple(line.split()) for line in EXPECTED.strip().splitlines()]  # type: ignore[misc]


def routes_of(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Method and path of every route of an application, whoever added it."""
    for route in app.routes:
        contexts: Any = [route]
        if hasattr(route, "effective_route_contexts"):
            contexts = [c.starlette_route or c for c in route.effective_route_contexts()]
        for one in contexts:
            for method in one.methods or ():
                if method != "HEAD":
                    yield method, one.path


def test_the_table_has_every_route_and_no_other(house: House) -> None:
    assert sorted(set(routes_of(house.app))) == sorted((m, p) for m, p, _ in rows())


def called(client: TestClient, method: str, path: str, headers: dict[str, str]) -> int:
    path = path.replace("{user_id}", UNKNOWN).replace("{node_id}", "nowhere")
    body = None if method in ("GET", "DELETE") else {}
    answer = client.request(method, path, json=body, headers=headers)
    return answer.status_code


@pytest.mark.parametrize(("method", "path", "roles"), rows())
def test_each_role_may_what_the_table_says_and_nobody_else(
    house: House, client: TestClient, method: str, path: str, roles: str
) -> None:
    if path in ENDS_SESSION:
        assert called(client, method, path, {}) == 401
        return
    is_of_others = "{user_id}" in path and "budget" in path
    anonymous = called(client, method, path, {})
    assert (anonymous != 401) if roles == "*" else anonymous == 401
    for letter, role in ROLES.items() if roles != "*" else ():
        status = called(client, method, path, house.member(role).headers)
        if letter in roles:
            # Another's budget: refused to those who may only read their own, said to be absent to
            # officers.
            sees_others = not is_of_others or letter in "PD"
            assert (status not in (401, 403)) if sees_others else status == 403
        else:
            assert status == 403, (letter, status)


def test_whether_another_user_exists_is_not_said_to_those_who_may_not_look(
    house: House, client: TestClient
) -> None:
    headers = house.member(Role.ANALYST).headers
    there, absent = house.member(Role.TRAINER).name, "nobody.of.that.name"

    answers = [
        client.get(f"/v1/privacy/budget/{name}", headers=headers) for name in (there, absent)
    ]

    bodies = [{**answer.json()["error"], "request_id": ""} for answer in answers]
    assert [answer.status_code for answer in answers] == [403, 403]
    assert bodies[0] == bodies[1]
