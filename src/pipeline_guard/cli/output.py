"""Where a command's words go: results to stdout, faults to stderr and as one JSON document."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline_guard.errors import ConfigurationError, PipelineGuardError
from pipeline_guard.guard.sample import DEFAULT_FILE, VARIABLE
from privacy_runtime.world import SystemClock

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help=f"The configuration. Default: ${VARIABLE}, else {DEFAULT_FILE} in this folder.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")]


class ExitCode(IntEnum):
    """What the process ends with; those of Nagios plugins."""

    WELL = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


def config_path(given: Path | None) -> Path:
    """The configuration that is meant.

    Raises:
        ConfigurationError: there is none.
    """
    path = given or Path(os.environ.get(VARIABLE, DEFAULT_FILE))
    if not path.is_file():
        raise ConfigurationError(
            f"there is no configuration {path}; make one with `pipeline-guard init`, or name it "
            f"with --config",
            {"parameter": "config", "value": str(path), "constraint": "an existing file"},
        )
    return path


@contextmanager
def faults_reported(as_json: bool) -> Iterator[None]:
    """Turn a refusal into words, a document and an exit code. Never a traceback."""
    try:
        yield
    except PipelineGuardError as error:
        sys.stderr.write(f"error: {error.message}\n")
        if as_json:
            say_json(error.to_dict(SystemClock().now()))
        is_input = isinstance(error, ConfigurationError)
        raise typer.Exit(ExitCode.CRITICAL if is_input else ExitCode.UNKNOWN) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(130) from error


def say_json(document: Mapping[str, Any] | list[Any]) -> None:
    """Write one document to stdout."""
    sys.stdout.write(json.dumps(document, indent=1, default=str) + "\n")


def say(text: str) -> None:
    """Write lines to stdout."""
    sys.stdout.write(text.rstrip("\n") + "\n")


def ago(then: str, now: datetime) -> str:
    """How long ago something was, in words."""
    seconds = max(0.0, (now - datetime.fromisoformat(then)).total_seconds())
    for limit, size, unit in ((120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds / 86_400:.0f} days ago"
