"""Records of processing and data subjects' requests as JSON. Documented fields come first."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field

from privacy_finetuner.api.shapes.bodies import Answer, Body
from privacy_finetuner.governance.deadlines import Cell, Law, RequestType
from privacy_finetuner.governance.erasure import ArtefactKind, ArtefactOutcome, Outcome
from privacy_finetuner.governance.processing import (
    LONGEST_RETENTION_DAYS,
    SEVERAL_MOST,
    SUBJECTS_MOST,
    Activity,
    DataCategory,
    LegalBasis,
    Processing,
    ProcessingPurpose,
    SpecialCondition,
    export_row,
)
from privacy_finetuner.governance.subject_requests import RequestStatus, SubjectRequest
from privacy_finetuner.governance.verification import DAYS_MOST, Means, Verification

Line = Annotated[str, Field(min_length=1, max_length=500)]
Lines = Annotated[list[Line], Field(default_factory=list, max_length=SEVERAL_MOST)]
SubjectId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=256,
        description="The person's id with you. It is kept as a keyed hash only.",
        examples=["subject_12345"],
    ),
]
Reason = Annotated[
    str, Field(min_length=1, max_length=1000, examples=["the person was told on the phone"])
]


class Words(Body):
    """A body whose words and dates come as JSON writes them."""

    model_config = ConfigDict(strict=False)


class ProcessingBody(Words):
    """A processing activity. The first six fields are the documented ones."""

    data_categories: Annotated[
        list[DataCategory], Field(min_length=1, max_length=len(DataCategory))
    ]
    processing_purpose: ProcessingPurpose
    legal_basis: LegalBasis
    data_subjects_count: Annotated[int, Field(strict=True, ge=0, le=SUBJECTS_MOST)]
    storage_location: Line
    retention_period: Annotated[
        int | None,
        Field(default=None, strict=True, ge=1, le=LONGEST_RETENTION_DAYS, description="In days."),
    ]
    special_condition: SpecialCondition | None = Field(
        default=None, description="Of Art. 9(2) GDPR; needed for special categories."
    )
    controller: Annotated[str, Field(max_length=500)] = ""
    subject_categories: Lines
    recipients: Lines
    transfers: Lines
    security_measures: Lines
    dataset: Annotated[str, Field(max_length=500)] = ""

    def activity(self) -> Activity:
        """What is declared."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in ((name, getattr(self, name)) for name in type(self).model_fields)
        }
        return Activity(**values)


class ProcessingRecorded(Answer):
    """The documented answer, and what is missing from a full record of Art. 30 GDPR."""

    processing_id: str
    status: str = Field(examples=["recorded"])
    compliance_frameworks: list[str] = Field(
        description="Of the configuration, those that apply; empty where none is configured."
    )
    retention_ends: datetime | None
    missing: list[str] = Field(description="Fields of Art. 30(1) GDPR that are empty.")

    @classmethod
    def of(cls, record: Processing) -> Self:
        """A record."""
        return cls(
            processing_id=record.id,
            status="recorded" if record.ended_at is None else "ended",
            compliance_frameworks=list(record.frameworks),
            retention_ends=record.retention_ends,
            missing=list(record.activity.missing),
        )


class ProcessingAnswer(Answer):
    """A whole record."""

    processing_id: str
    data_categories: list[DataCategory]
    processing_purpose: ProcessingPurpose
    legal_basis: LegalBasis
    special_condition: SpecialCondition | None
    data_subjects_count: int
    storage_location: str
    retention_period: int | None
    retention_ends: datetime | None
    controller: str
    subject_categories: list[str]
    recipients: list[str]
    transfers: list[str]
    security_measures: list[str]
    dataset: str
    compliance_frameworks: list[str]
    recorded_at: datetime
    recorded_by: str
    ended_at: datetime | None
    version: int
    missing: list[str]

    @classmethod
    def of(cls, record: Processing) -> Self:
        """A record."""
        return cls(**export_row(record))


class ReasonBody(Body):
    """Why."""

    reason: Reason


class VerificationBody(Words):
    """That you made sure of a person, and how."""

    data_subject_id: SubjectId
    means: Means
    valid_days: Annotated[int, Field(strict=True, ge=1, le=DAYS_MOST)] = 7


class VerificationIssued(Answer):
    """A token for one request of this person; shown here and nowhere else."""

    verification_id: str
    verification_token: str
    means: Means
    expires_at: datetime

    @classmethod
    def of(cls, verification: Verification, token: str) -> Self:
        """A verification and its token."""
        return cls(
            verification_id=verification.id,
            verification_token=token,
            means=verification.means,
            expires_at=verification.expires_at,
        )


