"""Every error is one envelope, says every fault, and nothing of the inside or of what was sent."""

from __future__ import annotations

import logging
from typing import Any

import pytest

pytestmark = pytest.mark.anyio
PROBLEM = "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("DELETE", "/me", 405, "method_not_allowed"),
        ("GET", "/me", 401, "unauthenticated"),
        ("GET", "/raise/unexpected", 500, "internal_error"),
        ("GET", "/raise/spilled", 409, "spilled"),
        ("GET", "/raise/gone", 503, "identity_store_unavailable"),
        ("GET", "/raise/database", 503, "store_unavailable"),
        ("GET", "/raise/full", 507, "storage_full"),
        ("GET", "/raise/missing", 404, "not_found"),
        ("GET", "/list?limit=0", 422, "invalid_request"),
        ("GET", "/list?cursor=1.zzz", 422, "invalid_request"),
    ],
)
@pytest.mark.parametrize("accept", ["application/json", PROBLEM])
async def test_one_envelope_for_every_error(
    house: Any, method: str, path: str, status: int, code: str, accept: str
) -> None:
    async with house.client() as client:
        answer = await client.request(method, path, headers={"Accept": accept})
    body = answer.json()
    request_id = answer.headers["x-request-id"]
    assert answer.status_code == status
    if accept == PROBLEM:
        assert answer.headers["content-type"] == PROBLEM
        assert (body["status"], body["code"], body["request_id"]) == (status, code, request_id)
        assert {"type", "title", "detail", "instance"} <= set(body)
    else:
        assert set(body) == {"error"}
        assert set(body["error"]) == {"code", "message", "details", "request_id"}
        assert (body["error"]["code"], body["error"]["request_id"]) == (code, request_id)
    assert answer.headers["cache-control"] == "no-store"
    assert ("retry-after" in answer.headers) == (status in (503, 507))
    assert ("www-authenticate" in answer.headers) == (status == 401)


@pytest.mark.parametrize("what", ["unexpected", "spilled", "gone", "database", "full"])
async def test_nothing_of_the_inside_leaves(
    house: Any, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with house.client() as client:
            answer = await client.get(f"/raise/{what}")
    for word in ("Quillfeather", "inside", "hunter2", "private", "SELECT", "identity.db", "Trace"):
        assert word not in answer.text
    assert bool(caplog.records) == (answer.status_code >= 500)


async def test_every_fault_is_listed_with_its_path_and_without_its_value(
    house: Any, as_bearer: Any
) -> None:
    secret = "Quillfeather-4711"  # noqa: S105
    body = {"count": secret, "names": ["a", 7], "epsilon": -3.25}
    async with house.client(headers=as_bearer(house.log_in("root@example"))) as client:
        answer = await client.post("/orders", json=body)
    faults = {one["path"]: one["message"] for one in answer.json()["error"]["details"]}
    assert answer.status_code == 422
    assert set(faults) == {"body.count", "body.names[1]", "body.epsilon"}
    assert faults["body.epsilon"] == "should be more than 0"
    assert secret not in answer.text
    assert "3.25" not in answer.text
    assert house.done == []


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"count": ', "application/json", 422),
        (b"\xff\xfe\x00", "application/json", 400),
        (b'{"count": 1}', "text/plain", 415),
        (b"[" * 100_000, "application/json", 400),
        (b'{"count": 1e999}', "application/json", 422),
        (b'{"count": NaN}', "application/json", 422),
        (b"", "application/json", 422),
    ],
)
async def test_bodies_that_are_none(
    house: Any, as_bearer: Any, content: bytes, kind: str, status: int
) -> None:
    headers = as_bearer(house.log_in("root@example")) | {"content-type": kind}
    async with house.client(headers=headers) as client:
        answer = await client.post("/orders", content=content)
    assert answer.status_code == status
    codes = {400: "bad_request", 415: "unsupported_media_type", 422: "invalid_request"}
    assert answer.json()["error"]["code"] == codes[status]
    assert house.done == []
    assert all(one["path"].startswith("body") for one in answer.json()["error"]["details"])


async def test_a_problem_is_only_for_who_accepts_it(house: Any) -> None:
    async with house.client() as client:
        for accept in ("*/*", "text/html", f"{PROBLEM};q=0", "application/*"):
            answer = await client.get("/nowhere", headers={"Accept": accept})
            assert answer.headers["content-type"] == "application/json"
        answer = await client.get("/nowhere", headers={"Accept": f"text/html, {PROBLEM};q=0.5"})
        assert answer.headers["content-type"] == PROBLEM


async def test_the_document_shows_the_envelope_and_the_ways_in(house: Any) -> None:
    async with house.client() as client:
        document = (await client.get("/openapi.json")).json()
    guarded = document["paths"]["/me"]["get"]
    assert guarded["security"] == [{"bearer": []}, {"apiKey": []}, {"session": []}]
    assert {"401", "403", "429", "500", "503"} <= set(guarded["responses"])
    reference = guarded["responses"]["401"]["content"]["application/json"]["schema"]["$ref"]
    assert reference == "#/components/schemas/Error"
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert "security" not in document["paths"]["/echo"]["post"]
