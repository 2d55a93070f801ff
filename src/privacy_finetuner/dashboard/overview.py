"""The first page: what needs attention, then what is going on."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from privacy_finetuner.dashboard import attention
from privacy_finetuner.dashboard.accounts import AccountView, accounts_of
from privacy_finetuner.dashboard.attention import Item
from privacy_finetuner.dashboard.job_views import dataset_name, fault_of
from privacy_finetuner.dashboard.pages import Pages
from privacy_finetuner.dashboard.site import Asked
from privacy_finetuner.governance.budget_requests import RequestState
from privacy_finetuner.jobs import JobState
from privacy_runtime.identity import Scope

_RECENT: Final = 6
_FAILED: Final = 20
_ACCOUNTS: Final = 6


def register(pages: Pages) -> None:
    """Add the pages of this module."""
    pages.get("/", _overview, Scope.JOBS_READ)


def _overview(asked: Asked) -> Response:
    jobs = asked.service.jobs
    counts = jobs.counts(tenant=asked.tenant)
    accounts = accounts_of(asked) if asked.may(Scope.BUDGETS_READ) else []
    fullest = sorted(accounts, key=lambda each: -each.share)
    return asked.show(
        "overview.html",
        items=attention.ordered(_items(asked, accounts)),
        counts=counts,
        total=sum(counts.values()),
        accounts=fullest[:_ACCOUNTS],
        more_accounts=max(0, len(accounts) - _ACCOUNTS),
        recent=jobs.find(asked.tenant, limit=_RECENT),
        dataset=lambda job: dataset_name(asked.service, job),
        users=_users(asked),
    )


def _items(asked: Asked, accounts: list[AccountView]) -> list[Item]:
    """Everything that this reader may know of and could see to."""
    service, tenant, now = asked.service, asked.tenant, asked.now
    desks = service.desks
    failed = service.jobs.find(tenant, states=[JobState.FAILED], limit=_FAILED)
    items = attention.of_jobs(failed, now, why=fault_of)
    alerts = desks.monitor.alerts(tenant, is_open=True) if asked.may(Scope.SECURITY_READ) else []
    items += attention.of_alerts(alerts)
    items += attention.of_accounts(
        [each.standing() for each in accounts if each.moments],
        threshold=service.config.monitoring.alerts.privacy_budget_threshold,
        now=now,
        besides=attention.accounts_in(alerts),
    )
    if asked.may(Scope.COMPLIANCE_READ):
        items += attention.of_subject_requests(desks.subject_requests.find(tenant), now)
        items += attention.of_processing(desks.processing.overdue(tenant, now))
    if asked.may(Scope.BUDGETS_GRANT):
        pending = desks.budget_requests.find(tenant, state=RequestState.PENDING)
        items += attention.of_budget_requests(pending)
    return items


def _users(asked: Asked) -> int | None:
    """How many users there are, for who may know; a first start has one."""
    if not asked.may(Scope.USERS_WRITE):
        return None
    return len(asked.service.identity.accounts.users(asked.who))
