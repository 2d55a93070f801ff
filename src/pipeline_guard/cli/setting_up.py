"""`init`: a working configuration from what is found here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline_guard.cli.output import Json, faults_reported, say, say_json
from pipeline_guard.config import parse_config
from pipeline_guard.errors import ConfigurationError
from pipeline_guard.guard.kinds import registries
from pipeline_guard.guard.sample import DEFAULT_FILE, runs_below, sample
from privacy_runtime.files import WriteFailed, write_atomic


def init(
    output: Annotated[Path, typer.Option(help="The file to make.")] = Path(DEFAULT_FILE),
    folder: Annotated[Path, typer.Option(help="Where runs are looked for.")] = Path(),
    force: Annotated[bool, typer.Option(help="Replace a file that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write a configuration that works: runs with heartbeats below here, the disk, the memory.

    It only observes. Read it: every part says what it is for.
    """
    with faults_reported(as_json):
        if output.exists() and not force:
            raise ConfigurationError(
                f"{output} is there already; nothing was written. Use --force to replace it",
                {"parameter": "output", "value": str(output), "constraint": "a new file"},
            )
        text = sample(folder.resolve())
        parse_config(text, str(output), registries())
        try:
            write_atomic(output, text.encode())
        except WriteFailed as error:
            raise ConfigurationError(str(error), {"parameter": "output"}) from error
        runs = [name for name, _ in runs_below(folder.resolve())]
        if as_json:
            say_json({"written": str(output), "runs": runs})
            return
        found = f"runs found: {', '.join(runs)}" if runs else "no run with a heartbeat was found"
        say(f"wrote {output}; {found}\nnext: pipeline-guard check --once --config {output}")
