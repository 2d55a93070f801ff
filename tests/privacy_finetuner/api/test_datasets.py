"""Data sets that people send: checked, one's own, offered to jobs, and nothing left of the rest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient
from tests.privacy_finetuner.api.conftest import UNLIMITED, House, opened
from tests.privacy_finetuner.api.town import Town, town_in

from privacy_finetuner.api.app import create_app
from privacy_finetuner.service.errors import UploadConflict, UploadRefused, UploadTooLarge
from privacy_finetuner.service.record_check import check
from privacy_finetuner.service.uploads import Uploads
from privacy_runtime.http import RateLimits
from privacy_runtime.identity import Role
from privacy_runtime.testing import ManualClock

BASE = "/api/v1/datasets"
NOTES = b'{"text": "one"}\n{"text": "two"}\n'
JOB = {
    "model_name": "sample:model",
    "privacy_config": {"epsilon": 8.0, "delta": 1e-5},
    "training_config": {"epochs": 1, "batch_size": 8},
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Town, TestClient]]:
    with town_in(tmp_path_factory.mktemp("datasets") / "home") as made:
        made[0].service.uploads.checked = lambda path: None  # a process each; see `reading`
        yield made


@pytest.fixture
def house(running: tuple[Town, TestClient]) -> Town:
    running[0].move_on()
    return running[0]


@pytest.fixture
def client(running: tuple[Town, TestClient]) -> TestClient:
    return running[1]


@pytest.fixture
def reading(house: Town) -> Iterator[None]:
    """Files are read as records, in a process, as they are outside of tests."""
    desk = house.service.uploads
    desk.checked, before = check, desk.checked
    yield
    desk.checked = before


def send(client: TestClient, house: House, name: str, content: bytes, *, at: str = "north") -> Any:
    headers = house.member(Role.TRAINER, at=at).headers
    return client.put(f"{BASE}/{name}", content=content, headers=headers)


def names(client: TestClient, house: House, *, at: str = "north") -> set[str]:
    items = client.get(BASE, headers=house.member(Role.TRAINER, at=at).headers).json()["items"]
    return {item["name"] for item in items}


def folder(house: House, at: str = "north") -> Path:
    return house.service.homes.datasets / house.tenant(at) / "uploads"


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_what_was_sent_can_be_trained_on(house: Town, client: TestClient) -> None:
    sent = send(client, house, "notes.jsonl", NOTES)

    assert sent.status_code == 201
    assert sent.json()["name"] == "upload:notes.jsonl"
    assert sent.json()["sha256"] == hashlib.sha256(NOTES).hexdigest()
    assert "upload:notes.jsonl" in names(client, house)
    headers = house.member(Role.TRAINER).headers
    started = client.post(
        "/api/v1/training/start",
        json={**JOB, "dataset_path": "upload:notes.jsonl"},
        headers=headers,
    )
    assert started.status_code == 202
    stored = folder(house) / "notes.jsonl"
    assert (stored.read_bytes(), stored.stat().st_mode & 0o777) == (NOTES, 0o600)
    assert [each.name for each in folder(house).iterdir()] == ["notes.jsonl"]

    removal = client.delete(f"{BASE}/notes.jsonl", headers=headers)
    assert code(removal) == (409, "conflict")  # the job names it
    client.post(f"/api/v1/training/{started.json()['job_id']}/cancel", headers=headers)
    assert client.delete(f"{BASE}/notes.jsonl", headers=headers).status_code == 204
    assert "upload:notes.jsonl" not in names(client, house)
    assert code(client.delete(f"{BASE}/notes.jsonl", headers=headers)) == (404, "not_found")


def test_it_is_the_organisation_s_own(house: Town, client: TestClient) -> None:
    send(client, house, "notes.jsonl", NOTES)
    stranger = house.member(Role.TRAINER, at="south").headers
    of_north = f"{house.tenant('north')}/uploads/notes.jsonl"

    assert not any("notes.jsonl" in name for name in names(client, house, at="south"))
    for name in ("upload:notes.jsonl", of_north, f"upload:../../{of_north}", "upload:"):
        answer = client.post(
            "/api/v1/training/start", json={**JOB, "dataset_path": name}, headers=stranger
        )
        assert code(answer) == (422, "unknown_dataset")
    assert client.delete(f"{BASE}/notes.jsonl", headers=stranger).status_code == 404
    assert send(client, house, "notes.jsonl", b'{"text": "a"}\n', at="south").status_code == 201
    assert (folder(house) / "notes.jsonl").read_bytes() == NOTES


def test_a_name_keeps_its_records(house: Town, client: TestClient) -> None:
    first = send(client, house, "notes.jsonl", NOTES)

    assert send(client, house, "notes.jsonl", NOTES).json() == first.json()
    assert code(send(client, house, "notes.jsonl", b'{"text": "x"}\n')) == (409, "conflict")
    assert (folder(house) / "notes.jsonl").read_bytes() == NOTES


@pytest.mark.parametrize(
    "name", ["notes.exe", "notes", ".jsonl", "no%20tes.csv", "..%2F..%2Fa.csv", "a" * 99 + ".csv"]
)
def test_names_that_are_no_names_of_records(house: Town, client: TestClient, name: str) -> None:
    answer = send(client, house, name, NOTES)

    assert answer.status_code in (404, 422)
    assert not folder(house).exists() or not list(folder(house).iterdir())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b""),
        ("a.jsonl", b'{"text": "one"}\nnot json, secret-4711\n'),
        ("a.json", b'[{"text": 1}'),
        ("a.csv", b'text\n"unclosed'),
        ("a.parquet", b"PAR1 and no more PAR1"),
        ("a.txt", b"\xff\xfe\x00"),
    ],
)
@pytest.mark.usefixtures("reading")
def test_what_is_no_records_is_refused_without_quoting_it(
    house: Town, client: TestClient, name: str, content: bytes
) -> None:
    answer = send(client, house, name, content)

    assert code(answer) == (422, "upload_refused")
    assert "4711" not in answer.text
    assert ".arriving" not in answer.text
    assert list(folder(house).iterdir()) == []


@pytest.mark.usefixtures("reading")
def test_parquet_is_read_as_well(house: Town, client: TestClient, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["one", "two"]}), tmp_path / "a.parquet")
    sent = send(client, house, "a.parquet", (tmp_path / "a.parquet").read_bytes())

    assert sent.status_code == 201


def test_records_that_were_set_aside_are_released_with_a_reason(
    house: Town, client: TestClient
) -> None:
    send(client, house, "notes.jsonl", NOTES)
    tenant, officer = house.tenant("north"), house.member(Role.PRIVACY_OFFICER).headers
    digest = hashlib.sha256(NOTES).hexdigest()
    house.service.desks.quarantine.set_aside(tenant, digest, by="service", reason="an alert")
    start = {**JOB, "dataset_path": "upload:notes.jsonl"}
    trainer = house.member(Role.TRAINER).headers

    assert client.post("/api/v1/training/start", json=start, headers=trainer).status_code == 409
    body = {"dataset_path": "upload:notes.jsonl", "reason": "looked at it"}
    assert client.post(f"{BASE}/release", json=body, headers=officer).status_code == 200
    assert client.post("/api/v1/training/start", json=start, headers=trainer).status_code == 202


# The limits, at the desk itself.


def uploads(house: House, **changes: Any) -> Uploads:
    service = house.service
    limits = {"most_bytes": 100, "most_in_all_bytes": 250, "checked": lambda path: None}
    return Uploads(
        service.catalogue,
        service.jobs,
        service.desks.trail,
        clock=service.clock,
        entropy=service.entropy,
        **{**limits, **changes},
    )


def received(desk: Uploads, tenant: str, name: str, content: bytes) -> Any:
    arrival = desk.begin(name, tenant=tenant, by="u_1")
    arrival.append(content)
    return arrival.finish()


def test_limits_of_one_and_of_all(own_house: House) -> None:
    tenant, desk = own_house.tenant("north"), uploads(own_house)

    with pytest.raises(UploadTooLarge):
        desk.begin("a.txt", tenant=tenant, by="u_1", size_bytes=101)
    arrival = desk.begin("a.txt", tenant=tenant, by="u_1")
    with pytest.raises(UploadTooLarge):
        arrival.append(b"x" * 101)
    arrival.discard()
    received(desk, tenant, "a.txt", b"x" * 100)
    received(desk, tenant, "b.txt", b"y" * 100)
    with pytest.raises(UploadTooLarge):
        received(desk, tenant, "c.txt", b"z" * 60)
    assert sorted(path.name for path in folder(own_house).iterdir()) == ["a.txt", "b.txt"]
    with pytest.raises(UploadRefused):
        uploads(own_house, most_bytes=0).begin("a.txt", tenant=tenant, by="u_1")


def test_what_two_send_at_once_under_one_name_is_one_of_the_two(own_house: House) -> None:
    tenant, desk = own_house.tenant("north"), uploads(own_house)
    one, two = (desk.begin("a.txt", tenant=tenant, by="u_1") for _ in range(2))
    one.append(b"one")
    two.append(b"two")

    one.finish()
    with pytest.raises(UploadConflict):
        two.finish()
    assert [(p.name, p.read_bytes()) for p in folder(own_house).iterdir()] == [("a.txt", b"one")]


def test_what_a_killed_server_left_is_swept_away(own_house: House) -> None:
    tenant, desk = own_house.tenant("north"), uploads(own_house)
    left_open = desk.begin("a.txt", tenant=tenant, by="u_1")
    (left,) = folder(own_house).iterdir()
    assert own_house.service.catalogue.known_uploads(tenant=tenant) == []
    long_ago = own_house.clock.now().timestamp() - 90_000
    os.utime(left, (long_ago, long_ago))

    desk.begin("b.txt", tenant=tenant, by="u_1").discard()

    assert list(folder(own_house).iterdir()) == []
    left_open.discard()


def test_a_body_without_credentials_is_not_kept(own_house: House) -> None:
    with TestClient(own_house.app) as client:
        assert client.put(f"{BASE}/a.jsonl", content=NOTES).status_code == 401
    assert list(own_house.service.homes.datasets.iterdir()) == []


def test_a_body_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    clock = ManualClock()
    service = opened(tmp_path / "home", clock)
    service.uploads.most_bytes = 1000
    house = House(service, create_app(service, limits=RateLimits(clock, rates=UNLIMITED)), clock)
    with TestClient(house.app) as client:
        assert code(send(client, house, "a.jsonl", b"x" * 1001)) == (413, "upload_too_large")
        headers = house.member(Role.TRAINER).headers | {"content-length": str(10**9)}
        answer = client.put(f"{BASE}/a.jsonl", content=b"x", headers=headers)
        assert answer.status_code == 413
    service.close()
