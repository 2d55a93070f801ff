"""Whatever the document allows, and what it does not: sent by machine, in process.

Schemathesis makes requests from the OpenAPI document, right ones and wrong ones. No answer is a
5xx, every answer has a status, media type and shape that the document declares, and what the
document forbids is refused. A few examples an operation by default; the slow test sends many more,
by every role, so that refusals are looked at too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient
from tests.privacy_finetuner.api.conftest import House, house_in

from privacy_runtime.identity import ROLE_SCOPES, Role, Scope

CHECKS = (
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
)
ENDS_SESSIONS = {"logout", "confirm_mfa"}
"""Operations after which a token is worth nothing: they get one of their own."""
FEW, MANY = 2, 50
REFUSALS = ["400", "401", "403", "404", "405", "409", "413", "415", "422", "429"]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = house_in(tmp_path_factory.mktemp("schema") / "home")
    yield house
    house.service.close()


@pytest.fixture(scope="module")
def client(house: House) -> Iterator[TestClient]:
    with TestClient(house.app, raise_server_exceptions=False) as made:
        yield made


@pytest.fixture(scope="module")
def operations(house: House) -> dict[str, Any]:
    """Operations by id."""
    schema = schemathesis.openapi.from_dict(house.app.openapi())
    schema.config.checks.negative_data_rejection.expected_statuses = REFUSALS
    found = [result.ok() for result in schema.get_all_operations()]
    return {operation.definition.raw["operationId"]: operation for operation in found}


def able(scope: str) -> Role:
    """The first role that has a scope."""
    return next(role for role in Role if scope == "none" or Scope(scope) in ROLE_SCOPES[role])


def attack(house: House, client: TestClient, operation: Any, role: Role, examples: int) -> None:
    """Send requests of one operation in the name of a role, right ones and wrong ones."""
    name = operation.definition.raw["operationId"]
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def once(case: Any) -> None:
            at = "east" if name in ENDS_SESSIONS else "north"
            if at == "east":
                house.renew(role, at=at)
            sent(case, client, house.member(role, at=at).headers)

        try:
            once()
        except Unsatisfiable:  # nothing of this operation can be wrong
            continue


def checks_of(case: Any) -> tuple[Any, ...]:
    """All of them; but an empty list in a query is nothing at all on the wire, and no fault."""
    if any(value == [] for value in dict(case.query or {}).values()):
        return tuple(check for check in CHECKS if check is not negative_data_rejection)
    return CHECKS


def sent(case: Any, client: TestClient, headers: dict[str, str]) -> None:
    """Send a case, and check the answer against the document."""
    wanted = case.as_transport_kwargs(base_url="http://testserver", headers=headers)
    request = {k: wanted[k] for k in ("method", "url", "params", "json", "data") if k in wanted}
    if "data" in request:
        request["content"] = request.pop("data")
    request["headers"] = {**dict(wanted.get("headers") or {}), **headers}
    with client.stream(**request) as answer:
        if "event-stream" not in answer.headers.get("content-type", ""):
            answer.read()
            case.validate_response(answer, checks=checks_of(case))


def test_every_answer_is_as_the_document_says(
    house: House, client: TestClient, operations: dict[str, Any]
) -> None:
    wrong = {}
    for name, operation in operations.items():
        role = able(operation.definition.raw.get("x-scope", "none"))
        try:
            attack(house, client, operation, role, FEW)
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001  the others are attacked too
            wrong[name] = f"{error}: {[str(one) for one in getattr(error, 'exceptions', [])]}"[
                :3000
            ]

    assert wrong == {}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("role", list(Role))
def test_every_answer_to_every_role_is_as_the_document_says(
    house: House, client: TestClient, operations: dict[str, Any], role: Role
) -> None:
    wrong = {}
    for name, operation in operations.items():
        try:
            attack(house, client, operation, role, MANY)
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001  the others are attacked too
            wrong[name] = f"{error}: {[str(one) for one in getattr(error, 'exceptions', [])]}"[
                :3000
            ]

    assert wrong == {}
