"""Training jobs: started, followed, cancelled, and what they leave."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from privacy_finetuner.client.asynchronous.downloading import AsyncDownload
from privacy_finetuner.client.asynchronous.following import AsyncFollowing
from privacy_finetuner.client.asynchronous.paging import AsyncGroup
from privacy_finetuner.client.calls import Call, given, place
from privacy_finetuner.client.decoding import decoded
from privacy_finetuner.client.downloads import Progress
from privacy_finetuner.client.errors import NotFound
from privacy_finetuner.client.shapes.training import (
    Artefact,
    ArtefactEntries,
    Cancellation,
    Job,
    JobEvent,
    PrivacyReport,
    StartedJob,
    TrainingStatus,
)

_PATIENCE_S: Final = 300.0


class AsyncJobs(AsyncGroup):
    """The training jobs of one's organisation."""

    async def start_training(  # noqa: PLR0913 -- one argument a field of the request
        self,
        model_name: str,
        dataset_path: str,
        *,
        privacy_config: Mapping[str, Any] | None = None,
        training_config: Mapping[str, Any] | None = None,
        name: str | None = None,
        account: str | None = None,
        quota: str | None = None,
        priority: int | None = None,
        certificate: bool | None = None,
        idempotency_key: str | None = None,
    ) -> StartedJob:
        """Submit a training job. When this returns, the job is on the service's disk.

        What is left out has the service's own default. A lost connection does no harm: the request
        is sent again under the same idempotency key and starts nothing twice.

        Args:
            model_name: `sample:model`, a folder that the service allows, `job:JOB_ID`, or a name.
            dataset_path: `sample:records`, or a file that the service allows.
            privacy_config: keywords of `PrivacyConfig`.
            training_config: keywords of `PrivateTrainer.train`, as far as JSON has them.
            name: what people call it.
            account: budget account of the records, as COHORT/SLICE.
            quota: whose quota is charged besides.
            priority: -10 to 10; higher first, within one's organisation.
            certificate: whether a certificate is issued when it is done.
            idempotency_key: for a retry in another process; otherwise made here.

        Example::

            job = await client.jobs.start_training(
                "sample:model", "sample:records",
                privacy_config={"epsilon": 8.0, "delta": 1e-5},
                training_config={"epochs": 2, "batch_size": 256},
            )
        """
        body = given(
            model_name=model_name,
            dataset_path=dataset_path,
            privacy_config=None if privacy_config is None else dict(privacy_config),
            training_config=None if training_config is None else dict(training_config),
            name=name,
            account=account,
            quota=quota,
            priority=priority,
            certificate=certificate,
        )
        return await self._post(place("training", "start"), StartedJob, body, idempotency_key)

    def list_training(
        self,
        *,
        status: str | Sequence[str] | None = None,
        mine: bool = False,
        page_size: int | None = None,
    ) -> AsyncIterator[Job]:
        """All jobs that one may see, newest first, page by page as they are asked for.

        Args:
            status: only jobs in one of these states.
            mine: only one's own.
            page_size: of one request; the service bounds it.
        """
        states = [status] if isinstance(status, str) else status
        query = {"status": states, "mine": mine or None, "limit": page_size}
        return self._pages(place("training"), Job, query)

    async def get_training(self, job_id: str) -> Job:
        """A job as a whole.

        Raises:
            NotFound: there is none, or it is another organisation's.
        """
        return await self._get(place("training", job_id), Job)

    async def training_status(self, job_id: str) -> TrainingStatus:
        """Where a job stands, in the documented shape: the quickest question there is."""
        return await self._get(place("training", job_id, "status"), TrainingStatus)

    async def privacy_report(self, job_id: str) -> PrivacyReport:
        """What a job spent and has left."""
        return await self._get(place("training", job_id, "privacy-report"), PrivacyReport)

    async def cancel_training(self, job_id: str) -> Cancellation:
        """Ask a job to end. What it has charged stays charged. Asking twice is asking once."""
        return await self._post(place("training", job_id, "cancel"), Cancellation)

    def watch(
        self, job_id: str, *, after: int = 0, patience_s: float = _PATIENCE_S
    ) -> AsyncIterator[JobEvent]:
        """The story of a job as it happens, to its end.

        Each event comes once and in order, also across lost connections and restarts of the
        service. Numbers of events that one may not see are missing.

        Args:
            job_id: of the job.
            after: `seq` of the last event that is known already.
            patience_s: for how long the service may be gone before `StreamSilent` is raised.

        Example::

            async for event in client.jobs.watch(job.job_id):
                print(event.seq, event.kind, dict(event.body))
        """
        following = AsyncFollowing(self._session, job_id, after=after, patience_s=patience_s)
        return following.events()

    async def wait(self, job_id: str, *, patience_s: float = _PATIENCE_S) -> Job:
        """A job when it has ended, however it did."""
        async for _ in self.watch(job_id, patience_s=patience_s):
            pass
        return await self.get_training(job_id)

    async def training_history(
        self, job_id: str, *, after: int = 0, limit: int | None = None
    ) -> tuple[JobEvent, ...]:
        """What happened to a job so far, oldest first, without waiting for more."""
        query = {"after": after, "limit": limit}
        return await self._get(place("training", job_id, "history"), tuple[JobEvent, ...], query)

    async def list_artefacts(self, job_id: str) -> tuple[Artefact, ...]:
        """The files that a job left and that one may see."""
        return (await self._get(place("training", job_id, "artefacts"), ArtefactEntries)).items

    async def download_artefact(
        self, job_id: str, name: str, target: Path | str, *, progress: Progress | None = None
    ) -> Path:
        """Fetch a file of a job. It appears under its name only when it is whole and checked.

        A download that was cut off, also by the end of this process, goes on where it stopped.

        Args:
            job_id: of the job.
            name: of the artefact.
            target: a file, or a folder to put it into.
            progress: called with the bytes that are here and those that there are.

        Raises:
            NotFound: the job left no such file, or one may not see it.
            DownloadDamaged: the content is not what the service announced.
        """
        found = {artefact.name: artefact for artefact in await self.list_artefacts(job_id)}
        if name not in found:
            raise NotFound(
                f"job {job_id} left no file {name!r} that you may see; there are: "
                f"{', '.join(sorted(found)) or 'none'}",
                status=404,
                code="not_found",
            )
        call = Call(method="GET", path=place("training", job_id, "artefacts", *name.split("/")))
        return await AsyncDownload(self._session, call, found[name]).to(Path(target), progress)

    async def training_certificate(self, job_id: str) -> dict[str, Any]:
        """The certificate of a job, to be verified by anybody, offline."""
        return decoded(dict[str, Any], await self.certificate_text(job_id))

    async def certificate_text(self, job_id: str) -> str:
        """The certificate of a job as it was signed: byte for byte what verifies."""
        return await self._text(place("training", job_id, "certificate"))

    async def training_report(self, job_id: str) -> str:
        """The report of a job as a page of HTML."""
        return await self._text(place("training", job_id, "report"))
