"""Operations: alerts, workers, the parts of the platform that may be beside this one, the trail."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final

from starlette.responses import Response

from privacy_core.errors import InvalidParameter
from privacy_finetuner.dashboard.job_views import names_of_people, person
from privacy_finetuner.dashboard.languages import UNKNOWN, marked
from privacy_finetuner.dashboard.pages import Pages
from privacy_finetuner.dashboard.site import Asked
from privacy_finetuner.jobs import Job, UnknownJob, WorkerRow
from privacy_finetuner.operations.errors import AlertClosed
from privacy_runtime.identity import Scope

_ENTRIES: Final = 50
_ALERTS: Final = 100
_DETAILS: Final = 8
_TEXT_MOST: Final = 48
_PREFIXES: Final = (
    ("", marked("Everything")),
    ("identity.login", marked("Sign-ins")),
    ("identity", marked("Identity")),
    ("budget", marked("Budgets")),
    ("alert", marked("Alerts")),
)


def register(pages: Pages) -> None:
    """Add the pages of this module."""
    pages.get("/alerts", _alerts, Scope.SECURITY_READ)
    pages.post("/alerts/{alert}", _acknowledge, Scope.SECURITY_ACT)
    pages.get("/workers", _workers, Scope.SCALING_READ)
    pages.get("/trail", _trail, Scope.AUDIT_READ)


def _alerts(asked: Asked) -> Response:
    return _shown(asked)


def _shown(asked: Asked, status: int = 200, fault: str = "") -> Response:
    monitor = asked.service.desks.monitor
    kept = monitor.alerts(asked.tenant)
    names = names_of_people(asked)
    return asked.show(
        "alerts.html",
        status,
        standing=[each for each in kept if each.status == "open"],
        closed=[each for each in kept if each.status != "open"][:_ALERTS],
        summary=monitor.summary(asked.tenant),
        who=lambda subject: person(asked, names, subject) if subject else UNKNOWN,
        fault=fault,
    )


def _acknowledge(asked: Asked) -> Response:
    try:
        asked.service.desks.monitor.acknowledge(
            asked.tenant,
            asked.path["alert"],
            by=asked.who.subject,
            reason=asked.form.get("reason", "").strip(),
        )
    except InvalidParameter:
        said = asked.say(marked("Say in a few words why the alert may be closed."))
        return _shown(asked, 422, said)
    except AlertClosed as error:
        return _shown(asked, 409, str(error))
    return asked.see("/alerts", said="alert-closed")


def _workers(asked: Asked) -> Response:
    """Workers serve every organisation: what they work on is named only where it is ours."""
    workers = asked.service.jobs.workers()
    return asked.show(
        "workers.html",
        workers=workers,
        alive=sum(each.is_alive for each in workers),
        counts=asked.service.jobs.counts(tenant=asked.tenant),
        job=lambda worker: _own_job(asked, worker),
    )


def _own_job(asked: Asked, worker: WorkerRow) -> Job | None:
    if worker.job is None or not asked.may(Scope.JOBS_READ):
        return None
    try:
        return asked.service.jobs.get(worker.job, tenant=asked.tenant)
    except UnknownJob:
        return None


def is_installed(module: str) -> bool:
    """Whether a part of the platform is there. It is not imported."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _trail(asked: Asked) -> Response:
    trail = asked.service.desks.trail
    text = asked.query.get("before", "")
    before = int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
    prefix = asked.query.get("type", "")
    prefix = prefix if prefix in {known for known, _ in _PREFIXES} else ""
    page = trail.page(asked.tenant, before=before, limit=_ENTRIES, prefix=prefix)
    names = names_of_people(asked)
    verified = trail.verify() if asked.query.get("verify") == "1" else None
    return asked.show(
        "trail.html",
        entries=page.entries,
        following=page.next_before,
        prefix=prefix,
        prefixes=_PREFIXES,
        verified=verified,
        about=lambda entry: _about(asked, names, entry.body),
        details=lambda entry: _details(entry.body),
    )


def _about(asked: Asked, names: dict[str, str], body: Any) -> str:
    by, subject = str(body.get("by") or ""), str(body.get("subject") or "")
    people = [person(asked, names, each) for each in (by, subject) if each]
    return " → ".join(dict.fromkeys(people)) or UNKNOWN


def _details(body: Any) -> list[tuple[str, str]]:
    """What an entry says besides who: ids, counts and reasons; values of the journal only."""
    found = []
    for key, value in sorted(body.items()):
        if key in {"by", "subject", "tenant"}:
            continue
        pairs = value.items() if isinstance(value, Mapping) else [("", value)]
        shown = ", ".join(f"{name} {_short(each)}".strip() for name, each in pairs)
        found.append((key.replace("_", " "), shown))
    return found[:_DETAILS]


def _short(value: object) -> str:
    """A value in a line; a long id by its beginning, as elsewhere on the pages."""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= _TEXT_MOST else f"{text[:_TEXT_MOST]}…"
