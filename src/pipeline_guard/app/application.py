"""The application: the documented endpoints over the state and the metrics of a guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, FastAPI, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import Response, StreamingResponse

from pipeline_guard.app.exposition import CONTENT_TYPE, exposition
from pipeline_guard.app.tokens import READ, WRITE, Caller, Tokens
from pipeline_guard.app.views import StateView
from pipeline_guard.errors import ConfigurationError, MonitoringError, PipelineGuardError
from pipeline_guard.metrics_store import MetricsCollector
from pipeline_guard.metrics_store.batches import parse
from privacy_runtime.http import (
    ErrorTable,
    HttpPolicy,
    HttpRefusal,
    Json,
    Rate,
    RateLimits,
    Row,
    Unauthenticated,
    install,
    own_words,
    visit_of,
)
from privacy_runtime.http.policy import MEBIBYTE
from privacy_runtime.http.streams import Event, Seats, last_event_id, sse
from privacy_runtime.world import Clock

RATES: Final = {
    "address": Rate("address", 1500),
    "default": Rate("default", 100),
    "metrics": Rate("metrics", 1000),
    "health": Rate("health", 300),
}
"""Requests a minute of one address: the documented figures, and all of them together."""
_POLL_S: Final = 1.0
_MOST: Final = 10_000
_TYPES: Final = {
    "guard_configuration_error": "ConfigurationError",
    "guard_monitoring_error": "MonitoringError",
    "guard_recovery_error": "RecoveryError",
}
_T = TypeVar("_T")


class NotPermitted(HttpRefusal):
    """The token lacks a scope. Nothing was done."""

    code = "not_permitted"
    status = 403


def create_app(
    state: StateView,
    collector: MetricsCollector,
    tokens: Tokens,
    *,
    clock: Clock,
    policy: HttpPolicy | None = None,
    limits: RateLimits | None = None,
) -> FastAPI:
    """The application. `/health` answers anybody; everything else asks for a token.

    Args:
        state: of the guard.
        collector: its metrics; the caller closes it.
        tokens: who is let in.
        clock: stamps points that have no time.
        policy: how the deployment meets the network; default: a loopback one.
        limits: counts requests; default: in this process.
    """
    limits = limits or RateLimits(clock, rates=RATES)
    policy = policy or HttpPolicy(
        body_limits={"/api/v1/metrics": 8 * MEBIBYTE},
        error_body=partial(_error_body, clock),
        problem_base="urn:pipeline-guard:problem:",
    )
    door = _Door(tokens)
    app = FastAPI(title="Pipeline Guard", docs_url=None, redoc_url=None)
    _add_health(app, state, limits)
    _add_views(app, state, limits, door)
    _add_metrics(app, state, collector, limits, door, clock)
    install(
        app,
        errors=ErrorTable.standard().with_rows(
            {
                ConfigurationError: Row(422, own_words, details=_details),
                MonitoringError: Row(503, own_words, details=_details, retry_after_s=5),
                PipelineGuardError: Row(500, own_words, details=_details),
            }
        ),
        policy=policy,
        limits=limits,
    )
    return app


class _Door:
    """Lets callers in by their tokens; a keeper of streams."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self.seats = Seats()

    def needs(self, scope: str) -> Callable[[Request], Caller]:
        """A dependency that lets in who may."""

        def admitted(request: Request) -> Caller:
            caller = self._caller(request)
            if scope not in caller.scopes:
                raise NotPermitted(f"the token lacks the scope {scope}; nothing was done")
            return caller

        return admitted

    def subject_of(self, connection: HTTPConnection) -> str:
        """Whose stream it is."""
        return self._caller(connection).subject

    async def again(self, connection: HTTPConnection) -> Caller:
        """Look at the token again: it may be over by now."""
        return self._caller(connection)

    def _caller(self, connection: HTTPConnection) -> Caller:
        kind, _, token = connection.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise Unauthenticated("expected Authorization: Bearer and a token; nothing was done")
        return self._tokens.caller(token.strip())


def _counted(limits: RateLimits, name: str) -> Callable[[Request], Awaitable[None]]:
    async def count(request: Request) -> None:
        visit = visit_of(request)
        await limits.admit(name, visit.network, visit)

    return count


