"""Compliance: by when data subjects must have answers, and what is processed until when."""

from __future__ import annotations

from starlette.responses import Response

from privacy_finetuner.dashboard.pages import Pages
from privacy_finetuner.dashboard.site import Asked
from privacy_finetuner.governance.deadlines import law
from privacy_runtime.identity import Scope


def register(pages: Pages) -> None:
    """Add the pages of this module."""
    pages.get("/compliance", _compliance, Scope.COMPLIANCE_READ)


def _compliance(asked: Asked) -> Response:
    desks, now = asked.service.desks, asked.now
    requests = desks.subject_requests.find(asked.tenant)
    owed = sorted((each for each in requests if each.status.is_open), key=lambda each: each.due_at)
    return asked.show(
        "compliance.html",
        owed=owed,
        answered=[each for each in requests if not each.status.is_open][:50],
        overdue=sum(each.is_overdue(now) for each in owed),
        activities=desks.processing.find(asked.tenant),
        law=law(),
        regions=asked.service.config.compliance.primary_regions,
    )
