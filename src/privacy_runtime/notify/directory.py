"""Where people keep their endpoints: every method is for one organisation's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from privacy_core.errors import InvalidParameter
from privacy_runtime.database import Database
from privacy_runtime.notify import outbox
from privacy_runtime.notify.endpoints import (
    KINDS,
    MOST,
    Delivery,
    Endpoint,
    IssuedEndpoint,
    Seals,
    Wardrobe,
    change_row,
    deliveries_of,
    endpoint_of,
    events_of,
    row_of,
    rows_of,
    spelled,
)
from privacy_runtime.notify.errors import EndpointLimit, UnknownEndpoint
from privacy_runtime.notify.notices import TEST, Notice
from privacy_runtime.notify.outbox import DEAD, WAITING, us_of
from privacy_runtime.notify.schema import DELIVERIES, ENDPOINTS, MESSAGES, OPERATOR
from privacy_runtime.notify.signatures import new_secret
from privacy_runtime.notify.sinks.email import require_mailbox
from privacy_runtime.notify.sinks.http import Posting, require_webhook
from privacy_runtime.secret import Secret
from privacy_runtime.world import Clock, Entropy

_ID_BYTES: Final = 13
_MOST_LISTED: Final = 200
_LONGEST_OVERLAP_S: Final = 7 * 86_400.0


class Directory:
    """Endpoints of organisations, and what was sent to them.

    Args:
        database: of the outbox.
        seal: encrypts addresses and secrets.
        posting: says which addresses are refused.
        clock: dates what is added.
        entropy: makes ids and secrets.
    """

    def __init__(
        self,
        database: Database,
        *,
        seal: Seals,
        posting: Posting,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._database = database
        self._posting = posting
        self._clock = clock
        self._entropy = entropy
        self._wardrobe = Wardrobe(seal)

    def add(
        self,
        *,
        tenant: str,
        url: str | Secret,
        events: Sequence[str],
        kind: str = "webhook",
    ) -> IssuedEndpoint:
        """Add an endpoint; the secret of a webhook is shown now and never again.

        Args:
            tenant: whose.
            url: where to: an https address, a Slack webhook's, or a mailbox for `email`.
            events: some of `EVENTS`.
            kind: `webhook`, `slack` or `email`.

        Raises:
            AddressRefused, InvalidParameter, EndpointLimit: nothing was added.
        """
        if tenant == OPERATOR or not tenant:
            raise InvalidParameter("tenant", found=tenant, expected="the id of an organisation")
        address = url if isinstance(url, Secret) else Secret(url)
        shown, wanted = self._shown(kind, address), events_of(events)
        endpoint = self._new_id("endp")
        secret = new_secret(self._entropy) if kind == "webhook" else None
        values = {
            "id": endpoint,
            "tenant": tenant,
            "kind": kind,
            "address": self._wardrobe.address(endpoint, address),
            "shown": shown,
            "events": spelled(wanted),
            "secret": None if secret is None else self._wardrobe.secret(endpoint, secret),
            "enabled": True,
            "created_us": us_of(self._clock.now()),
        }

        def work(connection: sa.Connection) -> Endpoint:
            if len(rows_of(connection, tenant)) >= MOST:
                raise EndpointLimit(most=MOST)
            connection.execute(sa.insert(ENDPOINTS).values(**values))
            return endpoint_of(row_of(connection, endpoint, tenant))

        return IssuedEndpoint(self._database.change(work), secret)

    def endpoints(self, *, tenant: str) -> list[Endpoint]:
        """An organisation's endpoints, oldest first."""
        return self._database.read(lambda c: [endpoint_of(row) for row in rows_of(c, tenant)])

    def endpoint(self, endpoint: str, *, tenant: str) -> Endpoint:
        """One of them. Raises `UnknownEndpoint`."""
        for found in self.endpoints(tenant=tenant):
            if found.id == endpoint and tenant != OPERATOR:
                return found
        raise UnknownEndpoint

    def change(
        self,
        endpoint: str,
        *,
        tenant: str,
        url: str | Secret | None = None,
        events: Sequence[str] | None = None,
        enabled: bool | None = None,
    ) -> Endpoint:
        """Change what is given. Disabled, it gets nothing new, and what waits for it waits.

        Raises:
            UnknownEndpoint, AddressRefused, InvalidParameter: nothing was changed.
        """

        def work(connection: sa.Connection) -> Endpoint:
            row = row_of(connection, endpoint, tenant)
            values: dict[str, Any] = {}
            if url is not None:
                address = url if isinstance(url, Secret) else Secret(url)
                values["shown"] = self._shown(row.kind, address)
                values["address"] = self._wardrobe.address(endpoint, address)
            if events is not None:
                values["events"] = spelled(events_of(events))
            if enabled is not None:
                values |= {"enabled": enabled, "stopped_by": None if enabled else "person"}
            if values:
                change_row(connection, endpoint, values)
            return endpoint_of(row_of(connection, endpoint, tenant))

        changed = self._database.change(work)
        self._wake()
        return changed

    def remove(self, endpoint: str, *, tenant: str) -> None:
        """Remove it with everything that waits for it. Raises `UnknownEndpoint`."""

        def work(connection: sa.Connection) -> None:
            row_of(connection, endpoint, tenant)
            connection.execute(sa.delete(DELIVERIES).where(DELIVERIES.c.endpoint == endpoint))
            connection.execute(sa.delete(ENDPOINTS).where(ENDPOINTS.c.id == endpoint))

        self._database.change(work)

    def rotate(self, endpoint: str, *, tenant: str, keep_s: float = 86_400.0) -> IssuedEndpoint:
        """Replace a webhook's secret; for `keep_s` the old one signs beside the new one.

        Raises:
            UnknownEndpoint: or it is no webhook.
            InvalidParameter: `keep_s` is negative or more than seven days.
        """
        if not 0 <= keep_s <= _LONGEST_OVERLAP_S:
            raise InvalidParameter("keep_s", found=keep_s, expected="0 to 604800 seconds")
        secret = new_secret(self._entropy)
        until_us = us_of(self._clock.now()) + int(keep_s * 1e6)

        def work(connection: sa.Connection) -> Endpoint:
            row = row_of(connection, endpoint, tenant)
            if row.kind != "webhook":
                raise UnknownEndpoint("webhook")
            values = {
                "secret": self._wardrobe.secret(endpoint, secret),
                "older_secret": row.secret,
                "older_until_us": until_us,
            }
            change_row(connection, endpoint, values)
            return endpoint_of(row)

        return IssuedEndpoint(self._database.change(work), secret)

    def deliveries(
        self, endpoint: str, *, tenant: str, limit: int = 50, before: int | None = None
    ) -> list[Delivery]:
        """An endpoint's deliveries, newest first; `before`: those with a smaller `seq`.

        Raises:
            UnknownEndpoint: see there.
        """
        self.endpoint(endpoint, tenant=tenant)
        most = max(1, min(limit, _MOST_LISTED))
        return self._database.read(lambda c: deliveries_of(c, endpoint, limit=most, before=before))

    def redeliver(self, delivery: str, *, tenant: str) -> None:
        """Send a delivery that was given up again, with ten further attempts, at the old place.

        Raises:
            UnknownEndpoint: no delivery of this organisation that was given up has the id.
        """
        now_us = us_of(self._clock.now())

        def work(connection: sa.Connection) -> None:
            row = connection.execute(
                sa.select(DELIVERIES.c.endpoint)
                .join(MESSAGES, MESSAGES.c.id == DELIVERIES.c.message)
                .where(DELIVERIES.c.id == delivery, DELIVERIES.c.state == DEAD)
            ).first()
            if row is None:
                raise UnknownEndpoint("delivery that was given up")
            row_of(connection, row.endpoint, tenant)
            again = {"state": WAITING, "attempts": 0, "due_us": now_us, "ended_us": None}
            connection.execute(
                sa.update(DELIVERIES).where(DELIVERIES.c.id == delivery).values(**again)
            )

        self._database.change(work)
        self._wake()

    def test(self, endpoint: str, *, tenant: str) -> str:
        """Send a message that says it is a test; returns its id. Raises `UnknownEndpoint`."""
        notice = Notice(tenant=tenant, event=TEST, key=f"{TEST}:{self._new_id('t')}")
        now = self._clock.now()

        def work(connection: sa.Connection) -> str:
            row_of(connection, endpoint, tenant)
            return outbox.announce(connection, notice, now=now, new_id=self._new_id, only=endpoint)

        message = self._database.change(work)
        self._wake()
        return message

    def _shown(self, kind: str, address: Secret) -> str:
        if kind not in KINDS:
            raise InvalidParameter("kind", found=kind, expected=f"one of {', '.join(KINDS)}")
        if kind == "email":
            return require_mailbox(address)
        return require_webhook(address, self._posting)

    def _wake(self) -> None:
        """Something is due; whoever delivers overrides this."""

    def _new_id(self, prefix: str) -> str:
        return f"{prefix}_{self._entropy.token_bytes(_ID_BYTES).hex()}"