def _add_health(app: FastAPI, state: StateView, limits: RateLimits) -> None:
    counted = [Depends(_counted(limits, "health"))]

    @app.get("/health", dependencies=counted)
    async def health() -> Response:
        """The health of everything; 503 when it is critical, or when nobody looks."""
        said, is_bad = await run_in_threadpool(state.health)
        return Json(said, status_code=503 if is_bad else 200, headers={"Cache-Control": "no-store"})

    @app.get("/health/live", dependencies=counted)
    async def live() -> Response:
        """Whether this server answers."""
        return Json({"status": "live"})

    @app.get("/health/ready", dependencies=counted)
    async def ready() -> Response:
        """Whether a guard looks, and its state can be read."""
        try:
            status = await run_in_threadpool(state.status)
        except MonitoringError as error:
            return Json({"status": "not ready", "detail": str(error)}, status_code=503)
        is_silent = bool(status["is_silent"])
        body = {"status": "not ready" if is_silent else "ready", "age": status["age_seconds"]}
        return Json(body, status_code=503 if is_silent else 200)


def _add_views(app: FastAPI, state: StateView, limits: RateLimits, door: _Door) -> None:
    counted, reader = Depends(_counted(limits, "default")), Depends(door.needs(READ))

    @app.get("/api/v1/status", dependencies=[counted, reader])
    async def status() -> Response:
        """How everything stands."""
        return Json(await run_in_threadpool(state.status))

    @app.get("/api/v1/alerts", dependencies=[counted, reader])
    async def alerts(resolved: bool = False) -> Response:
        """The standing alerts with what was done about each; `resolved`: those before, too."""
        found = await run_in_threadpool(lambda: state.alerts(with_resolved=resolved))
        return Json({"alerts": found, "total_count": len(found)})

    @app.get("/api/v1/events", dependencies=[counted, reader])
    async def events(request: Request) -> StreamingResponse:
        """What happens from now on, as server-sent events; `Last-Event-ID` begins earlier."""
        after = last_event_id(request)
        if after is None:
            after = await run_in_threadpool(state.newest_event)
        return sse(request, _followed(state, after), door)


def _add_metrics(
    app: FastAPI,
    state: StateView,
    collector: MetricsCollector,
    limits: RateLimits,
    door: _Door,
    clock: Clock,
) -> None:
    counted = Depends(_counted(limits, "metrics"))
    reader, writer = Depends(door.needs(READ)), Depends(door.needs(WRITE))

    @app.get("/metrics", dependencies=[counted, reader])
    async def scraped() -> Response:
        """The guard's own metrics in Prometheus' text format."""
        try:
            status = await run_in_threadpool(state.status)
            counts = await run_in_threadpool(state.counts)
        except MonitoringError:
            status, counts = None, {}
        return Response(exposition(status, counts), media_type=CONTENT_TYPE)

    @app.get("/api/v1/metrics", dependencies=[counted, reader])
    async def metrics(
        component: str | None = None,
        metric_name: str | None = None,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        limit: Annotated[int, Query(ge=1, le=_MOST)] = 1000,
    ) -> Response:
        """Points of the metrics store: the newest that match, oldest first."""
        found = await _read(
            lambda: collector.get_metrics(
                component, metric_name, _aware(start_time), _aware(end_time), limit
            )
        )
        return Json({"metrics": [asdict(each) for each in found], "count": len(found)})

    @app.post("/api/v1/metrics", dependencies=[counted, writer], status_code=202)
    async def record(request: Request) -> Response:
        """Record up to 10,000 points: a JSON list, or Prometheus' text format. All or none."""
        body, kind = await request.body(), request.headers.get("content-type", "")

        def recorded() -> int:
            return collector.record_metrics(parse(body, kind, now=clock.now()))

        return Json({"recorded": await _read(recorded)}, status_code=202)


async def _read(work: Callable[[], _T]) -> _T:
    """Ask the metrics store. What it refuses is the caller's fault, unless the file is to blame."""
    try:
        return await run_in_threadpool(work)
    except MonitoringError as error:
        if error.details.get("parameter") == "db_path":
            raise
        raise ConfigurationError(error.message, error.details) from error


async def _followed(state: StateView, after: int) -> AsyncIterator[Event]:
    while True:
        for seq, body in await run_in_threadpool(state.events, after):
            after = seq
            yield Event(data=body, id=str(seq), name=body["kind"])
        await asyncio.sleep(_POLL_S)


def _aware(at: datetime | None) -> datetime | None:
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at


def _details(error: PipelineGuardError) -> Sequence[Mapping[str, Any]]:
    return [error.details] if error.details else []


def _error_body(clock: Clock, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The documented form of an error."""
    code, details = body["code"], body["details"]
    camel = "".join(part.capitalize() for part in code.split("_"))
    return {
        "error": {
            "type": _TYPES.get(code, camel),
            "message": body["message"],
            "details": details[0] if len(details) == 1 else {"faults": details} if details else {},
            "timestamp": clock.now().isoformat().replace("+00:00", "Z"),
            "request_id": body["request_id"],
        }
    }
