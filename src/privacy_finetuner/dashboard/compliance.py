"""Compliance: by when data subjects must have answers, what is processed until when, and the acts.

Every act asks for words and goes through the same desks as the API: it is written into the stream
`compliance`, chained, with who did it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from starlette.responses import Response

from privacy_core.errors import InvalidParameter
from privacy_finetuner.dashboard.languages import marked
from privacy_finetuner.dashboard.pages import Pages
from privacy_finetuner.dashboard.site import Asked
from privacy_finetuner.governance.deadlines import RequestType, law
from privacy_finetuner.governance.erasure import ArtefactKind, ArtefactOutcome, Outcome
from privacy_finetuner.governance.errors import RecordConflict
from privacy_finetuner.governance.processing import (
    Activity,
    DataCategory,
    LegalBasis,
    ProcessingPurpose,
    SpecialCondition,
)
from privacy_finetuner.governance.subject_requests import SubjectRequest
from privacy_runtime.identity import Scope

_ANSWERED_MOST: Final = 50
_FIGURES_MOST: Final = 12


def register(pages: Pages) -> None:
    """Add the pages of this module."""
    pages.get("/compliance", _compliance, Scope.COMPLIANCE_READ)
    pages.get("/compliance/requests/{request}", _request, Scope.COMPLIANCE_READ)
    pages.post("/compliance/requests/{request}", _answer, Scope.COMPLIANCE_WRITE)
    pages.get("/compliance/activities/new", _new_activity, Scope.COMPLIANCE_WRITE)
    pages.post("/compliance/activities", _record, Scope.COMPLIANCE_WRITE)
    pages.get("/compliance/activities/{activity}", _activity, Scope.COMPLIANCE_READ)
    pages.post("/compliance/activities/{activity}", _end, Scope.COMPLIANCE_WRITE)


def _compliance(asked: Asked) -> Response:
    desks, now = asked.service.desks, asked.now
    requests = desks.subject_requests.find(asked.tenant)
    owed = sorted((each for each in requests if each.status.is_open), key=lambda each: each.due_at)
    return asked.show(
        "compliance.html",
        owed=owed,
        answered=[each for each in requests if not each.status.is_open][:_ANSWERED_MOST],
        overdue=sum(each.is_overdue(now) for each in owed),
        activities=desks.processing.find(asked.tenant),
        law=law(),
        regions=asked.service.config.compliance.primary_regions,
        watched=asked.service.config.compliance.enable_real_time_monitoring,
    )


def _request(asked: Asked) -> Response:
    return _shown(asked)


def _shown(asked: Asked, status: int = 200, fault: str = "") -> Response:
    request = asked.service.desks.subject_requests.get(asked.tenant, asked.path["request"])
    return asked.show(
        "compliance_request.html",
        status,
        request=request,
        kinds=list(ArtefactKind),
        outcomes=[each for each in Outcome if each is not Outcome.UNDECIDED],
        is_erasure=request.type is RequestType.ERASURE,
        can_extend=all(each.extendable_to is not None for each in request.clocks),
        form=dict(asked.form),
        fault=fault,
    )


def _answer(asked: Asked) -> Response:
    act = _ACTS.get(asked.form.get("act", ""))
    if act is None:
        return _shown(asked, 422, asked.say(_NO_ACT))
    try:
        act(asked, asked.path["request"])
    except InvalidParameter as error:
        return _shown(asked, 422, _fault(asked, error))
    except RecordConflict as error:
        return _shown(asked, 409, str(error))
    return asked.see(f"/compliance/requests/{asked.path['request']}", said="request-answered")


def _complete(asked: Asked, record: str) -> SubjectRequest:
    form = asked.form
    return asked.service.desks.subject_requests.complete(
        asked.tenant,
        record,
        by=asked.who.subject,
        artefacts=[_artefact(asked)] if form.get("artefact", "").strip() else (),
        package_url=form.get("package_url", "").strip() or None,
    )


def _artefact(asked: Asked) -> ArtefactOutcome:
    """What became of one thing; several are answered through the API."""
    form = asked.form
    until = form.get("until", "").strip()
    try:
        return ArtefactOutcome(
            artefact=form["artefact"].strip(),
            kind=ArtefactKind(form.get("kind", "")),
            outcome=Outcome(form.get("outcome", "")),
            until=datetime.fromisoformat(until).replace(tzinfo=UTC) if until else None,
            note=form.get("reason", "").strip(),
        )
    except InvalidParameter:
        raise
    except ValueError:  # no kind, no outcome or no day of this page
        raise InvalidParameter("artefacts", found="another form", expected="the form") from None


def _extend(asked: Asked, record: str) -> SubjectRequest:
    return asked.service.desks.subject_requests.extend(
        asked.tenant, record, by=asked.who.subject, reason=_words(asked)
    )


def _refuse(asked: Asked, record: str) -> SubjectRequest:
    return asked.service.desks.subject_requests.refuse(
        asked.tenant, record, by=asked.who.subject, reason=_words(asked)
    )


def _withdraw(asked: Asked, record: str) -> SubjectRequest:
    return asked.service.desks.subject_requests.withdraw(
        asked.tenant, record, by=asked.who.subject, reason=_words(asked)
    )


_ACTS: Final[dict[str, Callable[[Asked, str], SubjectRequest]]] = {
    "complete": _complete,
    "extend": _extend,
    "refuse": _refuse,
    "withdraw": _withdraw,
}
_NO_ACT: Final = marked("Nothing was changed: the form is not one of this page.")


def _words(asked: Asked) -> str:
    return asked.form.get("reason", "").strip()


def _activity(asked: Asked) -> Response:
    return _activity_shown(asked)


def _activity_shown(asked: Asked, status: int = 200, fault: str = "") -> Response:
    activity = asked.service.desks.processing.get(asked.tenant, asked.path["activity"])
    return asked.show(
        "compliance_activity.html", status, a=activity, form=dict(asked.form), fault=fault
    )


def _end(asked: Asked) -> Response:
    try:
        asked.service.desks.processing.end(
            asked.tenant, asked.path["activity"], by=asked.who.subject, reason=_words(asked)
        )
    except InvalidParameter as error:
        return _activity_shown(asked, 422, _fault(asked, error))
    except RecordConflict as error:
        return _activity_shown(asked, 409, str(error))
    return asked.see(f"/compliance/activities/{asked.path['activity']}", said="activity-ended")


def _new_activity(asked: Asked) -> Response:
    return _form_shown(asked)


def _form_shown(asked: Asked, status: int = 200, fault: str = "") -> Response:
    return asked.show(
        "compliance_new.html",
        status,
        categories=list(DataCategory),
        purposes=list(ProcessingPurpose),
        bases=list(LegalBasis),
        conditions=list(SpecialCondition),
        form=dict(asked.form),
        fault=fault,
    )


def _record(asked: Asked) -> Response:
    try:
        made = asked.service.desks.processing.record(
            asked.tenant, _declared(asked), by=asked.who.subject
        )
    except InvalidParameter as error:
        return _form_shown(asked, 422, _fault(asked, error))
    return asked.see(f"/compliance/activities/{made.id}", said="activity-recorded")


def _declared(asked: Asked) -> Activity:
    form = asked.form
    retention, condition = form.get("retention_period", "").strip(), form.get("condition", "")
    try:
        purpose = ProcessingPurpose(form.get("processing_purpose", ""))
        basis = LegalBasis(form.get("legal_basis", ""))
        special = SpecialCondition(condition) if condition else None
    except ValueError:  # none of this page
        raise InvalidParameter("form", found="another form", expected="the form") from None
    return Activity(
        data_categories=tuple(c for c in DataCategory if f"category:{c.value}" in form),
        processing_purpose=purpose,
        legal_basis=basis,
        data_subjects_count=_whole("data_subjects_count", form.get("data_subjects_count", "")),
        storage_location=form.get("storage_location", "").strip(),
        retention_period=_whole("retention_period", retention) if retention else None,
        special_condition=special,
        controller=form.get("controller", "").strip(),
        dataset=form.get("dataset", "").strip(),
    )


def _whole(name: str, text: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= _FIGURES_MOST):
        raise InvalidParameter(name, found="no number", expected="a whole number")
    return int(text)


def _fault(asked: Asked, error: InvalidParameter) -> str:
    said = marked("Not taken: %(what)s should be %(expected)s. Nothing was changed.")
    what = error.parameter.replace("_", " ")
    return asked.say(said) % {"what": what, "expected": error.expected}
