"""The documented command lines of the modules; each does what `pipeline-guard` does."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from pipeline_guard.guard.sample import DEFAULT_FILE, VARIABLE


def guard_main(arguments: Sequence[str] | None = None) -> None:
    """`--config FILE --daemon | --status`; exit codes as `pipeline-guard`."""
    _main("mobile_multimodal.pipeline_guard", "--daemon", "guard until SIGTERM", arguments)


def orchestrator_main(arguments: Sequence[str] | None = None) -> None:
    """`--config FILE --start | --status`; exit codes as `pipeline-guard`."""
    _main("mobile_multimodal.guard_orchestrator", "--start", "run until SIGTERM", arguments)


def _main(program: str, start: str, says: str, arguments: Sequence[str] | None) -> None:
    parser = argparse.ArgumentParser(
        prog=f"python3 -m {program}",
        description="The pipeline guard. The same, and more, is `pipeline-guard --help`.",
    )
    parser.add_argument("--config", help="default: pipeline_guard.yaml, here")
    parser.add_argument("--json", action="store_true", help="with --status: one JSON document")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(start, action="store_true", dest="start", help=f"{says}, in the foreground")
    what.add_argument("--status", action="store_true", help="how everything stands")
    options = parser.parse_args(arguments)
    path = options.config or os.environ.get(VARIABLE, DEFAULT_FILE)
    if options.start:
        from pipeline_guard.cli.daemon import guard  # noqa: PLC0415 -- the one or the other

        sys.exit(guard(path))
    from pipeline_guard.cli.entry import main  # noqa: PLC0415 -- as above

    main(["status", "--config", path, *(["--json"] if options.json else [])])
