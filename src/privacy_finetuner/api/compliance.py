"""The record of processing, and what data subjects ask for.

Scopes: reading and writing are the privacy officer's. Opening a request needs a verification
token, which an officer issues after making sure of the person; see `governance.verification`.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Query, Response

from privacy_finetuner.api.listing import newest_first
from privacy_finetuner.api.routes import By, Paged, operation, router_of
from privacy_finetuner.api.shapes import compliance as shapes
from privacy_finetuner.governance.accounts import ledger_account
from privacy_finetuner.governance.deadlines import law
from privacy_finetuner.governance.erasure import TrainedModel, plan
from privacy_finetuner.governance.processing import (
    DataCategory,
    Processing,
    ProcessingPurpose,
    as_csv,
    export_row,
    frameworks_of,
)
from privacy_finetuner.governance.subject_requests import RequestStatus, SubjectRequest
from privacy_finetuner.jobs.model import Job, JobState
from privacy_finetuner.service import Service
from privacy_runtime.http.access import Access
from privacy_runtime.http.envelope import Json
from privacy_runtime.http.pages import Page
from privacy_runtime.identity import Scope

ProcessingId = Annotated[str, Path(pattern=r"^proc_[0-9a-f]{32}$", examples=["proc_" + "0" * 32])]
RequestId = Annotated[str, Path(pattern=r"^req_[0-9a-f]{32}$", examples=["req_" + "0" * 32])]
_SOON: Final = timedelta(days=7)
_JOBS_PAGE: Final = 1000


class Compliance:
    """The officer's registers over HTTP.

    Args:
        service: whose registers.
    """

    def __init__(self, service: Service) -> None:
        self._clock, self._jobs, desks = service.clock, service.jobs, service.desks
        self._law = service.config.compliance
        self._register, self._requests = desks.processing, desks.subject_requests
        self._verifications = desks.verifications

    @operation("POST", "/data-processing", Scope.COMPLIANCE_WRITE)
    def record_data_processing(
        self, body: shapes.ProcessingBody, by: By
    ) -> shapes.ProcessingRecorded:
        """Record a processing activity (Art. 30 GDPR)."""
        made = self._register.record(by.tenant, body.activity(), by=by.subject)
        return shapes.ProcessingRecorded.of(made)

    @operation("GET", "/data-processing", Scope.COMPLIANCE_READ)
    def list_data_processing(
        self,
        by: By,
        page: Paged,
        category: DataCategory | None = None,
        purpose: ProcessingPurpose | None = None,
        text: Annotated[
            str, Query(max_length=100, description="In places, names, recipients.")
        ] = "",
    ) -> Page[shapes.ProcessingAnswer]:
        """List the record of processing, newest first."""
        found = self._register.find(by.tenant, category=category, purpose=purpose, text=text)
        return newest_first(found, page, _newest_record, shapes.ProcessingAnswer.of)

    @operation(
        "GET",
        "/data-processing/export",
        Scope.COMPLIANCE_READ,
        raw={"application/json": {}, "text/csv": {}},
    )
    def export_data_processing(
        self, by: By, form: Annotated[Literal["json", "csv"], Query(alias="format")] = "json"
    ) -> Response:
        """Export the whole record of processing, for an authority: JSON or CSV."""
        register = self._register.find(by.tenant)
        name = f'attachment; filename="record-of-processing.{form}"'
        if form == "csv":
            return Response(
                as_csv(register), media_type="text/csv", headers={"Content-Disposition": name}
            )
        rows = [export_row(each) for each in register]
        return Json({"records": rows}, headers={"Content-Disposition": name})

    @operation("GET", "/data-processing/{processing_id}", Scope.COMPLIANCE_READ)
    def get_data_processing(self, processing_id: ProcessingId, by: By) -> shapes.ProcessingAnswer:
        """Show a processing activity."""
        return shapes.ProcessingAnswer.of(self._register.get(by.tenant, processing_id))

    @operation(
        "POST", "/data-processing/{processing_id}/end", Scope.COMPLIANCE_WRITE, refuses=(409,)
    )
    def end_data_processing(
        self, processing_id: ProcessingId, body: shapes.ReasonBody, by: By
    ) -> shapes.ProcessingAnswer:
        """Declare an activity over: its data is not processed any more. It stays in the record."""
        ended = self._register.end(by.tenant, processing_id, by=by.subject, reason=body.reason)
        return shapes.ProcessingAnswer.of(ended)

    @operation("POST", "/verifications", Scope.COMPLIANCE_WRITE, status=201, is_secret=True)
    def verify_data_subject(
        self, body: shapes.VerificationBody, by: By
    ) -> shapes.VerificationIssued:
        """Say that you made sure of a person, and how; get a token for one request of theirs.

        What this service checks later is the token. How the person was checked is your word, and
        is kept with your id.
        """
        verification, token = self._verifications.issue(
            by.tenant,
            subject=body.data_subject_id,
            means=body.means,
            by=by.subject,
            days=body.valid_days,
        )
        return shapes.VerificationIssued.of(verification, token.reveal())

    @operation("POST", "/data-subject-request", Scope.COMPLIANCE_WRITE, refuses=(403,))
    def data_subject_request(
        self, body: shapes.SubjectRequestBody, by: By
    ) -> shapes.SubjectRequestOpened:
        """Open a request of a data subject. A token opens one; sent again, it finds the same.

        `estimated_completion` is the law's deadline, not a guess: the earliest of all laws that
        apply in the region. A region or kind of request without a known deadline is refused.
        """
        opened = self._requests.open(
            by.tenant,
            request=body.request_type,
            subject=body.data_subject_id,
            region=body.region,
            token=body.verification_token,
            by=by.subject,
        )
        return shapes.SubjectRequestOpened.of(opened)

    @operation("GET", "/data-subject-request", Scope.COMPLIANCE_READ)
    def list_data_subject_requests(
        self,
        by: By,
        page: Paged,
        status: RequestStatus | None = None,
        overdue: Annotated[bool, Query(description="Only those that are late.")] = False,
    ) -> Page[shapes.SubjectRequestAnswer]:
        """List data subjects' requests, newest first."""
        found = self._requests.find(by.tenant, status=status)
        now = self._clock.now()
        chosen = [each for each in found if not overdue or each.is_overdue(now)]
        return newest_first(chosen, page, _newest_request, self._shown)

    @operation("POST", "/data-subject-request/search", Scope.COMPLIANCE_READ, is_secret=True)
    def find_data_subject_requests(
        self, body: shapes.SubjectSearch, by: By
    ) -> list[shapes.SubjectRequestAnswer]:
        """Find the requests of one person by the id that you know them by."""
        found = self._requests.find(by.tenant, subject=body.data_subject_id)
        return [self._shown(each) for each in found]

    @operation("GET", "/data-subject-request/{request_id}", Scope.COMPLIANCE_READ)
    def get_data_subject_request(
        self, request_id: RequestId, by: By
    ) -> shapes.SubjectRequestAnswer:
        """Show a request, with every law that dates it."""
        return self._shown(self._requests.get(by.tenant, request_id))

    @operation(
        "POST", "/data-subject-request/{request_id}/extend", Scope.COMPLIANCE_WRITE, refuses=(409,)
    )
    def extend_data_subject_request(
        self, request_id: RequestId, body: shapes.ReasonBody, by: By
    ) -> shapes.SubjectRequestAnswer:
        """Take the one extension that the law allows. Telling the person is yours to do."""
        done = self._requests.extend(by.tenant, request_id, by=by.subject, reason=body.reason)
        return self._shown(done)

    @operation(
        "POST",
        "/data-subject-request/{request_id}/evidence",
        Scope.COMPLIANCE_WRITE,
        refuses=(409,),
    )
    def attach_evidence(
        self, request_id: RequestId, body: shapes.EvidenceBody, by: By
    ) -> shapes.SubjectRequestAnswer:
        """Attach evidence by its digest. The file stays with you."""
        done = self._requests.attach(
            by.tenant, request_id, label=body.label, sha256=body.sha256, by=by.subject
        )
        return self._shown(done)

    @operation(
        "POST",
        "/data-subject-request/{request_id}/complete",
        Scope.COMPLIANCE_WRITE,
        refuses=(409,),
    )
    def complete_data_subject_request(
        self, request_id: RequestId, body: shapes.CompletionBody, by: By
    ) -> shapes.SubjectRequestAnswer:
        """Answer a request. An erasure says what became of each thing.

        A model is never `deleted` from: it is retired, trained again, or kept with its bound.
        """
        done = self._requests.complete(
            by.tenant,
            request_id,
            by=by.subject,
            artefacts=[each.outcome_of() for each in body.artefacts],
            package_url=body.data_package_url,
        )
        return self._shown(done)

    @operation(
        "POST", "/data-subject-request/{request_id}/refuse", Scope.COMPLIANCE_WRITE, refuses=(409,)
    )
    def refuse_data_subject_request(
        self, request_id: RequestId, body: shapes.ReasonBody, by: By
    ) -> shapes.SubjectRequestAnswer:
        """Refuse a request, with the reason that the person is told."""
        done = self._requests.refuse(by.tenant, request_id, by=by.subject, reason=body.reason)
        return self._shown(done)

    @operation(
        "POST",
        "/data-subject-request/{request_id}/withdraw",
        Scope.COMPLIANCE_WRITE,
        refuses=(409,),
    )
    def withdraw_data_subject_request(
        self, request_id: RequestId, body: shapes.ReasonBody, by: By
    ) -> shapes.SubjectRequestAnswer:
        """Close a request that the person took back."""
        done = self._requests.withdraw(by.tenant, request_id, by=by.subject, reason=body.reason)
        return self._shown(done)

    @operation("GET", "/erasure-plan", Scope.COMPLIANCE_READ)
    def erasure_plan(
        self,
        by: By,
        dataset: Annotated[
            str, Query(min_length=1, max_length=600, description="The records' account.")
        ],
    ) -> shapes.ErasurePlan:
        """List the models that were trained on an account's records, for an erasure.

        With the bound of each. Nothing is decided here, and nothing is erased.
        """
        account = ledger_account(by.tenant, dataset)
        trained = [job for job in self._finished(by.tenant) if job.spec.account == account]
        return shapes.ErasurePlan(
            dataset=dataset,
            artefacts=[asdict(each) for each in plan([_model_of(job) for job in trained])],
        )

    @operation("GET", "/deadlines", Scope.COMPLIANCE_READ)
    def legal_deadlines(self) -> shapes.LawAnswer:
        """Show the table of deadlines: what each law wants, its source, and how sure we are."""
        table = law()
        cells = [
            shapes.LawCell.of(request, cell, table) for (_, request), cell in table.cells.items()
        ]
        return shapes.LawAnswer(version=table.version, cells=cells)

    @operation("GET", "/summary", Scope.COMPLIANCE_READ)
    def compliance_summary(self, by: By) -> shapes.ComplianceSummary:
        """Say what needs an officer now."""
        now, requests = self._clock.now(), self._requests.find(by.tenant)
        waiting = [each for each in requests if each.status.is_open]
        register = self._register.find(by.tenant)
        return shapes.ComplianceSummary(
            open_requests=len(waiting),
            overdue_requests=sum(each.is_overdue(now) for each in waiting),
            due_within_7_days=sum(now <= each.due_at <= now + _SOON for each in waiting),
            processing_activities=sum(each.ended_at is None for each in register),
            retention_overdue=sum(each.is_overdue(now) for each in register),
            frameworks=frameworks_of(self._law.frameworks, self._law.primary_regions),
        )

    def _shown(self, request: SubjectRequest) -> shapes.SubjectRequestAnswer:
        return shapes.SubjectRequestAnswer.whole(request, self._clock.now())

    def _finished(self, tenant: str) -> list[Job]:
        """Every job that left a model."""
        found: list[Job] = []
        before: str | None = None
        while page := self._jobs.find(
            tenant, states=(JobState.SUCCEEDED,), limit=_JOBS_PAGE, before=before
        ):
            found += page
            before = page[-1].id
        return found


def router(service: Service, access: Access) -> APIRouter:
    """The routes below `/compliance`."""
    return router_of(Compliance(service), access, tag="compliance", prefix="/compliance")


def _model_of(job: Job) -> TrainedModel:
    unit: Any = job.spec.privacy.get("unit", "example")
    return TrainedModel(name=f"job:{job.id}", epsilon=job.epsilon, delta=job.delta, unit=str(unit))


def _newest_record(record: Processing) -> tuple[str, str]:
    return record.created_at.isoformat(), record.id


def _newest_request(request: SubjectRequest) -> tuple[str, str]:
    return request.received_at.isoformat(), request.id
