"""The documented health, and the figures for Prometheus.

Components are looked at, at most once a second: the store of allowances is read, the journal is
read, the planner has solved a problem at the start, nodes are those that answered last. `unhealthy`
answers 503: without the stores no private answer is made. Without nodes the router is `degraded`:
it still answers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from fastapi import APIRouter, Response

from federated_dp_llm.api import shapes
from federated_dp_llm.api.door import Door
from federated_dp_llm.api.records import ROUTER
from federated_dp_llm.api.routes import Routes
from federated_dp_llm.api.service import Service
from federated_dp_llm.monitoring import instruments
from privacy_core.errors import PrivacyError
from privacy_runtime.http import Access, Json
from privacy_runtime.identity import Scope

HEALTHY: Final = "healthy"
UNHEALTHY: Final = "unhealthy"
_VITAL: Final = ("privacy_accountant", "database")
_AGAIN_S: Final = 1.0
_PROBE: Final = "health/probe"


class HealthDesk:
    """Looks at the components.

    Args:
        service: whose.
        access: runs what waits in threads.
        version: of the product.
    """

    def __init__(self, service: Service, access: Access, version: str) -> None:
        self._service, self._access, self._version = service, access, version
        self._found: dict[str, str] = {}
        self._at_s: float | None = None

    async def read_health(self) -> Any:
        """Say how the router stands."""
        now_s = self._service.clock.monotonic_s()
        if self._at_s is None or now_s - self._at_s >= _AGAIN_S:
            self._found = await self._access.run(self._look)
            self._at_s = now_s
        figures = self._service.figures
        minute = figures.last_minute()
        health = shapes.Health(
            status=_status(self._found),
            timestamp=self._service.clock.now(),
            version=self._version,
            components=self._found,
            metrics={
                "requests_per_second": minute.requests_per_second,
                "average_response_time": minute.average_response_time,
                "error_rate": minute.error_rate,
                "cache_hit_rate": figures.cache_hit_rate(),
            },
        )
        status = 503 if health.status == UNHEALTHY else 200
        return Json(health.model_dump(), status_code=status)

    async def read_metrics(self) -> Response:
        """The figures of this process, for Prometheus."""
        body, kind = await self._access.run(self._service.figures.exposition)
        return Response(body, media_type=kind)

    def _look(self) -> dict[str, str]:
        service = self._service
        fleet = service.fleet
        nodes = HEALTHY
        if fleet is not None:
            nodes = HEALTHY if any(s.is_ready for _, s in fleet.standing()) else "no_nodes"
        return {
            "privacy_accountant": _tried(lambda: service.standings.allowances.balances([_PROBE])),
            "quantum_planner": HEALTHY if planner_is_healthy() else UNHEALTHY,
            "load_balancer": nodes,
            "database": _tried(lambda: service.journal.status(ROUTER)),
            "cache": HEALTHY if service.config.performance.cache_size else "off",
        }


@cache
def planner_is_healthy() -> bool:
    """Whether the planner's solvers solve: tried once a process, half a second, at the start."""
    from federated_dp_llm.quantum_planning import QuantumTaskPlanner  # noqa: PLC0415  scipy

    return QuantumTaskPlanner().is_healthy()


def _tried(look: Callable[[], object]) -> str:
    try:
        look()
    except (PrivacyError, OSError):
        return UNHEALTHY
    return HEALTHY


def _status(found: dict[str, str]) -> Any:
    if any(found[name] == UNHEALTHY for name in _VITAL):
        return UNHEALTHY
    return HEALTHY if found["load_balancer"] == HEALTHY else "degraded"


def router(service: Service, access: Access, door: Door, version: str) -> APIRouter:
    """The routes; `/metrics` has no version, as Prometheus expects."""
    desk = HealthDesk(service, access, version)
    service.figures.metrics.reads(instruments.NODES, lambda: _nodes(service))
    service.figures.metrics.reads(
        instruments.CACHE_HIT_RATIO, lambda: service.figures.cache_hit_rate() or 0.0
    )
    routes = Routes(door, tag="observation")
    routes.add(
        "GET", "/health", None, desk.read_health, aliases=("/health",), response_model=None,
        responses={200: {"model": shapes.Health}, 503: {"model": shapes.Health}},
    )  # fmt: skip
    text = {"text/plain": {"schema": {"type": "string"}}}
    routes.add(
        "GET", "/metrics", Scope.SCALING_READ, desk.read_metrics, aliases=("/metrics",),
        response_model=None, response_class=Response, responses={200: {"content": text}},
    )  # fmt: skip
    return routes.router


def _nodes(service: Service) -> dict[str, float]:
    standing = [] if service.fleet is None else service.fleet.standing()
    ready = sum(state.is_ready for _, state in standing)
    return {"ready": float(ready), "away": float(len(standing) - ready)}
