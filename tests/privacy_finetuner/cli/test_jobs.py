from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.privacy_finetuner.client.house import House, house_in
from typer.testing import CliRunner

from privacy_finetuner.cli.app import app
from privacy_finetuner.client import Client
from privacy_finetuner.jobs.model import EventKind, JobState


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house_in(tmp_path_factory.mktemp("service") / "home") as made:
        yield made


@pytest.fixture(scope="module")
def trainer(house: House) -> Iterator[Client]:
    with house.client() as client:
        yield client


@pytest.fixture(scope="module")
def key(trainer: Client) -> str:
    scopes = ["jobs:read", "jobs:write", "results:read", "models:export", "models:read"]
    return trainer.api_keys.create_api_key("commands", scopes).key.reveal()


@pytest.fixture(autouse=True)
def environment(house: House, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVACY_FINETUNER_CREDENTIALS", str(tmp_path / "none.json"))
    monkeypatch.setenv("PRIVACY_FINETUNER_API_KEY", key)
    monkeypatch.setenv("PRIVACY_FINETUNER_URL", house.url)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def job(house: House, trainer: Client) -> Iterator[str]:
    job_id = house.job(trainer)
    yield job_id
    if not trainer.jobs.training_status(job_id).is_final:
        trainer.jobs.cancel_training(job_id)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["jobs", *map(str, arguments)])


def document(*arguments: object, code: int = 0) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_jobs_are_listed_as_a_table_and_as_a_document(job: str) -> None:
    listed = document("list", "--state", "queued")
    table = run("list")

    assert job in {each["job_id"] for each in listed["jobs"]}
    assert job in table.stdout
    assert "queued" in table.stdout


def test_a_list_is_as_long_as_it_was_asked_to_be(house: House, trainer: Client, job: str) -> None:
    other = house.job(trainer)
    trainer.jobs.cancel_training(other)

    assert len(document("list", "--limit", 1)["jobs"]) == 1
    assert document("list", "--state", "failed", "--mine")["jobs"] == []


def test_a_job_is_shown_with_what_it_spent(house: House, job: str) -> None:
    story = house.story(job)
    story.step(3)
    shown = document("show", job)
    text = run("show", job).stdout

    assert shown["privacy_spent"] == {"epsilon": 0.3, "delta": 1e-5}
    assert "3 of 10" in text
    assert "0.3 at delta 1e-05" in text
    story.end()


def test_a_job_that_is_not_there_is_bad_input() -> None:
    error = document("show", "job_0000", code=2)

    assert error["error"]["code"] == "not_found"
    assert error["request_id"].startswith("req_")


def test_a_watch_shows_steps_and_ends_with_the_job(house: House, job: str) -> None:
    story = house.story(job)
    for step in (1, 5, 10):
        story.step(step)
    story.epoch(1, 2.25)
    story.end()
    result = run("watch", job, "--json")

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["status"] == "succeeded"
    assert "step 10/10  epsilon 1" in result.stderr
    assert "loss 2.25" in result.stderr


@pytest.mark.parametrize(
    ("state", "code", "ends_with"),
    [(JobState.SUCCEEDED, None, 0), (JobState.FAILED, "dataset_error", 1),
     (JobState.FAILED, "privacy_budget_exhausted", 3), (JobState.FAILED, "budget_exhausted", 3),
     (JobState.CANCELLED, None, 130)],
)  # fmt: skip
def test_a_watch_ends_with_the_code_of_how_the_job_ended(
    house: House, job: str, state: JobState, code: str | None, ends_with: int
) -> None:
    house.story(job).end(state, code)

    assert document("watch", job, code=ends_with)["status"] == state.value


def test_lines_are_one_event_each_as_they_come(house: House, job: str) -> None:
    story = house.story(job)
    story.step(1)
    threading.Timer(0.2, story.end).start()
    result = run("watch", job, "--lines")
    lines = [json.loads(line) for line in result.stdout.splitlines()]

    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[-1]["body"]["state"] == "succeeded"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", lines[0]["at"])


def test_a_job_is_cancelled(job: str) -> None:
    assert document("cancel", job)["job_id"] == job
    assert document("show", job)["status"] == "cancelled"


def test_files_are_listed_and_fetched(house: House, job: str, tmp_path: Path) -> None:
    story = house.story(job)
    story.file("report.html", b"<p>report</p>")
    story.file("model.safetensors", b"weights" * 1000)
    story.end()
    listed = document("artefacts", job)
    fetched = document("download", job, "report.html", "--output", tmp_path / "a")
    everything = document("download", job, "--output", tmp_path / "b")

    assert {each["name"] for each in listed["artefacts"]} == {"report.html", "model.safetensors"}
    assert Path(fetched["files"][0]).read_bytes() == b"<p>report</p>"
    assert len(everything["files"]) == 2
    assert not [path for path in tmp_path.rglob("*.part")]


def test_a_file_that_the_job_did_not_leave_fetches_nothing(
    house: House, job: str, tmp_path: Path
) -> None:
    house.story(job).file("report.html", b"x")
    error = document("download", job, "report.html", "nope", "--output", tmp_path / "a", code=2)

    assert "nope" in error["error"]["message"]
    assert not (tmp_path / "a").exists()


def test_a_service_that_is_gone_is_a_failure_with_a_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVACY_FINETUNER_URL", "http://127.0.0.1:1")
    error = document("list", code=1)

    assert error["error"]["code"] == "unreachable"
    assert "tried 5 times" in error["error"]["message"]


def test_what_others_wrote_does_not_steer_the_terminal(
    house: House, trainer: Client, job: str
) -> None:
    story = house.story(job)
    story.leases.tell(
        story.claim, [(EventKind.STATE, {"state": "running", "reason": "a\x1b]0;owned\x07 [red]b"})]
    )
    story.file("report.html", b"x")
    story.end()
    shown = run("watch", job).output

    assert "a\N{REPLACEMENT CHARACTER}]0;owned\N{REPLACEMENT CHARACTER} [red]b" in shown
    assert "\x1b]" not in shown
