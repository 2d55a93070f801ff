"""The FastAPI integration of the requirement documents, as it is written, as a running application.

What the document leaves out is added and nothing is changed: the shape of the request, where the
trainer comes from, and the body of the report's handler, which the document leaves to the reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient
from pydantic import BaseModel

from privacy_finetuner import PrivacyConfig, PrivateTrainer
from privacy_finetuner.demo import ASSETS


class PrivacyFields(BaseModel):
    epsilon: float


class TrainingRequest(BaseModel):
    dataset_path: str
    epochs: int
    batch_size: int
    privacy_config: PrivacyFields


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.chdir(tmp_path)  # the example names no folder for the model
    reports: dict[str, Any] = {}

    def get_trainer() -> PrivateTrainer:
        return PrivateTrainer(
            str(ASSETS / "model"), PrivacyConfig(epsilon=8.0, delta=1e-3), device="cpu"
        )

    app = FastAPI(title="Privacy-Preserving ML API")

    @app.post("/train")
    async def start_training(
        request: TrainingRequest,
        trainer: PrivateTrainer = Depends(get_trainer),  # noqa: B008  as the document writes it
    ) -> dict[str, str]:
        """Start privacy-preserving training job."""
        try:
            result = trainer.train(
                dataset=request.dataset_path,
                epochs=request.epochs,
                batch_size=request.batch_size,
                target_epsilon=request.privacy_config.epsilon,
            )
            reports[result.job_id] = trainer.get_privacy_report()
            return {"status": "success", "job_id": result.job_id}  # noqa: TRY300  as written
        except Exception as e:
            raise HTTPException(status_code=500, detail=str(e)) from e

    @app.get("/privacy-report/{job_id}")
    async def get_privacy_report(job_id: str) -> dict[str, float]:
        """Get privacy report for training job."""
        report = reports[job_id]
        return {
            "spent": report.privacy_spent.epsilon,
            "remaining": report.privacy_remaining.epsilon,
        }

    with TestClient(app) as made:
        yield made


def request(dataset: Path, *, epsilon: float = 4.0) -> dict[str, Any]:
    return {
        "dataset_path": str(dataset),
        "epochs": 1,
        "batch_size": 10,
        "privacy_config": {"epsilon": epsilon},
    }


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "records.jsonl"
    path.write_text("".join(f'{{"text": "Visit {n}: knee."}}\n' for n in range(20)))
    return path


def test_a_training_over_http_answers_with_its_job_and_its_report(
    client: TestClient, records: Path
) -> None:
    answer = client.post("/train", json=request(records))
    document = answer.json()
    report = client.get(f"/privacy-report/{document['job_id']}").json()

    assert answer.status_code == 200, document
    assert document["status"] == "success"
    assert 0 < report["spent"] <= 4.0


@pytest.mark.parametrize(
    ("name", "epsilon", "says"),
    [("missing.jsonl", 4.0, "missing.jsonl"), ("records.jsonl", -1.0, "epsilon is -1.0")],
)
def test_what_cannot_be_trained_is_answered_with_its_reason(
    client: TestClient, records: Path, name: str, epsilon: float, says: str
) -> None:
    answer = client.post("/train", json=request(records.with_name(name), epsilon=epsilon))

    assert answer.status_code == 500
    assert says in answer.json()["detail"]
