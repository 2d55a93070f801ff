from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.privacy_finetuner.client.house import House, Wire, house_in

from privacy_finetuner.client import Client


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house_in(tmp_path_factory.mktemp("service") / "home") as made:
        yield made


@pytest.fixture
def trainer(house: House) -> Iterator[Client]:
    with house.client() as client:
        yield client


@pytest.fixture
def wire(house: House) -> Iterator[Wire]:
    made = Wire(house.port)
    yield made
    made.close()


@pytest.fixture
def job(house: House, trainer: Client) -> Iterator[str]:
    """A queued job, which is ended at last if the test did not."""
    job_id = house.job(trainer)
    yield job_id
    if not trainer.jobs.training_status(job_id).is_final:
        trainer.jobs.cancel_training(job_id)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "downloads"
    made.mkdir()
    return made
