"""What needs somebody's attention, worst first: facts in, lines out. Nothing is looked up here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any, Final

from privacy_finetuner.dashboard.languages import marked
from privacy_finetuner.governance.budget_requests import BudgetRequest
from privacy_finetuner.governance.forecast import Forecast
from privacy_finetuner.governance.processing import Processing
from privacy_finetuner.governance.subject_requests import SubjectRequest
from privacy_finetuner.jobs import Job
from privacy_finetuner.operations.monitoring import KeptAlert

SOON: Final = timedelta(days=14)
DUE_SOON: Final = timedelta(days=7)
_RECENT: Final = timedelta(days=7)
_ALERT_TONES: Final = {"critical": 0, "high": 0, "medium": 1, "low": 2}


class Tone(IntEnum):
    """How urgent; the order of the page."""

    BAD = 0
    WARN = 1
    INFO = 2

    @property
    def css(self) -> str:
        """The name of its colour."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One line: of what kind, what it is, why it is here, and where to go.

    `what` and `why` are texts to be translated, with the values that belong into them.
    """

    tone: Tone
    kind: str
    what: str
    why: str
    href: str
    at: datetime
    values: Mapping[str, Any] = field(default_factory=dict)
    is_data: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountStanding:
    """An account as the overview sees it."""

    name: str
    epsilon: float
    epsilon_spent: float
    epsilon_held: float
    share: float
    forecast: Forecast | None
    at: datetime

    @property
    def epsilon_left(self) -> float:
        """How far the epsilon may still rise."""
        return max(0.0, self.epsilon - self.epsilon_held)


def accounts_in(alerts: Iterable[KeptAlert]) -> frozenset[str]:
    """The accounts that open alerts are about: they are not said twice."""
    return frozenset(
        str(piece["account"])
        for each in alerts
        for piece in each.alert.evidence
        if "account" in piece
    )


def of_accounts(
    accounts: Iterable[AccountStanding],
    *,
    threshold: float,
    now: datetime,
    besides: frozenset[str] = frozenset(),
) -> list[Item]:
    """Accounts that are full, nearly, or will be within two weeks; those of `besides` left out."""
    items = []
    for each in accounts:
        if each.name in besides:
            continue
        values = {"name": each.name, "left": each.epsilon_left, "cap": each.epsilon}
        shared: dict[str, Any] = {
            "kind": marked("Budget"),
            "href": f"/budgets/{each.name}",
            "at": each.at,
        }
        soon = each.forecast.exhausted_at if each.forecast else None
        if each.share >= 1:
            items.append(
                Item(
                    tone=Tone.BAD,
                    what=marked("%(name)s is used up"),
                    why=marked("Nothing more is admitted. New data is a new block, or an officer "
                               "raises the cap: a new promise to the people in the data."),
                    values=values,
                    **shared,
                )
            )  # fmt: skip
        elif each.share >= threshold:
            items.append(
                Item(
                    tone=Tone.WARN,
                    what=marked("%(name)s is near its end"),
                    why=marked("ε %(left)s is left of %(cap)s."),
                    values=values,
                    **shared,
                )
            )
        elif soon is not None and soon - now <= SOON:
            items.append(
                Item(
                    tone=Tone.WARN,
                    what=marked("%(name)s will be used up soon"),
                    why=marked("At the spending of the last weeks, on %(day)s."),
                    values={**values, "day": soon},
                    **shared,
                )
            )
    return items


def of_jobs(failed: Iterable[Job], now: datetime, *, why: Callable[[Job], str]) -> list[Item]:
    """Jobs that failed within the last week; `why` says in words what happened."""
    return [
        Item(
            tone=Tone.BAD,
            kind=marked("Job"),
            what=marked("%(name)s failed"),
            why=why(job) or job.error_code or "",
            is_data=True,
            href=f"/jobs/{job.id}",
            at=job.finished_at or job.updated_at,
            values={"name": job.name},
        )
        for job in failed
        if now - (job.finished_at or job.updated_at) <= _RECENT
    ]


def of_alerts(alerts: Iterable[KeptAlert]) -> list[Item]:
    """Open alerts."""
    return [
        Item(
            tone=Tone(_ALERT_TONES[each.alert.severity.value]),
            kind=marked("Alert"),
            what=each.alert.description,
            why=each.alert.recommended_actions[0] if each.alert.recommended_actions else "",
            is_data=True,
            href=f"/alerts#{each.alert.id}",
            at=each.alert.at,
        )
        for each in alerts
        if each.status == "open"
    ]


def of_subject_requests(requests: Iterable[SubjectRequest], now: datetime) -> list[Item]:
    """Requests of data subjects that are late, or due within a week."""
    items = []
    for each in requests:
        if not each.status.is_open or each.due_at - now > DUE_SOON:
            continue
        late = each.is_overdue(now)
        items.append(
            Item(
                tone=Tone.BAD if late else Tone.WARN,
                kind=marked("Data subject"),
                what=marked("A request for %(type)s is overdue")
                if late
                else marked("A request for %(type)s is due"),
                why=marked("The law's last day is %(day)s."),
                href="/compliance",
                at=each.received_at,
                values={"type": each.type.value.replace("_", " "), "day": each.due_at},
            )
        )
    return items


def of_processing(overdue: Iterable[Processing]) -> list[Item]:
    """Processing whose retention ended and that was not declared over."""
    return [
        Item(
            tone=Tone.WARN,
            kind=marked("Retention"),
            what=marked("The data of %(name)s should be gone"),
            why=marked("Its retention ended on %(day)s."),
            href="/compliance",
            at=each.created_at,
            values={"name": each.activity.dataset or each.id, "day": each.retention_ends},
        )
        for each in overdue
    ]


def of_budget_requests(pending: Iterable[BudgetRequest]) -> list[Item]:
    """Requests for budget that wait for an officer."""
    return [
        Item(
            tone=Tone.INFO,
            kind=marked("Request"),
            what=marked("ε %(epsilon)s is asked for on %(name)s"),
            why=each.reason,
            is_data=True,
            href=f"/budgets/{each.account}",
            at=each.created_at,
            values={"name": each.account, "epsilon": each.epsilon},
        )
        for each in pending
    ]


def ordered(items: Sequence[Item]) -> list[Item]:
    """Worst first; among equals, the newest first."""
    return sorted(items, key=lambda item: (item.tone, -item.at.timestamp()))
