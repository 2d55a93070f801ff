"""Jobs: the list, the form that starts one with its plan beside it, a job as it runs."""

from __future__ import annotations

import re
from typing import Any, Final

from starlette.responses import FileResponse, Response

from privacy_core.errors import InvalidParameter, PrivacyError
from privacy_finetuner.dashboard.job_views import (
    curves,
    dataset_name,
    events_of,
    fault_of,
    model_name,
    names_of_people,
    person,
    timeline,
    visible,
)
from privacy_finetuner.dashboard.languages import marked
from privacy_finetuner.dashboard.live import following
from privacy_finetuner.dashboard.pages import Pages
from privacy_finetuner.dashboard.planning import Preview, Wish, count_of, preview
from privacy_finetuner.dashboard.site import Asked
from privacy_finetuner.governance.accounts import (
    is_of,
    is_of_one_subject,
    ledger_account,
    ledger_quota,
    name_of,
)
from privacy_finetuner.jobs import Artefact, InvalidJob, JobState, TrainingSpec, UnknownArtefact
from privacy_finetuner.service import UnknownDataset, UnknownModel
from privacy_runtime.budget_store import ScopeKind
from privacy_runtime.identity import Scope

PAGE: Final = 25
_FILTERS: Final = (
    ("", marked("All")),
    ("queued", marked("Queued")),
    ("running", marked("Running")),
    ("succeeded", marked("Succeeded")),
    ("failed", marked("Failed")),
    ("cancelled", marked("Cancelled")),
)
_KEY: Final = re.compile(r"[0-9a-f]{32}")
_REPORT_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox"
)


def register(pages: Pages) -> None:
    """Add the pages of this module."""
    pages.get("/jobs", _list, Scope.JOBS_READ)
    pages.get("/jobs/new", _new, Scope.JOBS_WRITE)
    pages.get("/jobs/plan", _plan, Scope.JOBS_WRITE)
    pages.post("/jobs", _start, Scope.JOBS_WRITE)
    pages.get("/jobs/{job}", _job, Scope.JOBS_READ)
    pages.act("GET", "/jobs/{job}/events", following(pages.access), Scope.JOBS_READ)
    pages.get("/jobs/{job}/cancel", _ask_cancel, Scope.JOBS_WRITE)
    pages.post("/jobs/{job}/cancel", _cancel, Scope.JOBS_WRITE)
    pages.get("/jobs/{job}/report", _report, Scope.RESULTS_READ)
    pages.get("/jobs/{job}/files/{name}", _file, Scope.RESULTS_READ)


def _list(asked: Asked) -> Response:
    state = asked.query.get("state", "")
    states = [JobState(state)] if state in set(JobState) else []
    is_mine = asked.query.get("mine") == "1"
    found = asked.service.jobs.find(
        asked.tenant,
        states=states,
        owner=asked.who.subject if is_mine else None,
        limit=PAGE + 1,
        before=asked.query.get("before") or None,
    )
    counts = asked.service.jobs.counts(tenant=asked.tenant)
    names = names_of_people(asked)
    return asked.show(
        "jobs.html",
        jobs=found[:PAGE],
        more=found[PAGE - 1].id if len(found) > PAGE else None,
        counts=counts,
        total=sum(counts.values()),
        filters=_FILTERS,
        state=state if states else "",
        is_mine=is_mine,
        owner=lambda job: person(asked, names, job.owner),
        dataset=lambda job: dataset_name(asked.service, job),
    )


def _new(asked: Asked) -> Response:
    return _form(asked, dict(asked.query), {})


