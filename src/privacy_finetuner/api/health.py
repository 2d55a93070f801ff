"""Whether the service lives, whether it can work, and its figures.

==================  ==========================================================================
path                answers
==================  ==========================================================================
`/health/live`      200 as long as the process answers; it looks at nothing else, because what
                    it would look at is not mended by a restart
`/health/ready`     200 when every check passes, 503 otherwise; the checks by name, no details
`/health`           the same document and status, for people and for the documented clients
`/metrics`          figures for Prometheus, for principals with `scaling:read`; those of accounts
                    and step times only on the operator's port (`monitoring.prometheus`)
==================  ==========================================================================

Checks are made at most once a second, however often somebody asks, each with a time limit; why one
failed is in the log, with its exception, and not in the answer, which anybody may read.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from privacy_core.errors import PrivacyError
from privacy_finetuner import __version__
from privacy_finetuner.api.observation import Observed
from privacy_finetuner.service import Service
from privacy_finetuner.service.figures import read_figures
from privacy_runtime import logs
from privacy_runtime.budget_store import LEDGER
from privacy_runtime.http import Access
from privacy_runtime.identity import Scope
from privacy_runtime.metrics import Audience, Metrics, table
from privacy_runtime.world import Clock

_log = logs.logger(__name__)
OK: Final = "ok"
FAILED: Final = "failed"
LEAST_FREE_BYTES: Final = 256 * 1024 * 1024
_AGAIN_S: Final = 1.0
_RETRY_S: Final = "5"
_TEXT: Final = {
    "schema": {"type": "string"},
    "example": 'privacy_finetuner_jobs{state="running"} 1.0\n',
}
_ANYBODY: Final = {"x-scope": "none"}
_READY: Final[dict[str, Any]] = {
    "status": "ready",
    "version": __version__,
    "checks": {"database": "ok"},
}
_NOT_READY: Final[dict[str, Any]] = {
    **_READY,
    "status": "not_ready",
    "checks": {"database": "failed"},
}


class CheckFailed(PrivacyError):
    """A part that the service needs does not work. The words are for the log."""

    code = "check_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that the service cannot work without.

    Attributes:
        name: a word.
        make: makes the check, in a thread; raises when it fails.
        limit_s: how long it may take.
    """

    name: str
    make: Callable[[], object]
    limit_s: float = 2.0


class Readiness(BaseModel):
    """Whether the service can work."""

    model_config = ConfigDict(json_schema_extra={"examples": [_READY]})

    status: Annotated[str, Field(description="`ready` or `not_ready`.", examples=["ready"])]
    version: Annotated[str, Field(description="Of the product.", examples=["0.1.0"])]
    checks: Annotated[
        dict[str, str],
        Field(description="`ok` or `failed`, by name.", examples=[{"database": "ok"}]),
    ]


class Liveness(BaseModel):
    """That the process answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "alive"}]})

    status: Annotated[str, Field(description="Always `alive`.", examples=["alive"])]


class Checks:
    """Makes checks, all at once, at most once a second.

    A check that does not end in time counts as failed, and is not made again before it has ended:
    a database that hangs must not collect threads.

    Args:
        checks: what is checked.
        clock: times.
        metrics: told how each one ended.
    """

    def __init__(
        self, checks: Sequence[Check], *, clock: Clock, metrics: Metrics | None = None
    ) -> None:
        self._checks, self._clock, self._metrics = tuple(checks), clock, metrics
        self._found: Mapping[str, str] = {}
        self._at_s: float | None = None
        self._under_way: dict[str, asyncio.Future[object]] = {}
        self._turn = asyncio.Lock()

    async def found(self) -> Mapping[str, str]:
        """`ok` or `failed`, by name."""
        async with self._turn:
            now_s = self._clock.monotonic_s()
            if self._at_s is None or now_s - self._at_s >= _AGAIN_S:
                passed = await asyncio.gather(*(self._passes(check) for check in self._checks))
                self._found = {
                    check.name: OK if ok else FAILED
                    for check, ok in zip(self._checks, passed, strict=True)
                }
                self._at_s = self._clock.monotonic_s()
                self._count()
            return self._found

    async def _passes(self, check: Check) -> bool:
        under_way = self._under_way.get(check.name)
        if under_way is None or under_way.done():
            loop = asyncio.get_running_loop()
            under_way = loop.run_in_executor(None, check.make)
            under_way.add_done_callback(_retrieved)
            self._under_way[check.name] = under_way
        done, _ = await asyncio.wait({under_way}, timeout=check.limit_s)
        if not done:
            _log.warning("a health check took too long", component=check.name)
            return False
        error = under_way.exception()
        if error is not None:
            _log.warning("a health check failed", component=check.name, exc_info=error)
        return error is None

    def _count(self) -> None:
        if self._metrics is not None:
            for name, state in self._found.items():
                self._metrics.set(table.CHECK_OK, float(state == OK), check=name)


def router(checks: Checks) -> APIRouter:
    """The three paths of health. No login: whoever starts and watches the service has none."""
    routes = APIRouter(tags=["health"])

    async def alive() -> Response:
        """Answer, and look at nothing else."""
        return JSONResponse({"status": "alive"})

    async def ready() -> Response:
        """Say whether the service can work, with 503 when it cannot."""
        found = await checks.found()
        is_ready = all(state == OK for state in found.values())
        document = {
            "status": "ready" if is_ready else "not_ready",
            "version": __version__,
            "checks": dict(found),
        }
        if is_ready:
            return JSONResponse(document)
        return JSONResponse(document, 503, headers={"retry-after": _RETRY_S})

    answers: dict[int | str, dict[str, Any]] = {
        200: {"content": {"application/json": {"example": _READY}}},
        503: {
            "model": Readiness,
            "description": "Not ready; the checks say what is missing.",
            "content": {
                "application/json": {"example": _NOT_READY},
                "application/problem+json": {"schema": {"type": "object"}},
            },
        },
    }
    routes.add_api_route(
        "/health/live",
        alive,
        methods=["GET"],
        response_model=Liveness,
        responses={200: {"content": {"application/json": {"example": {"status": "alive"}}}}},
        operation_id="health_live",
        summary="Whether the process answers",
        openapi_extra=_ANYBODY,
    )
    for path, name in (("/health/ready", "health_ready"), ("/health", "health")):
        routes.add_api_route(
            path,
            ready,
            methods=["GET"],
            response_model=Readiness,
            responses=answers,
            operation_id=name,
            summary="Whether the service can work",
            openapi_extra=_ANYBODY,
        )
    return routes


def metrics_router(metrics: Metrics, access: Access) -> APIRouter:
    """`/metrics`, without the figures that are the operator's."""
    routes = APIRouter(tags=["health"])

    async def figures() -> Response:
        """Return the figures of the service in Prometheus' text format."""
        body, media_type = await asyncio.to_thread(metrics.exposition, Audience.MONITORING)
        return Response(body, media_type=media_type)

    routes.add_api_route(
        "/metrics",
        figures,
        methods=["GET"],
        response_class=Response,
        dependencies=[Depends(access.allowed(Scope.SCALING_READ))],
        responses={200: {"content": {"text/plain": _TEXT}}},
        operation_id="metrics",
        summary="Figures for Prometheus",
        openapi_extra={"x-scope": Scope.SCALING_READ.value},
    )
    return routes


