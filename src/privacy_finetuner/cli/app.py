"""The application: which commands there are, and how a misuse of one is reported."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Final

import typer

from privacy_finetuner import __version__
from privacy_finetuner.cli import (
    accountant,
    budget,
    demo,
    evaluate,
    generate,
    output,
    report,
    search,
    train,
)
from privacy_finetuner.cli.options import Json

_TRAINING: Final = "Train and use a model"
_EXPLAIN: Final = "Understand the guarantee"

app = typer.Typer(
    name="privacy-finetuner",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Fine-tune language models on sensitive text with differential privacy.\n\n"
    "A run is planned before its first gradient: epsilon and delta are a promise to everyone in "
    "the data, and the noise that keeps it is solved from them.",
    epilog="Begin with a plan, which spends nothing:\n\n"
    "privacy-finetuner train --model ./model --data records.jsonl --epsilon 8 --output ./private "
    "--dry-run",
)
app.command(rich_help_panel=_TRAINING, epilog=train.EPILOG)(train.train)
app.command(rich_help_panel=_TRAINING, epilog=search.EPILOG)(search.search)
app.command(rich_help_panel=_TRAINING, epilog=demo.EPILOG)(demo.demo)
app.command(rich_help_panel=_TRAINING, epilog=evaluate.EPILOG)(evaluate.evaluate)
app.command(rich_help_panel=_TRAINING, epilog=generate.EPILOG)(generate.generate)
app.command(rich_help_panel=_EXPLAIN, epilog=report.EPILOG)(report.report)
app.add_typer(accountant.app, name="accountant", rich_help_panel=_EXPLAIN)
app.add_typer(budget.app, name="budget", rich_help_panel=_EXPLAIN)


@app.command(rich_help_panel=_EXPLAIN, epilog="Example: privacy-finetuner version --json")
def version(as_json: Json = False) -> None:
    """Print the version of this program and of what it computes with."""
    with output.failures_reported(as_json):
        document = {
            "version": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("torch", "transformers", "peft")},
        }
        text = f"privacy-finetuner {__version__}\n" + "\n".join(
            f"{name} {number}" for name, number in document.items() if name != "version"
        )
    output.deliver(document, text, as_json=as_json)


# typer carries its own copy of click since 0.20; both have this class above `BadParameter`.
_USAGE_ERROR: Final[type[Exception]] = typer.BadParameter.__mro__[1]


def main() -> None:
    """Run the command line. Exit codes: see `output.ExitCode`."""
    arguments = sys.argv[1:]
    if "--json" not in arguments:
        app()
        return
    try:
        sys.exit(app(arguments, standalone_mode=False))
    except _USAGE_ERROR as error:
        format_message = getattr(error, "format_message", error.__str__)
        sys.exit(output.report_failure("usage_error", format_message(), output.ExitCode.BAD_INPUT))
