"""The application: every route of the product over one service.

`create_app` is a factory: nothing is global, and two applications in one process share nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from types import ModuleType
from typing import Any, Final, Protocol

from fastapi import Depends, FastAPI

from privacy_finetuner import __version__, dashboard, mcp_server
from privacy_finetuner.api import (
    audit_trail,
    auth,
    budgets,
    certificates,
    compliance,
    datasets,
    events,
    generation,
    keys,
    models,
    redaction,
    results,
    scaling,
    security,
    training,
    users,
    webhooks,
)
from privacy_finetuner.api import errors as own_errors
from privacy_finetuner.api.health import install_observability
from privacy_finetuner.api.intake import Intake
from privacy_finetuner.api.signals import EVERY_S, Signals
from privacy_finetuner.api.strays import Strays
from privacy_finetuner.environment import EnvironmentConfig
from privacy_finetuner.service import Service, upkeep
from privacy_finetuner.service.fitting import Fitting
from privacy_runtime import logs
from privacy_runtime.http import Access, ErrorTable, HttpPolicy, Idempotency, RateLimits, install
from privacy_runtime.http.oidc import OidcLogin, OidcProvider
from privacy_runtime.http.policy import MEBIBYTE
from privacy_runtime.identity import ExternalIssuer, Role

_log = logs.logger(__name__)
PREFIX: Final = "/api/v1"
ROUTERS: Final[tuple[ModuleType, ...]] = (
    training, events, results, auth, users, keys, models, datasets, certificates, budgets,
    redaction, generation, security, compliance, scaling, webhooks, audit_trail,
)  # fmt: skip
"""Modules with `router(service, access)`. Routes are tried in this order: what is asked for most
comes first."""
BODY_LIMITS: Final = {f"{PREFIX}/protect": 8 * MEBIBYTE}
"""Routes that read more than a mebibyte, besides those that take data sets."""
DATASETS: Final = (f"{PREFIX}/datasets/", "/datasets")
DESCRIPTION: Final = """\
Private fine-tuning of language models as a service: start jobs, watch epsilon being spent, ask for
budget, read reports, verify certificates.

