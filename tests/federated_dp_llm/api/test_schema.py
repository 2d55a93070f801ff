"""Whatever the document allows, and what it does not: sent by machine, in process.

No answer is a 5xx, every answer has a status, media type and shape that the document declares, and
what the document forbids is refused. One example of either kind an operation by default; the slow
test sends many more, by every role.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
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
from tests.federated_dp_llm.api.conftest import House

from federated_dp_llm.api.examples import EXAMPLES
from privacy_runtime.identity import ROLE_SCOPES, Role, Scope

CHECKS = (
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
)
ENDS_SESSIONS = {"log_out", "confirm_mfa"}
"""Operations after which a token is worth nothing; test_matrix asks them."""
FEW, MANY = 1, 60
REFUSALS = ["400", "401", "403", "404", "405", "409", "413", "415", "422", "429"]


@pytest.fixture(scope="module")
def operations(house: House) -> dict[str, Any]:
    """Operations by id."""
    schema = schemathesis.openapi.from_dict(house.app.openapi())
    schema.config.checks.negative_data_rejection.expected_statuses = REFUSALS
    found = [result.ok() for result in schema.get_all_operations()]
    named = {operation.definition.raw["operationId"]: operation for operation in found}
    return {name: one for name, one in named.items() if name not in ENDS_SESSIONS}


def able(scope: str) -> Role:
    """The first role that has a scope."""
    return next(role for role in Role if scope == "none" or Scope(scope) in ROLE_SCOPES[role])


def attack(house: House, client: TestClient, operation: Any, role: Role, examples: int) -> None:
    """Send requests of one operation in the name of a role, right ones and wrong ones."""
    headers = house.member(role).headers
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
            sent(case, client, headers)

        try:
            once()
        except Unsatisfiable:  # nothing of this operation can be wrong
            continue


def sent(case: Any, client: TestClient, headers: dict[str, str]) -> None:
    """Send a case, and check the answer against the document."""
    wanted = case.as_transport_kwargs(base_url="http://testserver", headers=headers)
    request = {k: wanted[k] for k in ("method", "url", "params", "json", "data") if k in wanted}
    if "data" in request:
        request["content"] = request.pop("data")
    request["headers"] = {**dict(wanted.get("headers") or {}), **headers}
    with client.stream(**request) as answer:
        answer.read()
        if "event-stream" not in answer.headers.get("content-type", ""):
            case.validate_response(answer, checks=CHECKS)


@pytest.fixture(scope="module")
def lenient(house: House) -> Iterator[TestClient]:
    with TestClient(house.app, raise_server_exceptions=False) as made:
        yield made


def faults(house: House, client: TestClient, operations: Any, role: Role | None, n: int) -> Any:
    wrong = {}
    for name, operation in operations.items():
        who = role or able(operation.definition.raw.get("x-scope", "none"))
        try:
            attack(house, client, operation, who, n)
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001  the others are attacked too
            more = [str(one) for one in getattr(error, "exceptions", [])]
            wrong[name] = f"{error}: {more}"[:3000]
    return wrong


def test_every_answer_is_as_the_document_says(
    house: House, lenient: TestClient, operations: dict[str, Any]
) -> None:
    assert faults(house, lenient, operations, None, FEW) == {}


def test_every_body_and_answer_has_an_example_that_its_schema_allows(house: House) -> None:
    document = house.app.openapi()
    schemas = document["components"]["schemas"]
    named = set()
    for path in document["paths"].values():
        for operation in path.values():
            contents = [operation.get("requestBody", {}), operation["responses"].get("200", {})]
            for content in contents:
                schema = content.get("content", {}).get("application/json", {}).get("schema", {})
                named.add(schema.get("$ref", "").rsplit("/", 1)[-1])
    once = {"", "Done", "Enrolment", "RecoveryCodes", "KeyIssued", "UserCreated", "UserAnswer"}

    assert named - once <= set(EXAMPLES)  # what is shown once has a secret in it
    for name, example in EXAMPLES.items():
        jsonschema.validate(example, {**schemas[name], "components": document["components"]})


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("role", list(Role))
def test_every_answer_to_every_role_is_as_the_document_says(
    house: House, lenient: TestClient, operations: dict[str, Any], role: Role
) -> None:
    assert faults(house, lenient, operations, role, MANY) == {}
