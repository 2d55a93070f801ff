"""The application: every route of the router over one service.

`create_app` is a factory: nothing is global, and two applications in one process share nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from fastapi import FastAPI

from federated_dp_llm.api import admin, auth, budgets, health, inference, openai
from federated_dp_llm.api.asking import Asking
from federated_dp_llm.api.door import Door, OpenDoor
from federated_dp_llm.api.errors import table
from federated_dp_llm.api.examples import with_examples
from federated_dp_llm.api.forwarding import gateway_of
from federated_dp_llm.api.observation import Observed
from federated_dp_llm.api.service import Service
from privacy_runtime.http import Access, HttpPolicy, RateLimits, install

BODY_LIMIT_BYTES: Final = 256 * 1024
DESCRIPTION: Final = """\
Private answers from the records of several institutions, under a budget that is paid before the
answer is shown.

Every error is `{"error": {"code", "message", "details", "request_id"}}`, or RFC 9457 on
`Accept: application/problem+json`; below `/v1/chat`, `/v1/completions` and `/v1/models` it is in
OpenAI's form. Paths without `/v1`, as the documents write them, are the same routes.
"""
_UPKEEP_S: Final = 60.0


def create_app(
    service: Service,
    *,
    policy: HttpPolicy | None = None,
    limits: RateLimits | None = None,
) -> FastAPI:
    """The application over an open service. The service stays the caller's to close.

    Args:
        service: what it answers from.
        policy: how the deployment meets the network; default: a loopback one.
        limits: counts requests; default: as the configuration says.
    """
    policy = policy or HttpPolicy()
    policy = replace(policy, body_limits={"/": BODY_LIMIT_BYTES, **policy.body_limits})
    limits = limits or limits_of(service)
    access = Access(
        service.identity,
        clock=service.clock,
        entropy=service.entropy,
        policy=policy,
        limits=limits,
    )
    app = FastAPI(
        title="Federated DP-LLM Router",
        version=_version(),
        description=DESCRIPTION,
        docs_url=None,  # they load scripts from elsewhere, which the content policy refuses
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.service, app.state.access = service, access
    app.state.gateway = gateway = gateway_of(service, access)
    forwarded = () if gateway is None else tuple(sorted(gateway.backends.models))
    if gateway is not None:
        service.figures.collect(gateway.figures)
    errors = table()
    asking = Asking(service, access)
    is_open = service.config.security.authentication == "none"
    door: Door = OpenDoor(access, service.clock) if is_open else access
    app.include_router(inference.router(asking, access, door, errors))
    app.include_router(openai.router(service, asking, access, door, errors, forwarded))
    app.include_router(budgets.router(service, door))
    app.include_router(auth.router(service, access, door))
    app.include_router(admin.router(service, door))
    app.include_router(health.router(service, access, door, app.version))
    app.add_middleware(Observed, figures=service.figures, clock=service.clock)
    app.openapi = with_examples(app.openapi)  # type: ignore[method-assign]  # FastAPI's own hook
    install(app, errors=errors, policy=policy, limits=limits, entropy=service.entropy)
    return app


def limits_of(service: Service) -> RateLimits:
    """Rates counted in Redis where one is configured, in this process otherwise."""
    redis = service.config.store.redis
    return RateLimits(service.clock, redis_url=None if redis is None else redis.reveal())


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Nodes and upkeep live as long as the application."""
    service: Service = app.state.service
    if service.fleet is not None:
        await service.fleet.start()
    planner = asyncio.create_task(asyncio.to_thread(health.planner_is_healthy), name="planner")
    upkeep = asyncio.create_task(_upkeep(service), name="upkeep")
    try:
        yield
    finally:
        upkeep.cancel()
        with suppress(asyncio.CancelledError):
            await upkeep
        await planner
        if service.fleet is not None:
            await service.fleet.aclose()
        if app.state.gateway is not None:
            await app.state.gateway.aclose()


async def _upkeep(service: Service) -> None:
    """Count reservations past their deadline as spent, and forget what has no meaning any more."""
    while True:
        await asyncio.sleep(_UPKEEP_S)
        await asyncio.to_thread(service.standings.allowances.expire)
        await asyncio.to_thread(service.identity.purge)
        await asyncio.to_thread(service.heads.keep)
        await asyncio.to_thread(service.told.forget, now=service.clock.now())
        await asyncio.to_thread(service.front_door.look)


def _version() -> str:
    try:
        return version("privacy-finetuner")
    except PackageNotFoundError:
        return "0"
