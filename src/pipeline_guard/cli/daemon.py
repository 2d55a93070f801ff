"""`run`: the daemon. Reads its own arguments, so that it carries nothing that it does not need."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from pipeline_guard.errors import ConfigurationError, PipelineGuardError
from pipeline_guard.guard.sample import DEFAULT_FILE, VARIABLE
from pipeline_guard.orchestrator import PipelineOrchestrator

_FAILED, _BAD_INPUT = 3, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Guard until SIGTERM or Ctrl-C; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="pipeline-guard run",
        description="Guard until SIGTERM or Ctrl-C; SIGHUP reads the file again. Recoveries under "
        "way are finished first. After kill -9 the next start finds them and judges them by their "
        "checks; none is repeated blindly.",
        epilog="Exit codes: 0 ended as asked; 2 the file is not right; 3 it could not go on.",
    )
    parser.add_argument(
        "-c", "--config", help=f"the configuration; default: ${VARIABLE}, else {DEFAULT_FILE}"
    )
    options = parser.parse_args(arguments)
    return guard(options.config or os.environ.get(VARIABLE, DEFAULT_FILE))


def guard(path: str) -> int:
    """Guard by a configuration; returns the exit code."""
    try:
        PipelineOrchestrator(path).run()
    except ConfigurationError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return _BAD_INPUT
    except PipelineGuardError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return _FAILED
    return 0
