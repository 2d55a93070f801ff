"""`token`: let a program in at the HTTP server."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from pipeline_guard.cli.output import ConfigFile, config_path, faults_reported, say
from pipeline_guard.config import read_config, seconds_of
from pipeline_guard.errors import ConfigurationError
from privacy_runtime.world import SystemClock


def token(
    subject: Annotated[str, typer.Option(help="Who will show it: grafana, prometheus, a person.")],
    config: ConfigFile = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="What it allows: guard:read, guard:write. Default: guard:read."),
    ] = None,
    lasts: Annotated[str, typer.Option(help="How long: 8h, 30d; at most a year.")] = "8h",
) -> None:
    """Print a token for the HTTP server, signed with `http.jwt_key`. It cannot be taken back.

    Where `http.jwt_public_key` is configured, whoever has the private key makes the tokens.
    """
    with faults_reported(as_json=False):
        from pipeline_guard.app.tokens import READ, Tokens  # noqa: PLC0415 -- a web framework

        settings = read_config(config_path(config)).http
        seconds = seconds_of(lasts)
        if seconds is None:
            raise ConfigurationError(
                f"--lasts is {lasts!r}, expected a duration, such as 8h or 30d; no token was made",
                {"parameter": "lasts", "value": lasts, "constraint": "a duration"},
            )
        span, scopes = timedelta(seconds=seconds), frozenset(scope or [READ])
        say(Tokens(settings).issue(subject, scopes, SystemClock().now(), span))
