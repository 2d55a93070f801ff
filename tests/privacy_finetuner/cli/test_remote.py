"""`train --remote`: submit, follow, fetch. A worker's part is played; one slow test trains."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.privacy_finetuner.client.house import House, house_in, wait_for
from typer.testing import CliRunner

from privacy_finetuner.api.shapes.training_request import TrainingFields
from privacy_finetuner.cli import remote, train_remote
from privacy_finetuner.cli.app import app
from privacy_finetuner.cli.request import TrainRequest
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.jobs.model import JobState


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house_in(tmp_path_factory.mktemp("service") / "home") as made:
        yield made


@pytest.fixture(autouse=True)
def environment(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with house.client() as client:
        scopes = ["jobs:read", "jobs:write", "results:read", "models:export"]
        key = client.api_keys.create_api_key("commands", scopes).key.reveal()
        monkeypatch.setenv("PRIVACY_FINETUNER_CREDENTIALS", str(tmp_path / "none.json"))
        monkeypatch.setenv("PRIVACY_FINETUNER_API_KEY", key)
        yield
        for job in client.jobs.list_training(status=["queued", "running"]):
            client.jobs.cancel_training(job.job_id)


def train(house: House, output: Path, *more: object) -> Any:
    arguments = [
        "train", "--model", "sample:model", "--data", "sample:records", "--epsilon", 8,
        "--output", output, "--remote", house.url, *more,
    ]  # fmt: skip
    return CliRunner().invoke(app, [str(each) for each in arguments])


def played(house: House, ends: JobState = JobState.SUCCEEDED, code: str | None = None) -> None:
    """Play a worker's part for the next job that is queued."""

    def work() -> None:
        jobs = house.service.jobs
        found: list[Any] = []
        wait_for(lambda: found.extend(jobs.find(house.tenant, states=[JobState.QUEUED])) or found)
        story = house.story(found[0].id)
        story.step(5)
        story.step(10)
        story.file("report.html", b"<p>report</p>")
        story.file("model.safetensors", b"weights")
        story.end(ends, code)

    threading.Thread(target=work, daemon=True).start()


def test_a_training_elsewhere_is_followed_and_its_files_come_here(
    house: House, tmp_path: Path
) -> None:
    played(house)
    result = train(house, tmp_path / "out", "--json")
    document = json.loads(result.stdout)

    assert result.exit_code == 0, result.output
    assert document["status"] == "succeeded"
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == b"weights"
    assert sorted(Path(file).name for file in document["files"]) == [
        "model.safetensors", "report.html",
    ]  # fmt: skip
    assert "step 10/10" in result.stderr


def test_detached_it_prints_the_job_and_does_not_wait(house: House, tmp_path: Path) -> None:
    result = train(house, tmp_path / "out", "--detach", "--json")
    document = json.loads(result.stdout)

    assert result.exit_code == 0, result.output
    assert document["status"] == "started"
    assert house.service.jobs.get(document["job_id"], tenant=house.tenant).spec.privacy[
        "epsilon"
    ] == 8.0  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("state", "code", "ends_with"),
    [(JobState.FAILED, "dataset_error", 1), (JobState.FAILED, "budget_exhausted", 3),
     (JobState.CANCELLED, None, 130)],
)  # fmt: skip
def test_a_training_that_ends_badly_fetches_nothing(
    house: House, tmp_path: Path, state: JobState, code: str | None, ends_with: int
) -> None:
    played(house, state, code)
    result = train(house, tmp_path / "out")

    assert result.exit_code == ends_with
    assert not (tmp_path / "out").exists()


def test_what_the_service_refuses_is_bad_input_with_its_places(
    house: House, tmp_path: Path
) -> None:
    result = train(house, tmp_path / "out", "--data", "../../etc/passwd", "--json")

    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["code"] == "unknown_dataset"


@pytest.mark.parametrize("more", [["--ledger", "x.db"], ["--resume"], ["--device", "cpu"]])
def test_what_is_of_this_machine_only_is_refused(
    house: House, tmp_path: Path, more: list[str]
) -> None:
    result = train(house, tmp_path / "out", *more)

    assert result.exit_code == 2
    assert f"{more[0]}: this machine only" in result.stderr


@pytest.mark.parametrize("more", [["--dry-run"]])
def test_a_plan_needs_the_records(house: House, tmp_path: Path, more: list[str]) -> None:
    assert train(house, tmp_path / "out", *more).exit_code == 2


def test_detaching_from_a_training_here_makes_no_sense(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app,
        ["train", "--model", "m", "--data", "d", "--epsilon", "1", "--output",
         str(tmp_path), "--detach"],
    )  # fmt: skip

    assert result.exit_code == 2


def request(**changes: Any) -> TrainRequest:
    return TrainRequest(model="m", data=Path("d"), epsilon=2.0, output=Path("o"), **changes)


def test_every_option_of_a_training_here_is_one_elsewhere_or_refused() -> None:
    asked = train_remote.request_of(
        request(label_names="a, b", batch_size=64, delta=1e-6, lora_rank=8, max_length=32,
                user_field="u", max_examples_per_user=2, eval_data=Path("e"), eval_steps=5,
                noise_multiplier=1.0, adapter="lora", base_bits=4, max_memory_gb=1.0,
                redact="low")
    )  # fmt: skip
    said = {**asked["privacy_config"], **asked["training_config"], **asked}
    here = {
        "model": "model_name", "data": "dataset_path", "clip_norm": "max_grad_norm",
        "accountant": "accounting_mode", "fixed_clipping": "adaptive_clipping",
        "no_secure_rng": "secure_rng", "normalise": "clip_rule", "eval_data": "eval_dataset",
    }  # fmt: skip
    elsewhere = {"output", "device", "resume", "ledger"}
    names = set(TrainRequest.__dataclass_fields__) - elsewhere

    assert not {name for name in names if here.get(name, name) not in said}
    assert set(asked["training_config"]) <= set(TrainingFields.model_fields)
    TrainingFields.model_validate(asked["training_config"])


def test_what_was_left_open_is_left_to_the_service() -> None:
    asked = train_remote.request_of(request())

    assert "delta" not in asked["privacy_config"]
    assert "batch_size" not in asked["training_config"]
    assert asked["training_config"]["learning_rate"] == "auto"


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a//b", ".", "", "a\0b"])
def test_a_file_name_that_leads_out_of_the_folder_is_not_fetched(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="outside"):
        remote.place_below(tmp_path, name)


def test_an_interrupted_watch_says_how_to_go_on(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(remote, "watched", interrupted)
    result = train(house, tmp_path / "out")

    assert result.exit_code == 130
    assert "the job goes on: privacy-finetuner jobs watch job_" in result.stderr
