"""Ready means that it can work; what is seen of a request is its template, never its path."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from starlette.responses import Response, StreamingResponse
from starlette.testclient import TestClient

from privacy_finetuner.api.health import (
    FAILED,
    OK,
    Check,
    CheckFailed,
    Checks,
    require_redis,
    require_room,
    router,
)
from privacy_finetuner.api.observation import PREFIX, UNMATCHED, Observed
from privacy_runtime import logs
from privacy_runtime.identity import Role
from privacy_runtime.metrics import Audience, Metrics, table
from privacy_runtime.testing import ManualClock
from privacy_runtime.world import SystemClock


def passing() -> None:
    """Pass."""


def failing() -> None:
    raise CheckFailed("the password is hunter2")


def client_of(*checks: Check, metrics: Metrics | None = None) -> TestClient:
    app = FastAPI()
    app.include_router(router(Checks(checks, clock=ManualClock(), metrics=metrics)))
    return TestClient(app)


def test_all_checks_passed_is_ready() -> None:
    metrics = Metrics(process=False)
    with client_of(Check(name="database", make=passing), metrics=metrics) as client:
        found = client.get("/health/ready")

    assert found.status_code == 200
    assert found.json()["status"] == "ready"
    assert found.json()["checks"] == {"database": OK}
    assert 'health_check_ok{check="database"} 1.0' in metrics.exposition()[0].decode()


@pytest.mark.parametrize("path", ["/health/ready", "/health"])
def test_one_failed_check_is_not_ready_and_says_no_more(path: str) -> None:
    checks = [Check(name="database", make=passing), Check(name="redis", make=failing)]
    with client_of(*checks) as client:
        found = client.get(path)

    assert found.status_code == 503
    assert found.headers["retry-after"] == "5"
    assert found.json()["checks"] == {"database": OK, "redis": FAILED}
    assert "hunter2" not in found.text


def test_living_needs_nothing() -> None:
    with client_of(Check(name="database", make=failing)) as client:
        found = client.get("/health/live")

    assert (found.status_code, found.json()) == (200, {"status": "alive"})


def test_a_check_that_hangs_fails_in_time_and_is_not_made_twice() -> None:
    release, calls = threading.Event(), []

    def hangs() -> None:
        calls.append(1)
        release.wait(20)

    clock = ManualClock()
    checks = Checks([Check(name="database", make=hangs, limit_s=0.01)], clock=clock)

    async def ask() -> list[str]:
        found = []
        for _ in range(3):
            found.append((await checks.found())["database"])
            clock.advance(2)
        release.set()
        await asyncio.sleep(0.05)
        found.append((await checks.found())["database"])
        return found

    assert asyncio.run(ask()) == [FAILED, FAILED, FAILED, OK]
    assert len(calls) == 2


def test_checks_are_made_once_a_second_however_often_somebody_asks() -> None:
    calls: list[int] = []
    clock = ManualClock()
    checks = Checks([Check(name="database", make=lambda: calls.append(1))], clock=clock)

    async def ask() -> None:
        await asyncio.gather(*(checks.found() for _ in range(20)))
        clock.advance(0.9)
        await checks.found()
        clock.advance(0.2)
        await checks.found()

    asyncio.run(ask())
    assert len(calls) == 2


def test_a_folder_that_takes_no_writes_is_not_ready(tmp_path: Path) -> None:
    require_room(tmp_path)

    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="No such file"):
        require_room(tmp_path / "gone")


def test_a_redis_that_is_away_is_not_ready() -> None:
    redis = pytest.importorskip("redis")

    with pytest.raises(redis.RedisError):
        require_redis("redis://127.0.0.1:1/0")


async def _item(name: str) -> Response:
    if name == "boom":
        raise RuntimeError("the patient complains")
    return Response("x", status_code=403 if name == "no" else 200)


async def _stream() -> Response:
    async def lines() -> Any:
        yield "data: x\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


def watched(metrics: Metrics) -> Observed:
    app = FastAPI()
    app.add_api_route("/items/{name}", _item, response_model=None)
    app.add_api_route("/events", _stream, response_model=None)
    return Observed(app, metrics=metrics, clock=SystemClock())


def ask(metrics: Metrics, *paths: str) -> list[dict[str, Any]]:
    """Send requests, and return the log lines that they made."""
    stream = StringIO()
    with logs.install(logs.LogOptions(on_terminal=False), stream=stream):

        async def send() -> None:
            transport = httpx2.ASGITransport(watched(metrics), raise_app_exceptions=False)
            async with httpx2.AsyncClient(transport=transport, base_url="http://t") as client:
                for path in paths:
                    await client.get(path)

        asyncio.run(send())
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_request_is_seen_by_its_template() -> None:
    metrics = Metrics(process=False)
    lines = ask(metrics, "/items/jane.doe", "/items/no?q=jane.doe", "/jane.doe")

    text = metrics.exposition(Audience.OPERATOR)[0].decode()
    assert "jane" not in text
    assert "jane" not in json.dumps(lines)
    assert 'http_requests_total{method="GET",route="/items/{name}",status="2xx"} 1.0' in text
    assert 'http_refused_total{status="403"} 1.0' in text
    assert [line["route"] for line in lines] == ["/items/{name}", "/items/{name}", UNMATCHED]
    assert [line["status"] for line in lines] == [200, 403, 404]
    assert "privacy_finetuner_http_requests_open 0.0" in text


def test_an_error_counts_as_one_and_its_words_stay_inside() -> None:
    metrics = Metrics(process=False)
    lines = ask(metrics, "/items/boom")

    assert 'status="5xx"} 1.0' in metrics.exposition()[0].decode()
    assert [line["status"] for line in lines if line["event"] == "request"] == [500]
    assert "patient" not in json.dumps(lines)


def test_a_stream_is_followed_not_timed() -> None:
    metrics = Metrics(process=False)
    ask(metrics, "/events")

    text = metrics.exposition()[0].decode()
    assert 'event_streams_open{transport="sse"} 0.0' in text
    assert 'route="/events"' not in text


def test_the_routes_of_the_application_are_whole(house: Any) -> None:
    headers = house.member(Role.TRAINER).headers
    client = TestClient(house.app, base_url="http://testserver")
    assert client.get(f"{PREFIX}/models", headers=headers).status_code == 200
    figures = client.get("/metrics", headers=headers)
    refused = client.get("/metrics", headers=house.member(Role.VIEWER).headers)
    assert (figures.status_code, refused.status_code) == (200, 403)
    assert "ledger_epsilon_spent{" not in figures.text
    text = house.service.metrics.exposition()[0].decode()

    assert f'route="{PREFIX}/models"' in text
    assert 'route="/models"' not in text


def test_every_refusal_that_is_counted_is_a_status() -> None:
    (label,) = table.HTTP_REFUSED.labels
    kinds: list[Callable[[str], bool]] = [str.isdigit, lambda text: len(text) == 3]

    assert all(kind(value) for value in label.values for kind in kinds)
