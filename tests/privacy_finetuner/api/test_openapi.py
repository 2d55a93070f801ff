"""The OpenAPI document: a client is made from it, so every operation says everything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.privacy_finetuner.api.conftest import house_in

from privacy_runtime.identity import Scope

METHODS = {"get", "put", "post", "delete", "patch"}
ALWAYS = {"429", "503"}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    house = house_in(tmp_path_factory.mktemp("openapi") / "home")
    yield house.app.openapi()
    house.service.close()


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


def is_guarded(said: dict[str, Any]) -> bool:
    """Whether an operation takes a scope."""
    return said.get("x-scope", "none") != "none"


def faults(document: dict[str, Any], method: str, path: str, said: dict[str, Any]) -> list[str]:
    """What an operation leaves unsaid."""
    found = []
    if not re.fullmatch(r"[a-z][a-z0-9_]*", said.get("operationId", "")):
        found.append("an operationId that is a name of a method")
    found += [word for word in ("summary", "description", "tags") if not said.get(word)]
    if "x-scope" not in said:
        found.append("x-scope: which scope it takes, or none")
    responses = said["responses"]
    wanted = ALWAYS | ({"401", "403"} if is_guarded(said) else set())
    wanted |= {"404"} if "{" in path and not path.startswith("/auth/oidc") else set()
    wanted |= {"422", "413"} if "requestBody" in said else set()
    found += [f"an answer {status}" for status in sorted(wanted - set(responses))]
    for status, response in responses.items():
        if status.startswith(("2", "3")):
            continue
        if "application/problem+json" not in response.get("content", {}):
            found.append(f"both forms of the error {status}")
    found += list(_without_examples(document, said))
    return found


def _without_examples(document: dict[str, Any], said: dict[str, Any]) -> Iterator[str]:
    bodies = [("request", said.get("requestBody", {}))]
    bodies += [(s, r) for s, r in said["responses"].items() if s.startswith("2")]
    for name, body in bodies:
        for media, content in body.get("content", {}).items():
            shape = content.get("schema", {})
            is_binary = shape.get("format") == "binary"
            if is_binary or not shape or "example" in content or "examples" in content:
                continue
            if not _has_example(document, shape, depth=8):
                yield f"an example of the {media} of {name}"


def _has_example(document: dict[str, Any], shape: dict[str, Any], *, depth: int) -> bool:
    """Whether a shape, or something in it, has an example."""
    if depth == 0:
        return False
    if {"example", "examples", "const", "enum"} & shape.keys():
        return True
    if "$ref" in shape:
        name = shape["$ref"].rsplit("/", 1)[1]
        return _has_example(document, document["components"]["schemas"][name], depth=depth - 1)
    inner = [*shape.get("properties", {}).values(), *shape.get("anyOf", []), shape.get("items", {})]
    return any(_has_example(document, each, depth=depth - 1) for each in inner if each)


def test_every_operation_says_everything(document: dict[str, Any]) -> None:
    lacking = {
        f"{method} {path}": found
        for method, path, said in operations(document)
        if (found := faults(document, method, path, said))
    }

    assert lacking == {}


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    ids = [said.get("operationId") for _, _, said in operations(document)]

    assert sorted(ids) == sorted(set(ids))


def test_scopes_in_the_document_are_scopes(document: dict[str, Any]) -> None:
    named = {said["x-scope"] for _, _, said in operations(document) if is_guarded(said)}

    assert named <= {scope.value for scope in Scope}


def test_credentials_are_asked_for_exactly_where_a_scope_is(document: dict[str, Any]) -> None:
    differing = [
        f"{method} {path}"
        for method, path, said in operations(document)
        if bool(said.get("security")) != is_guarded(said)
    ]

    assert differing == []


def test_secrets_have_no_default_and_no_example_that_works(document: dict[str, Any]) -> None:
    text = str(document)

    assert "BEGIN PRIVATE KEY" not in text
    assert not re.search(r"pf_[a-z2-7]{16}_[a-z2-7]{59}", text)


def test_the_lint_can_fail(document: dict[str, Any]) -> None:
    bare = {"responses": {"200": {"content": {"application/json": {"schema": {"type": "string"}}}}}}

    found = faults(document, "GET", "/x/{id}", bare)

    assert "summary" in found
    assert "x-scope: which scope it takes, or none" in found
    assert "an answer 404" in found
    assert "an example of the application/json of 200" in found


def test_the_document_names_no_place_of_this_machine(document: dict[str, Any]) -> None:
    assert str(Path.cwd()) not in str(document)
