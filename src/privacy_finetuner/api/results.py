"""What a job left: its privacy report, its page, its certificate, its files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Query
from starlette.responses import FileResponse, HTMLResponse, Response

from privacy_finetuner.api.errors import NotReady
from privacy_finetuner.api.routes import By, operation, router_of
from privacy_finetuner.api.shapes import training as shapes
from privacy_finetuner.api.training import Include, JobId
from privacy_finetuner.jobs import Artefact, Job, Left, UnknownArtefact
from privacy_finetuner.service import Service
from privacy_runtime.http.access import Access
from privacy_runtime.http.envelope import Json
from privacy_runtime.identity import Principal, Scope, require

CERTIFICATE: Final = "certificate.json"
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", examples=["report.html"])]
_DOCUMENTS: Final = frozenset(
    {
        "report.html", "privacy_report.json", "privacy_state.json", "statement.json", "run.jsonl",
        CERTIFICATE,
    }
)  # fmt: skip
"""What may be read with the results; everything else is the model."""
_PAGE_POLICY: Final = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
    "frame-ancestors 'self'"
)
"""Of a page that carries its own styles: it runs nothing and loads nothing."""
_FILE: Final = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_HTML: Final = {"text/html": {"schema": {"type": "string"}, "example": "<!doctype html>..."}}
_CERTIFICATE: Final = {
    "application/json": {
        "schema": {"type": "object", "description": "See docs/certificates.md."},
        "example": {"type": "privacy-certificate", "version": 1},
    },
    "text/html": {"schema": {"type": "string"}, "example": "<!doctype html>..."},
    "application/pdf": {"schema": {"type": "string", "format": "binary"}},
}


class Results:
    """Results over HTTP.

    Args:
        service: whose jobs.
    """

    def __init__(self, service: Service) -> None:
        self._service, self._jobs, self._left = service, service.jobs, Left(jobs=service.jobs)

    @operation(
        "GET",
        "/{job_id}/privacy-report",
        Scope.RESULTS_READ,
        refuses=(409,),
        raw=shapes.PrivacyReportAnswer,
        rate="starts",
    )
    def privacy_report(self, job_id: JobId, by: By) -> Any:
        """Say what a job promised, spent and has left.

        `epsilon_theoretical` is the price of the run's event, recomputed from its record: an upper
        bound that always holds, so `confidence_level` is null. While a job runs, every charged step
        counts. `not_ready` (409): it has not planned its first step yet.
        """
        job = self._jobs.get(job_id, tenant=by.tenant)
        return Json(report_of(self._folder(job), job))

    @operation(
        "GET", "/{job_id}/report", Scope.RESULTS_READ, raw=_HTML, refuses=(409,), rate="starts"
    )
    def training_report(self, job_id: JobId, by: By) -> Response:
        """Show a job's report as a page: self-contained, for screen and paper."""
        job = self._jobs.get(job_id, tenant=by.tenant)
        headers = {"Content-Security-Policy": _PAGE_POLICY}
        return HTMLResponse(self._page(job), headers=headers)

    @operation("GET", "/{job_id}/artefacts", Scope.RESULTS_READ)
    def list_artefacts(self, job_id: JobId, by: By, include: Include = None) -> shapes.Artefacts:
        """List the files that a job left, those outside the guarantee only on request."""
        shown = self._artefacts(job_id, by, include)
        return shapes.Artefacts(items=[shapes.ArtefactAnswer.of(each) for each in shown])

    @operation("GET", "/{job_id}/artefacts/{name}", Scope.RESULTS_READ, raw=_FILE)
    def download_artefact(
        self, job_id: JobId, name: Name, by: By, include: Include = None
    ) -> Response:
        """Download a file that a job left.

        Files of the model take the scope `models:export`; reports and certificates do not. `ETag`
        is the file's SHA-256; ranges are served. With a store of artefacts, a file is checked
        before its first byte is sent: `artefact_damaged` (502), `artefacts_unavailable` (503).
        """
        if name not in _DOCUMENTS and include is None:
            require(by, Scope.MODELS_EXPORT, tenant=by.tenant)
        for artefact in self._artefacts(job_id, by, include):
            if artefact.name == name:
                path = self._jobs.artefact_path(job_id, name, tenant=by.tenant)
                return _file(path, artefact)
        raise UnknownArtefact

    @operation("GET", "/{job_id}/certificate", Scope.RESULTS_READ, raw=_CERTIFICATE, refuses=(409,))
    def training_certificate(
        self,
        job_id: JobId,
        by: By,
        form: Annotated[
            Literal["json", "html", "pdf"], Query(description="The file itself, a page, a paper.")
        ] = "json",
    ) -> Response:
        """Download a job's certificate: signed, and recomputed by anybody.

        `not_ready` (409): the job has none: it is not done, or was started without.
        """
        self._jobs.get(job_id, tenant=by.tenant)
        try:
            path = self._jobs.artefact_path(job_id, CERTIFICATE, tenant=by.tenant)
        except UnknownArtefact:
            raise NotReady("the job has no certificate") from None
        return self._shown(path.read_bytes(), job_id, form)

    def _shown(self, content: bytes, job_id: str, form: str) -> Response:
        place = {"Content-Disposition": f'attachment; filename="{job_id}-certificate.{form}"'}
        if form == "json":
            return Response(content, media_type="application/json", headers=place)
        from privacy_finetuner.assessment import (  # noqa: PLC0415  templates and fonts
            certificate_page,
            certificate_paper,
            certificate_view,
        )

        standing = certificate_view.standing_of(
            content, trusted=self._service.signing.trusted(), now=self._service.clock.now()
        )
        view = certificate_view.view_of(standing)
        if form == "html":
            page = {"Content-Security-Policy": _PAGE_POLICY}
            return HTMLResponse(certificate_page.page(view), headers=page)
        return Response(certificate_paper.paper(view), media_type="application/pdf", headers=place)

    def _folder(self, job: Job) -> FilePath:
        folder = self._left.papers(job)
        if (folder / "run.jsonl").is_file():
            return folder
        if job.steps:
            raise NotReady("the run's record is not here: another machine has it until the end")
        raise NotReady("the job has not planned its first step yet; nothing was spent")

    def _page(self, job: Job) -> str:
        from privacy_finetuner import reports  # noqa: PLC0415  plots take a second to load

        with tempfile.TemporaryDirectory() as place:
            return reports.write_html(self._folder(job), FilePath(place, "report.html")).read_text()

    def _artefacts(self, job_id: str, by: Principal, include: str | None) -> list[Artefact]:
        if include is not None:
            require(by, Scope.RESULTS_OUTSIDE_GUARANTEE, tenant=by.tenant)
        found = self._jobs.artefacts(job_id, tenant=by.tenant)
        return [each for each in found if include or not each.outside_guarantee]


