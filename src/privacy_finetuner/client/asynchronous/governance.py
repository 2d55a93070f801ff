"""Security, workers, the audit trail."""

from __future__ import annotations

from collections.abc import AsyncIterator

from privacy_finetuner.client.asynchronous.paging import AsyncGroup
from privacy_finetuner.client.calls import given, place
from privacy_finetuner.client.shapes.governance import (
    Alert,
    Alerts,
    Restraints,
    ScalingStarted,
    ScalingStatus,
    SecurityStatus,
    TrailEntry,
    TrailVerified,
)


class AsyncSecurity(AsyncGroup):
    """Alerts from evidence."""

    async def security_status(self) -> SecurityStatus:
        """How bad it is."""
        return await self._get(place("security", "status"), SecurityStatus)

    async def list_alerts(
        self,
        *,
        include_closed: bool = False,
        severity: str | None = None,
        cursor: str | None = None,
    ) -> Alerts:
        """One page of alerts, newest first; `next_cursor` asks for the next.

        Args:
            include_closed: also those dealt with.
            severity: at least this bad.
            cursor: `next_cursor` of the page before.
        """
        query = {
            "include_closed": include_closed or None,
            "severity": severity,
            "cursor": cursor,
        }
        return await self._get(place("security", "alerts"), Alerts, query)

    async def acknowledge_alert(self, alert_id: str, reason: str) -> Alert:
        """Close an alert, as a person who looked at it."""
        path = place("security", "alerts", alert_id, "acknowledge")
        return await self._post(path, Alert, {"reason": reason})

    async def list_restraints(self) -> Restraints:
        """Users who may make fewer requests for now, and why."""
        return await self._get(place("security", "restraints"), Restraints)

    async def lift_restraint(self, user_id: str, reason: str) -> Restraints:
        """End a restraint early; nobody lifts their own. Returns those that still hold."""
        path = place("security", "restraints", user_id, "lift")
        return await self._post(path, Restraints, {"reason": reason})


class AsyncScaling(AsyncGroup):
    """The workers of the service."""

    async def scaling_status(self) -> ScalingStatus:
        """How many workers there are and should be."""
        return await self._get(place("scaling", "status"), ScalingStatus)

    async def manual_scaling(
        self, direction: str, *, count: int = 1, node_type: str | None = None, reason: str
    ) -> ScalingStarted:
        """Change the number of workers: `scale_out` or `scale_in`."""
        body = given(direction=direction, node_type=node_type, count=count, reason=reason)
        return await self._post(place("scaling", "manual"), ScalingStarted, body)


class AsyncAuditTrail(AsyncGroup):
    """Who did what: the organisation's part of a hash-chained stream."""

    def audit_trail(self, *, type_prefix: str | None = None) -> AsyncIterator[TrailEntry]:
        """What happened, newest first. `type_prefix`: of the types that are wanted."""
        return self._pages(place("audit-trail"), TrailEntry, {"type_prefix": type_prefix})

    async def verify_audit_trail(self) -> TrailVerified:
        """Let the service walk the chain from its beginning."""
        return await self._get(place("audit-trail", "verify"), TrailVerified)