def checks_of(service: Service, *, needs_workers: bool = False) -> list[Check]:
    """What this service needs.

    Args:
        service: whose.
        needs_workers: whether nothing else runs workers, so that one has to be there.
    """
    found = [
        Check(name="database", make=service.jobs.counts),
        Check(name="ledger", make=lambda: require_writable(service)),
        Check(name="disk", make=lambda: require_room(service.home)),
    ]
    url = service.config.redis.url
    if url is not None:
        found.append(Check(name="redis", make=lambda: require_redis(url.reveal())))
    if needs_workers:
        found.append(Check(name="workers", make=lambda: require_worker(service)))
    return found


def require_writable(service: Service) -> None:
    """The ledger's chain is intact as far as is known, so budget can be spent.

    Raises:
        CheckFailed: it was found broken.
    """
    if service.journal.status(LEDGER).halt:
        raise CheckFailed("the ledger is read-only until it is repaired")


def require_room(home: Path) -> None:
    """There is room on the disk, and it takes writes.

    Raises:
        CheckFailed: too little room.
        OSError: it takes none.
    """
    free = shutil.disk_usage(home).free
    if free < LEAST_FREE_BYTES:
        raise CheckFailed(f"{free:,} bytes are free, expected {LEAST_FREE_BYTES:,}")
    path = home / f".ready-{os.getpid()}"
    path.write_bytes(b"ready")
    path.unlink()


def require_redis(url: str) -> None:
    """Redis answers.

    Raises:
        RedisError: it does not.
    """
    import redis  # noqa: PLC0415  an extra; only where it is configured

    client = redis.Redis.from_url(url, socket_timeout=1.5, socket_connect_timeout=1.5)
    try:
        client.ping()
    finally:
        client.close()


def require_worker(service: Service) -> None:
    """A worker was heard of lately.

    Raises:
        CheckFailed: none was.
    """
    if not any(worker.is_alive for worker in service.jobs.workers()):
        raise CheckFailed("no worker was heard of lately")


def install_observability(
    app: FastAPI, service: Service, access: Access, *, needs_workers: bool = False
) -> None:
    """Add health, metrics and the watching of requests. Before `http.install`: it is inside.

    Args:
        app: the application.
        service: with `metrics` and `notices`.
        access: of the application.
        needs_workers: see `checks_of`.
    """
    metrics = service.metrics
    read_figures(metrics, service, notices=service.notices)
    limits = access.limits
    if limits is not None and service.config.redis.url is not None:
        metrics.reads(table.LIMITS_SHARED, lambda: float(limits.state == "redis"))
    checks = Checks(
        checks_of(service, needs_workers=needs_workers), clock=service.clock, metrics=metrics
    )
    app.state.checks = checks
    app.include_router(router(checks))
    app.include_router(metrics_router(metrics, access))
    app.add_middleware(Observed, metrics=metrics, clock=service.clock)


def _retrieved(future: asyncio.Future[object]) -> None:
    """Look at a check that ended after its time, so that asyncio does not complain of it."""
    if not future.cancelled():
        future.exception()
