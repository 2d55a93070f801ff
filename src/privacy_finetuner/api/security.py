"""What threatens the organisation, from evidence that exists."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query

from privacy_finetuner.api.listing import newest_first
from privacy_finetuner.api.routes import By, Paged, operation, router_of
from privacy_finetuner.api.shapes import security as shapes
from privacy_finetuner.operations.alerts import Severity
from privacy_finetuner.operations.monitoring import KeptAlert
from privacy_finetuner.service import Service
from privacy_runtime.http.access import Access
from privacy_runtime.http.refusals import Conflict
from privacy_runtime.identity import Scope

AlertId = Annotated[str, Path(pattern=r"^alert_[0-9a-f]{24}$", examples=["alert_" + "0" * 24])]
UserId = Annotated[str, Path(min_length=1, max_length=64, examples=["u_0b5f"])]
SCAN_AGAIN_S: Final = 1.0


class Security:
    """Alerts over HTTP.

    Args:
        service: whose evidence.
    """

    def __init__(self, service: Service) -> None:
        self._monitor, self._clock = service.desks.monitor, service.clock
        self._restraints, self._trail = service.desks.restraints, service.desks.trail
        self._entropy = service.entropy
        self._scanned_s: float | None = None

    @operation("GET", "/status", Scope.SECURITY_READ)
    def security_status(self, by: By) -> shapes.SecurityStatus:
        """Say how bad it is.

        Where the monitoring loop does not run in this process, this is a scan of its own, at most
        one a second: `last_scan` is always when one really ended.
        """
        self._look()
        return shapes.SecurityStatus.of(self._monitor.summary(by.tenant))

    @operation("GET", "/alerts", Scope.SECURITY_READ)
    def list_alerts(
        self,
        by: By,
        page: Paged,
        include_closed: Annotated[bool, Query(description="Also those dealt with.")] = False,
        severity: Annotated[Severity | None, Query(description="At least this bad.")] = None,
    ) -> shapes.AlertList:
        """List alerts, newest first, each with its rule and evidence."""
        self._look()
        kept = self._monitor.alerts(by.tenant, is_open=None if include_closed else True)
        least = Severity.LOW if severity is None else severity
        found = [each for each in kept if each.alert.severity.rank >= least.rank]
        shown = newest_first(found, page, _newest, shapes.AlertAnswer.of)
        return shapes.AlertList(
            alerts=shown.items, total_count=len(found), next_cursor=shown.next_cursor
        )

    @operation("POST", "/alerts/{alert_id}/acknowledge", Scope.SECURITY_READ, refuses=(409,))
    def acknowledge_alert(
        self, alert_id: AlertId, body: shapes.Acknowledgement, by: By
    ) -> shapes.AlertAnswer:
        """Close an alert, as a person who looked at it, with a reason. It stays in the journal."""
        done = self._monitor.acknowledge(by.tenant, alert_id, by=by.subject, reason=body.reason)
        return shapes.AlertAnswer.of(done)

    @operation("GET", "/restraints", Scope.SECURITY_READ)
    def list_restraints(self, by: By) -> shapes.RestraintList:
        """List users who may make fewer requests for now, and why."""
        found = self._restraints.standing(by.tenant)
        return shapes.RestraintList(
            restraints=[shapes.RestraintAnswer.of(each) for each in found], total_count=len(found)
        )

    @operation("POST", "/restraints/{user_id}/lift", Scope.SECURITY_READ, refuses=(404, 409))
    def lift_restraint(
        self, user_id: UserId, body: shapes.Acknowledgement, by: By
    ) -> shapes.RestraintList:
        """End a restraint early, with a reason; nobody lifts their own. Answers those that hold."""
        if user_id == by.subject:
            raise Conflict("nobody lifts their own restraint; ask another administrator or officer")
        self._restraints.lift(by.tenant, user_id, by=by.subject, reason=body.reason)
        told = {"tenant": by.tenant, "by": by.subject, "subject": user_id, "reason": body.reason}
        self._trail.write("security.restraint_lifted", told, entropy=self._entropy)
        return self.list_restraints(by)

    def _look(self) -> None:
        """Scan, where nothing else does."""
        if self._monitor.is_running:
            return
        now_s = self._clock.monotonic_s()
        if self._scanned_s is None or now_s - self._scanned_s >= SCAN_AGAIN_S:
            self._monitor.scan()
            self._scanned_s = now_s


def router(service: Service, access: Access) -> APIRouter:
    """The routes below `/security`."""
    return router_of(Security(service), access, tag="security", prefix="/security")


def _newest(kept: KeptAlert) -> tuple[str, str]:
    return kept.alert.at.isoformat(), kept.alert.id
