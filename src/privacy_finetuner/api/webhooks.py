"""Where an organisation wants to hear of things: endpoints, their secrets, and what was sent.

Addresses must be https and lead out of the network that the service stands in; see
`privacy_runtime.notify.addresses`. A receiver checks the signature with
`privacy_runtime.notify.verify`.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from privacy_finetuner.api.listing import newest_first
from privacy_finetuner.api.routes import By, Paged, operation, router_of
from privacy_finetuner.api.shapes import webhooks as shapes
from privacy_finetuner.service import Service
from privacy_runtime.http.access import Access
from privacy_runtime.http.pages import Page
from privacy_runtime.identity import Principal, Scope
from privacy_runtime.notify import Endpoint

WebhookId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,64}$", examples=["endp_3f0c7a5e"])]
DeliveryId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_]{1,64}$", examples=["dlv_3f0c7a5e"])]


class Webhooks:
    """Endpoints over HTTP. Whoever administers the organisation decides where its news go.

    Args:
        service: whose notices; its journal records who changed what.
    """

    def __init__(self, service: Service) -> None:
        self._notices, self._trail = service.notices, service.desks.trail
        self._entropy = service.entropy

    @operation("GET", "", Scope.SETTINGS_WRITE)
    def list_webhooks(self, by: By, page: Paged) -> Page[shapes.WebhookAnswer]:
        """List the endpoints of the organisation, newest first."""
        found = self._notices.endpoints(tenant=by.tenant)
        return newest_first(found, page, _newest, shapes.WebhookAnswer.of)

    @operation("POST", "", Scope.SETTINGS_WRITE, status=201, refuses=(409,), is_secret=True)
    def create_webhook(self, body: shapes.WebhookBody, by: By) -> shapes.WebhookIssued:
        """Add an endpoint. The answer holds the secret that signs, shown here and nowhere else."""
        issued = self._notices.add(
            tenant=by.tenant, url=body.url, events=tuple(body.events), kind=body.kind
        )
        self._record("webhook.added", issued.endpoint.id, by)
        return shapes.WebhookIssued.issued(issued)

    @operation("GET", "/{webhook_id}", Scope.SETTINGS_WRITE)
    def get_webhook(self, webhook_id: WebhookId, by: By) -> shapes.WebhookAnswer:
        """Show an endpoint."""
        return shapes.WebhookAnswer.of(self._notices.endpoint(webhook_id, tenant=by.tenant))

    @operation("PATCH", "/{webhook_id}", Scope.SETTINGS_WRITE)
    def update_webhook(
        self, webhook_id: WebhookId, body: shapes.WebhookChange, by: By
    ) -> shapes.WebhookAnswer:
        """Change an endpoint, or stop it for a while: what waits for it waits."""
        changed = self._notices.change(
            webhook_id,
            tenant=by.tenant,
            url=body.url,
            events=None if body.events is None else tuple(body.events),
            enabled=body.enabled,
        )
        self._record("webhook.changed", webhook_id, by)
        return shapes.WebhookAnswer.of(changed)

    @operation("DELETE", "/{webhook_id}", Scope.SETTINGS_WRITE, status=204)
    def delete_webhook(self, webhook_id: WebhookId, by: By) -> None:
        """Remove an endpoint, and what waits for it."""
        self._notices.remove(webhook_id, tenant=by.tenant)
        self._record("webhook.removed", webhook_id, by)

    @operation("POST", "/{webhook_id}/rotate", Scope.SETTINGS_WRITE, is_secret=True)
    def rotate_webhook(self, webhook_id: WebhookId, by: By) -> shapes.WebhookIssued:
        """Make a new secret. For a day messages are signed with the old one as well."""
        issued = self._notices.rotate(webhook_id, tenant=by.tenant)
        self._record("webhook.rotated", webhook_id, by)
        return shapes.WebhookIssued.issued(issued)

    @operation("POST", "/{webhook_id}/test", Scope.SETTINGS_WRITE, status=202)
    def test_webhook(self, webhook_id: WebhookId, by: By) -> shapes.TestSent:
        """Send a message that says nothing; its delivery is in the list of deliveries."""
        return shapes.TestSent(message_id=self._notices.test(webhook_id, tenant=by.tenant))

    @operation("GET", "/{webhook_id}/deliveries", Scope.SETTINGS_WRITE)
    def list_deliveries(
        self, webhook_id: WebhookId, by: By, page: Paged
    ) -> Page[shapes.DeliveryAnswer]:
        """List what was sent to an endpoint, newest first, and how each attempt ended."""
        after = page.after(int)
        found = self._notices.deliveries(
            webhook_id,
            tenant=by.tenant,
            limit=page.limit + 1,
            before=None if after is None else int(after[0]),
        )
        shown, cursor = page.page(found, key=lambda each: (each.seq,))
        return Page(items=[shapes.DeliveryAnswer.of(each) for each in shown], next_cursor=cursor)

    @operation("POST", "/deliveries/{delivery_id}/again", Scope.SETTINGS_WRITE, status=202)
    def redeliver(self, delivery_id: DeliveryId, by: By) -> shapes.Redelivered:
        """Send a message once more, also one that was given up."""
        self._notices.redeliver(delivery_id, tenant=by.tenant)
        return shapes.Redelivered(delivery_id=delivery_id)

    def _record(self, what: str, endpoint: str, by: Principal) -> None:
        body = {"tenant": by.tenant, "by": by.subject, "endpoint": endpoint}
        self._trail.write(what, body, entropy=self._entropy)


def router(service: Service, access: Access) -> APIRouter:
    """The routes below `/webhooks`."""
    return router_of(Webhooks(service), access, tag="webhooks", prefix="/webhooks")


def _newest(endpoint: Endpoint) -> tuple[str, str]:
    return endpoint.created_at.isoformat(), endpoint.id
