"""Webhooks and what they carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from privacy_finetuner.client.shapes.hidden import SecretText


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """An endpoint for messages. Of its address only what may be shown."""

    webhook_id: str
    kind: str
    address: str
    events: tuple[str, ...]
    enabled: bool
    stopped_by: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWebhook(Webhook):
    """An endpoint with the secret that signs for it, shown once; `None` where nothing is signed."""

    secret: SecretText | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message on its way.

    Attributes:
        state: `waiting`, `delivered` or `dead`.
        status: of the last answer.
    """

    delivery_id: str
    message_id: str
    event: str
    state: str
    attempts: int
    created_at: datetime
    due_at: datetime
    status: int | None
    reason: str | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSent:
    """A test message that is on its way."""

    __test__ = False  # no test of ours

    message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Redelivered:
    """A message that waits to be sent again."""

    delivery_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message that was received, and whose signature holds.

    Attributes:
        id: the same at every attempt: remember it, a message may come twice.
        type: `training_complete`, `privacy_budget_warning`, `job_failed`, `security_alert` or
            `compliance_due`.
    """

    id: str
    type: str
    timestamp: datetime
    data: Mapping[str, Any]