def router(service: Service, access: Access) -> APIRouter:
    """The results below `/training`."""
    return router_of(Results(service), access, tag="results", prefix="/training")


def report_of(folder: FilePath, job: Job) -> dict[str, Any]:
    """The documented report of a run folder, as plain JSON; of an unfinished run, as it stands.

    With an account of the ledger, spent and remaining are the account's once the run has ended, and
    what remains is unknown before.

    Raises:
        ConfigurationError, CheckpointError, RunRecordDamaged: the folder holds no whole run.
    """
    from privacy_finetuner.reports import read_folder  # noqa: PLC0415  plots take a second to load

    run = read_folder(folder)
    steps = run.charged_steps
    price = run.plan.epsilon(run.plan.priced_steps(steps)) if steps else 0.0
    spent = {"epsilon": price, "delta": run.plan.delta if steps else 0.0}
    asked = job.spec.privacy
    left = {
        "epsilon": max(0.0, float(asked["epsilon"]) - price),
        "delta": max(0.0, float(asked["delta"]) - spent["delta"]),
    }
    stored: Mapping[str, Any] = run.report or {}
    stats = stored.get("gradient_norm_stats") or {}
    return {
        "privacy_spent": _amount(stored.get("privacy_spent"), spent),
        "privacy_remaining": _amount(
            stored.get("privacy_remaining"), left if job.spec.account is None else None
        ),
        "theoretical_guarantees": {"epsilon_theoretical": price, "confidence_level": None},
        "training_rounds": steps,
        "gradient_stats": {
            "mean_norm": stats.get("mean_norm"),
            "clipping_rate": stats.get("clipping_rate"),
        },
    }


def _amount(stored: Mapping[str, Any] | None, other: dict[str, float] | None) -> Any:
    if stored is None:
        return other
    return {"epsilon": stored["epsilon"], "delta": stored["delta"]}


def _file(path: FilePath, artefact: Artefact) -> Response:
    return FileResponse(
        path,
        media_type=artefact.media_type,
        filename=artefact.name,
        headers={"Content-Security-Policy": _PAGE_POLICY, "ETag": f'"{artefact.sha256}"'},
    )
