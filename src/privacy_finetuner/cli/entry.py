"""Where the program starts: which commands are loaded, and how a misuse of one is reported.

A verifier of certificates may be a script that checks thousands, on a machine with little: that
group of commands is loaded alone, without training, ledger and plots.
"""

from __future__ import annotations

import sys
from typing import Final

import typer

from privacy_finetuner.cli import output

_ALONE: Final = "certificate"

# typer carries its own copy of click since 0.20; both have this class above `BadParameter`.
_USAGE_ERROR: Final[type[Exception]] = typer.BadParameter.__mro__[1]


def main() -> None:
    """Run the command line. Exit codes: see `output.ExitCode`."""
    arguments = sys.argv[1:]
    app = _certificates() if arguments[:1] == [_ALONE] else _everything()
    if "--json" not in arguments:
        app()
        return
    try:
        sys.exit(app(arguments, standalone_mode=False))
    except _USAGE_ERROR as error:
        format_message = getattr(error, "format_message", error.__str__)
        sys.exit(output.report_failure("usage_error", format_message(), output.ExitCode.BAD_INPUT))


def _everything() -> typer.Typer:
    from privacy_finetuner.cli.app import app  # noqa: PLC0415 -- half a second

    return app


def _certificates() -> typer.Typer:
    from privacy_finetuner.cli import certificate  # noqa: PLC0415 -- only where it is asked for

    app = typer.Typer(
        name="privacy-finetuner", rich_markup_mode="markdown", pretty_exceptions_enable=False
    )
    app.callback()(lambda: None)
    app.add_typer(certificate.app, name=_ALONE)
    return app
