"""Security, compliance and the audit trail, as the service shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from privacy_finetuner.client.shapes.hidden import SecretText


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityStatus:
    """The organisation's security at a glance, in the documented shape."""

    monitoring_active: bool
    threat_level: str
    active_alerts: int
    threats_detected_24h: int
    last_scan: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert, with what it rests on.

    Attributes:
        status: `open`, `acknowledged` or `resolved`.
        evidence: entries of the audit trail by number, accounts, jobs.
        confidence: that what the alert says is so, in [0, 1].
        responses: what was done about it, or would have been.
    """

    alert_id: str
    threat_type: str
    severity: str
    description: str
    timestamp: datetime
    recommended_actions: tuple[str, ...]
    rule: str
    evidence: tuple[Mapping[str, Any], ...]
    evidence_count: int
    confidence: float
    responses: tuple[Mapping[str, str], ...]
    status: str
    closed_at: datetime | None
    closed_by: str | None
    closed_reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """One page of alerts, in the documented shape."""

    alerts: tuple[Alert, ...]
    total_count: int
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Restraint:
    """A user who may make fewer requests for now. `by`: who said so, or `service`."""

    user_id: str
    until: datetime
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Restraints:
    """The restraints that hold, the last to end first."""

    restraints: tuple[Restraint, ...]
    total_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessingRecorded:
    """A processing activity that was recorded.

    Attributes:
        missing: fields of Art. 30(1) GDPR that are empty.
    """

    processing_id: str
    status: str
    compliance_frameworks: tuple[str, ...]
    retention_ends: datetime | None
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Processing:
    """A processing activity as it is recorded."""

    processing_id: str
    data_categories: tuple[str, ...]
    processing_purpose: str
    legal_basis: str
    data_subjects_count: int
    storage_location: str
    dataset: str
    compliance_frameworks: tuple[str, ...]
    recorded_at: datetime
    recorded_by: str
    ended_at: datetime | None
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectRequest:
    """A request of a data subject, in the documented shape.

    Attributes:
        estimated_completion: the law's deadline.
    """

    request_id: str
    status: str
    estimated_completion: datetime
    data_package_url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectRequestWhole(SubjectRequest):
    """A request of a data subject, with every law that dates it. The person is a keyed hash."""

    request_type: str
    subject: str
    region: str
    received_at: datetime
    is_overdue: bool
    clocks: tuple[Mapping[str, Any], ...]
    law_version: str
    verification_id: str
    evidence: tuple[Mapping[str, Any], ...]
    artefacts: tuple[Mapping[str, Any], ...]
    reason: str | None
    answered_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationIssued:
    """A token for one request of a person; shown once."""

    verification_id: str
    verification_token: SecretText = field(repr=False)
    means: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasurePlan:
    """What has to be decided for the models that were trained on an account's records."""

    dataset: str
    artefacts: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """The table of deadlines."""

    version: str
    cells: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComplianceSummary:
    """What needs an officer now."""

    open_requests: int
    overdue_requests: int
    due_within_7_days: int
    processing_activities: int
    retention_overdue: int
    frameworks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailEntry:
    """One entry of the hash-chained audit trail."""

    seq: int
    at: datetime
    type: str
    body: Mapping[str, Any]
    prev_hash: str
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailVerified:
    """What walking the chain found."""

    is_intact: bool
    entries: int
    head: str
    broken_at: int | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingStatus:
    """The workers of the service, in the documented shape; unknown figures are `None`."""

    auto_scaling_enabled: bool
    current_nodes: int
    target_nodes: int | None
    cpu_utilization: float | None
    gpu_utilization: float | None
    cost_per_hour: float | None
    scaling_events_last_hour: int
    min_nodes: int
    max_nodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingStarted:
    """A change of the number of workers that was asked for."""

    scaling_id: str
    status: str
    estimated_completion: datetime | None
    target_nodes: int
