"""Where the program starts: which commands there are, and which modules they need."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import typer

_COMMANDS: Final = {
    "init": "pipeline_guard.cli.setting_up:init",
    "config": "pipeline_guard.cli.configuration:app",
    "probes": "pipeline_guard.cli.configuration:probes",
    "remedies": "pipeline_guard.cli.configuration:remedies",
    "check": "pipeline_guard.cli.looking:check",
    "serve": "pipeline_guard.cli.serving:serve",
    "token": "pipeline_guard.cli.tokens:token",
    "status": "pipeline_guard.cli.asking:status",
    "explain": "pipeline_guard.cli.asking:explain",
    "history": "pipeline_guard.cli.asking:history",
    "silence": "pipeline_guard.cli.deciding:silence",
    "promote": "pipeline_guard.cli.deciding:promote",
    "replay": "pipeline_guard.cli.replaying:replay",
    "detect": "pipeline_guard.cli.detect:detect",
    "test-recovery": "pipeline_guard.cli.rehearsing:rehearsal",
}
"""Commands and what they are: a function or a `typer.Typer`, loaded when asked for.

One whose module is not part of this installation is not offered.
"""
_PROGRAMS: Final = {
    "run": ("pipeline_guard.cli.daemon", "Guard, until SIGTERM or Ctrl-C."),
    "metrics": ("pipeline_guard.cli.metrics", "Collect, analyze and list metrics."),
}
"""Commands that read their own arguments: modules with `main(arguments) -> int`."""
_HELP: Final = """\
Watches a machine-learning pipeline, finds faults, heals what it may, and proves it healed.

A first round, which changes nothing:

\b
    pipeline-guard init                     a working file, from what is found here
    pipeline-guard check --once             look at everything once; exit codes of Nagios
    pipeline-guard run                      guard; it only observes until you let it act
    pipeline-guard status                   how everything stands, and what would be done
    pipeline-guard explain ALERT            since when, the evidence, and what was done

Nothing is done about a fault unless its recovery's mode is act. `touch` the kill switch of the
file, and nothing is done at all.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exit codes: 0 well; 1 warning, or something failed; 2 critical, or wrong input; 3 unknown.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in _PROGRAMS and find_spec(_PROGRAMS[words[0]][0]) is not None:
        sys.exit(import_module(_PROGRAMS[words[0]][0]).main(words[1:]))
    application(words[0] if words and words[0] in _COMMANDS else None)(args=words)


def application(only: str | None = None) -> typer.Typer:
    """The application; with one command alone where only that is asked for."""
    import typer  # noqa: PLC0415 -- it brings what a daemon does not need

    app = typer.Typer(
        name="pipeline-guard",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        help=_HELP,
        add_completion=False,
    )
    app.callback()(lambda: None)
    for name, place in _COMMANDS.items():
        if only in (None, name):
            _add(app, name, place)
    for name, (_, words) in _PROGRAMS.items() if only is None else ():
        app.command(name, help=words, add_help_option=False)(lambda: None)
    return app


def _add(app: typer.Typer, name: str, place: str) -> None:
    import typer  # noqa: PLC0415 -- as above

    module, _, attribute = place.partition(":")
    if find_spec(module) is None:
        return
    command: Any = getattr(import_module(module), attribute)
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)
