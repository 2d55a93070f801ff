"""Training over HTTP: what is accepted, what is shown, and to whom."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.privacy_finetuner.api.conftest import House

from privacy_finetuner.api.shapes.training_request import PrivacyFields, TrainingFields
from privacy_finetuner.api.status_board import KEPT_S, StatusBoard
from privacy_finetuner.config import PrivacyConfig, TrainingConfig
from privacy_finetuner.jobs import EventKind, Job, JobState, UnknownJob
from privacy_finetuner.jobs.submission import OF_THE_SERVICE
from privacy_finetuner.options import TrainOptions
from privacy_runtime.identity import Role
from privacy_runtime.testing import ManualClock

START = "/api/v1/training/start"


def request(**changes: Any) -> dict[str, Any]:
    """The documented request, on what ships with the program."""
    body = {
        "model_name": "sample:model",
        "privacy_config": {"epsilon": 1.0, "delta": 1e-5, "max_grad_norm": 1.0},
        "training_config": {"epochs": 3, "batch_size": 16, "learning_rate": 3e-5},
        "dataset_path": "sample:records",
    }
    return body | changes


def paths(answer: Any) -> list[str]:
    """Where the faults of a refused request are."""
    assert answer.status_code == 422, answer.text
    return [fault["path"] for fault in answer.json()["error"]["details"]]


def test_a_job_is_started_and_its_status_has_the_documented_shape(
    house: House, client: TestClient
) -> None:
    trainer = house.member(Role.TRAINER)

    started = client.post(START, json=request(), headers=trainer.headers)
    job_id = started.json()["job_id"]
    status = client.get(f"/api/v1/training/{job_id}/status", headers=trainer.headers)

    assert started.status_code == 202
    assert started.json() == {"job_id": job_id, "status": "started", "estimated_completion": None}
    assert started.headers["location"] == f"/api/v1/training/{job_id}"
    assert status.json() == {
        "job_id": job_id,
        "status": "queued",
        "progress": 0.0,
        "current_epoch": 0,
        "privacy_spent": {"epsilon": 0.0, "delta": 0.0},
        "metrics": {"accuracy": None, "loss": None},
    }


def test_every_keyword_of_the_trainer_can_be_sent_or_is_left_out_on_purpose() -> None:
    privacy = {f.name for f in fields(PrivacyConfig)}
    options = {f.name for f in fields(TrainOptions)} | {f.name for f in fields(TrainingConfig)}
    targets = {"max_grad_norm", "noise_multiplier", "target_epsilon", "target_delta"}

    assert set(PrivacyFields.model_fields) == privacy
    assert set(TrainingFields.model_fields) == (options | targets) - set(OF_THE_SERVICE)


def test_what_is_left_out_is_as_the_environment_says(house: House, client: TestClient) -> None:
    trainer = house.member(Role.TRAINER)
    body = {"model_name": "sample:model", "dataset_path": "sample:records"}

    job_id = client.post(START, json=body, headers=trainer.headers).json()["job_id"]
    asked = client.get(f"/api/v1/training/{job_id}", headers=trainer.headers).json()["request"]

    privacy = house.service.config.privacy
    assert (asked["privacy"]["epsilon"], asked["privacy"]["delta"]) == (
        privacy.epsilon, privacy.delta,
    )  # fmt: skip
    assert asked["training"] == {}


@pytest.mark.parametrize(
    ("part", "key", "near"),
    [
        ("training_config", "epoch", "epochs"),
        ("training_config", "lora_rnak", "lora_rank"),
        ("privacy_config", "epsilom", "epsilon"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(
    house: House, client: TestClient, part: str, key: str, near: str
) -> None:
    trainer = house.member(Role.TRAINER)

    answer = client.post(START, json=request(**{part: {key: 3}}), headers=trainer.headers)

    assert paths(answer) == [f"body.{part}.{key}"]
    assert near in answer.json()["error"]["details"][0]["message"]


def test_every_fault_is_listed_with_its_path(house: House, client: TestClient) -> None:
    trainer = house.member(Role.TRAINER)
    body = request(
        privacy_config={"epsilon": -1, "delta": "1e-5"},
        training_config={"batch_size": True, "epochs": 0},
        priority=99,
    )

    answer = client.post(START, json=body, headers=trainer.headers)

    assert sorted(paths(answer)) == [
        "body.priority",
        "body.privacy_config.delta",
        "body.privacy_config.epsilon",
        "body.training_config.batch_size",
        "body.training_config.epochs",
    ]


def test_what_only_the_trainer_knows_is_refused_before_anything_is_queued(
    house: House, client: TestClient
) -> None:
    trainer = house.member(Role.TRAINER)
    body = request(training_config={"adapter": "head", "lora_rank": 4})

    answer = client.post(START, json=body, headers=trainer.headers)

    assert paths(answer) == ["body.training_config.lora_rank"]
    assert house.service.jobs.find(trainer.tenant) == []


@pytest.mark.parametrize(
    "place",
    [
        "/etc/passwd",
        "../../../../etc/passwd",
        "~/records.jsonl",
        "nothing.jsonl",
        "inside/../../journal.db",
        "link.jsonl",
        "linked/secret.jsonl",
        "folder",
        "sample:else",
        "https://example.org/records.jsonl",
        "notes.exe",
        "x" * 1025,
        "a\x00b",
    ],
    ids=lambda place: ascii(place)[:24],
)
def test_a_data_set_outside_the_allowed_folders_is_not_there(
    house: House, client: TestClient, tmp_path: Path, place: str
) -> None:
    """One answer for what is missing, outside, linked to the outside, or no data set."""
    trainer, datasets = house.member(Role.TRAINER), house.service.homes.datasets
    (tmp_path / "secret.jsonl").write_text('{"text": "x"}\n')
    (datasets / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (datasets / "linked").symlink_to(tmp_path)
    (datasets / "folder").mkdir()
    (datasets / "folder" / "inner.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (datasets / "notes.exe").write_text("no records")

    answer = client.post(START, json=request(dataset_path=place), headers=trainer.headers)

    assert paths(answer) == ["body.dataset_path"]
    assert str(tmp_path) not in answer.text
    assert house.service.jobs.find(trainer.tenant) == []


def test_a_data_set_below_an_allowed_folder_can_be_named_either_way(
    house: House, client: TestClient
) -> None:
    trainer, datasets = house.member(Role.TRAINER), house.service.homes.datasets
    (datasets / "notes").mkdir()
    file = datasets / "notes" / "2026.jsonl"
    file.write_text('{"text": "x"}\n')

    answers = [
        client.post(START, json=request(dataset_path=name), headers=trainer.headers).status_code
        for name in ("notes/2026.jsonl", str(file), "notes")
    ]

    assert answers == [202, 202, 202]


def test_a_folder_of_one_organisation_is_not_there_for_another(
    house: House, client: TestClient
) -> None:
    owner, other = house.member(Role.TRAINER), house.member(Role.TRAINER, at="south")
    folder = house.service.homes.datasets / owner.tenant
    folder.mkdir()
    (folder / "own.jsonl").write_text('{"text": "x"}\n')
    body = request(dataset_path=f"{owner.tenant}/own.jsonl")

    own = client.post(START, json=body, headers=owner.headers)
    foreign = client.post(START, json=body, headers=other.headers)
    listed = client.get("/api/v1/datasets", headers=other.headers)

    assert (own.status_code, foreign.status_code) == (202, 422)
    assert "own.jsonl" not in listed.text


@pytest.mark.parametrize("name", ["gpt2", "../token-keys", "/etc", "job:job_none", "sample:big"])
def test_a_model_that_is_not_allowed_is_not_there(
    house: House, client: TestClient, name: str
) -> None:
    trainer = house.member(Role.TRAINER)

    answer = client.post(START, json=request(model_name=name), headers=trainer.headers)

    assert paths(answer) == ["body.model_name"]


def test_the_model_of_an_unfinished_job_or_of_another_organisation_is_not_there(
    house: House, client: TestClient
) -> None:
    trainer = house.member(Role.TRAINER)
    names = [f"job:{house.job()}", f"job:{house.job(at='south')}"]

    answers = [
        client.post(START, json=request(model_name=name), headers=trainer.headers).status_code
        for name in names
    ]

    assert answers == [422, 422]


def test_a_start_that_is_sent_twice_is_one_job(house: House, client: TestClient) -> None:
    trainer = house.member(Role.TRAINER)
    headers = {**trainer.headers, "Idempotency-Key": "notes-2026-08-01"}

    first, second = (client.post(START, json=request(), headers=headers) for _ in range(2))
    other = client.post(START, json=request(name="another"), headers=headers)

    assert first.json() == second.json()
    assert other.status_code == 409
    assert len(house.service.jobs.find(trainer.tenant)) == 1


def test_starts_at_the_same_moment_under_one_key_are_one_job(
    house: House, client: TestClient
) -> None:
    trainer = house.member(Role.TRAINER)
    headers = {**trainer.headers, "Idempotency-Key": "notes-2026-08-02"}

    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(client.post, START, json=request(), headers=headers) for _ in range(4)]
        statuses = {future.result().status_code for future in sent}

    assert statuses <= {202, 409}
    assert 202 in statuses
    assert len(house.service.jobs.find(trainer.tenant)) == 1


def test_accounts_are_the_organisation_s_own(house: House, client: TestClient) -> None:
    trainer = house.member(Role.TRAINER)
    body = request(account="notes/2026", quota="research/ada")

    job_id = client.post(START, json=body, headers=trainer.headers).json()["job_id"]
    shown = client.get(f"/api/v1/training/{job_id}", headers=trainer.headers).json()
    spec = house.service.jobs.get(job_id, tenant=trainer.tenant).spec

    assert spec.account == f"{trainer.tenant}:notes/2026"
    assert spec.quota == f"{trainer.tenant}/research/ada"
    assert (shown["request"]["account"], shown["request"]["quota"]) == (
        "notes/2026", "quota/research/ada",
    )  # fmt: skip


def test_a_list_comes_in_pages_newest_first(house: House, client: TestClient) -> None:
    viewer = house.member(Role.VIEWER)
    made = [house.job() for _ in range(5)]

    listed: list[str] = []
    cursor = None
    for _ in range(3):
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = client.get("/api/v1/training", params=params, headers=viewer.headers).json()
        listed += [job["job_id"] for job in page["items"]]
        cursor = page["next_cursor"]

    assert listed == made[::-1]
    assert cursor is None


def test_a_list_is_of_the_states_that_are_asked_for(house: House, client: TestClient) -> None:
    trainer = house.member(Role.TRAINER)
    waiting, ended = house.job(), house.job()
    client.post(f"/api/v1/training/{ended}/cancel", headers=trainer.headers)

    page = client.get("/api/v1/training?status=queued", headers=trainer.headers).json()

    assert [job["job_id"] for job in page["items"]] == [waiting]


def test_a_cancelled_job_says_so_at_once_and_twice(house: House, client: TestClient) -> None:
    trainer, job_id = house.member(Role.TRAINER), house.job()
    path = f"/api/v1/training/{job_id}"
    before = client.get(f"{path}/status", headers=trainer.headers).json()["status"]

    first, second = (client.post(f"{path}/cancel", headers=trainer.headers) for _ in range(2))
    after = client.get(f"{path}/status", headers=trainer.headers).json()["status"]

    assert (before, after) == ("queued", "cancelled")
    assert (first.status_code, second.status_code) == (202, 202)


def test_exact_figures_are_shown_to_the_officer_who_asks_by_name(
    house: House, client: TestClient
) -> None:
    job_id, officer = house.job(), house.member(Role.PRIVACY_OFFICER)
    store = house.service.jobs.store
    store.change(
        lambda work: work.tell(
            job_id,
            work.update(job_id, lines=1),
            [(EventKind.EXACT, {"loss": 0.123456}, work.now_us)],
        )
    )
    path, wanted = f"/api/v1/training/{job_id}", {"include": "outside_guarantee"}

    unasked = client.get(path, headers=officer.headers)
    asked = client.get(path, params=wanted, headers=officer.headers)
    history = client.get(f"{path}/history", headers=officer.headers)
    exact = client.get(f"{path}/history", params=wanted, headers=officer.headers)

    assert unasked.json()["outside_guarantee"] is None
    assert asked.json()["outside_guarantee"] == [{"loss": 0.123456}]
    assert "0.123456" not in unasked.text + history.text
    assert [event["kind"] for event in exact.json()] == ["state", "exact"]


def test_a_completion_is_not_invented(house: House, client: TestClient) -> None:
    viewer = house.member(Role.VIEWER)

    shown = client.get(f"/api/v1/training/{house.job()}", headers=viewer.headers).json()

    assert (shown["eta_s"], shown["estimated_completion"], shown["epsilon_planned"]) == (
        None, None, None,
    )  # fmt: skip


@pytest.mark.parametrize("part", ["privacy-report", "report", "certificate"])
def test_a_job_that_has_not_begun_has_no_results(
    house: House, client: TestClient, part: str
) -> None:
    viewer = house.member(Role.VIEWER)

    answer = client.get(f"/api/v1/training/{house.job()}/{part}", headers=viewer.headers)

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_ready")


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"x" * (1024 * 1024 + 1), "application/json", 413),
        (b"{", "application/json", 422),
        (b'{"model_name": "\xff"}', "application/json", 400),
        (b"model_name=x", "application/x-www-form-urlencoded", 415),
        (b"[]", "application/json", 422),
        (b"null", "application/json", 422),
        (b"[" * 100_000, "application/json", 400),
        (b'{"model_name": NaN, "dataset_path": "x"}', "application/json", 422),
    ],
    ids=["large", "cut", "no-utf-8", "form", "list", "null", "deep", "nan"],
)
def test_what_is_no_request_is_refused(
    house: House, client: TestClient, content: bytes, kind: str, status: int
) -> None:
    trainer = house.member(Role.TRAINER)
    headers = {**trainer.headers, "Content-Type": kind}

    answer = client.post(START, content=content, headers=headers)

    assert answer.status_code == status
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]
    assert house.service.jobs.find(trainer.tenant) == []


def test_models_and_data_sets_that_ship_are_listed(house: House, client: TestClient) -> None:
    trainer = house.member(Role.TRAINER)

    models = client.get("/api/v1/models", headers=trainer.headers).json()["items"]
    datasets = client.get("/api/v1/datasets", headers=trainer.headers).json()["items"]

    assert [model["name"] for model in models] == ["sample:model"]
    assert {"sample:records", "sample:heldout"} <= {each["name"] for each in datasets}


def test_every_state_of_a_job_is_in_the_document(house: House) -> None:
    document = house.app.openapi()

    assert set(document["components"]["schemas"]["JobState"]["enum"]) == set(JobState)


def test_a_status_is_read_once_for_many_and_anew_when_it_is_old(house: House) -> None:
    clock, reads = ManualClock(), 0
    job = house.service.jobs.get(house.job(), tenant=house.tenant("north"))
    board = StatusBoard(clock)

    async def read() -> Job:
        nonlocal reads
        reads += 1
        await asyncio.sleep(0)
        return job

    async def asked() -> None:
        await asyncio.gather(*(board.get(job.tenant, job.id, read) for _ in range(50)))

    async def story() -> list[int]:
        counts = []
        for pause_s in (0.0, KEPT_S / 4, KEPT_S * 2):
            clock.advance(pause_s)
            await asked()
            counts.append(reads)
        board.forget(job.tenant, job.id)
        await asked()
        return [*counts, reads]

    assert asyncio.run(story()) == [1, 1, 2, 3]


def test_a_refusal_of_the_status_is_not_kept(house: House) -> None:
    board, found = StatusBoard(ManualClock()), house.job()
    jobs, tenant = house.service.jobs, house.tenant("north")

    async def missing() -> Job:
        raise UnknownJob

    async def there() -> Job:
        return jobs.get(found, tenant=tenant)

    async def story() -> bytes:
        with pytest.raises(UnknownJob):
            await board.get(tenant, found, missing)
        return await board.get(tenant, found, there)

    assert b"queued" in asyncio.run(story())
