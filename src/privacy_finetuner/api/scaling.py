"""The workers of this installation: how many, how busy, and more or fewer by hand.

Workers serve every organisation, so their number is the machine's affair: it is changed by an
administrator (`settings:write`) of the organisation that was made first, the operator's.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from privacy_finetuner.api.routes import By, Visiting, operation, router_of
from privacy_finetuner.api.shapes import scaling as shapes
from privacy_finetuner.operations.errors import PoolRefused
from privacy_finetuner.operations.scaling import Load, NodeType, has_gpu
from privacy_finetuner.service import Service
from privacy_runtime.http.access import Access
from privacy_runtime.identity import NotAllowed, Scope


class Scaling:
    """Workers over HTTP.

    Args:
        service: whose workers.
    """

    def __init__(self, service: Service) -> None:
        policy = service.config.scaling.scaling_policy
        self._jobs, self._trail = service.jobs, service.desks.trail
        self._bounds = (policy.min_nodes, policy.max_nodes)
        self._load = Load(service.clock)
        self._desk = service.desks.scaling

    @operation("GET", "/status", Scope.SCALING_READ)
    def scaling_status(self, request: Request) -> shapes.ScalingStatus:
        """Say how many workers there are and how busy the machine is. A node is a worker."""
        pool = request.app.state.pool
        return shapes.ScalingStatus(
            auto_scaling_enabled=request.app.state.fitting is not None,
            current_nodes=sum(each.is_alive for each in self._jobs.workers()),
            target_nodes=None if pool is None else pool.size,
            cpu_utilization=self._load.cpu_percent(),
            gpu_utilization=self._load.gpu_percent(),
            cost_per_hour=None,
            scaling_events_last_hour=self._desk.changes_last_hour(),
            min_nodes=self._bounds[0],
            max_nodes=self._bounds[1],
        )

    @operation("POST", "/manual", Scope.SETTINGS_WRITE, status=202, refuses=(409,))
    def manual_scaling(
        self, body: shapes.ScalingBody, by: By, visit: Visiting, request: Request
    ) -> shapes.ScalingStarted:
        """Have more or fewer workers, within the configured bounds.

        It is the operator's to do: workers serve every organisation. Jobs of workers that leave go
        back to the queue and go on elsewhere.
        """
        if by.tenant != self._trail.operator:
            raise NotAllowed(by.subject, scope=Scope.SETTINGS_WRITE)
        pool: Any = request.app.state.pool
        if pool is None:
            raise PoolRefused("this process runs no workers")
        if body.node_type is NodeType.GPU_WORKER and not has_gpu():
            raise PoolRefused("this machine has no accelerator, and workers are of its kind")
        resized = self._desk.scale(
            pool,
            direction=body.direction,
            count=body.count,
            tenant=by.tenant,
            by=by.subject,
            reason=body.reason,
            key=visit.operation,
        )
        return shapes.ScalingStarted(
            scaling_id=resized.id,
            status="initiated",
            estimated_completion=None,
            target_nodes=resized.after,
        )


def router(service: Service, access: Access) -> APIRouter:
    """The routes below `/scaling`."""
    return router_of(Scaling(service), access, tag="scaling", prefix="/scaling")
