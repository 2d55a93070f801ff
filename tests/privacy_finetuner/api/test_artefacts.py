"""Files of a run that another machine made: served from the store, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.privacy_finetuner.api.conftest import POLICY, UNLIMITED, House

from privacy_finetuner.api.app import create_app
from privacy_finetuner.environment import EnvironmentConfig
from privacy_finetuner.jobs import JobState
from privacy_finetuner.jobs.folder import artefacts_in
from privacy_finetuner.jobs.model import EventKind
from privacy_finetuner.jobs.shelf import Shelf
from privacy_finetuner.service import Service, ServiceMisplaced
from privacy_runtime.blobs import FolderStore
from privacy_runtime.http import RateLimits
from privacy_runtime.identity import Role
from privacy_runtime.testing import ManualClock
from privacy_runtime.world import SystemEntropy

REPORT = b"<!doctype html><p>a report</p>"
WEIGHTS = bytes(range(256)) * 64


@dataclass
class Place:
    """A server, the store, and a finished job of a machine that is gone."""

    house: House
    client: TestClient
    store: FolderStore
    job: str

    def get(self, path: str, role: Role = Role.TRAINER, *, at: str = "north") -> Any:
        return self.client.get(
            f"/api/v1/training/{self.job}{path}", headers=self.house.member(role, at=at).headers
        )

    def blob(self, name: str) -> Path:
        return self.store.root / self.house.tenant("north") / self.job / name


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    clock, store = ManualClock(), FolderStore(tmp_path / "store")
    service = opened(tmp_path / "home", clock, str(store.root))
    app = create_app(service, limits=RateLimits(clock, rates=UNLIMITED))
    house = House(service, app, clock)
    job = house.job()
    made(house, job, tmp_path / "there", store)
    with TestClient(app) as client:
        yield Place(house, client, store, job)
    service.close()


def opened(home: Path, clock: ManualClock, address: str) -> Service:
    config = EnvironmentConfig(
        environment="testing",
        security_config={"enable_threat_detection": False},
        artefacts={"store": address},
    )
    return Service.open(
        config, home=home, clock=clock, entropy=SystemEntropy(), identity_policy=POLICY
    )


def made(house: House, job: str, there: Path, store: FolderStore) -> None:
    """What the other machine's worker wrote."""
    folder, jobs = there / job, house.service.jobs
    folder.mkdir(parents=True)
    (folder / "report.html").write_bytes(REPORT)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    found = artefacts_in(folder)
    Shelf(there, store, clock=house.clock).put(folder, found, tenant=house.tenant("north"), job=job)
    lines = [(EventKind.ARTEFACT, asdict(each)) for each in found]
    lines.append((EventKind.STATE, {"state": JobState.SUCCEEDED.value}))

    def end(work: Any) -> None:
        done = {
            "state": JobState.SUCCEEDED.value,
            "finished_us": work.now_us,
            "step": 3,
            "steps": 3,
        }
        newest = work.update(job, lines=len(lines), **done)
        work.tell(job, newest, [(kind, body, work.now_us) for kind, body in lines])

    jobs.store.change(end)


def test_a_file_of_another_machine_s_run_is_served_whole(place: Place) -> None:
    report = place.get("/artefacts/report.html")
    weights = place.get("/artefacts/model.safetensors")

    assert (report.status_code, report.content) == (200, REPORT)
    assert (weights.status_code, weights.content) == (200, WEIGHTS)
    listed = {each["name"]: each["sha256"] for each in place.get("/artefacts").json()["items"]}
    assert weights.headers["etag"] == f'"{listed["model.safetensors"]}"'


def test_nobody_else_is_served_it(place: Place) -> None:
    assert place.get("/artefacts/report.html", at="south").status_code == 404
    assert place.get("/artefacts/model.safetensors", Role.VIEWER).status_code == 403


@pytest.mark.parametrize("changed", [REPORT[:-1], REPORT.replace(b"report", b"rep0rt"), b""])
def test_a_changed_file_is_refused_and_nothing_of_it_sent(place: Place, changed: bytes) -> None:
    place.blob("report.html").write_bytes(changed)

    answer = place.get("/artefacts/report.html")

    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "artefact_damaged")
    assert b"rep0rt" not in answer.content


def test_a_store_that_is_away_is_said_and_come_back_to(place: Place) -> None:
    hidden = place.store.root.rename(place.store.root.with_name("hidden"))
    place.store.root.write_text("no folder")

    answer = place.get("/artefacts/report.html")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "artefacts_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert str(place.store.root) not in answer.text
    place.store.root.unlink()
    hidden.rename(place.store.root)
    place.house.clock.advance(10)

    assert place.get("/artefacts/report.html").content == REPORT


def test_a_file_that_is_gone_from_the_store_is_not_found(place: Place) -> None:
    place.blob("report.html").unlink()

    assert place.get("/artefacts/report.html").status_code == 404


def test_a_report_whose_record_is_elsewhere_is_not_ready(place: Place) -> None:
    answer = place.get("/privacy-report")

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_ready")
    assert "another machine" in answer.json()["error"]["message"]


def test_a_job_may_begin_from_the_model_and_its_weights_stay_where_they_are(place: Place) -> None:
    body = {"model_name": f"job:{place.job}", "dataset_path": "sample:records"}

    def start(at: str = "north") -> int:
        headers = place.house.member(Role.TRAINER, at=at).headers
        return int(
            place.client.post("/api/v1/training/start", json=body, headers=headers).status_code
        )

    assert (start(), start("south")) == (202, 422)
    fetched = place.house.service.homes.runs / ".fetched" / place.job
    assert [path.name for path in fetched.iterdir()] == ["config.json"]
    place.blob("config.json").unlink()
    (fetched / "config.json").unlink()
    assert start() == 422


def test_an_address_that_nothing_reaches_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ServiceMisplaced, match=r"artefacts\.store .*ossfs.*nothing was opened"):
        opened(tmp_path / "home", ManualClock(), "oss://bucket/prefix")
