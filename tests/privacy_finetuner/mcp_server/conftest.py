from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.privacy_finetuner.client.house import House, house_in

from privacy_finetuner.client import Client


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house_in(tmp_path_factory.mktemp("service") / "home") as made:
        yield made


@pytest.fixture(scope="session")
def trainer(house: House) -> Iterator[Client]:
    with house.client() as client:
        yield client


@pytest.fixture(scope="session")
def key(trainer: Client) -> str:
    scopes = [
        "jobs:read", "jobs:write", "results:read", "models:read", "datasets:read", "budgets:read",
        "budgets:request", "redaction:use",
    ]  # fmt: skip
    return trainer.api_keys.create_api_key("an assistant", scopes).key.reveal()


@pytest.fixture
def job(house: House, trainer: Client) -> Iterator[str]:
    job_id = house.job(trainer)
    yield job_id
    if not trainer.jobs.training_status(job_id).is_final:
        trainer.jobs.cancel_training(job_id)
