"""`serve`: the HTTP server, as a process of its own."""

from __future__ import annotations

from pipeline_guard.cli.output import ConfigFile, config_path, faults_reported
from pipeline_guard.config import read_config


def serve(config: ConfigFile = None) -> None:
    """Answer over HTTP what the guard wrote: health, status, alerts, events, metrics.

    A process of its own: it can still answer for a guard that hangs. `run` starts it where
    `http.enabled` is set.
    """
    with faults_reported(as_json=False):
        from pipeline_guard.app.server import run  # noqa: PLC0415 -- a web framework

        run(read_config(config_path(config)))
