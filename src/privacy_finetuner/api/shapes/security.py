"""Security alerts as JSON. The first fields of each are the documented ones."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field

from privacy_finetuner.api.shapes.bodies import Answer, Body
from privacy_finetuner.operations.alerts import Severity, ThreatType
from privacy_finetuner.operations.monitoring import KeptAlert, Summary
from privacy_finetuner.operations.restraints import Restraint


class SecurityStatus(Answer):
    """The organisation's security at a glance."""

    monitoring_active: bool = Field(
        description="Whether the loop runs in this process; where it does not, a status is a scan."
    )
    threat_level: Severity = Field(description="The worst open alert's; low without one.")
    active_alerts: int
    threats_detected_24h: int
    last_scan: datetime | None = Field(description="When a scan last ended; null: never.")

    @classmethod
    def of(cls, summary: Summary) -> Self:
        """A summary."""
        return cls(
            monitoring_active=summary.monitoring_active,
            threat_level=summary.threat_level,
            active_alerts=summary.active_alerts,
            threats_detected_24h=summary.threats_detected_24h,
            last_scan=summary.last_scan,
        )


class AlertAnswer(Answer):
    """An alert, with what it rests on."""

    alert_id: str = Field(examples=["alert_3f0c7a5e1b2d4c6e8f901a2b"])
    threat_type: ThreatType
    severity: Severity
    description: str
    timestamp: datetime = Field(description="When the evidence reached the rule's threshold.")
    recommended_actions: list[str]
    rule: str = Field(examples=["account_guessing"])
    evidence: list[dict[str, Any]] = Field(
        description="Entries of the audit trail by number, accounts, jobs: at most 20."
    )
    evidence_count: int
    confidence: float = Field(
        description="That what the alert says is so, in [0, 1]; 1 where the evidence is a fact."
    )
    responses: list[dict[str, str]] = Field(
        description="What was done about it, or would have been where responses are off."
    )
    status: str = Field(examples=["open"], description="open, acknowledged or resolved")
    closed_at: datetime | None
    closed_by: str | None
    closed_reason: str | None

    @classmethod
    def of(cls, kept: KeptAlert) -> Self:
        """An alert and what became of it."""
        alert = kept.alert
        return cls(
            alert_id=alert.id,
            threat_type=alert.threat_type,
            severity=alert.severity,
            description=alert.description,
            timestamp=alert.at,
            recommended_actions=list(alert.recommended_actions),
            rule=alert.rule,
            evidence=[dict(each) for each in alert.evidence],
            evidence_count=alert.count,
            confidence=alert.confidence,
            responses=[dict(each) for each in alert.responses],
            status=kept.status,
            closed_at=kept.closed_at,
            closed_by=kept.closed_by,
            closed_reason=kept.closed_reason,
        )


class AlertList(Answer):
    """Alerts, newest first, as documented."""

    alerts: list[AlertAnswer]
    total_count: int = Field(description="Of all that match, also those on other pages.")
    next_cursor: str | None = None


class Acknowledgement(Body):
    """That a person looked at it."""

    reason: Annotated[str, Field(min_length=1, max_length=1000, examples=["it was a drill"])]


class RestraintAnswer(Answer):
    """A user who may make fewer requests for now."""

    user_id: str = Field(examples=["u_00000000000000000000000000"])
    until: datetime
    by: str = Field(description="Who said so; `service`: an automated response.")
    reason: str = Field(examples=["canary_probing: alert_3f0c7a5e1b2d4c6e8f901a2b"])

    @classmethod
    def of(cls, held: Restraint) -> Self:
        """A restraint."""
        return cls(user_id=held.subject, until=held.until, by=held.by, reason=held.reason)


class RestraintList(Answer):
    """The restraints that hold, the last to end first."""

    restraints: list[RestraintAnswer]
    total_count: int
