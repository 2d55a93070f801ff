"""Training jobs: start, list, watch, cancel."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Query, Response

from privacy_finetuner.api.errors import AlreadyEnded
from privacy_finetuner.api.routes import By, Paged, Visiting, operation, router_of
from privacy_finetuner.api.shapes import training as shapes
from privacy_finetuner.api.shapes.training_request import TrainingRequest
from privacy_finetuner.api.status_board import StatusBoard
from privacy_finetuner.api.submissions import Submissions
from privacy_finetuner.governance.accounts import name_of
from privacy_finetuner.jobs.model import EventKind, Job, JobState
from privacy_finetuner.service import Service
from privacy_runtime.budget_store import parse_scope
from privacy_runtime.http.access import Access
from privacy_runtime.http.envelope import Json
from privacy_runtime.http.pages import Page
from privacy_runtime.identity import Principal, Scope, require

JobId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,64}$", examples=["job_2k7w"])]
Include = Annotated[
    Literal["outside_guarantee"] | None,
    Query(
        description="`outside_guarantee`: exact figures as well, for those whose role may see them."
    ),
]
_EXACT_MOST: Final = 1000


class Training:
    """Training jobs over HTTP.

    Args:
        service: whose jobs.
        access: runs readings in threads.
    """

    def __init__(self, service: Service, access: Access) -> None:
        self._jobs, self._access = service.jobs, access
        self._submissions = Submissions(service)
        self._board = StatusBoard(service.clock)

    @operation(
        "POST",
        "/start",
        Scope.JOBS_WRITE,
        raw=shapes.TrainingStarted,
        status=202,
        refuses=(409, 507),
        rate="starts",
    )
    def start_training(self, body: TrainingRequest, by: By, visit: Visiting) -> Any:
        """Start a training job.

        The whole request is checked before it is accepted; when this answers, the job is on the
        disk. Send an `Idempotency-Key`: whatever is sent twice under one key is one job. The budget
        is reserved by the worker before the first step, and settled exactly after the last one.
        """
        job = self._submissions.submit(
            body, tenant=by.tenant, owner=by.subject, key=visit.operation
        )
        answer = {"job_id": job.id, "status": "started", "estimated_completion": _completion(job)}
        place = {"Location": f"/api/v1/training/{job.id}"}
        return Json(answer, status_code=202, headers=place)

    @operation("GET", "", Scope.JOBS_READ)
    def list_training(
        self,
        by: By,
        page: Paged,
        status: Annotated[list[JobState] | None, Query(description="Only in these states.")] = None,
        mine: Annotated[bool, Query(description="Only one's own.")] = False,
    ) -> Page[shapes.JobAnswer]:
        """List the jobs of the organisation, newest first."""
        after = page.after(str)
        jobs = self._jobs.find(
            by.tenant,
            states=tuple(status or ()),
            owner=by.subject if mine else None,
            limit=page.limit + 1,
            before=str(after[0]) if after else None,
        )
        found, cursor = page.page(jobs, key=lambda job: (job.id,))
        return Page(items=[self._answer(job) for job in found], next_cursor=cursor)

    @operation("GET", "/{job_id}", Scope.JOBS_READ)
    def get_training(self, job_id: JobId, by: By, include: Include = None) -> shapes.JobAnswer:
        """Show everything about a job.

        `estimated_completion` is measured from the steps of this attempt, and null before the
        second one. Exact figures are shown to those whose role may see them, and only if
        `include=outside_guarantee` asks for them.
        """
        exact = None
        if include is not None:
            require(by, Scope.RESULTS_OUTSIDE_GUARANTEE, tenant=by.tenant)
            exact = self._exact(job_id, by)
        return self._answer(self._jobs.get(job_id, tenant=by.tenant), exact)

    @operation("GET", "/{job_id}/status", Scope.JOBS_READ, raw=shapes.TrainingStatus)
    async def training_status(self, job_id: JobId, by: By) -> Any:
        """Say where a job stands.

        `privacy_spent` is the price of a run that was planned to end at this step; once it ended,
        what counts as spent. `metrics` are the newest released figures, null before the first.
        An answer may be a fifth of a second old.
        """

        async def read() -> Job:
            return await self._access.run(self._jobs.get, job_id, tenant=by.tenant)

        answer = await self._board.get(by.tenant, job_id, read)
        return Response(answer, media_type="application/json")

    @operation("POST", "/{job_id}/cancel", Scope.JOBS_WRITE, status=202, refuses=(409,))
    async def cancel_training(self, job_id: JobId, by: By) -> shapes.Completion:
        """End a job within seconds. What was charged stays charged."""
        job = await self._access.run(self._jobs.cancel, job_id, tenant=by.tenant, by=by.subject)
        self._board.forget(by.tenant, job_id)
        if job.state.is_final and not job.cancel_requested:
            raise AlreadyEnded(f"the job has ended: it {job.state.value}; nothing was changed")
        return shapes.Completion(
            job_id=job.id, status=job.state, cancel_requested=job.cancel_requested
        )

    def _answer(self, job: Job, exact: list[dict[str, Any]] | None = None) -> shapes.JobAnswer:
        spec = asdict(job.spec)
        for field, kind in (("account", "protection"), ("quota", "quota")):
            if spec[field] is not None:
                spec[field] = name_of(parse_scope(f"{kind}/{spec[field]}"), job.tenant)
        return shapes.JobAnswer.of(job, spec, completion=_completion(job), exact=exact)

    def _exact(self, job_id: str, by: Principal) -> list[dict[str, Any]]:
        """The newest exact figures of a job, oldest first."""
        found: list[dict[str, Any]] = []
        after = 0
        while events := self._jobs.events(job_id, tenant=by.tenant, after=after):
            found += (dict(e.body) for e in events if e.kind is EventKind.EXACT)
            after = events[-1].seq
        return found[-_EXACT_MOST:]


def router(service: Service, access: Access) -> APIRouter:
    """The routes of jobs below `/training`."""
    return router_of(Training(service, access), access, tag="training", prefix="/training")


def _completion(job: Job) -> Any:
    """When the job will be done: as measured, from when it was measured."""
    if job.eta_s is None or job.state is not JobState.RUNNING:
        return None
    return job.updated_at + timedelta(seconds=job.eta_s)
