"""Logs, traces and the metrics port of a process, as the configuration says: `serve`, `worker`.

One context manager, entered before anything else is opened and left after everything was closed,
so that what goes wrong while starting and stopping is seen too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from privacy_finetuner.environment import EnvironmentConfig
from privacy_finetuner.jobs.telemetry import Telemetry
from privacy_runtime import logs, tracing
from privacy_runtime.metrics import Metrics, MetricsServer, table
from privacy_runtime.secret import Secret


@contextmanager
def observed(
    config: EnvironmentConfig,
    *,
    metrics: Metrics | None = None,
    audited: logs.Audited | None = None,
) -> Iterator[None]:
    """Log, trace and serve metrics while the process does what is inside.

    What a parent process handed over (request, job, span) holds for every line and span in here.

    Args:
        config: what the environment says.
        metrics: of the process; None: none are served (a worker's come out of the database).
        audited: is shown each line; the service writes those that wait there into the audit trail.

    Raises:
        OSError: the metrics port is taken.
    """
    options = logs.LogOptions(level=config.log_level, debug=config.debug)
    with ExitStack() as closing:
        running = logs.install(
            options, secrets=secrets_of(config), context=tracing.current_ids, audited=audited
        )
        closing.callback(running.close)
        endpoint = config.tracing.endpoint
        traces = tracing.install(
            None if endpoint is None else endpoint.reveal(),
            service=config.tracing.service_name,
            ratio=config.tracing.ratio,
        )
        closing.callback(traces.close)
        logs.adopt(os.environ)
        closing.enter_context(tracing.adopted(os.environ))
        if metrics is not None:
            metrics.reads(table.LOG_LINES_DROPPED, lambda: float(running.dropped))
            listening = config.monitoring.prometheus
            metrics.reading_age_s = listening.scrape_interval / 2
            if listening.enabled:
                server = MetricsServer(metrics, host=listening.host, port=listening.port)
                closing.callback(server.close)
        yield


def telemetry_of(config: EnvironmentConfig) -> Telemetry:
    """How the children of a worker log and trace: as the worker itself does."""
    endpoint = config.tracing.endpoint
    return Telemetry(
        level=config.log_level,
        debug=config.debug,
        endpoint=None if endpoint is None else endpoint.reveal(),
        service=config.tracing.service_name,
        ratio=config.tracing.ratio,
        every_step=config.tracing.every_step,
    )


def secrets_of(config: EnvironmentConfig) -> list[Secret]:
    """Every secret of a configuration: none of them may be in a line."""
    return [
        setting.value for setting in config.settings.values() if isinstance(setting.value, Secret)
    ]