def _form(
    asked: Asked, form: dict[str, str], faults: dict[str, str], status: int = 200
) -> Response:
    catalogue = asked.service.catalogue
    datasets = [entry.name for entry in catalogue.known_datasets(tenant=asked.tenant)]
    models = [entry.name for entry in catalogue.known_models(tenant=asked.tenant)]
    form = {
        "dataset": "sample:records" if "sample:records" in datasets else "",
        "model": "sample:model" if "sample:model" in models else "",
        "epsilon": "3",
        "epochs": "3",
        "accountant": "pld",
        "certificate": "1",
        **form,
    }
    accounts, quotas = _accounts(asked)
    key = form.get("key") or asked.service.entropy.token_bytes(16).hex()
    return asked.show(
        "job_new.html",
        status,
        form=form,
        faults=faults,
        datasets=datasets,
        models=models,
        accounts=accounts,
        quotas=quotas,
        key=key,
        **_previewed(asked, form),
    )


def _accounts(asked: Asked) -> tuple[list[str], list[str]]:
    """The accounts that a job of this organisation may be charged to."""
    if not asked.may(Scope.BUDGETS_READ):
        return [], []
    held = [each.scope for each in asked.service.ledger.accounts()]
    ours = [s for s in held if is_of(s, asked.tenant) and not is_of_one_subject(s)]
    blocks = [name_of(s, asked.tenant) for s in ours if s.kind is ScopeKind.PROTECTION]
    quotas = [name_of(s, asked.tenant) for s in ours if s.kind is ScopeKind.QUOTA]
    return blocks, quotas


def _plan(asked: Asked) -> Response:
    return asked.show("_plan.html", **_previewed(asked, dict(asked.query)))


def _previewed(asked: Asked, form: dict[str, str]) -> dict[str, Any]:
    wish, shown = Wish.of(form), Preview(plan=None, records=None, reason="")
    try:
        path = asked.service.catalogue.dataset(form.get("dataset", ""), tenant=asked.tenant)
        records = count_of(path)
        wish, shown = wish.settled(records), preview(wish, records)
    except UnknownDataset:
        shown = Preview(plan=None, records=None, reason=marked("choose a data set"))
    except PrivacyError as error:
        shown = Preview(plan=None, records=None, reason=str(error))
    return {"wish": wish, "preview": shown, "room": _room(asked, form.get("account", ""))}


def _room(asked: Asked, account: str) -> Any:
    """The account that is named, if it is one of ours."""
    if not account or not asked.may(Scope.BUDGETS_READ):
        return None
    for each in asked.service.ledger.accounts():
        ours = is_of(each.scope, asked.tenant) and not is_of_one_subject(each.scope)
        if ours and name_of(each.scope, asked.tenant) == account:
            return each
    return None


def _start(asked: Asked) -> Response:
    form = dict(asked.form)
    form.pop("csrf_token", None)
    form.setdefault("certificate", "")
    wish = Wish.of(form)
    faults = {name: asked.say(marked("expected %(range)s")) % {"range": said}
              for name, said in wish.faults.items()}  # fmt: skip
    service, tenant = asked.service, asked.tenant
    spec = None
    try:
        path = service.catalogue.dataset(form.get("dataset", ""), tenant=tenant)
        wish = wish.settled(count_of(path))
        spec = TrainingSpec(
            model=_known_model(asked, form.get("model", "")),
            dataset=form["dataset"],
            privacy=wish.privacy(),
            training=wish.training(),
            account=ledger_account(tenant, form["account"]) if form.get("account") else None,
            quota=ledger_quota(tenant, form["quota"]) if form.get("quota") else None,
            certificate=bool(form.get("certificate")),
        )
    except UnknownDataset:
        faults["dataset"] = asked.say(marked("There is no such data set here."))
    except UnknownModel:
        faults["model"] = asked.say(marked("There is no such model here."))
    except InvalidParameter as error:
        faults["account"] = asked.say(marked("expected %(range)s")) % {"range": error.expected}
    if faults or spec is None:
        return _form(asked, form, faults, 422)
    key = form.get("key", "")
    try:
        job = service.jobs.submit(
            spec,
            tenant=tenant,
            owner=asked.who.subject,
            name=form.get("name", "").strip() or dataset_title(form["dataset"]),
            key=f"page:{key}" if _KEY.fullmatch(key) else None,
        )
    except InvalidJob as error:
        for fault in error.faults:
            field = fault.path.rpartition(".")[2]
            faults[field] = fault.message
        return _form(asked, form, faults, 422)
    return asked.see(f"/jobs/{job.id}", said="job-started")


