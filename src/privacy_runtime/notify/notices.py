"""What is announced: one function for each event. Ids, codes, and figures that were released.

A notice names its event, so that saying it twice is saying it once. There is no text in it that
was written by a person, and no figure from outside the guarantee.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

TRAINING_COMPLETE: Final = "training_complete"
JOB_FAILED: Final = "job_failed"
PRIVACY_BUDGET_WARNING: Final = "privacy_budget_warning"
SECURITY_ALERT: Final = "security_alert"
COMPLIANCE_DUE: Final = "compliance_due"
TEST: Final = "test"
EVENTS: Final[Mapping[str, str]] = {
    TRAINING_COMPLETE: "a training job succeeded",
    JOB_FAILED: "a training job failed for good",
    PRIVACY_BUDGET_WARNING: "an account's spending passed the threshold",
    SECURITY_ALERT: "threat detection raised an alert",
    COMPLIANCE_DUE: "an answer is owed to a data subject, or records should be gone",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing that happened.

    Attributes:
        tenant: whose.
        event: one of `EVENTS`.
        key: names this happening; the same key of the same tenant is announced once.
        data: what is said about it.
    """

    tenant: str
    event: str
    key: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetStanding:
    """How an account stands, for warnings.

    Attributes:
        tenant: whose account.
        account: its name, as its people write it.
        epsilon_spent: spent and set aside.
        epsilon_granted: with all grants.
    """

    tenant: str
    account: str
    epsilon_spent: float
    epsilon_granted: float

    @property
    def share(self) -> float:
        """The spent share; an account without epsilon is spent."""
        return self.epsilon_spent / self.epsilon_granted if self.epsilon_granted > 0 else 1.0


def training_complete(
    *,
    tenant: str,
    job_id: str,
    epsilon: float,
    delta: float,
    steps: int,
    certificate_id: str | None = None,
) -> Notice:
    """Say that a job succeeded, and what it spent."""
    data = {
        "job_id": job_id,
        "status": "succeeded",
        "privacy_spent": {"epsilon": epsilon, "delta": delta},
        "steps": steps,
        "certificate_id": certificate_id,
    }
    return Notice(
        tenant=tenant, event=TRAINING_COMPLETE, key=f"{TRAINING_COMPLETE}:{job_id}", data=data
    )


def job_failed(
    *, tenant: str, job_id: str, code: str, attempts: int, epsilon: float | None = None
) -> Notice:
    """Say that a job failed for good; `epsilon` is what it had spent, None where unknown."""
    data = {
        "job_id": job_id,
        "status": "failed",
        "code": code,
        "attempts": attempts,
        "epsilon_spent": epsilon,
    }
    return Notice(tenant=tenant, event=JOB_FAILED, key=f"{JOB_FAILED}:{job_id}", data=data)


def privacy_budget_warning(standing: BudgetStanding, *, threshold: float, count: int) -> Notice:
    """Say that an account passed the threshold, for the `count`-th time."""
    data = {
        "account": standing.account,
        "epsilon_spent": standing.epsilon_spent,
        "epsilon_granted": standing.epsilon_granted,
        "share_spent": min(standing.share, 1.0),
        "threshold": threshold,
    }
    key = f"{PRIVACY_BUDGET_WARNING}:{standing.account}:{count}"
    return Notice(tenant=standing.tenant, event=PRIVACY_BUDGET_WARNING, key=key, data=data)


def security_alert(
    *, tenant: str, alert_id: str, threat_type: str, severity: str, job_id: str | None = None
) -> Notice:
    """Say that threat detection raised an alert."""
    data = {
        "alert_id": alert_id,
        "threat_type": threat_type,
        "severity": severity,
        "job_id": job_id,
    }
    return Notice(
        tenant=tenant, event=SECURITY_ALERT, key=f"{SECURITY_ALERT}:{alert_id}", data=data
    )


def compliance_due(*, tenant: str, record: str, state: str, due_at: datetime) -> Notice:
    """Say that a record of compliance needs an officer: `soon`, `overdue`, `retention_ended`."""
    data = {"record_id": record, "state": state, "due_at": due_at.isoformat()}
    key = f"{COMPLIANCE_DUE}:{record}:{state}:{due_at.isoformat()}"
    return Notice(tenant=tenant, event=COMPLIANCE_DUE, key=key, data=data)
