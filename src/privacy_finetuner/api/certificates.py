"""Certificates: those of one's organisation, and whether one is genuine."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body

from privacy_finetuner.api.errors import NotReady
from privacy_finetuner.api.results import CERTIFICATE
from privacy_finetuner.api.routes import By, Paged, operation, router_of
from privacy_finetuner.api.shapes.catalogue import CertificateAnswer, Verification
from privacy_finetuner.api.training import JobId
from privacy_finetuner.assessment.certificate import Certificate
from privacy_finetuner.assessment.certificate_check import verify
from privacy_finetuner.assessment.certificate_errors import CertificateError
from privacy_finetuner.jobs import ArtefactDamaged, ArtefactsUnavailable, JobState, UnknownArtefact
from privacy_finetuner.service import Service
from privacy_runtime.http.access import Access
from privacy_runtime.http.pages import Page
from privacy_runtime.identity import Principal, Scope
from privacy_runtime.signing import NotCanonical, SigningError, canonical_bytes

_EXAMPLE: Final = {"type": "privacy-certificate", "version": 1}


class Certificates:
    """Certificates over HTTP.

    Args:
        service: whose jobs and trusted keys.
    """

    def __init__(self, service: Service) -> None:
        self._service, self._jobs = service, service.jobs

    @operation("GET", "", Scope.RESULTS_READ)
    def list_certificates(self, by: By, page: Paged) -> Page[CertificateAnswer]:
        """List the certificates of the organisation's jobs, newest first.

        A page holds the certificates of `limit` finished jobs; jobs without one are left out.
        """
        after = page.after(str)
        jobs = self._jobs.find(
            by.tenant,
            states=[JobState.SUCCEEDED],
            limit=page.limit + 1,
            before=str(after[0]) if after else None,
        )
        found, cursor = page.page(jobs, key=lambda job: (job.id,))
        read = (self._listed(job.id, by) for job in found)
        return Page(items=[_answer(*each) for each in read if each], next_cursor=cursor)

    @operation("GET", "/{job_id}", Scope.RESULTS_READ, refuses=(409,))
    def get_certificate(self, job_id: JobId, by: By) -> CertificateAnswer:
        """Show a job's certificate in short."""
        self._jobs.get(job_id, tenant=by.tenant)
        try:
            found = self._read(job_id, by)
        except (UnknownArtefact, CertificateError, NotCanonical, FileNotFoundError):
            raise NotReady("the job has no certificate") from None
        return _answer(*found)

    @operation("POST", "/verify", Scope.RESULTS_READ, rate="starts")
    def verify_certificate(
        self, certificate: Annotated[dict[str, Any], Body(examples=[_EXAMPLE])], by: By
    ) -> Verification:
        """Check a certificate of anybody: recomputed from the certificate alone.

        It is genuine if no byte was changed since it was signed, its epsilon is the price of its
        event by two accountants, and its key is one that this service trusts.
        """
        del by
        try:
            content = canonical_bytes(certificate) + b"\n"
            trusted, now = self._service.signing.trusted(), self._service.clock.now()
            found = verify(content, trusted=trusted, now=now)
        except (CertificateError, SigningError) as error:
            return Verification(
                is_genuine=False, verdict=str(error), code=error.code, findings=[], guarantee=None
            )
        return Verification(
            is_genuine=True,
            verdict="genuine",
            code=None,
            findings=list(found.findings),
            guarantee=dict(found.certificate.document["guarantee"]),
        )

    def _listed(self, job_id: str, by: Principal) -> tuple[str, Certificate] | None:
        """A certificate for a list: one that cannot be had now is left out."""
        try:
            return self._read(job_id, by)
        except (
            UnknownArtefact, ArtefactDamaged, ArtefactsUnavailable, CertificateError, NotCanonical,
            FileNotFoundError,
        ):  # fmt: skip
            return None

    def _read(self, job_id: str, by: Principal) -> tuple[str, Certificate]:
        path = self._jobs.artefact_path(job_id, CERTIFICATE, tenant=by.tenant)
        return job_id, Certificate.parse(path.read_bytes())


def router(service: Service, access: Access) -> APIRouter:
    """The routes below `/certificates`."""
    return router_of(Certificates(service), access, tag="certificates", prefix="/certificates")


def _answer(job_id: str, certificate: Certificate) -> CertificateAnswer:
    document = certificate.document
    guarantee = document["guarantee"]
    return CertificateAnswer(
        job_id=job_id,
        id=document["id"],
        epsilon=guarantee["epsilon"],
        delta=guarantee["delta"],
        relation=guarantee["relation"],
        unit=guarantee["unit"],
        issued_at=document["issued_at"],
        expires_at=document["expires_at"],
        key_id=document["signer"]["key_id"],
    )
