"""The application as a whole: its errors, its databases gone, its disk full, its end."""

from __future__ import annotations

import errno
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.privacy_finetuner.api.conftest import House, opened

from privacy_finetuner.api.app import create_app, limits_of
from privacy_finetuner.jobs import JobStoreUnavailable
from privacy_runtime import logs
from privacy_runtime.http import HttpPolicy, Rate, RateLimits
from privacy_runtime.identity import Role
from privacy_runtime.logs import LogOptions
from privacy_runtime.testing import ManualClock

START = "/api/v1/training/start"
BODY = {"model_name": "sample:model", "dataset_path": "sample:records"}


class Broken:
    """A store that refuses."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        def refuse(*_: object, **__: object) -> Any:
            raise self.error

        return refuse


def test_an_error_has_one_form_and_another_on_request(house: House, client: TestClient) -> None:
    plain = client.get("/api/v1/auth/me")
    problem = client.get("/api/v1/auth/me", headers={"Accept": "application/problem+json"})

    assert set(plain.json()) == {"error"}
    assert set(plain.json()["error"]) == {"code", "message", "details", "request_id"}
    assert problem.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "instance", "code"} <= set(problem.json())


def test_a_database_that_is_gone_is_503_with_a_hint_and_nothing_is_lost(
    house: House, client: TestClient
) -> None:
    trainer, job_id = house.member(Role.TRAINER), house.job()
    jobs = house.service.jobs
    store, jobs.store = jobs.store, Broken(JobStoreUnavailable("jobs", reason="gone"))

    read = client.get(f"/api/v1/training/{job_id}", headers=trainer.headers)
    started = client.post(START, json=BODY, headers=trainer.headers)
    jobs.store = store
    listed = client.get("/api/v1/training", headers=trainer.headers).json()["items"]

    assert (read.status_code, started.status_code) == (503, 503)
    assert int(read.headers["retry-after"]) > 0
    assert "gone" not in read.text + started.text
    assert [job["job_id"] for job in listed] == [job_id]


def test_a_start_that_failed_can_be_sent_again_under_its_key(
    house: House, client: TestClient
) -> None:
    trainer = house.member(Role.TRAINER)
    headers = {**trainer.headers, "Idempotency-Key": "again-0001"}
    jobs = house.service.jobs
    store, jobs.store = jobs.store, Broken(JobStoreUnavailable("jobs", reason="gone"))
    failed = client.post(START, json=BODY, headers=headers)
    jobs.store = store

    done = client.post(START, json=BODY, headers=headers)

    assert (failed.status_code, done.status_code) == (503, 202)


def test_a_full_disk_is_507_and_nothing_is_queued(house: House, client: TestClient) -> None:
    trainer = house.member(Role.TRAINER)
    jobs = house.service.jobs
    store, jobs.store = jobs.store, Broken(OSError(errno.ENOSPC, "no room"))

    answer = client.post(START, json=BODY, headers=trainer.headers)
    jobs.store = store

    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "storage_full")
    assert jobs.find(trainer.tenant) == []


def test_an_error_of_ours_says_nothing_of_the_inside(own_house: House) -> None:
    house = own_house
    trainer, jobs = house.member(Role.TRAINER), house.service.jobs
    store, jobs.store = jobs.store, Broken(ZeroDivisionError("the secret inside"))

    with TestClient(house.app, raise_server_exceptions=False) as client:
        answer = client.get("/api/v1/training", headers=trainer.headers)
    jobs.store = store

    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    assert answer.json()["error"]["request_id"] in answer.headers["x-request-id"]


def test_identity_s_database_gone_is_503_too(own_house: House) -> None:
    house, client = own_house, TestClient(own_house.app)
    trainer = house.member(Role.TRAINER)
    house.service.identity.close()
    house.service.homes.root.joinpath("identity.db").rename(house.service.home / "moved.db")
    house.service.home.joinpath("identity.db").mkdir()

    answer = client.get("/api/v1/auth/me", headers=trainer.headers)

    assert answer.status_code == 503
    assert answer.headers["retry-after"]


def test_limits_are_counted_by_principal(tmp_path: Path) -> None:
    clock = ManualClock()
    service = opened(tmp_path / "home", clock)
    rates = {"reads": Rate("reads", 3)}
    app = create_app(service, limits=RateLimits(clock, rates=rates))
    house = House(service, app, clock)
    one, other = house.member(Role.TRAINER), house.member(Role.VIEWER)

    with TestClient(app) as client:
        statuses = [client.get("/api/v1/auth/me", headers=one.headers) for _ in range(4)]
        free = client.get("/api/v1/auth/me", headers=other.headers)
    service.close()

    assert [answer.status_code for answer in statuses] == [200, 200, 200, 429]
    assert int(statuses[3].headers["retry-after"]) > 0
    assert free.status_code == 200


def test_a_request_for_another_host_is_refused(client: TestClient) -> None:
    answer = client.get("/openapi.json", headers={"Host": "evil.example"})

    assert answer.status_code == 421


def test_what_redacts_reads_more_than_the_rest(house: House, client: TestClient) -> None:
    trainer = house.member(Role.TRAINER)
    large = b"x" * (2 * 1024 * 1024)
    headers = {**trainer.headers, "Content-Type": "application/json"}

    statuses = [
        client.post(path, content=large, headers=headers).status_code
        for path in (START, "/api/v1/protect")
    ]

    assert statuses == [413, 422]


def test_two_applications_in_one_process_share_nothing(tmp_path: Path) -> None:
    houses = []
    for name in ("one", "two"):
        clock = ManualClock()
        service = opened(tmp_path / name, clock)
        houses.append(House(service, create_app(service, policy=HttpPolicy()), clock))
    member = houses[0].member(Role.TRAINER)

    with TestClient(houses[1].app) as client:
        answer = client.get("/api/v1/auth/me", headers=member.headers)
    for house in houses:
        house.service.close()

    assert answer.status_code == 401


def test_the_pool_lives_as_long_as_the_application(tmp_path: Path) -> None:
    class Pool:
        size = 1

        def __init__(self) -> None:
            self.said: list[str] = []

        def start(self) -> None:
            self.said.append("start")

        def resize(self, count: int) -> None:
            self.said.append(f"resize {count}")

        def stop(self) -> None:
            self.said.append("stop")

    pool = Pool()
    service = opened(tmp_path / "home", ManualClock())

    with TestClient(create_app(service, pool=pool)):
        assert pool.said == ["start"]
    service.close()

    assert pool.said == ["start", "stop"]


def test_the_start_the_end_and_errors_are_in_the_audit_trail(tmp_path: Path) -> None:
    audited = logs.Audited()
    service = replace(opened(tmp_path / "home", ManualClock()), audited=audited)
    with logs.install(LogOptions(on_terminal=False), stream=io.StringIO(), audited=audited):
        with TestClient(create_app(service)):
            logs.logger("privacy_finetuner.tested").error("a disk is about to fail")
        entries = [each for each in service.desks.trail.since(0) if each.type == "log.line"]
        assert service.desks.trail.verify().is_intact
        service.close()

    assert [each.body["line"]["event"] for each in entries] == [
        "the service has started", "a disk is about to fail", "the service stops",
    ]  # fmt: skip


def test_limits_are_in_this_process_where_no_redis_is_configured(house: House) -> None:
    assert limits_of(house.service).state == "memory"


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v1/training/start/x/y"])
def test_what_is_not_there_is_404_in_the_envelope(client: TestClient, path: str) -> None:
    answer = client.get(path)

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
