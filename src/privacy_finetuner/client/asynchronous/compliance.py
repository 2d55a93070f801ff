"""Compliance: the record of processing, and what data subjects ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from privacy_finetuner.client.asynchronous.paging import AsyncGroup
from privacy_finetuner.client.calls import Json, given, place
from privacy_finetuner.client.shapes.governance import (
    ComplianceSummary,
    ErasurePlan,
    Law,
    Processing,
    ProcessingRecorded,
    SubjectRequest,
    SubjectRequestWhole,
    VerificationIssued,
)
from privacy_runtime.secret import Secret


class AsyncCompliance(AsyncGroup):
    """The record of processing, and requests of data subjects: an officer's registers."""

    async def record_data_processing(
        self,
        *,
        data_categories: Sequence[str],
        processing_purpose: str,
        legal_basis: str,
        data_subjects_count: int,
        storage_location: str,
        retention_period: int | None = None,
        **further: Any,
    ) -> ProcessingRecorded:
        """Record a processing activity (Art. 30 GDPR).

        Args:
            data_categories: what kinds of data.
            processing_purpose: what for.
            legal_basis: of Art. 6 GDPR.
            data_subjects_count: how many people.
            storage_location: where.
            retention_period: days.
            **further: `special_condition`, `controller`, `subject_categories`, `recipients`,
                `transfers`, `security_measures`, `dataset`.
        """
        body = {
            "data_categories": list(data_categories),
            "processing_purpose": processing_purpose,
            "legal_basis": legal_basis,
            "data_subjects_count": data_subjects_count,
            "storage_location": storage_location,
            "retention_period": retention_period,
            **further,
        }
        return await self._post(place("compliance", "data-processing"), ProcessingRecorded, body)

    def list_data_processing(
        self, *, category: str | None = None, purpose: str | None = None, text: str | None = None
    ) -> AsyncIterator[Processing]:
        """The record of processing, newest first."""
        query = {"category": category, "purpose": purpose, "text": text}
        return self._pages(place("compliance", "data-processing"), Processing, query)

    async def get_data_processing(self, processing_id: str) -> Processing:
        """A processing activity."""
        return await self._get(place("compliance", "data-processing", processing_id), Processing)

    async def end_data_processing(self, processing_id: str, reason: str) -> Processing:
        """Declare an activity over. It stays in the record."""
        path = place("compliance", "data-processing", processing_id, "end")
        return await self._post(path, Processing, {"reason": reason})

    async def export_data_processing(self, *, form: str = "json") -> str:
        """The whole record of processing, for an authority: `json` or `csv`."""
        path = place("compliance", "data-processing", "export")
        return await self._text(path, {"format": form})

    async def verify_data_subject(
        self, data_subject_id: str, means: str, *, valid_days: int = 7
    ) -> VerificationIssued:
        """Say that you made sure of a person, and how; get a token for one request of theirs.

        Args:
            data_subject_id: the person's id with you.
            means: how you made sure.
            valid_days: of the token.
        """
        body = {"data_subject_id": data_subject_id, "means": means, "valid_days": valid_days}
        return await self._post_secret(
            place("compliance", "verifications"), VerificationIssued, body
        )

    async def data_subject_request(
        self,
        *,
        request_type: str,
        data_subject_id: str,
        region: str,
        verification_token: str | Secret,
    ) -> SubjectRequest:
        """Open a request of a data subject; `estimated_completion` is the law's deadline.

        Args:
            request_type: `access`, `erasure`, ...
            data_subject_id: the person's id with you; kept as a keyed hash.
            region: whose laws apply.
            verification_token: of the verification of the person; opens one request.
        """
        body = {
            "request_type": request_type,
            "data_subject_id": data_subject_id,
            "region": region,
            "verification_token": verification_token.reveal()
            if isinstance(verification_token, Secret)
            else verification_token,
        }
        return await self._post(place("compliance", "data-subject-request"), SubjectRequest, body)

    def list_data_subject_requests(
        self, *, status: str | None = None, overdue: bool = False
    ) -> AsyncIterator[SubjectRequestWhole]:
        """Requests of data subjects, newest first."""
        query = {"status": status, "overdue": overdue or None}
        return self._pages(place("compliance", "data-subject-request"), SubjectRequestWhole, query)

    async def get_data_subject_request(self, request_id: str) -> SubjectRequestWhole:
        """A request, with every law that dates it."""
        path = place("compliance", "data-subject-request", request_id)
        return await self._get(path, SubjectRequestWhole)

    async def find_data_subject_requests(
        self, data_subject_id: str
    ) -> tuple[SubjectRequestWhole, ...]:
        """The requests of one person. Their id travels in the body: no log of addresses has it."""
        path = _request("search")
        return await self._ask(
            path, tuple[SubjectRequestWhole, ...], {"data_subject_id": data_subject_id}
        )

    async def extend_data_subject_request(
        self, request_id: str, reason: str
    ) -> SubjectRequestWhole:
        """Take the one extension that the law allows. Telling the person is yours to do."""
        return await self._decided(request_id, "extend", {"reason": reason})

    async def attach_evidence(
        self, request_id: str, label: str, sha256: str
    ) -> SubjectRequestWhole:
        """Attach evidence by its digest. The file stays with you."""
        return await self._decided(request_id, "evidence", {"label": label, "sha256": sha256})

    async def complete_data_subject_request(
        self,
        request_id: str,
        *,
        artefacts: Sequence[Mapping[str, Any]] = (),
        data_package_url: str | None = None,
    ) -> SubjectRequestWhole:
        """Answer a request. An erasure says what became of each thing; see `erasure_plan`."""
        body = given(
            artefacts=[dict(each) for each in artefacts], data_package_url=data_package_url
        )
        return await self._decided(request_id, "complete", body)

    async def refuse_data_subject_request(
        self, request_id: str, reason: str
    ) -> SubjectRequestWhole:
        """Refuse a request, with the reason that the person is told."""
        return await self._decided(request_id, "refuse", {"reason": reason})

    async def withdraw_data_subject_request(
        self, request_id: str, reason: str
    ) -> SubjectRequestWhole:
        """Close a request that the person took back."""
        return await self._decided(request_id, "withdraw", {"reason": reason})

    async def erasure_plan(self, dataset: str) -> ErasurePlan:
        """The models that were trained on an account's records, each with its bound."""
        return await self._get(
            place("compliance", "erasure-plan"), ErasurePlan, {"dataset": dataset}
        )

    async def legal_deadlines(self) -> Law:
        """What each law wants, its source, and how sure we are. No legal advice."""
        return await self._get(place("compliance", "deadlines"), Law)

    async def compliance_summary(self) -> ComplianceSummary:
        """What needs an officer now."""
        return await self._get(place("compliance", "summary"), ComplianceSummary)

    async def _decided(self, request_id: str, act: str, body: Json) -> SubjectRequestWhole:
        return await self._post(_request(request_id, act), SubjectRequestWhole, body)


def _request(*parts: str) -> str:
    return place("compliance", "data-subject-request", *parts)
