"""Endpoints of messages as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field

from privacy_finetuner.api.shapes.bodies import Answer, Body
from privacy_runtime.notify import Delivery, Endpoint, IssuedEndpoint

EventName = Literal[
    "training_complete", "privacy_budget_warning", "job_failed", "security_alert", "compliance_due"
]
Url = Annotated[
    str, Field(min_length=1, max_length=2000, examples=["https://hooks.example.org/privacy"])
]
Events = Annotated[list[EventName], Field(min_length=1, max_length=5)]


class WebhookBody(Body):
    """A new endpoint."""

    url: Url
    events: Events
    kind: Literal["webhook", "slack", "email"] = "webhook"


class WebhookChange(Body):
    """What is to be another way; what is left out stays."""

    url: Annotated[str | None, Field(default=None, min_length=1, max_length=2000)]
    events: Annotated[list[EventName] | None, Field(default=None, min_length=1, max_length=5)]
    enabled: bool | None = None


class WebhookAnswer(Answer):
    """An endpoint. Of its address only what may be shown: an address can be a credential."""

    webhook_id: str = Field(examples=["endp_3f0c7a5e"])
    kind: str
    address: str = Field(description="The host, or the mailbox's domain.")
    events: list[str]
    enabled: bool
    stopped_by: str | None = Field(description="`gone`: it answered 410; `person`.")
    created_at: datetime

    @classmethod
    def of(cls, endpoint: Endpoint) -> Self:
        """An endpoint."""
        return cls(
            webhook_id=endpoint.id,
            kind=endpoint.kind,
            address=endpoint.shown,
            events=list(endpoint.events),
            enabled=endpoint.enabled,
            stopped_by=endpoint.stopped_by,
            created_at=endpoint.created_at,
        )


class WebhookIssued(WebhookAnswer):
    """An endpoint with the secret that signs for it: shown here and nowhere else."""

    secret: str | None = Field(description="Null for Slack and e-mail, which are not signed.")

    @classmethod
    def issued(cls, issued: IssuedEndpoint) -> Self:
        """A new endpoint, or one with a new secret."""
        secret = None if issued.secret is None else issued.secret.reveal()
        return cls(**WebhookAnswer.of(issued.endpoint).model_dump(), secret=secret)


class DeliveryAnswer(Answer):
    """One message on its way."""

    delivery_id: str
    message_id: str
    event: str
    state: str = Field(examples=["delivered"], description="waiting, delivered or dead")
    attempts: int
    created_at: datetime
    due_at: datetime
    status: int | None = Field(description="Of the last answer.")
    reason: str | None
    ended_at: datetime | None

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """A delivery."""
        return cls(
            delivery_id=delivery.id,
            message_id=delivery.message,
            event=delivery.event,
            state=delivery.state,
            attempts=delivery.attempts,
            created_at=delivery.created_at,
            due_at=delivery.due_at,
            status=delivery.status,
            reason=delivery.reason,
            ended_at=delivery.ended_at,
        )


class TestSent(Answer):
    """A test is on its way."""

    __test__ = False
    message_id: str = Field(examples=["msg_d7c15ba8"])


class Redelivered(Answer):
    """A message waits to be sent again."""

    delivery_id: str = Field(examples=["dlv_723ce2a8"])
