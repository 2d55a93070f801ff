"""Privacy budgets, as the service shows them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The throttle of a quota. It never grants."""

    epsilon: float
    length_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A budget account as it stands.

    Attributes:
        account: `COHORT/SLICE` of a block of data, or `quota/DEPARTMENT/...`.
        is_guarantee: whether the cap is what the people in the data are promised.
        epsilon: the lifetime cap.
        epsilon_if_all_commit: spent, and everything that is set aside.
        share_used: of the cap, in the ledger's own currency, where shares add up; 1 is full.
    """

    account: str
    is_guarantee: bool
    epsilon: float
    delta: float
    relation: str
    unit: str
    epsilon_spent: float
    epsilon_if_all_commit: float
    epsilon_remaining: float
    share_used: float
    currency: str
    window: Window | None
    entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One entry of the ledger that changed an account, and where it left it.

    Attributes:
        by: who answers for it; empty where a program acted.
    """

    seq: int
    at: datetime
    kind: str
    key: str
    by: str
    reason: str
    epsilon_cap: float
    epsilon_spent: float
    epsilon_if_all_commit: float
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelinePoint:
    """An account at one instant."""

    at: datetime
    epsilon_cap: float
    epsilon_spent: float
    epsilon_if_all_commit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The burn-down of an account, oldest first.

    Attributes:
        is_thinned: whether points were left out; the first and the last never are.
    """

    account: str
    points: tuple[TimelinePoint, ...]
    is_thinned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """When an account will be used up, from measured spending.

    Attributes:
        exhausted_at, earliest, latest: `None` where nothing can be said.
        reason: why there is no date; empty where there is one.
    """

    account: str
    exhausted_at: datetime | None
    earliest: datetime | None
    latest: datetime | None
    share_per_day: float | None
    days: int
    spending_days: int
    reason: str
    method: str
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One private act that an account was charged for."""

    reservation: str
    at: datetime
    status: str
    quota: str | None
    job_id: str | None
    share: float
    epsilon_alone: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spender:
    """One quota's or job's part of what was spent; the shares of all add up."""

    name: str
    share: float
    acts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Who spent what of an account."""

    account: str
    by_quota: tuple[Spender, ...]
    by_job: tuple[Spender, ...]
    acts: tuple[Act, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRequest:
    """A request for more budget, and what became of it.

    Attributes:
        status: `pending`, `approved`, `granted`, `refused`, `declined` or `withdrawn`.
        ledger_code: why the ledger refused, where it did.
    """

    request_id: str
    account: str
    epsilon: float
    reason: str
    status: str
    requested_by: str
    requested_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    decision_reason: str | None
    granted_epsilon: float | None
    ledger_code: str | None
