"""An application of one's own in front of the service: start a job, read its report, hear its end.

    export PRIVACY_FINETUNER_API_KEY=pf_...  PRIVACY_FINETUNER_URL=http://127.0.0.1:8080
    export WEBHOOK_SECRET=whsec_...          # of `client.webhooks.create_webhook`
    uvicorn --factory examples.fastapi_integration:create_app

The requirement documents train inside a request. A training takes minutes, and a process that is
restarted takes its requests with it, so here the service trains and this application asks it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

from privacy_finetuner.client import AsyncClient, ServiceError, SignatureRefused
from privacy_finetuner.client.webhooks import verify


class TrainingRequest(BaseModel):
    """What this application's users may choose."""

    dataset_path: str
    epochs: float = Field(default=3, gt=0)
    batch_size: int = Field(default=256, ge=1)
    epsilon: float = Field(gt=0, le=8)


def create_app(client: AsyncClient | None = None) -> FastAPI:
    """The application, around a client of the service."""
    service = client or AsyncClient(os.environ["PRIVACY_FINETUNER_URL"])
    finished: dict[str, Any] = {}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service:
            yield

    app = FastAPI(title="Private fine-tuning for our own pages", lifespan=lifespan)

    @app.post("/train", status_code=202)
    async def start_training(request: TrainingRequest) -> dict[str, str]:
        try:
            job = await service.jobs.start_training(
                "sample:model",
                request.dataset_path,
                privacy_config={"epsilon": request.epsilon},
                training_config={"epochs": request.epochs, "batch_size": request.batch_size},
            )
        except ServiceError as error:  # the code is stable, the message is fit for people
            detail = {"code": error.code, "message": error.message}
            raise HTTPException(status_code=error.status, detail=detail) from error
        return {"status": "success", "job_id": job.job_id}

    @app.get("/privacy-report/{job_id}")
    async def get_privacy_report(job_id: str) -> dict[str, Any]:
        try:
            report = await service.jobs.privacy_report(job_id)
        except ServiceError as error:
            raise HTTPException(status_code=error.status, detail=error.code) from error
        return {
            "epsilon": report.privacy_spent.epsilon,
            "delta": report.privacy_spent.delta,
            "steps": report.training_rounds,
        }

    @app.post("/hooks/privacy", status_code=204)
    async def hear(request: Request) -> None:
        try:
            message = verify(request.headers, await request.body(), os.environ["WEBHOOK_SECRET"])
        except SignatureRefused as error:
            raise HTTPException(status_code=401, detail=error.code) from error
        if message.type == "training_complete":  # it may come twice: its id is the same then
            finished[message.data["job_id"]] = message.data

    @app.get("/finished")
    async def list_finished() -> list[str]:
        return sorted(finished)

    return app
