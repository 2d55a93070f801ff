from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.privacy_finetuner.client.house import House, Wire

from privacy_finetuner.client import (
    AsyncClient,
    Client,
    Conflict,
    InvalidRequest,
    NotFound,
    RetryPolicy,
    Settings,
)
from privacy_finetuner.jobs.model import JobState
from privacy_runtime.identity import Role

QUICK = RetryPolicy(tries=4, pause_s=0.01, pause_max_s=0.05)


def test_a_submitted_job_is_queued_and_known_by_its_id(trainer: Client, job: str) -> None:
    found = trainer.jobs.get_training(job)

    assert found.status == "queued"
    assert found.request["privacy"]["epsilon"] == 8.0
    assert trainer.jobs.training_status(job).job_id == job
    assert job in {one.job_id for one in trainer.jobs.list_training(status="queued")}


def test_the_same_idempotency_key_starts_one_job(trainer: Client) -> None:
    asked: Any = {
        "privacy_config": {"epsilon": 1.0},
        "idempotency_key": "a-key-of-the-caller",
    }
    first = trainer.jobs.start_training("sample:model", "sample:records", **asked)
    second = trainer.jobs.start_training("sample:model", "sample:records", **asked)
    trainer.jobs.cancel_training(first.job_id)

    assert first.job_id == second.job_id


def test_a_refused_request_names_every_fault_with_its_path(trainer: Client) -> None:
    with pytest.raises(InvalidRequest) as refused:
        trainer.jobs.start_training(
            "sample:model", "sample:records",
            privacy_config={"epsilon": -1, "detla": 1}, training_config={"epochs": "x"},
        )  # fmt: skip

    paths = {detail["path"] for detail in refused.value.details}
    assert {
        "body.privacy_config.epsilon",
        "body.privacy_config.detla",
        "body.training_config.epochs",
    } <= paths
    assert refused.value.status == 422
    assert refused.value.request_id
    assert "body.privacy_config.epsilon" in str(refused.value)


def test_a_job_of_nobody_is_not_found(trainer: Client) -> None:
    with pytest.raises(NotFound) as refused:
        trainer.jobs.get_training("job_0000")

    assert refused.value.code == "not_found"


def test_what_a_path_would_escape_stays_one_segment(trainer: Client) -> None:
    with pytest.raises((NotFound, InvalidRequest)):
        trainer.jobs.get_training("../users")


def test_lists_are_walked_page_by_page(house: House, trainer: Client) -> None:
    started = [
        trainer.jobs.start_training(
            "sample:model", "sample:records", privacy_config={"epsilon": 1.0}
        ).job_id
        for _ in range(5)
    ]
    listed = [one.job_id for one in trainer.jobs.list_training(mine=True, page_size=2)]
    for job_id in started:
        trainer.jobs.cancel_training(job_id)

    assert [one for one in listed if one in started] == started[::-1]
    assert len(set(listed)) == len(listed)


def test_a_watch_tells_the_whole_story_once_and_in_order(
    house: House, trainer: Client, job: str
) -> None:
    story = house.story(job)
    for step in range(1, 4):
        story.step(step)
    story.epoch(1, 2.5)
    story.end()

    events = list(trainer.jobs.watch(job))

    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.body["step"] for event in events if event.kind == "step"] == [1, 2, 3]
    assert events[-1].ends_the_job
    assert list(trainer.jobs.watch(job, after=events[-2].seq)) == events[-1:]


def test_a_watch_sees_events_as_they_happen(house: House, trainer: Client, job: str) -> None:
    story = house.story(job)
    seen: list[int] = []
    done = threading.Event()

    def watch() -> None:
        with house.client() as watcher:
            for event in watcher.jobs.watch(job):
                seen.append(event.seq)
        done.set()

    threading.Thread(target=watch, daemon=True).start()
    story.step(1)
    story.end()

    assert done.wait(20)
    assert seen == sorted(set(seen))