def _known_model(asked: Asked, name: str) -> str:
    """The name of a model, if a job may name it."""
    asked.service.catalogue.require_model(name, tenant=asked.tenant)
    return name


def dataset_title(name: str) -> str:
    """A name for a job that was given none."""
    return name.removeprefix("sample:").rpartition("/")[2].partition(".")[0] or name


def _job(asked: Asked) -> Response:
    service = asked.service
    job = service.jobs.get(asked.path["job"], tenant=asked.tenant)
    events = events_of(service, job)
    seen = visible(asked, events)
    files = _files(asked, service.jobs.artefacts(job.id, tenant=asked.tenant))
    return asked.show(
        "job.html",
        job=job,
        charts=[chart.thinned() for chart in curves(asked, job, seen)],
        lines=timeline(asked, seen),
        files=files,
        has={each.name for each in files},
        hidden=len(events) - len(seen),
        last=events[-1].seq if events else 0,
        owner=person(asked, names_of_people(asked), job.owner),
        dataset=dataset_name(service, job),
        model=model_name(service, job),
        account=_account_name(job.spec.account),
        fault=fault_of(job),
    )


def _account_name(held: str | None) -> str:
    """The account of a job as its people write it."""
    return (held or "").partition(":")[2] or (held or "")


def _files(asked: Asked, found: list[Artefact]) -> list[Artefact]:
    if not asked.may(Scope.RESULTS_READ):
        return []
    if asked.may(Scope.RESULTS_OUTSIDE_GUARANTEE):
        return found
    return [each for each in found if not each.outside_guarantee]


def _ask_cancel(asked: Asked) -> Response:
    job = asked.service.jobs.get(asked.path["job"], tenant=asked.tenant)
    return asked.show("job_cancel.html", job=job)


def _cancel(asked: Asked) -> Response:
    job = asked.service.jobs.cancel(asked.path["job"], tenant=asked.tenant, by=asked.who.subject)
    return asked.see(f"/jobs/{job.id}", said="job-cancelled")


def _report(asked: Asked) -> Response:
    """The report of a run, as the run wrote it: a page of its own, with its styles and no scripts.

    It may not run, load, send or be framed; its pictures carry style attributes, so styles are
    allowed as they stand.
    """
    found = {each.name for each in _files(asked, _artefacts(asked))}
    if "report.html" not in found:
        raise UnknownArtefact
    path = asked.service.jobs.artefact_path(asked.path["job"], "report.html", tenant=asked.tenant)
    return Response(
        path.read_bytes(),
        media_type="text/html; charset=utf-8",
        headers={"content-security-policy": _REPORT_POLICY},
    )


def _artefacts(asked: Asked) -> list[Artefact]:
    return asked.service.jobs.artefacts(asked.path["job"], tenant=asked.tenant)


def _file(asked: Asked) -> Response:
    """A file of a job, to be saved: a browser never shows one as a page of ours."""
    name = asked.path["name"]
    artefact = next((each for each in _files(asked, _artefacts(asked)) if each.name == name), None)
    if artefact is None or (_is_weights(name) and not asked.may(Scope.MODELS_EXPORT)):
        raise UnknownArtefact
    path = asked.service.jobs.artefact_path(asked.path["job"], name, tenant=asked.tenant)
    return FileResponse(
        path,
        media_type="application/octet-stream",
        filename=name.rpartition("/")[2],
        headers={"content-security-policy": "default-src 'none'; sandbox"},
    )


def _is_weights(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", ".pt"))