Every error is `{"error": {"code", "message", "details", "request_id"}}`, or RFC 9457 on
`Accept: application/problem+json`. Lists come in pages. Times are RFC 3339 in UTC. A figure that is
not known is `null`.
"""


class Pool(Protocol):
    """Workers of this process."""

    @property
    def size(self) -> int:
        """How many are wanted."""
        ...

    @property
    def processes(self) -> Sequence[int]:
        """The process numbers of those that run."""
        ...

    def start(self) -> object:
        """Start them; returns at once."""
        ...

    def resize(self, count: int, *, spare: Collection[int] = ()) -> None:
        """Have so many from now on; those named in `spare` go last."""
        ...

    def stop(self) -> None:
        """Stop them; what they work on goes back to the queue."""
        ...


def create_app(
    service: Service,
    *,
    policy: HttpPolicy | None = None,
    limits: RateLimits | None = None,
    pool: Pool | None = None,
) -> FastAPI:
    """The application over an open service. The service stays the caller's to close.

    Args:
        service: what it answers from.
        policy: how the deployment meets the network; default: a loopback one.
        limits: counts requests; default: in this process, or in Redis where one is configured.
        pool: workers that this process runs; `None`: others do.
    """
    policy = policy or HttpPolicy()
    most = max(service.uploads.most_bytes + MEBIBYTE, policy.body_limit_bytes)
    sending = dict.fromkeys(DATASETS, most)  # a form has more than the file in it
    policy = replace(policy, body_limits={**BODY_LIMITS, **sending, **policy.body_limits})
    limits, providers = limits or limits_of(service), providers_of(service.config)
    access = Access(
        service.identity,
        clock=service.clock,
        entropy=service.entropy,
        policy=policy,
        limits=limits,
    )
    app = FastAPI(
        title="Privacy Finetuner",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # they load scripts from elsewhere, which the content policy refuses
        redoc_url=None,
        lifespan=_lifespan,
    )
    limits.restraint = service.desks.restraints.most_of
    app.add_middleware(Strays, trespasses=service.desks.trespasses)
    app.state.service, app.state.access, app.state.pool = service, access, pool
    app.state.fitting = fitting_of(service, pool)
    app.state.signals = signals = Signals(service)
    looks = [Depends(signals.look)]
    for module in ROUTERS:
        app.include_router(module.router(service, access), prefix=PREFIX, dependencies=looks)
    app.include_router(auth.alias(service, access))
    app.include_router(events.sockets(service, access))
    table = own_errors.table()
    app.state.mcp = mcp_server.mount(app, access)
    app.state.intake = intake_of(service, table)
    if providers:
        app.include_router(OidcLogin(access, providers).router())
    install_observability(app, service, access, needs_workers=pool is not None)
    dashboard.mount(app, service, access, errors=table)
    install(app, errors=table, policy=policy, limits=limits, entropy=service.entropy)
    return app


def limits_of(service: Service) -> RateLimits:
    """Rates counted in Redis where one is configured, in this process otherwise."""
    redis = service.config.redis
    if redis.url is None:
        return RateLimits(service.clock)
    url = redis.url.reveal()
    joint = "&" if "?" in url else "?"
    return RateLimits(
        service.clock, redis_url=f"{url}{joint}max_connections={redis.max_connections}"
    )


def providers_of(config: EnvironmentConfig) -> tuple[OidcProvider, ...]:
    """The issuer that people may log in at, where the section `oidc` names one."""
    oidc = config.oidc
    if oidc.issuer is None or oidc.client_id is None or oidc.organisation is None:
        return ()
    pairs = (text.rpartition("=") for text in oidc.roles)
    issuer = ExternalIssuer(
        issuer=oidc.issuer,
        client_id=oidc.client_id,
        tenant=oidc.organisation,
        roles={group: Role(role) for group, _, role in pairs},
        groups_claim=oidc.groups_claim,
    )
    provider = OidcProvider(
        name=oidc.name,
        title=oidc.title,
        issuer=issuer,
        client_secret=oidc.client_secret,
        scope=oidc.scope,
    )
    return (provider,)


def intake_of(service: Service, errors: ErrorTable) -> Intake | None:
    """What reads jobs from a message queue, where the section `intake` names a stream."""
    settings, redis = service.config.intake, service.config.redis
    if settings.stream is None or redis.url is None:
        return None
    return Intake(service, errors, settings, redis.url)


def fitting_of(service: Service, pool: Pool | None) -> Fitting | None:
    """What fits the workers to the queue, where the configuration wants it and workers are here.

    A process that was told to run no workers (`--workers 0`) is left alone.
    """
    scaling = service.config.scaling
    if pool is None or not scaling.enable_auto_scaling or not pool.size:
        return None
    return Fitting(
        workers=pool,
        jobs=service.jobs,
        desk=service.desks.scaling,
        scaling=scaling,
        clock=service.clock,
        tenant=lambda: service.desks.trail.operator,
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Workers, streams and upkeep live as long as the application."""
    service: Service = app.state.service
    async with AsyncExitStack() as closing:
        if app.state.pool is not None:
            app.state.pool.start()
            closing.push_async_callback(asyncio.to_thread, app.state.pool.stop)
        if app.state.intake is not None:
            app.state.intake.start()
            closing.push_async_callback(asyncio.to_thread, app.state.intake.stop)
        service.notices.start()
        closing.push_async_callback(asyncio.to_thread, service.notices.stop)
        await closing.enter_async_context(app.state.mcp)
        closing.push_async_callback(_kept_lines, service)
        closing.push_async_callback(asyncio.to_thread, app.state.signals.record)
        tasks = [asyncio.create_task(upkeep.run(_chores(app)), name="upkeep")]
        if service.config.security.enable_threat_detection:
            tasks.append(asyncio.create_task(_watch(service), name="security"))
        closing.push_async_callback(_ended, tasks)
        closing.push_async_callback(service.feed.close)
        _log.info("the service has started", version=__version__, audited=True)
        yield
        _log.info("the service stops", version=__version__, audited=True)


def _chores(app: FastAPI) -> list[upkeep.Chore]:
    answers = Idempotency(app.state.access)
    kept = upkeep.Chore("purge idempotent answers", upkeep.DAY_S, answers.purge)
    seen = upkeep.Chore("record suspicious input", EVERY_S, app.state.signals.record)
    chores = [*upkeep.chores_of(app.state.service), kept, seen]
    if app.state.fitting is not None:
        every_s = app.state.service.config.scaling.monitoring_interval
        chores.append(upkeep.Chore("fit workers to the queue", every_s, app.state.fitting.look))
    return chores


async def _kept_lines(service: Service) -> None:
    """Keep the last lines of the log, once the log's writer has seen them."""
    if service.audited is None:
        return
    await asyncio.sleep(2 * logs.LOOK_S)
    await asyncio.to_thread(upkeep.keep_lines, service)


async def _watch(service: Service) -> None:
    """Look for security evidence until cancelled."""
    every_s = service.config.security.monitoring_interval
    await service.desks.monitor.run(interval_s=every_s, stop=asyncio.Event())


async def _ended(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