@pytest.mark.parametrize("bytes_a_connection", [400, 700, 1100])
def test_a_watch_over_a_wire_that_breaks_loses_and_repeats_nothing(
    house: House, wire: Wire, trainer: Client, job: str, bytes_a_connection: int
) -> None:
    story = house.story(job)
    for step in range(1, 11):
        story.step(step)
    story.end()
    grant = trainer.grant
    assert grant is not None
    with Client(wire.url, api_key=grant.access_token, settings=Settings(retries=QUICK)) as c:
        expected = [event.seq for event in trainer.jobs.watch(job)]
        wire.cut_after = [bytes_a_connection + 600 * n for n in range(6)]
        events = [event.seq for event in c.jobs.watch(job)]

    assert events == expected
    assert wire.connections >= 2


def test_a_watch_goes_on_when_the_server_is_started_again(
    house: House, trainer: Client, job: str
) -> None:
    story = house.story(job)
    seen: list[int] = []
    done = threading.Event()

    def watch() -> None:
        for event in trainer.jobs.watch(job):
            seen.append(event.seq)
        done.set()

    story.step(1)
    threading.Thread(target=watch, daemon=True).start()
    from_before = threading.Event()
    while not seen:
        from_before.wait(0.01)
    house.stop()
    story.step(2)
    house.start()
    story.step(3)
    story.end()

    assert done.wait(30)
    assert seen == list(range(1, len(seen) + 1))


def test_a_cancelled_job_ends_its_watch(trainer: Client, job: str) -> None:
    answer = trainer.jobs.cancel_training(job)
    events = list(trainer.jobs.watch(job))

    assert answer.cancel_requested or answer.status == "cancelled"
    assert events[-1].body["state"] == "cancelled"


def test_an_ended_job_cannot_be_cancelled(house: House, trainer: Client, job: str) -> None:
    house.story(job).end()
    with pytest.raises(Conflict) as refused:
        trainer.jobs.cancel_training(job)

    assert refused.value.code == "already_ended"


def test_a_failed_job_says_why(house: House, trainer: Client, job: str) -> None:
    house.story(job).end(JobState.FAILED, "dataset_error")
    found = trainer.jobs.wait(job)

    assert (found.status, found.error_code) == ("failed", "dataset_error")


def test_a_file_arrives_whole_with_progress(
    house: House, trainer: Client, job: str, folder: Path
) -> None:
    content = bytes(range(256)) * 4000
    house.story(job).file("model.safetensors", content)
    shown: list[tuple[int, int]] = []

    path = trainer.jobs.download_artefact(
        job, "model.safetensors", folder, progress=lambda done, total: shown.append((done, total))
    )

    assert path.read_bytes() == content
    assert shown[-1] == (len(content), len(content))
    assert [file.name for file in folder.iterdir()] == ["model.safetensors"]


def test_a_download_over_a_wire_that_breaks_goes_on_where_it_was(
    house: House, wire: Wire, trainer: Client, job: str, folder: Path
) -> None:
    content = bytes(range(256)) * 4000
    house.story(job).file("model.safetensors", content)
    grant = trainer.grant
    assert grant is not None
    with Client(wire.url, api_key=grant.access_token, settings=Settings(retries=QUICK)) as c:
        found = c.jobs.list_artefacts(job)
        wire.cut()
        wire.cut_after = [100_000, 300_000, 600_000]
        wire_before = wire.connections
        path = c.jobs.download_artefact(job, "model.safetensors", folder)

    assert found
    assert path.read_bytes() == content
    assert wire.connections - wire_before >= 3


def test_a_file_that_is_not_there_is_named_with_those_that_are(
    house: House, trainer: Client, job: str, folder: Path
) -> None:
    house.story(job).file("report.html", b"<p>")
    with pytest.raises(NotFound, match=r"report\.html"):
        trainer.jobs.download_artefact(job, "model.safetensors", folder)

    assert not list(folder.iterdir())


def test_the_asynchronous_client_does_the_same(house: House, job: str) -> None:
    story = house.story(job)
    story.step(1)
    story.file("report.html", b"<p>")
    story.end()

    async def run() -> tuple[list[int], str, list[str]]:
        client = await AsyncClient.login(house.url, house.user(Role.TRAINER), house.password)
        async with client:
            events = [event.seq async for event in client.jobs.watch(job)]
            status = (await client.jobs.training_status(job)).status
            names = [one.name async for one in client.jobs.list_training(mine=True)]
        return events, status, names

    events, status, names = asyncio.run(run())

    assert events == list(range(1, len(events) + 1))
    assert status == "succeeded"
    assert names
