"""Tools about training: start, follow, end, read what came out."""

from __future__ import annotations

import math
from typing import Any, Final

import anyio
from mcp.server.mcpserver import MCPServer

from privacy_finetuner.client import AsyncClient
from privacy_finetuner.client.calls import given
from privacy_finetuner.client.shapes.training import Job
from privacy_finetuner.mcp_server import fields
from privacy_finetuner.mcp_server.answers import (
    Cancelled,
    Certificate,
    JobList,
    JobSummary,
    Names,
    Report,
    Started,
)
from privacy_finetuner.mcp_server.clients import (
    READS,
    Asked,
    Clients,
    acts,
    failures_told,
    misses_told,
)

_LOOK_S: Final = 1.0
_JOB: Final = "privacy-finetuner://jobs/{job_id}"


def add(server: MCPServer[Any], clients: Clients) -> None:
    """Add the tools and resources to a server."""
    jobs, results = Jobs(clients), Results(clients)
    # What is spent of a privacy budget does not come back, and a second call spends again.
    starts, ends = acts(is_destructive=True, is_idempotent=False), acts(is_destructive=True)
    server.tool(title="Start a private training job", annotations=starts)(jobs.start_training)
    server.tool(title="End a training job", annotations=ends)(jobs.cancel_training)
    server.tool(title="Training jobs", annotations=READS)(jobs.list_jobs)
    server.tool(title="How far a job is", annotations=READS)(jobs.training_status)
    server.tool(title="Models that can be trained", annotations=READS)(jobs.list_models)
    server.tool(title="Data sets to train on", annotations=READS)(jobs.list_datasets)
    server.tool(title="What a job promised and spent", annotations=READS)(results.privacy_report)
    server.tool(title="The certificate of a job", annotations=READS)(results.certificate)
    server.resource(
        f"{_JOB}/report",
        name="report",
        title="Report of a job",
        description="The whole report of a training job as a self-contained page.",
        mime_type="text/html",
    )(results.report_page)
    server.resource(
        f"{_JOB}/certificate",
        name="certificate",
        title="Certificate of a job",
        description="The signed certificate of a training job, as it was signed.",
        mime_type="application/json",
    )(results.certificate_file)


class Jobs:
    """Training jobs as tools; the docstrings are what a model reads.

    Args:
        clients: whose hands each call uses.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    async def start_training(  # noqa: PLR0913 -- one argument a field of the request
        self,
        context: Asked,
        *,
        model_name: fields.ModelName,
        dataset_path: fields.DatasetPath,
        epsilon: fields.Epsilon,
        delta: fields.Delta = None,
        epochs: fields.Epochs = None,
        batch_size: fields.BatchSize = None,
        learning_rate: fields.LearningRate = None,
        account: fields.JobAccount = None,
        name: fields.JobName = None,
        request_key: fields.RequestKey = None,
    ) -> Started:
        """Fine-tune a model on private records within a privacy budget.

        Spends privacy budget for good once the first step was taken: do not call it to try things
        out. Returns at once with the id of the job; follow it with training_status. Nothing is
        spent if the request is refused.
        """
        rate = "auto" if learning_rate is None else learning_rate
        async with failures_told(self._clients, context) as client:
            started = await client.jobs.start_training(
                model_name,
                dataset_path,
                privacy_config=given(epsilon=epsilon, delta=delta),
                training_config=given(epochs=epochs, batch_size=batch_size, learning_rate=rate),
                account=account,
                name=name,
                idempotency_key=request_key,
            )
            return Started.of(started)

    async def cancel_training(self, context: Asked, job_id: fields.JobId) -> Cancelled:
        """End a job within seconds. What it has spent of the privacy budget stays spent.

        The steps that it took are not undone, and cannot be had again for free.
        """
        async with failures_told(self._clients, context) as client:
            return Cancelled.of(await client.jobs.cancel_training(job_id))

    async def list_jobs(
        self,
        context: Asked,
        status: fields.State = None,
        mine: fields.Mine = False,
        limit: fields.Most = 20,
    ) -> JobList:
        """List the training jobs of the organisation, newest first."""
        async with failures_told(self._clients, context) as client:
            found: list[JobSummary] = []
            async for job in client.jobs.list_training(status=status, mine=mine, page_size=limit):
                found.append(JobSummary.of_job(job))
                if len(found) == limit:
                    break
            return JobList(jobs=found)

    async def training_status(
        self, context: Asked, job_id: fields.JobId, wait_s: fields.Wait = 0.0
    ) -> JobSummary:
        """Say where a job stands: state, steps, privacy spent, released loss, seconds to go.

        With wait_s the answer comes when the job has ended or the time is over, whichever is first.
        """
        async with failures_told(self._clients, context) as client:
            return JobSummary.of_job(await _followed(client, context, job_id, wait_s))

    async def list_models(self, context: Asked) -> Names:
        """Names of the models that start_training accepts."""
        async with failures_told(self._clients, context) as client:
            return Names(names=[one.name for one in await client.models.list_models()])

    async def list_datasets(self, context: Asked) -> Names:
        """Names of the data sets that start_training accepts. Shows nothing of their records."""
        async with failures_told(self._clients, context) as client:
            return Names(names=[one.name for one in await client.models.list_datasets()])


class Results:
    """What jobs leave, as tools and resources.

    Args:
        clients: whose hands each call uses.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    async def privacy_report(self, context: Asked, job_id: fields.JobId) -> Report:
        """The privacy report of a job: epsilon and delta spent and left, steps, released figures.

        epsilon_theoretical is an upper bound that always holds, so its confidence_level is null.
        """
        async with failures_told(self._clients, context) as client:
            return Report.of(await client.jobs.privacy_report(job_id))

    async def certificate(self, context: Asked, job_id: fields.JobId) -> Certificate:
        """The signed certificate of a finished job: what its model promises, to show to others.

        Anybody can verify it offline: privacy-finetuner certificate verify FILE.
        """
        async with failures_told(self._clients, context) as client:
            text = await client.jobs.certificate_text(job_id)
            return Certificate(job_id=job_id, certificate=text)

    async def report_page(self, job_id: str, context: Asked) -> str:
        """The report of a job as a page."""
        async with misses_told(self._clients, context) as client:
            return await client.jobs.training_report(job_id)

    async def certificate_file(self, job_id: str, context: Asked) -> str:
        """The certificate of a job as it was signed."""
        async with misses_told(self._clients, context) as client:
            return await client.jobs.certificate_text(job_id)


async def _followed(client: AsyncClient, context: Asked, job_id: str, wait_s: float) -> Job:
    """A job, after at most so many seconds; each step forward is reported."""
    job = await client.jobs.get_training(job_id)
    reported = -1
    with anyio.move_on_after(wait_s):
        while wait_s and not job.is_final:
            reported = await _reported(context, job, reported)
            await anyio.sleep(_LOOK_S)
            job = await client.jobs.get_training(job_id)
    if wait_s:
        await _reported(context, job, reported)
    return job


async def _reported(context: Asked, job: Job, before: int) -> int:
    """Tell the caller how far a job is, if it is further than before; how far that is."""
    if job.step <= before:
        return before
    loss = job.metrics.get("loss")
    figures = "" if loss is None or not math.isfinite(loss) else f", loss {loss:.4g}"
    said = f"{job.status}, epsilon {job.privacy_spent.epsilon:.4g}{figures}"
    await context.report_progress(job.step, job.steps or None, said)
    return job.step
