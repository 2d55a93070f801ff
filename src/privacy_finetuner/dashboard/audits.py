"""Audits: what attacks on one's own runs found, beside what they could have found at best.

An audit reads which canaries were in the data, so its figures are outside the guarantee: they are
shown to who may see such figures. That an audit was made is shown to everybody.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from starlette.responses import Response

from privacy_core.auditing import AuditFinding
from privacy_core.errors import InvalidParameter
from privacy_finetuner.dashboard.job_views import dataset_name
from privacy_finetuner.dashboard.pages import Pages
from privacy_finetuner.dashboard.site import Asked
from privacy_finetuner.jobs import Job, Left
from privacy_runtime.identity import Scope

_RUNS: Final = 500
_SIZE_MOST: Final = 4 * 1024 * 1024
AUDIT_FILE: Final = "audit.json"
"""Where an audit of a run is looked for, in the run's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditView:
    """One run with canaries.

    Attributes:
        canaries: how many it carried.
        findings: bounds with verdicts and ceilings; empty where there are none to be shown.
        is_done: whether an audit lies in the run's folder.
        is_damaged: it cannot be read, or its verdicts do not follow from its numbers.
    """

    job: Job
    canaries: int
    findings: tuple[AuditFinding, ...] = ()
    is_done: bool = False
    is_damaged: bool = False


def register(pages: Pages) -> None:
    """Add the pages of this module."""
    pages.get("/audits", _audits, Scope.RESULTS_READ)


def _audits(asked: Asked) -> Response:
    jobs = asked.service.jobs.find(asked.tenant, limit=_RUNS)
    views = [_viewed(asked, job) for job in jobs if _canaries(job)]
    return asked.show(
        "audits.html",
        views=views,
        dataset=lambda job: dataset_name(asked.service, job),
        shows=asked.may(Scope.RESULTS_OUTSIDE_GUARANTEE),
    )


def _canaries(job: Job) -> int:
    count = job.spec.training.get("audit_canaries", 0)
    return count if isinstance(count, int) else 0


def _viewed(asked: Asked, job: Job) -> AuditView:
    path = Left(jobs=asked.service.jobs).paper(job, AUDIT_FILE)
    if path is None:
        return AuditView(job=job, canaries=_canaries(job))
    if not asked.may(Scope.RESULTS_OUTSIDE_GUARANTEE):
        return AuditView(job=job, canaries=_canaries(job), is_done=True)
    findings = findings_in(path)
    return AuditView(
        job=job,
        canaries=_canaries(job),
        findings=findings or (),
        is_done=True,
        is_damaged=findings is None,
    )


def findings_in(path: Path) -> tuple[AuditFinding, ...] | None:
    """The findings of an audit's file, judged again from their numbers; `None` if it is damaged."""
    try:
        if path.stat().st_size > _SIZE_MOST:
            return None
        document: Any = json.loads(path.read_text("utf-8"))
        return tuple(AuditFinding.from_json(json.dumps(each)) for each in document["findings"])
    except (OSError, ValueError, TypeError, KeyError, InvalidParameter):
        return None
