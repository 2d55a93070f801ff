"""Facts that security rules look at, and the alerts that they give: values, no more.

What a rule looks at is in the audit stream, the ledger, the states of jobs or the chain itself:
none of it is computed from anybody's records, so alerts cost no privacy budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class ThreatType(StrEnum):
    """What kind of harm an alert is about. The first four are the documented configuration's.

    What else is asked for falls under one of them: probing for planted secrets, copying a model and
    data that leaks out of it are `MODEL_INVERSION`; a silo's update that does not belong to the
    others is `DATA_POISONING`.
    """

    PRIVACY_BUDGET_EXHAUSTION = "privacy_budget_exhaustion"
    MODEL_INVERSION = "model_inversion"
    DATA_POISONING = "data_poisoning"
    UNAUTHORIZED_ACCESS = "unauthorized_access"
    MEMBERSHIP_INFERENCE = "membership_inference"
    CREDENTIAL_ATTACK = "credential_attack"
    TAMPERING = "tampering"
    RESOURCE_EXHAUSTION = "resource_exhaustion"


class Severity(StrEnum):
    """How bad, from least to worst."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Larger is worse."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One entry of the audit stream, as far as rules look at it."""

    seq: int
    at: datetime
    type: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountFact:
    """One account of the ledger.

    Attributes:
        account: as the organisation's people write it.
        epsilon: the cap; `epsilon_used`: spent and set aside.
        daily_shares: shares of the cap that were spent on each of the last days, oldest first,
            the last one the newest 24 hours.
        at: when its newest entry came.
        acts_last_hour: how many acts were charged, or set aside, within the last hour.
        share_last_hour: of the cap, what they took.
    """

    account: str
    epsilon: float
    epsilon_used: float
    daily_shares: tuple[float, ...]
    at: datetime
    acts_last_hour: int = 0
    share_last_hour: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureFact:
    """A job that failed."""

    job: str
    owner: str
    code: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainFact:
    """What checking a chain found."""

    stream: str
    is_intact: bool
    broken_at: int | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that the rules may look at, of one organisation."""

    tenant: str
    now: datetime
    events: Sequence[Event] = ()
    accounts: Sequence[AccountFact] = ()
    failures: Sequence[FailureFact] = ()
    chains: Sequence[ChainFact] = ()
    budget_threshold: float = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that a person should look at.

    Attributes:
        id: the same for the same evidence.
        at: when the evidence reached the threshold.
        rule: which rule of `operations.rules`.
        evidence: what it rests on: entries by number, accounts, jobs; never a record.
        count: how much evidence there is, also where less is listed.
        is_condition: it holds as long as the facts do, and is resolved when they change.
        confidence: the probability that what the alert says is so, in [0, 1]: 1 where the
            evidence is the thing itself (an entry, a digest), else as measured (`confidence`).
        about: whom or what a response would act on: `subject`, `job`, `sha256`, `account`.
        responses: what was done about it, or would have been; see `responses`.
    """

    id: str
    tenant: str
    rule: str
    threat_type: ThreatType
    severity: Severity
    description: str
    at: datetime
    evidence: tuple[Mapping[str, Any], ...]
    count: int
    recommended_actions: tuple[str, ...]
    is_condition: bool = False
    confidence: float = 1.0
    about: Mapping[str, str] = field(default_factory=dict)
    responses: tuple[Mapping[str, str], ...] = ()

    @property
    def threat_level(self) -> Severity:
        """The severity, under its documented name."""
        return self.severity


ThreatAlert = Alert
"""The documented name."""
