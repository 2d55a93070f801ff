"""Certificates: those of one's runs, checked again, and anybody's, pasted in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from starlette.responses import Response

from privacy_finetuner.assessment.certificate import Certificate
from privacy_finetuner.assessment.certificate_errors import CertificateError
from privacy_finetuner.assessment.certificate_view import View, standing_of, view_of
from privacy_finetuner.dashboard.languages import marked
from privacy_finetuner.dashboard.pages import Pages
from privacy_finetuner.dashboard.site import Asked
from privacy_finetuner.jobs import (
    ArtefactDamaged,
    ArtefactsUnavailable,
    Job,
    JobState,
    UnknownArtefact,
)
from privacy_runtime.identity import Scope
from privacy_runtime.signing import (
    NotCanonical,
    SigningError,
    canonical_bytes,
    instant_of,
    parse_json,
)

FILE: Final = "certificate.json"
_RUNS: Final = 200
_PASTED_MOST: Final = 512 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A certificate in a list: what it says of itself; its own page checks it."""

    job: Job
    epsilon: float
    delta: float
    unit: str
    issued_at: datetime
    expires_at: datetime
    key_id: str


def register(pages: Pages) -> None:
    """Add the pages of this module."""
    pages.get("/certificates", _list, Scope.RESULTS_READ)
    pages.get("/certificates/verify", _form, Scope.RESULTS_READ)
    pages.post("/certificates/verify", _verify, Scope.RESULTS_READ)
    pages.get("/certificates/{job}", _one, Scope.RESULTS_READ)


def _list(asked: Asked) -> Response:
    jobs = asked.service.jobs.find(asked.tenant, states=[JobState.SUCCEEDED], limit=_RUNS)
    listed = [each for job in jobs if (each := _listed(asked, job))]
    return asked.show("certificates.html", listed=listed)


def _listed(asked: Asked, job: Job) -> Listed | None:
    if not job.spec.certificate:
        return None
    try:
        path = asked.service.jobs.artefact_path(job.id, FILE, tenant=asked.tenant)
        document = Certificate.parse(path.read_bytes()).document
    except (
        UnknownArtefact, ArtefactDamaged, ArtefactsUnavailable, CertificateError, SigningError,
        OSError,
    ):  # fmt: skip
        return None
    guarantee = document["guarantee"]
    return Listed(
        job=job,
        epsilon=guarantee["epsilon"],
        delta=guarantee["delta"],
        unit=guarantee["unit"],
        issued_at=instant_of(document["issued_at"]),
        expires_at=instant_of(document["expires_at"]),
        key_id=document["signer"]["key_id"],
    )


def _one(asked: Asked) -> Response:
    job = asked.service.jobs.get(asked.path["job"], tenant=asked.tenant)
    path = asked.service.jobs.artefact_path(job.id, FILE, tenant=asked.tenant)
    view, fault = _checked(asked, path.read_bytes())
    return asked.show("certificate.html", job=job, view=view, fault=fault)


def _form(asked: Asked) -> Response:
    return asked.show("certificate_verify.html", view=None, fault="", pasted="")


def _verify(asked: Asked) -> Response:
    pasted = asked.form.get("certificate", "")
    view, fault = None, asked.say(marked("Paste the whole file, at most 512 kB."))
    if 0 < len(pasted) <= _PASTED_MOST:
        try:
            # A browser changes line ends; the form that is signed is made again from the content.
            content = canonical_bytes(_object(pasted)) + b"\n"
        except (ValueError, SigningError, NotCanonical):
            fault = asked.say(marked("This is not a certificate: it cannot be read as JSON."))
        else:
            view, fault = _checked(asked, content)
    return asked.show(
        "certificate_verify.html",
        200 if view else 422,
        view=view,
        fault=fault,
        pasted=pasted[:_PASTED_MOST],
    )


def _object(text: str) -> dict[str, Any]:
    document = parse_json(text.encode("utf-8", "surrogatepass"))
    if not isinstance(document, dict):
        raise ValueError("not an object")  # noqa: TRY004  of what was pasted
    return document


def _checked(asked: Asked, content: bytes) -> tuple[View | None, str]:
    """The certificate in words, or why it is not shown: one that was changed gets no face."""
    try:
        trusted = asked.service.signing.trusted()
        return view_of(standing_of(content, trusted=trusted, now=asked.now)), ""
    except (CertificateError, SigningError) as error:
        return None, str(error)
