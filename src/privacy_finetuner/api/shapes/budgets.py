"""Budgets as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field

from privacy_core.guarantee import NeighbouringRelation, PrivacyUnit
from privacy_finetuner.api.shapes.bodies import Answer, Body
from privacy_finetuner.governance.accounts import name_of
from privacy_finetuner.governance.budget_requests import BudgetRequest, RequestState
from privacy_finetuner.governance.forecast import Forecast, share_spent
from privacy_finetuner.governance.spending import Act, Moment
from privacy_finetuner.service.runs import run_of_reservation
from privacy_runtime.budget_store import ScopeKind, ScopeState

AccountName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=600,
        description="`COHORT/SLICE` of a block of data, or `quota/DEPARTMENT/...`.",
        examples=["hospital-notes/2026"],
    ),
]
Reason = Annotated[str, Field(min_length=1, max_length=1000, examples=["ethics vote 17"])]
Epsilon = Annotated[float, Field(gt=0, le=1000, examples=[2.0])]


class WindowAnswer(Answer):
    """The throttle of a quota. It never grants."""

    epsilon: float
    length_s: int


class AccountAnswer(Answer):
    """An account as it stands. Lifetime figures stand beside the window, always."""

    account: str = Field(examples=["hospital-notes/2026"])
    is_guarantee: bool = Field(
        description="Whether the cap is what the people in the data are promised; a quota's is not."
    )
    epsilon: float = Field(description="The lifetime cap.", examples=[8.0])
    delta: float = Field(examples=[1e-6])
    relation: NeighbouringRelation
    unit: PrivacyUnit
    epsilon_spent: float = Field(examples=[1.9])
    epsilon_if_all_commit: float = Field(description="With everything that is set aside.")
    epsilon_remaining: float
    share_used: float = Field(
        description="Of the cap, in the ledger's own currency, where shares add up; 1 is full."
    )
    currency: str = Field(examples=["rdp"])
    window: WindowAnswer | None
    entries: int = Field(description="How many ledger entries changed it.")

    @classmethod
    def of(cls, state: ScopeState, tenant: str) -> Self:
        """An account of `tenant`."""
        window = state.window
        return cls(
            account=name_of(state.scope, tenant),
            is_guarantee=state.scope.kind is ScopeKind.PROTECTION,
            epsilon=state.guarantee.epsilon,
            delta=state.guarantee.delta,
            relation=state.guarantee.relation,
            unit=state.guarantee.unit,
            epsilon_spent=state.epsilon_committed,
            epsilon_if_all_commit=state.epsilon_if_all_commit,
            epsilon_remaining=state.epsilon_remaining,
            share_used=share_spent(state),
            currency=state.currency.value,
            window=None
            if window is None
            else WindowAnswer(epsilon=window.epsilon, length_s=window.length_s),
            entries=state.version,
        )


class HistoryEntry(Answer):
    """One entry of the ledger that changed an account, and where it left it."""

    seq: int
    at: datetime
    kind: str = Field(examples=["Reserved"])
    key: str
    by: str = Field(description="Who answers for it; empty where a program acted.")
    reason: str
    epsilon_cap: float
    epsilon_spent: float
    epsilon_if_all_commit: float
    hash: str

    @classmethod
    def of(cls, moment: Moment) -> Self:
        """One entry."""
        standing = moment.standing()
        return cls(
            seq=standing.seq,
            at=standing.at,
            kind=standing.kind,
            key=standing.key,
            by=standing.by,
            reason=standing.reason,
            epsilon_cap=standing.epsilon_cap,
            epsilon_spent=standing.epsilon_committed,
            epsilon_if_all_commit=standing.epsilon_if_all_commit,
            hash=standing.hash,
        )


class TimelinePoint(Answer):
    """An account at one instant."""

    at: datetime
    epsilon_cap: float = Field(examples=[8.0])
    epsilon_spent: float = Field(examples=[1.9])
    epsilon_if_all_commit: float = Field(examples=[2.4])


class TimelineAnswer(Answer):
    """The burn-down of an account, oldest first."""

    account: str
    points: list[TimelinePoint]
    is_thinned: bool = Field(
        description="Whether points were left out; the first and last never are."
    )


class ForecastAnswer(Answer):
    """When an account will be used up, from measured spending; null where nothing can be said."""

    account: str = Field(examples=["hospital-notes/2026"])
    exhausted_at: datetime | None
    earliest: datetime | None
    latest: datetime | None = Field(description="Null: the interval has no end.")
    share_per_day: float | None
    days: int
    spending_days: int
    reason: str = Field(description="Why there is no date; empty where there is one.")
    method: str
    confidence: float

    @classmethod
    def of(cls, account: str, found: Forecast) -> Self:
        """A forecast of an account."""
        names = ("exhausted_at", "earliest", "latest", "share_per_day", "days", "spending_days")
        values: dict[str, Any] = {name: getattr(found, name) for name in names}
        return cls(
            account=account,
            reason=found.reason,
            method=found.method,
            confidence=found.confidence,
            **values,
        )


class ActAnswer(Answer):
    """One private act that an account was charged for."""

    reservation: str
    at: datetime
    status: str = Field(examples=["committed"])
    quota: str | None
    job_id: str | None
    share: float
    epsilon_alone: float


class SpenderAnswer(Answer):
    """One quota's or job's part of what was spent."""

    name: str = Field(examples=["quota/research"])
    share: float = Field(description="Of the account's cap; the shares of all add up.")
    acts: int


class SpendingAnswer(Answer):
    """Who spent what of an account."""

    account: str
    by_quota: list[SpenderAnswer]
    by_job: list[SpenderAnswer]
    acts: list[ActAnswer] = Field(description="The newest 200.")

    @classmethod
    def of(cls, account: str, acts: list[Act], tenant: str, jobs: Mapping[str, str]) -> Self:
        """The acts of an account, and their sums; `jobs` are by their runs."""
        shown = [_act(each, tenant, jobs) for each in acts]
        return cls(
            account=account,
            by_quota=_sums((each.quota or "", each.share) for each in shown),
            by_job=_sums((each.job_id or "", each.share) for each in shown),
            acts=shown[-200:][::-1],
        )


class GrantBody(Body):
    """A grant of budget: a new promise to the people in the data."""

    account: AccountName
    epsilon: Epsilon
    delta: Annotated[
        float | None,
        Field(default=None, gt=0, lt=1, description="Opens the account, with this delta for good."),
    ]
    relation: NeighbouringRelation = NeighbouringRelation.ADD_OR_REMOVE_ONE
    unit: PrivacyUnit = PrivacyUnit.EXAMPLE
    reason: Reason


class AskBody(Body):
    """A request for more budget on an account that is open."""

    account: AccountName
    epsilon: Epsilon
    reason: Reason


class ApproveBody(Body):
    """An officer's yes."""

    reason: Reason
    epsilon: Annotated[
        float | None, Field(default=None, gt=0, le=1000, description="Less than was asked for.")
    ]