class SubjectRequestBody(Words):
    """The documented request."""

    request_type: RequestType
    data_subject_id: SubjectId
    region: Annotated[str, Field(min_length=1, max_length=64, examples=["EU"])]
    verification_token: Annotated[str, Field(min_length=1, max_length=200)]


class SubjectRequestOpened(Answer):
    """The documented answer."""

    request_id: str
    status: RequestStatus
    estimated_completion: datetime = Field(
        description="By when the law wants an answer; the earliest of all laws that apply."
    )
    data_package_url: str | None

    @classmethod
    def of(cls, request: SubjectRequest) -> Self:
        """A request."""
        return cls(
            request_id=request.id,
            status=request.status,
            estimated_completion=request.due_at,
            data_package_url=request.package_url,
        )


class ClockAnswer(Answer):
    """What one law wants, and where it says so."""

    regime: str
    law: str
    due_at: datetime
    extendable_to: datetime | None
    notice: str
    source: str
    confidence: str
    kind: str


class SubjectRequestAnswer(SubjectRequestOpened):
    """A whole request. The person is named by a keyed hash."""

    request_type: RequestType
    subject: str
    region: str
    received_at: datetime
    is_overdue: bool
    clocks: list[ClockAnswer]
    law_version: str
    verification_id: str
    evidence: list[dict[str, Any]]
    artefacts: list[dict[str, Any]]
    reason: str | None
    answered_at: datetime | None

    @classmethod
    def whole(cls, request: SubjectRequest, now: datetime) -> Self:
        """A request as it stands."""
        clocks = [
            ClockAnswer(**{name: getattr(each, name) for name in ClockAnswer.model_fields})
            for each in request.clocks
        ]
        return cls(
            **SubjectRequestOpened.of(request).model_dump(),
            request_type=request.type,
            subject=request.subject,
            region=request.region,
            received_at=request.received_at,
            is_overdue=request.is_overdue(now),
            clocks=clocks,
            law_version=request.law_version,
            verification_id=request.verification,
            evidence=[dict(each) for each in request.evidence],
            artefacts=[dict(each) for each in request.artefacts],
            reason=request.reason,
            answered_at=request.answered_at,
        )


class SubjectSearch(Body):
    """Whose requests. The id travels in the body, so that no log of addresses has it."""

    data_subject_id: SubjectId


class EvidenceBody(Body):
    """A file that shows what was done, by its digest."""

    label: Annotated[str, Field(min_length=1, max_length=1000, examples=["export log"])]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ArtefactBody(Words):
    """What became of one thing that was made of the data."""

    artefact: Annotated[str, Field(min_length=1, max_length=300)]
    kind: ArtefactKind
    outcome: Outcome
    until: datetime | None = None
    epsilon: Annotated[float | None, Field(default=None, ge=0)]
    delta: Annotated[float | None, Field(default=None, ge=0, lt=1)]
    unit: Annotated[str | None, Field(default=None, max_length=20)]
    note: Annotated[str, Field(max_length=300)] = ""

    def outcome_of(self) -> ArtefactOutcome:
        """As a value."""
        return ArtefactOutcome(**{name: getattr(self, name) for name in type(self).model_fields})


class CompletionBody(Words):
    """The answer to a request."""

    artefacts: Annotated[list[ArtefactBody], Field(default_factory=list, max_length=500)]
    data_package_url: Annotated[str | None, Field(default=None, max_length=2000)]


class ErasurePlan(Answer):
    """What has to be decided for the models that were trained on an account's records."""

    dataset: str = Field(examples=["hospital-notes/2026"])
    artefacts: list[dict[str, Any]]


class LawCell(Answer):
    """What one law wants for one kind of request."""

    regime: str
    law: str
    regions: list[str]
    request_type: RequestType
    amount: int
    unit: str
    extension_amount: int | None
    extension_unit: str | None
    source: str
    confidence: str
    kind: str

    @classmethod
    def of(cls, request: str, cell: Cell, law: Law) -> Self:
        """A cell of the table."""
        extension = cell.extension
        return cls(
            regime=cell.regime,
            law=cell.law,
            regions=[name for name, regimes in law.regions.items() if cell.regime in regimes],
            request_type=RequestType(request),
            amount=cell.span.amount,
            unit=cell.span.unit.value,
            extension_amount=None if extension is None else extension.amount,
            extension_unit=None if extension is None else extension.unit.value,
            source=cell.source,
            confidence=cell.confidence,
            kind=cell.kind,
        )


class LawAnswer(Answer):
    """The table of deadlines. Not legal advice."""

    version: str
    cells: list[LawCell]


class ComplianceSummary(Answer):
    """What needs an officer now."""

    open_requests: int = Field(examples=[3])
    overdue_requests: int
    due_within_7_days: int
    processing_activities: int
    retention_overdue: int
    frameworks: list[str]
