"""Endpoints that the service sends signed messages to. To check one, see `client.webhooks`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from privacy_finetuner.client.asynchronous.paging import AsyncGroup
from privacy_finetuner.client.calls import given, place
from privacy_finetuner.client.shapes.webhooks import (
    Delivery,
    NewWebhook,
    Redelivered,
    TestSent,
    Webhook,
)


class AsyncWebhooks(AsyncGroup):
    """The endpoints of one's organisation."""

    def list_webhooks(self) -> AsyncIterator[Webhook]:
        """All endpoints, newest first."""
        return self._pages(place("webhooks"), Webhook)

    async def get_webhook(self, webhook_id: str) -> Webhook:
        """An endpoint."""
        return await self._get(place("webhooks", webhook_id), Webhook)

    async def create_webhook(
        self, url: str, events: Sequence[str], *, kind: str = "webhook"
    ) -> NewWebhook:
        """Make an endpoint. Its secret is shown once.

        Args:
            url: where to; https.
            events: `training_complete`, `privacy_budget_warning`, `job_failed`, `security_alert`,
                `compliance_due`.
            kind: `webhook`, `slack` or `email`.
        """
        body = {"url": url, "events": list(events), "kind": kind}
        return await self._post_secret(place("webhooks"), NewWebhook, body)

    async def update_webhook(
        self,
        webhook_id: str,
        *,
        url: str | None = None,
        events: Sequence[str] | None = None,
        enabled: bool | None = None,
    ) -> Webhook:
        """Change an endpoint. What is `None` stays."""
        chosen = None if events is None else list(events)
        body = given(url=url, events=chosen, enabled=enabled)
        return await self._change("PATCH", place("webhooks", webhook_id), Webhook, body)

    async def delete_webhook(self, webhook_id: str) -> None:
        """Remove an endpoint; nothing more is sent to it."""
        await self._delete(place("webhooks", webhook_id))

    async def rotate_webhook(self, webhook_id: str) -> NewWebhook:
        """A new secret; for a day the old one signs too."""
        return await self._post_secret(place("webhooks", webhook_id, "rotate"), NewWebhook)

    async def test_webhook(self, webhook_id: str) -> TestSent:
        """Send a test message."""
        return await self._post(place("webhooks", webhook_id, "test"), TestSent)

    def list_deliveries(self, webhook_id: str) -> AsyncIterator[Delivery]:
        """What was sent to an endpoint, newest first."""
        return self._pages(place("webhooks", webhook_id, "deliveries"), Delivery)

    async def redeliver(self, delivery_id: str) -> Redelivered:
        """Send a message again."""
        return await self._post(place("webhooks", "deliveries", delivery_id, "again"), Redelivered)
