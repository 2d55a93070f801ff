"""The models that a job may name."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter

from privacy_finetuner.api.routes import By, operation, router_of
from privacy_finetuner.api.shapes.catalogue import ModelAnswer, Models
from privacy_finetuner.jobs import JobState
from privacy_finetuner.service import Entry, Service
from privacy_finetuner.service.catalogue import JOB, SAMPLE
from privacy_runtime.http.access import Access
from privacy_runtime.identity import Scope

_JOBS_MOST = 200


class ModelList:
    """Models over HTTP.

    Args:
        service: whose catalogue and jobs.
    """

    def __init__(self, service: Service) -> None:
        self._catalogue, self._jobs = service.catalogue, service.jobs

    @operation("GET", "", Scope.MODELS_READ)
    def list_models(self, by: By) -> Models:
        """List the models that a job may name: shipped, allowed, and of finished jobs.

        Of finished jobs, the newest 200.
        """
        listed = [_answer(entry) for entry in self._catalogue.known_models(tenant=by.tenant)]
        finished = self._jobs.find(by.tenant, states=[JobState.SUCCEEDED], limit=_JOBS_MOST)
        own = [
            ModelAnswer(
                name=f"{JOB}{job.id}", origin="job", size_bytes=None, modified_at=job.finished_at
            )
            for job in finished
        ]
        return Models(items=[*listed, *own])


def router(service: Service, access: Access) -> APIRouter:
    """The routes below `/models`."""
    return router_of(ModelList(service), access, tag="models", prefix="/models")


def _answer(entry: Entry) -> ModelAnswer:
    is_hub = entry.modified_at is None
    origin: Literal["sample", "folder", "hub"] = "hub" if is_hub else "folder"
    return ModelAnswer(
        name=entry.name,
        origin="sample" if entry.name.startswith(SAMPLE) else origin,
        size_bytes=None if is_hub else entry.size_bytes,
        modified_at=entry.modified_at,
    )
