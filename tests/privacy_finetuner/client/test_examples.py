"""The examples of the SDK, against a real service whose worker's part is played."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.privacy_finetuner.client.house import House, wait_for

from privacy_finetuner.client import AsyncClient, Client
from privacy_finetuner.jobs.model import JobState
from privacy_runtime.notify import signatures
from privacy_runtime.testing import SeededEntropy
from privacy_runtime.world import SystemClock

EXAMPLES = Path(__file__).parents[3] / "examples"
SCOPES = ["jobs:read", "jobs:write", "results:read", "models:export", "datasets:read"]


@pytest.fixture
def key(trainer: Client) -> Iterator[str]:
    yield trainer.api_keys.create_api_key("examples", SCOPES).key.reveal()
    for job in trainer.jobs.list_training(status=["queued", "running"]):
        trainer.jobs.cancel_training(job.job_id)


def run(script: str, *options: str, key: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *options],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PRIVACY_FINETUNER_API_KEY": key},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def played(house: House) -> None:
    def work() -> None:
        jobs = house.service.jobs
        found: list[Any] = []
        wait_for(
            lambda: found.extend(jobs.find(house.tenant, states=[JobState.QUEUED])) or found, 60
        )
        story = house.story(found[0].id)
        story.step(1)
        story.epoch(1, 2.5)
        story.file("report.html", b"<p>report</p>")
        story.end()

    threading.Thread(target=work, daemon=True).start()


def test_remote_training_follows_and_fetches(house: House, key: str, tmp_path: Path) -> None:
    played(house)
    shown = run(
        "remote_training.py", "--url", house.url, "--output", str(tmp_path / "out"), key=key
    )

    assert "loss 2.5" in shown
    assert "succeeded: epsilon 0.1000 at 1e-05" in shown
    assert (tmp_path / "out" / "report.html").read_bytes() == b"<p>report</p>"


@pytest.fixture
def app(house: House, key: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET.reveal())
    create_app = runpy.run_path(str(EXAMPLES / "fastapi_integration.py"))["create_app"]
    with TestClient(create_app(AsyncClient(house.url, api_key=key))) as made:
        yield made


SECRET = signatures.new_secret(SeededEntropy(3))


def test_an_application_of_ones_own_starts_jobs_and_reads_reports(
    app: TestClient, trainer: Client
) -> None:
    started = app.post("/train", json={"dataset_path": "sample:records", "epsilon": 2.0})
    refused = app.post("/train", json={"dataset_path": "/etc/passwd", "epsilon": 2.0})
    report = app.get(f"/privacy-report/{started.json()['job_id']}")

    assert started.status_code == 202
    assert trainer.jobs.training_status(started.json()["job_id"]).status == "queued"
    assert refused.status_code == 422
    assert refused.json()["detail"]["code"] == "unknown_dataset"
    assert report.json() == {"detail": "not_ready"}


def test_an_application_of_ones_own_hears_what_is_signed(app: TestClient) -> None:
    body = (
        b'{"type":"training_complete","timestamp":"2026-01-01T00:00:00Z",'
        b'"data":{"job_id":"job_1","status":"succeeded"}}'
    )
    seconds = int(SystemClock().now().timestamp())
    headers = signatures.sign("msg_1", seconds=seconds, body=body, secrets=[SECRET])
    forged = {**headers, "webhook-id": "msg_2"}

    assert app.post("/hooks/privacy", content=body, headers=forged).status_code == 401
    assert app.get("/finished").json() == []
    assert app.post("/hooks/privacy", content=body, headers=headers).status_code == 204
    assert app.post("/hooks/privacy", content=body, headers=headers).status_code == 204
    assert app.get("/finished").json() == ["job_1"]


def test_the_pipeline_says_what_is_for_others_to_see(
    house: House, key: str, trainer: Client
) -> None:
    main = runpy.run_path(str(EXAMPLES / "sdk_pipeline.py"))
    with Client(house.url, api_key=key) as client:
        assert main["allowed"](client.security.security_status) is None
        assert main["allowed"](client.compliance.compliance_summary) is None
        pipeline = main["PrivacyPreservingMLPipeline"](client, main["PrivacyConfig"]())

    assert "[" in pipeline.context_guard.protect("mail anna@example.org").protected_text
