"""The documented endpoints, over the file of a guard that really ran."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from pipeline_guard.app.application import create_app
from pipeline_guard.app.exposition import TABLE
from pipeline_guard.app.tokens import READ, WRITE, Tokens
from pipeline_guard.app.views import StateView
from pipeline_guard.config import GuardConfig, HttpSettings, StoreSettings
from pipeline_guard.errors import ConfigurationError
from pipeline_guard.guard import SelfHealingPipelineGuard
from pipeline_guard.metrics_store import MetricsCollector
from pipeline_guard.model import HealthStatus
from privacy_runtime.secret import Secret
from privacy_runtime.testing import ManualClock

KEY = "a-secret-of-this-test-and-of-nobody-else-in-the-whole-wide-world"


def looked_at(path: Path, health: HealthStatus) -> None:
    """Let a guard look at one component until it has made up its mind."""
    guard = SelfHealingPipelineGuard(config=GuardConfig(store=StoreSettings(path=path)))
    guard._add_custom_health_check("storage", "disk", lambda: health, 0.02)

    async def watched() -> None:
        await guard.start_monitoring()
        for _ in range(500):
            await asyncio.sleep(0.02)
            if guard.get_system_status()["overall_health"] == health.value:
                break
        guard.stop_monitoring()
        await guard.wait_stopped()

    asyncio.run(watched())


@pytest.fixture(scope="module")
def ill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ill") / "guard.db"
    looked_at(path, HealthStatus.CRITICAL)
    return path


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("well") / "guard.db"
    looked_at(path, HealthStatus.HEALTHY)
    return path


class Monitoring(StateView):
    """As while the guard runs: the one of these tests has stopped."""

    def status(self) -> dict[str, Any]:
        return super().status() | {"is_silent": False}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime.now(UTC))  # noqa: TID251 -- beside a guard that really ran


@pytest.fixture
def tokens() -> Tokens:
    return Tokens(HttpSettings(jwt_key=Secret(KEY)))


def headers(tokens: Tokens, clock: ManualClock, *scopes: str) -> dict[str, str]:
    at = clock.now()
    token = tokens.issue("grafana", frozenset(scopes or {READ}), at, timedelta(hours=1))
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def client(ill: Path, tmp_path: Path, clock: ManualClock, tokens: Tokens) -> Iterator[TestClient]:
    with MetricsCollector(tmp_path / "metrics.db", clock=clock) as collector:
        app = create_app(Monitoring(ill, clock), collector, tokens, clock=clock)
        with TestClient(app) as made:
            yield made


def served(state: StateView, tmp_path: Path, clock: ManualClock, tokens: Tokens) -> TestClient:
    collector = MetricsCollector(tmp_path / "other.db", clock=clock)
    return TestClient(create_app(state, collector, tokens, clock=clock))


def test_health_is_503_when_critical_and_asks_for_no_token(client: TestClient) -> None:
    answer = client.get("/health")

    assert answer.status_code == 503
    assert answer.json()["status"] == "critical"
    assert answer.json()["components"] == {"storage": "critical"}
    assert answer.json()["timestamp"].endswith("Z")


def test_health_is_200_when_well(
    well: Path, tmp_path: Path, clock: ManualClock, tokens: Tokens
) -> None:
    answer = served(Monitoring(well, clock), tmp_path, clock, tokens).get("/health")

    assert (answer.status_code, answer.json()["status"]) == (200, "healthy")


def test_a_guard_that_is_silent_is_not_well(
    well: Path, tmp_path: Path, clock: ManualClock, tokens: Tokens
) -> None:
    client = served(StateView(well, clock), tmp_path, clock, tokens)
    clock.advance(3600)

    assert client.get("/health").status_code == 503
    assert client.get("/health/ready").status_code == 503
    assert client.get("/health/live").status_code == 200
    assert "last heard of" in client.get("/health").json()["detail"]


def test_where_no_guard_ever_ran_nothing_is_well(
    tmp_path: Path, clock: ManualClock, tokens: Tokens
) -> None:
    client = served(StateView(tmp_path / "none.db", clock), tmp_path, clock, tokens)

    assert client.get("/health").status_code == 503
    scraped = client.get("/metrics", headers=headers(tokens, clock))
    assert "pipeline_guard_up 0.0" in scraped.text
    answer = client.get("/api/v1/status", headers=headers(tokens, clock))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    "path", ["/metrics", "/api/v1/metrics", "/api/v1/status", "/api/v1/alerts"]
)
def test_everything_else_asks_for_a_token(client: TestClient, path: str) -> None:
    answer = client.get(path)

    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "Unauthenticated"
    assert answer.json()["error"]["timestamp"].endswith("Z")


def test_status_and_alerts_say_what_is_wrong_since_when(
    client: TestClient, tokens: Tokens, clock: ManualClock
) -> None:
    mine = headers(tokens, clock)
    [alert] = client.get("/api/v1/alerts", headers=mine).json()["alerts"]
    status = client.get("/api/v1/status", headers=mine).json()

    assert (alert["component"], alert["severity"], alert["check"]) == (
        "storage",
        "critical",
        "disk",
    )
    assert datetime.fromisoformat(alert["since"]) <= datetime.fromisoformat(alert["timestamp"])
    assert not alert["resolved"]
    assert status["overall_health"] == "critical"
    assert status["alerts"][0]["id"] == alert["id"]


def test_what_is_scraped_is_prometheus_format_and_documented(
    client: TestClient, tokens: Tokens, clock: ManualClock
) -> None:
    answer = client.get("/metrics", headers=headers(tokens, clock))
    families = {each.name: each for each in text_string_to_metric_families(answer.text)}

    assert set(families) == {name.removesuffix("_total") for name in TABLE}
    health = {
        s.labels["status"]: s.value for s in families["pipeline_guard_component_health"].samples
    }
    assert health == {
        "critical": 1, "healthy": 0, "degraded": 0, "recovering": 0, "failed": 0
    }  # fmt: skip


def test_points_go_in_and_come_out(client: TestClient, tokens: Tokens, clock: ManualClock) -> None:
    both = headers(tokens, clock, READ, WRITE)
    points = [{"component": "training", "metric_name": "loss", "value": 0.5, "labels": {"r": "1"}}]

    assert client.post("/api/v1/metrics", json=points, headers=both).json() == {"recorded": 1}
    text = client.post(
        "/api/v1/metrics",
        content='queue_depth{component="router"} 7\n',
        headers=both | {"Content-Type": "text/plain"},
    )
    assert text.status_code == 202
    found = client.get("/api/v1/metrics?component=training&limit=100", headers=both).json()
    assert found["count"] == 1
    [point] = found["metrics"]
    assert (point["metric_name"], point["value"], point["labels"]) == ("loss", 0.5, {"r": "1"})
    assert datetime.fromisoformat(point["timestamp"]) == clock.now()


@pytest.mark.parametrize(
    "body",
    ['{"a": 1}', "[1]", '[{"component": "a", "metric_name": "b", "value": "x"}]', "[" * 9999],
)
def test_a_body_that_is_none_is_refused_whole(
    client: TestClient, tokens: Tokens, clock: ManualClock, body: str
) -> None:
    both = headers(tokens, clock, READ, WRITE) | {"Content-Type": "application/json"}
    answer = client.post("/api/v1/metrics", content=body, headers=both)

    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["type"] == "ConfigurationError"
    assert "constraint" in error["details"]
    assert client.get("/api/v1/metrics", headers=both).json()["count"] == 0


def test_reading_does_not_allow_writing(
    client: TestClient, tokens: Tokens, clock: ManualClock
) -> None:
    answer = client.post("/api/v1/metrics", json=[], headers=headers(tokens, clock))

    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "NotPermitted")


def test_rates_are_the_documented_ones(
    client: TestClient, tokens: Tokens, clock: ManualClock
) -> None:
    mine = headers(tokens, clock)
    for path, most in (("/api/v1/status", 100), ("/health", 300)):
        answers = [client.get(path, headers=mine).status_code for _ in range(most + 1)]
        assert answers[most] == 429
        assert 429 not in answers[:most]
    refused = client.get("/api/v1/alerts", headers=mine)
    assert int(refused.headers["retry-after"]) > 0
    assert client.get("/metrics", headers=mine).status_code == 200


def test_problem_json_where_it_is_asked_for(client: TestClient) -> None:
    answer = client.get("/api/v1/status", headers={"Accept": "application/problem+json"})

    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].startswith("urn:pipeline-guard:problem:")


def test_events_can_be_read_again_from_any_of_them(ill: Path, clock: ManualClock) -> None:
    state = StateView(ill, clock)
    everything = state.events(0)

    assert [seq for seq, _ in everything] == list(range(1, state.newest_event() + 1))
    assert {"started", "opened"} <= {body["kind"] for _, body in everything}
    assert state.events(everything[0][0]) == everything[1:]
    assert sum(state.counts().values()) == len(everything)


def forged(claims: dict[str, Any], key: Any = KEY, algorithm: str = "HS256") -> dict[str, str]:
    return {"Authorization": "Bearer " + jwt.encode(claims, key, algorithm=algorithm)}


def test_tokens_that_do_not_count(client: TestClient, clock: ManualClock) -> None:
    now = clock.now()
    good = {"sub": "a", "scope": READ, "exp": now + timedelta(hours=1)}
    bad = [
        forged(good | {"exp": now - timedelta(minutes=5)}),
        forged({k: v for k, v in good.items() if k != "exp"}),
        forged({k: v for k, v in good.items() if k != "sub"}),
        forged(good, key="another-secret-that-is-just-as-long-as-it"),
        forged(good, key=KEY, algorithm="HS512"),
        forged(good, key=None, algorithm="none"),
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer " + "x" * 5000},
    ]

    assert client.get("/api/v1/status", headers=forged(good)).status_code == 200
    answers = [client.get("/api/v1/status", headers=each).status_code for each in bad]
    assert answers == [401] * len(bad)


def test_a_public_key_does_not_become_a_shared_secret(tmp_path: Path, clock: ManualClock) -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(pem)
    tokens = Tokens(HttpSettings(jwt_public_key=tmp_path / "key.pem", jwt_audience="guard"))
    claims = {"sub": "a", "scope": READ, "aud": "guard", "exp": clock.now() + timedelta(hours=1)}

    assert tokens.caller(jwt.encode(claims, private, algorithm="EdDSA")).subject == "a"
    header = jwt.utils.base64url_encode(json.dumps({"alg": "HS256"}).encode())
    import hashlib
    import hmac

    body = dict(claims, exp=claims["exp"].timestamp())
    signed = header + b"." + jwt.utils.base64url_encode(json.dumps(body).encode())
    digest = hmac.new(pem, signed, hashlib.sha256).digest()
    confused = (signed + b"." + jwt.utils.base64url_encode(digest)).decode()
    other = jwt.encode(dict(claims, aud="router"), private, algorithm="EdDSA")
    for token in (confused, other):
        with pytest.raises(Exception, match="does not count"):
            tokens.caller(token)


@pytest.mark.parametrize(
    "settings",
    [
        HttpSettings(jwt_key=Secret("short")),
        HttpSettings(jwt_key=Secret(KEY), jwt_public_key=Path("key.pem")),
        HttpSettings(jwt_public_key=Path("absent.pem")),
    ],
)
def test_keys_that_are_none_are_refused_at_the_start(settings: HttpSettings) -> None:
    with pytest.raises(ConfigurationError, match="was not started"):
        Tokens(settings)


def test_without_a_key_nobody_gets_in(ill: Path, tmp_path: Path, clock: ManualClock) -> None:
    client = served(StateView(ill, clock), tmp_path, clock, Tokens(HttpSettings()))

    assert client.get("/health/live").status_code == 200
    answer = client.get("/api/v1/status", headers=forged({"sub": "a"}))
    assert answer.status_code == 401


def test_tokens_are_made_for_known_scopes_and_at_most_a_year(
    tokens: Tokens, clock: ManualClock
) -> None:
    for scopes, lasts in ((frozenset(), 1), (frozenset({"root"}), 1), (frozenset({READ}), 400)):
        with pytest.raises(ConfigurationError):
            tokens.issue("a", scopes, clock.now(), timedelta(days=lasts))
    with pytest.raises(ConfigurationError):
        Tokens(replace(HttpSettings())).issue(
            "a", frozenset({READ}), clock.now(), timedelta(days=1)
        )
