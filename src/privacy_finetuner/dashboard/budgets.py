"""Budgets: what was promised, what was spent by whom, what is left, and who may have more."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.responses import Response

from privacy_core.errors import BudgetError, InvalidParameter, PrivacyError
from privacy_core.guarantee import Guarantee, NeighbouringRelation, PrivacyUnit
from privacy_finetuner.dashboard.accounts import (
    account_named,
    accounts_of,
    burn_down,
)
from privacy_finetuner.dashboard.job_views import names_of_people, person
from privacy_finetuner.dashboard.languages import UNKNOWN, marked
from privacy_finetuner.dashboard.pages import Pages
from privacy_finetuner.dashboard.site import Asked
from privacy_finetuner.governance.accounts import name_of, scope_of
from privacy_finetuner.governance.budget_requests import BudgetRequest, RequestState
from privacy_finetuner.governance.errors import GovernanceError
from privacy_finetuner.governance.spending import Act
from privacy_runtime.budget_store import Signature, Status
from privacy_runtime.identity import Scope, require_fresh

_HISTORY: Final = 20
_WHOLE: Final = 2000
_SPENDERS: Final = 12
_KINDS: Final = {
    "AccountOpened": marked("opened"),
    "Granted": marked("cap raised"),
    "Reserved": marked("set aside"),
    "Watermarked": marked("spending going on"),
    "Committed": marked("spent"),
    "Refunded": marked("given back"),
    "Expired": marked("expired: counted as spent"),
    "VoidProposed": marked("striking out proposed"),
    "Voided": marked("struck out"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spender:
    """What one quota, or the use without one, took of an account. Shares add up."""

    name: str
    share: float
    acts: int


def register(pages: Pages) -> None:
    """Add the pages of this module."""
    pages.get("/budgets", _list, Scope.BUDGETS_READ)
    pages.get("/budgets/new", _new, Scope.BUDGETS_GRANT)
    pages.post("/budgets", _open, Scope.BUDGETS_GRANT)
    pages.post("/budget-requests/{request}", _decide, Scope.BUDGETS_READ)
    pages.post("/budget-grants/{account:path}", _grant, Scope.BUDGETS_GRANT)
    pages.post("/budget-requests-for/{account:path}", _ask, Scope.BUDGETS_REQUEST)
    pages.get("/budgets/{account:path}", _account, Scope.BUDGETS_READ)


def _list(asked: Asked) -> Response:
    views = accounts_of(asked)
    return asked.show(
        "budgets.html",
        blocks=[each for each in views if each.is_guarantee],
        quotas=[each for each in views if not each.is_guarantee],
        pending=asked.service.desks.budget_requests.find(asked.tenant, state=RequestState.PENDING),
        who=_who(asked),
    )


def _who(asked: Asked) -> Any:
    names = names_of_people(asked)
    return lambda subject: person(asked, names, subject) if subject else UNKNOWN


def _new(asked: Asked) -> Response:
    return _opening(asked, {"kind": "block", **asked.query}, {})


def _opening(
    asked: Asked, form: Mapping[str, str], faults: Mapping[str, str], status: int = 200
) -> Response:
    return asked.show("budget_new.html", status, form=dict(form), faults=dict(faults))


def _open(asked: Asked) -> Response:
    form, faults = asked.form, {}
    require_fresh(asked.who, Scope.BUDGETS_GRANT, tenant=asked.tenant, now=asked.now)
    epsilon, delta = _number(form.get("epsilon")), _number(form.get("delta"))
    if epsilon is None or not 0 < epsilon <= 1000:
        faults["epsilon"] = asked.say(marked("expected %(range)s")) % {"range": f"0 {UNKNOWN} 1000"}
    if delta is None or not 0 <= delta < 1:
        faults["delta"] = asked.say(marked("expected %(range)s")) % {"range": f"0 {UNKNOWN} 1"}
    if not form.get("reason", "").strip():
        faults["reason"] = asked.say(marked("A reason is kept with every promise."))
    name = form.get("name", "").strip()
    try:
        scope = scope_of(asked.tenant, f"quota/{name}" if form.get("kind") == "quota" else name)
    except InvalidParameter as error:
        faults["name"] = asked.say(marked("expected %(range)s")) % {"range": error.expected}
    if faults or epsilon is None or delta is None:
        return _opening(asked, form, faults, 422)
    guarantee = Guarantee(
        epsilon=epsilon,
        delta=delta,
        relation=NeighbouringRelation.ADD_OR_REMOVE_ONE,
        unit=PrivacyUnit.USER if form.get("unit") == "user" else PrivacyUnit.EXAMPLE,
    )
    signature = Signature(person=asked.who.subject, reason=form["reason"].strip())
    key = f"page:open:{asked.tenant}:{name}:{asked.service.entropy.token_bytes(8).hex()}"
    try:
        asked.service.ledger.open_account(key, scope, guarantee, signature=signature)
    except BudgetError as error:
        return _opening(asked, form, {"name": str(error)}, 409)
    return asked.see(f"/budgets/{name_of(scope, asked.tenant)}", said="account-opened")


def _account(asked: Asked) -> Response:
    return _shown(asked, asked.path["account"])


def _shown(
    asked: Asked, name: str, status: int = 200, faults: Mapping[str, str] | None = None
) -> Response:
    view = account_named(asked, name)
    desks = asked.service.desks
    try:
        acts = desks.spending.acts(view.state.scope)
    except PrivacyError:  # a repaired ledger: the balance stands, its story cannot be read
        acts = []
    requests = desks.budget_requests.find(asked.tenant)
    most = _WHOLE if asked.query.get("all") == "1" else _HISTORY
    return asked.show(
        "budget.html",
        status,
        view=view,
        chart=burn_down(asked, view).thinned() if view.moments else None,
        spenders=_spenders(asked, acts),
        acts=list(reversed(acts))[:most],
        jobs=_jobs(asked, acts),
        moments=list(reversed(view.moments))[:most],
        hidden=max(0, len(view.moments) - most),
        kinds=_KINDS,
        requests=[each for each in requests if each.account == view.name],
        who=_who(asked),
        faults=dict(faults or {}),
        form=dict(asked.form),
    )


def _spenders(asked: Asked, acts: Sequence[Act]) -> list[Spender]:
    """Who took how much: by the quota that was charged besides."""
    shares: defaultdict[str, float] = defaultdict(float)
    counts: defaultdict[str, int] = defaultdict(int)
    for act in acts:
        if act.status in {Status.REFUNDED, Status.VOIDED}:
            continue
        name = name_of(act.quota, asked.tenant) if act.quota else ""
        shares[name] += act.share
        counts[name] += 1
    found = [Spender(name=name, share=share, acts=counts[name]) for name, share in shares.items()]
    return sorted(found, key=lambda each: (-each.share, each.name))[:_SPENDERS]


def _jobs(asked: Asked, acts: Sequence[Act]) -> dict[str, tuple[str, str]]:
    """Reservations whose name holds the id of a job of ours: its id and name."""
    if not asked.may(Scope.JOBS_READ):
        return {}
    known = {job.id: job.name for job in asked.service.jobs.find(asked.tenant, limit=1000)}
    found = {}
    for act in acts:
        job = next(
            (part for part in act.reservation.replace("/", ":").split(":") if part in known), ""
        )
        if job:
            found[act.reservation] = (job, known[job])
    return found


def _grant(asked: Asked) -> Response:
    view = account_named(asked, asked.path["account"])
    require_fresh(asked.who, Scope.BUDGETS_GRANT, tenant=asked.tenant, now=asked.now)
    epsilon, reason = _number(asked.form.get("epsilon")), asked.form.get("reason", "").strip()
    faults = {}
    if epsilon is None or not 0 < epsilon <= 1000:
        faults["epsilon"] = asked.say(marked("expected %(range)s")) % {"range": f"0 {UNKNOWN} 1000"}
    if not reason:
        faults["reason"] = asked.say(marked("A reason is kept with every promise."))
    if faults or epsilon is None:
        return _shown(asked, view.name, 422, faults)
    asked.service.ledger.grant(
        # The version makes the same form, sent twice, one grant.
        f"page:grant:{asked.tenant}:{view.name}:{view.state.version}:{asked.form.get('at', '')}",
        view.state.scope,
        epsilon=epsilon,
        signature=Signature(person=asked.who.subject, reason=reason),
    )
    return asked.see(f"/budgets/{view.name}", said="budget-granted")


def _ask(asked: Asked) -> Response:
    view = account_named(asked, asked.path["account"])
    epsilon = _number(asked.form.get("epsilon"))
    try:
        asked.service.desks.budget_requests.ask(
            asked.tenant,
            by=asked.who.subject,
            account=view.name,
            epsilon=0.0 if epsilon is None else epsilon,
            reason=asked.form.get("reason", ""),
            key=asked.form.get("key", ""),
        )
    except InvalidParameter as error:
        said = asked.say(marked("expected %(range)s")) % {"range": error.expected}
        return _shown(asked, view.name, 422, {error.parameter: said})
    return asked.see(f"/budgets/{view.name}", said="request-sent")


def _decide(asked: Asked) -> Response:
    """Approve, decline or withdraw a request. Approving is the grant."""
    desk, tenant, who = asked.service.desks.budget_requests, asked.tenant, asked.who
    record, form = asked.path["request"], asked.form
    held: BudgetRequest = desk.get(tenant, record)
    reason = form.get("reason", "").strip()
    try:
        match form.get("decision"):
            case "withdraw":
                desk.withdraw(tenant, record, by=who.subject)
            case "approve":
                require_fresh(who, Scope.BUDGETS_GRANT, tenant=tenant, now=asked.now)
                desk.approve(tenant, record, by=who.subject, reason=reason)
            case _:
                require_fresh(who, Scope.BUDGETS_GRANT, tenant=tenant, now=asked.now)
                desk.decline(tenant, record, by=who.subject, reason=reason)
    except (GovernanceError, BudgetError, InvalidParameter) as error:
        return _shown(asked, held.account, 409, {"request": str(error)})
    return asked.see(f"/budgets/{held.account}", said="request-decided")


def _number(text: str | None) -> float | None:
    try:
        value = float((text or "").strip().replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
