"""Every operation of the service has a method of its name, which asks as the service documents."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from tests.privacy_finetuner.client.house import House

from privacy_finetuner.client import Client, ClientError, RetryPolicy, Settings
from privacy_finetuner.client.blocking.paging import Group

BY_OTHER_MEANS: Final = {
    "training_events": "watch",
    "refresh": "done by the client itself",
}
VALUES: Final[dict[str, Any]] = {
    "job_id": "job_1", "account": "notes/2026", "epsilon": 1.0, "points": 10, "texts": ["a"],
    "privacy_config": {"epsilon": 1.0}, "training_config": {"epochs": 1}, "certificate": {"a": 1},
    "scopes": ["jobs:read"], "events": ["training_complete"], "data_categories": ["other"],
    "data_subjects_count": 1, "retention_period": 1, "count": 1, "limit": 5, "after": 1,
    "mine": True, "include_closed": True, "overdue": True, "is_disabled": True, "enabled": True,
    "valid_days": 7, "max_new_tokens": 8, "temperature": 0.5, "priority": 1, "page_size": 5,
    "delta": 1e-5, "artefacts": [{"artefact": "m"}], "only": ["PERSON"], "status": "queued",
    "form": "csv", "file": Path(__file__),
}  # fmt: skip
SKIPPED: Final = frozenset({"value", "messages", "options", "further", "idempotency_key", "cursor"})


@pytest.fixture(scope="module")
def operations(house: House) -> dict[str, tuple[str, str, dict[str, Any]]]:
    from privacy_finetuner.api.app import create_app

    document = create_app(house.service).openapi()
    document = _resolved(document, document["components"])
    return {
        found["operationId"]: (method.upper(), path, found)
        for path, methods in document["paths"].items()
        for method, found in methods.items()
    }


def _resolved(node: Any, components: Any, depth: int = 0) -> Any:
    if depth > 40:
        return node
    if isinstance(node, dict):
        if set(node) == {"$ref"}:
            kind, name = node["$ref"].split("/")[2:]
            return _resolved(components[kind][name], components, depth + 1)
        return {key: _resolved(value, components, depth + 1) for key, value in node.items()}
    if isinstance(node, list):
        return [_resolved(value, components, depth + 1) for value in node]
    return node


class Recorder(httpx2.BaseTransport):
    """Keeps what is sent, and answers nothing useful."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        self.requests.append(request)
        return httpx2.Response(200, json={})


def methods(client: Client) -> Iterator[tuple[str, Any]]:
    groups = (each for each in vars(client).values() if isinstance(each, Group))
    for owner in (client, *groups):
        yield from (
            (name, method)
            for name, method in inspect.getmembers(owner, inspect.ismethod)
            if not name.startswith("_")
        )


@pytest.fixture(scope="module")
def sent() -> dict[str, httpx2.Request]:
    """What each method sends, by its name."""
    recorder = Recorder()
    settings = Settings(transport=recorder, retries=RetryPolicy(tries=1))
    client = Client("http://127.0.0.1:1", api_key="pf_test", settings=settings)
    found: dict[str, httpx2.Request] = {}
    for name, method in methods(client):
        if name in {"watch", "wait", "download_artefact", "close", "with_headers", "with_grants",
                    "from_profile", "logout", "health"}:  # fmt: skip
            continue
        arguments = {
            each.name: VALUES.get(each.name, "words")
            for each in inspect.signature(method).parameters.values()
            if each.name not in SKIPPED | {"settings", "allow_http"}
        }
        if name in {"login", "change_password"}:
            arguments |= {"url": "http://127.0.0.1:1", "settings": settings}
        before = len(recorder.requests)
        try:
            answer = method(**arguments)
            if inspect.isgenerator(answer):
                next(answer, None)
        except ClientError:
            pass
        assert len(recorder.requests) == before + 1, name
        found[name] = recorder.requests[-1]
    return found


def test_every_operation_has_a_method_of_its_name(operations: Any, sent: Any) -> None:
    names = {name for name, _ in methods(Client("http://127.0.0.1:1", api_key="pf_x"))}

    assert set(operations) - names - set(BY_OTHER_MEANS) <= HEALTH


HEALTH: Final = frozenset({"health", "health_live", "health_ready", "metrics", "live", "ready"})


def test_every_method_asks_where_the_service_listens(operations: Any, sent: Any) -> None:
    wrong = {}
    for name, request in sent.items():
        if name not in operations:
            continue
        method, path, _ = operations[name]
        pattern = re.sub(r"\\\{account:path\\\}|\\\{account\\\}", ".+", re.escape(path))
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", pattern)
        if request.method != method or not re.fullmatch(pattern, request.url.path):
            wrong[name] = (request.method, request.url.path, method, path)

    assert not wrong
    assert len([name for name in sent if name in operations]) > 60


def test_what_is_asked_by_query_is_documented(operations: Any, sent: Any) -> None:
    wrong = {}
    for name, request in sent.items():
        if name not in operations:
            continue
        parameters = operations[name][2].get("parameters", ())
        known = {each["name"] for each in parameters if each["in"] == "query"}
        if not set(request.url.params.keys()) <= known:
            wrong[name] = set(request.url.params.keys()) - known

    assert not wrong


def test_what_is_sent_is_a_field_of_the_documented_body(operations: Any, sent: Any) -> None:
    wrong = {}
    for name, request in sent.items():
        if name not in operations or not request.content:
            continue
        if request.headers["content-type"] == "application/octet-stream":
            continue  # a file, as it is
        content = operations[name][2].get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema", {})
        body = set(json.loads(request.content))
        properties, required = set(schema.get("properties", ())), set(schema.get("required", ()))
        is_open = not properties and schema.get("type") == "object"
        if not is_open and not (required <= body <= properties):
            wrong[name] = {"unknown": body - properties, "missing": required - body}

    assert not wrong


def test_an_idempotency_key_is_sent_exactly_where_it_is_taken(operations: Any, sent: Any) -> None:
    questions = {
        "protect", "protect_batch", "explain_redactions", "generate", "verify_certificate",
        "find_data_subject_requests",
    }  # fmt: skip
    wrong = {}
    for name, request in sent.items():
        if name not in operations or request.method != "POST" or name in questions:
            continue
        takes = any(
            each["name"].lower() == "idempotency-key"
            for each in operations[name][2].get("parameters", ())
        )
        if takes != ("idempotency-key" in request.headers):
            wrong[name] = f"taken: {takes}"

    assert not wrong


def test_credentials_go_with_everything_but_what_needs_none(operations: Any, sent: Any) -> None:
    anonymous = {name for name, request in sent.items() if "authorization" not in request.headers}

    assert anonymous == {"login", "change_password"}
