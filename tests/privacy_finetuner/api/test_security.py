"""Security over HTTP: alerts from logins that really failed and budgets that are really spent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.privacy_finetuner.api.town import Town, town_in

from privacy_core.dp_events import Gaussian
from privacy_core.guarantee import Guarantee
from privacy_finetuner.api.app import create_app
from privacy_finetuner.environment import EnvironmentConfig
from privacy_finetuner.governance.accounts import scope_of
from privacy_finetuner.operations.quarantine import digest_of
from privacy_finetuner.service import Service
from privacy_runtime.budget_store import Signature, charge_of
from privacy_runtime.identity import LoginDelayed, LoginRefused, Role

BASE = "/api/v1/security"
DOCUMENTED_STATUS = {
    "monitoring_active",
    "threat_level",
    "active_alerts",
    "threats_detected_24h",
    "last_scan",
}
DOCUMENTED_ALERT = {
    "alert_id",
    "threat_type",
    "severity",
    "description",
    "timestamp",
    "recommended_actions",
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Town, TestClient]]:
    with town_in(tmp_path_factory.mktemp("security") / "home") as made:
        yield made


@pytest.fixture
def house(running: tuple[Town, TestClient]) -> Town:
    running[0].move_on()
    return running[0]


@pytest.fixture
def client(running: tuple[Town, TestClient]) -> TestClient:
    return running[1]


def look(house: Town, client: TestClient, path: str = "alerts", at: str = "north") -> Any:
    house.clock.advance(2)
    return client.get(f"{BASE}/{path}", headers=house.member(Role.ADMIN, at=at).headers).json()


def guess(house: Town, times: int, name: str, host: int = 0) -> None:
    source = f"203.0.{house.here}.{host}"
    for _ in range(times):
        with pytest.raises((LoginRefused, LoginDelayed)):
            house.service.identity.logins.log_in(name, "wrong password 9", source=source)


def test_a_quiet_organisation_has_the_documented_status(house: Town, client: TestClient) -> None:
    status = look(house, client, "status")

    assert set(status) == DOCUMENTED_STATUS
    assert status["threat_level"] == "low"
    assert status["active_alerts"] == 0
    assert status["monitoring_active"] is False
    assert status["last_scan"] is not None


def test_guessing_at_a_password_is_seen(house: Town, client: TestClient) -> None:
    victim = house.member(Role.TRAINER)
    guess(house, 6, victim.name)

    listed = look(house, client)
    (alert,) = listed["alerts"]
    assert listed["total_count"] == 1
    assert set(alert) >= DOCUMENTED_ALERT
    assert (alert["rule"], alert["threat_type"]) == ("account_guessing", "credential_attack")
    assert alert["severity"] == "high"  # the sixth was locked out
    trail = client.get("/api/v1/audit-trail", headers=house.member(Role.ADMIN).headers).json()
    numbers = {each["seq"]: each["type"] for each in trail["items"]}
    assert {numbers[each["seq"]] for each in alert["evidence"]} == {"identity.login_refused"}
    status = look(house, client, "status")
    assert (status["threat_level"], status["active_alerts"]) == ("high", 1)
    assert status["threats_detected_24h"] == 1


def test_looking_again_finds_the_same_alert(house: Town, client: TestClient) -> None:
    guess(house, 6, house.member(Role.TRAINER).name)
    first, again = look(house, client), look(house, client)

    assert [each["alert_id"] for each in first["alerts"]] == [
        each["alert_id"] for each in again["alerts"]
    ]


def test_another_organisation_sees_nothing_of_it(house: Town, client: TestClient) -> None:
    guess(house, 6, house.member(Role.TRAINER).name)
    (alert,) = look(house, client)["alerts"]

    assert look(house, client, at="south")["alerts"] == []
    path = f"{BASE}/alerts/{alert['alert_id']}/acknowledge"
    answer = client.post(
        path, json={"reason": "hm"}, headers=house.member(Role.ADMIN, at="south").headers
    )
    assert answer.status_code == 404


def test_a_person_closes_an_alert_with_a_reason(house: Town, client: TestClient) -> None:
    guess(house, 6, house.member(Role.TRAINER).name)
    (alert,) = look(house, client)["alerts"]
    path = f"{BASE}/alerts/{alert['alert_id']}/acknowledge"
    admin = house.member(Role.ADMIN)

    assert client.post(path, json={"reason": ""}, headers=admin.headers).status_code == 422
    done = client.post(path, json={"reason": "they forgot"}, headers=admin.headers).json()
    assert (done["status"], done["closed_by"], done["closed_reason"]) == (
        "acknowledged",
        admin.id,
        "they forgot",
    )
    assert client.post(path, json={"reason": "again"}, headers=admin.headers).status_code == 409
    assert look(house, client)["alerts"] == []
    closed = look(house, client, "alerts?include_closed=true")["alerts"]
    assert [each["alert_id"] for each in closed] == [alert["alert_id"]]
    assert look(house, client, "status")["threat_level"] == "low"


def test_an_alert_nobody_looks_at_is_over_after_a_week(house: Town, client: TestClient) -> None:
    guess(house, 6, house.member(Role.TRAINER).name)
    look(house, client)
    house.clock.advance(8 * 86_400)
    house.service.desks.monitor.scan()

    (kept,) = house.service.desks.monitor.alerts(house.tenant("north"))
    assert (kept.status, kept.closed_by) == ("resolved", "service")


def test_a_spent_budget_is_an_alert_until_more_is_granted(house: Town, client: TestClient) -> None:
    ledger, scope = house.service.ledger, scope_of(house.tenant("north"), "notes/2026")
    signature = Signature("u_1", "vote")
    guarantee = Guarantee(epsilon=1.0, delta=1e-6)
    ledger.open_account(f"open:{scope}", scope, guarantee, signature=signature)
    assert look(house, client)["alerts"] == []
    key = f"big:{scope}"
    ledger.reserve(key, protection=(scope,), charge=charge_of(Gaussian(5.5)), ttl_s=60)
    ledger.commit(f"{key}:c", key)

    (alert,) = look(house, client)["alerts"]
    assert alert["threat_type"] == "privacy_budget_exhaustion"
    assert alert["evidence"][0]["account"] == "notes/2026"
    ledger.grant(f"more:{scope}", scope, epsilon=9.0, signature=signature)
    assert look(house, client)["alerts"] == []


def test_removing_a_second_factor_is_an_alert(house: Town, client: TestClient) -> None:
    officer = house.member(Role.PRIVACY_OFFICER)
    house.service.identity.factors.reset(house._operator(house._place("north")), officer.id)

    assert [each["rule"] for each in look(house, client)["alerts"]] == ["second_factor_reset"]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ANALYST, Role.TRAINER])
def test_others_may_not_look(house: Town, client: TestClient, role: Role) -> None:
    for path in ("status", "alerts"):
        answer = client.get(f"{BASE}/{path}", headers=house.member(role).headers)
        assert answer.status_code == 403


def test_alerts_come_in_pages_and_by_severity(house: Town, client: TestClient) -> None:
    for role in (Role.TRAINER, Role.ANALYST, Role.VIEWER):
        guess(house, 6, house.member(role).name, host=len(role))
    house.service.identity.factors.reset(
        house._operator(house._place("north")), house.member(Role.PRIVACY_OFFICER).id
    )

    whole = look(house, client)
    first = look(house, client, "alerts?limit=3")
    rest = look(house, client, f"alerts?limit=3&cursor={first['next_cursor']}")
    assert whole["total_count"] == 4
    assert [*first["alerts"], *rest["alerts"]] == whole["alerts"]
    assert look(house, client, "alerts?severity=high")["total_count"] == 3


def test_a_burst_of_looks_scans_once_a_second(house: Town, client: TestClient) -> None:
    before = look(house, client, "status")["last_scan"]
    headers = house.member(Role.ADMIN).headers
    house.clock.advance(0.5)

    assert client.get(f"{BASE}/status", headers=headers).json()["last_scan"] == before
    house.clock.advance(0.6)
    assert client.get(f"{BASE}/status", headers=headers).json()["last_scan"] > before


def test_asking_for_another_organisations_job_is_noted_and_seen(
    house: Town, client: TestClient
) -> None:
    job, stranger = house.job(at="south"), house.member(Role.TRAINER)
    foreign = [f"/api/v1/training/{job}", f"/api/v1/training/{job}/status"]
    nobodys = "/api/v1/training/job_000000000000000000000000zz"
    answers = [client.get(path, headers=stranger.headers) for path in [*foreign, *foreign, nobodys]]
    assert [each.status_code for each in answers] == [404] * 5
    assert len({each.json()["error"]["message"] for each in answers}) == 1

    (alert,) = look(house, client)["alerts"]
    assert (alert["rule"], alert["threat_type"]) == ("foreign_objects", "unauthorized_access")
    assert alert["evidence_count"] == 4
    assert look(house, client, at="south")["alerts"] == []  # whose it was is not said
    assert alert["responses"][0]["outcome"] == "would_have"


def test_an_object_that_nobody_has_is_a_typing_error(house: Town, client: TestClient) -> None:
    lost = house.member(Role.TRAINER)
    for n in range(6):
        client.get(f"/api/v1/training/job_{n:026d}", headers=lost.headers)

    assert look(house, client)["alerts"] == []


def test_asking_for_another_organisations_users_is_seen(house: Town, client: TestClient) -> None:
    victim, admin = house.member(Role.VIEWER, at="south"), house.member(Role.ADMIN)
    for _ in range(4):
        answer = client.get(f"/api/v1/users/{victim.id}", headers=admin.headers)
        assert answer.status_code in {404, 405}
        client.delete(f"/api/v1/users/{victim.id}/sessions", headers=admin.headers)

    rules = [each["rule"] for each in look(house, client)["alerts"]]
    assert rules == ["foreign_objects"]


def test_probing_a_model_is_counted_and_seen(house: Town, client: TestClient) -> None:
    analyst = house.member(Role.ANALYST)
    for n in range(30):
        body = {"model": "no/such/model", "prompt": f"The code of Ada Quill is {n:04d}"}
        client.post("/api/v1/generate", json=body, headers=analyst.headers)

    (alert,) = look(house, client)["alerts"]
    assert (alert["rule"], alert["threat_type"]) == ("canary_probing", "model_inversion")
    trail = client.get("/api/v1/audit-trail", headers=house.member(Role.ADMIN).headers)
    assert "Quill" not in trail.text
    assert "operations.questions" in trail.text


def test_a_restrained_user_is_told_to_wait(house: Town, client: TestClient) -> None:
    viewer = house.member(Role.VIEWER)
    house.service.desks.restraints.restrain(
        house.tenant("north"), viewer.id, by="u_1", reason="a drill"
    )
    answers = [client.get("/api/v1/training", headers=viewer.headers) for _ in range(8)]

    assert [each.status_code for each in answers] == [200] * 6 + [429] * 2
    house.clock.advance(1801)
    assert house.service.desks.restraints.most_of(viewer.id) is None


def test_a_restraint_is_lifted_by_a_person_with_a_reason(house: Town, client: TestClient) -> None:
    viewer, officer = house.member(Role.VIEWER), house.member(Role.PRIVACY_OFFICER)
    restraints, tenant = house.service.desks.restraints, house.tenant("north")
    restraints.restrain(tenant, viewer.id, by="service", reason="canary_probing: alert_1")
    restraints.restrain(tenant, officer.id, by="service", reason="canary_probing: alert_2")
    place, why = f"{BASE}/restraints", {"reason": "it was our own test"}

    held = client.get(place, headers=officer.headers).json()["restraints"]
    assert {each["user_id"] for each in held} == {viewer.id, officer.id}
    for role in (Role.VIEWER, Role.TRAINER):
        refused = client.post(
            f"{place}/{viewer.id}/lift", json=why, headers=house.member(role).headers
        )
        assert refused.status_code in {403, 429}
    own = client.post(f"{place}/{officer.id}/lift", json=why, headers=officer.headers)
    assert own.status_code == 409
    elsewhere = house.member(Role.ADMIN, at="south")
    away = client.post(f"{place}/{viewer.id}/lift", json=why, headers=elsewhere.headers)
    assert away.status_code == 404
    assert restraints.most_of(viewer.id) is not None

    admin = house.member(Role.ADMIN)
    for subject, status in ((viewer.id, 200), (viewer.id, 404), (officer.id, 200)):
        lifted = client.post(f"{place}/{subject}/lift", json=why, headers=admin.headers)
        assert lifted.status_code == status
    assert restraints.most_of(viewer.id) is None
    trail = client.get("/api/v1/audit-trail", headers=admin.headers).json()
    told = [each for each in trail["items"] if each["type"] == "security.restraint_lifted"]
    assert [each["body"]["subject"] for each in told] == [officer.id, viewer.id]


def test_records_that_are_set_aside_start_no_job(house: Town, client: TestClient) -> None:
    path = house.service.homes.datasets / "notes.jsonl"
    path.write_text('{"text": "a"}\n')
    tenant, trainer = house.tenant("north"), house.member(Role.TRAINER)
    quarantine = house.service.desks.quarantine
    sha256 = digest_of(path)
    quarantine.set_aside(tenant, sha256, by="u_1", reason="a drill")
    body = {"model_name": "sample:model", "dataset_path": "notes.jsonl"}

    def start() -> Any:
        return client.post("/api/v1/training/start", json=body, headers=trainer.headers)

    assert start().json()["error"]["code"] == "source_set_aside"
    assert start().status_code == 409
    quarantine.release(tenant, sha256, by="u_1", reason="it was meant")
    assert start().status_code == 202


def test_where_the_loop_runs_the_status_says_so(tmp_path: Path) -> None:
    config = EnvironmentConfig(environment="testing")
    assert config.security.enable_threat_detection
    with Service.open(config, home=tmp_path / "home") as service:
        with TestClient(create_app(service)):
            monitor, waiting = service.desks.monitor, threading.Event()
            for _ in range(200):
                if monitor.last_scan is not None:
                    break
                waiting.wait(0.05)
            assert monitor.is_running
            assert monitor.last_scan is not None
        assert not monitor.is_running
