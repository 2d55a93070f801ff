"""The server as a process: what `pipeline-guard serve` runs."""

from __future__ import annotations

from fastapi import FastAPI

from pipeline_guard.app.application import RATES, create_app
from pipeline_guard.app.tokens import Tokens
from pipeline_guard.app.views import StateView
from pipeline_guard.config import GuardConfig
from pipeline_guard.errors import ConfigurationError
from pipeline_guard.metrics_store import MetricsCollector
from privacy_runtime.http import RateLimits
from privacy_runtime.http.server import ServerOptions, serve
from privacy_runtime.world import Clock, SystemClock


def application(config: GuardConfig, *, clock: Clock) -> tuple[FastAPI, MetricsCollector]:
    """The application of a configuration, and the metrics that the caller closes.

    Raises:
        ConfigurationError: no metrics store is named, or the keys are not usable.
    """
    if config.store.metrics is None:
        raise ConfigurationError(
            "store.metrics names no file, and the server keeps metrics; expected a path; the "
            "server was not started",
            {"parameter": "store.metrics", "constraint": "a path"},
        )
    tokens = Tokens(config.http)
    state = StateView(config.beside(config.store.path), clock)
    collector = MetricsCollector(config.beside(config.store.metrics), clock=clock)
    limits = RateLimits(clock, rates=RATES)
    return create_app(state, collector, tokens, clock=clock, limits=limits), collector


def run(config: GuardConfig) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: as `application`.
    """
    app, collector = application(config, clock=SystemClock())
    with collector:
        serve(app, ServerOptions(host=config.http.host, port=config.http.port))