class DeclineBody(Body):
    """An officer's no."""

    reason: Reason


class RequestAnswer(Answer):
    """A request for budget, and what became of it."""

    request_id: str
    account: str
    epsilon: float
    reason: str
    status: RequestState
    requested_by: str
    requested_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    decision_reason: str | None
    granted_epsilon: float | None
    ledger_code: str | None = Field(description="Why the ledger refused, where it did.")

    @classmethod
    def of(cls, request: BudgetRequest) -> Self:
        """A request."""
        return cls(
            request_id=request.id,
            account=request.account,
            epsilon=request.epsilon,
            reason=request.reason,
            status=request.state,
            requested_by=request.requested_by,
            requested_at=request.created_at,
            decided_by=request.decided_by,
            decided_at=request.decided_at,
            decision_reason=request.decision_reason,
            granted_epsilon=request.granted_epsilon,
            ledger_code=request.ledger_code,
        )


def _act(act: Act, tenant: str, jobs: Mapping[str, str]) -> ActAnswer:
    return ActAnswer(
        reservation=act.reservation,
        at=act.at,
        status=act.status.value,
        quota=None if act.quota is None else name_of(act.quota, tenant),
        job_id=jobs.get(run_of_reservation(act.reservation)),
        share=act.share,
        epsilon_alone=act.epsilon_alone,
    )


def _sums(shares: Any) -> list[SpenderAnswer]:
    totals: dict[str, list[float]] = {}
    for name, share in shares:
        totals.setdefault(name, []).append(share)
    found = [
        SpenderAnswer(name=name, share=sum(each), acts=len(each)) for name, each in totals.items()
    ]
    return sorted(found, key=lambda each: (-each.share, each.name))
