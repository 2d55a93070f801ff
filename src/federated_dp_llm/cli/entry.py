"""Where the program starts: which commands there are, and which modules they need."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import typer

_ROOM: Final = "federated_dp_llm.cli."
COMMANDS: Final = {
    "demo": ("demo:demo", "Three nodes, a router and questions, on this machine."),
    "serve": ("serve:serve", "Serve the router until Ctrl-C."),
    "node": ("node:node", "Serve a hospital's records to routers it trusts."),
    "ask": ("asking:ask", "Ask a question, and see what it cost."),
    "login": ("asking:login", "Log in, and print a token."),
    "budget": ("budget:app", "Budgets of use."),
    "nodes": ("nodes:app", "Nodes of the federation."),
    "audit": ("audit:app", "Audit trails: their chains and signed heads."),
    "keys": ("keys:app", "The router's signing key."),
    "config": ("config:app", "The router's configuration."),
    "plan": ("plan:plan", "Plan batches of tasks on nodes."),
}
"""Commands: what they are, a function or a `typer.Typer`, loaded when asked for; and one line.

One whose module is not part of this installation is not offered.
"""
_HELP: Final = """\
Private answers from the records of several institutions, paid before they are shown.

\b
    federated-dp-llm demo                                      all of it, on this machine
    federated-dp-llm serve --config router.yaml                the router
    federated-dp-llm node --model PATH --records FILE          a hospital's side
    federated-dp-llm ask "Which drug is given for ...?"        a question
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Exit codes: see `output.ExitCode`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    app = application(words[0] if words and words[0] in COMMANDS else None)
    if "--json" not in words:
        app(args=words)
        return
    import typer  # noqa: PLC0415  it brings what a test of the face does not need

    from federated_dp_llm.cli import output  # noqa: PLC0415

    # typer carries its own copy of click since 0.20; both have this class above `BadParameter`.
    usage_error: type[Exception] = typer.BadParameter.__mro__[1]
    try:
        sys.exit(app(words, standalone_mode=False))
    except usage_error as error:
        message = getattr(error, "format_message", error.__str__)()
        sys.exit(output.report_failure("usage_error", message, output.ExitCode.BAD_INPUT))


def application(only: str | None = None, *, whole: bool = False) -> typer.Typer:
    """The application.

    Args:
        only: the command that is asked for; None: the page that lists them, which loads none.
        whole: load all of them.
    """
    import typer  # noqa: PLC0415

    app = typer.Typer(
        name="federated-dp-llm",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        help=_HELP,
        add_completion=False,
    )
    app.callback()(lambda: None)
    for name, (place, says) in COMMANDS.items():
        module, _, attribute = place.partition(":")
        if find_spec(_ROOM + module) is None:
            continue
        if whole or name == only:
            _add(app, name, getattr(import_module(_ROOM + module), attribute))
        elif only is None:
            app.command(name, help=says, add_help_option=False)(lambda: None)
    return app


def _add(app: typer.Typer, name: str, command: Any) -> None:
    import typer  # noqa: PLC0415

    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)
