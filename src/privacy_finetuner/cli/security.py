"""`privacy-finetuner security`: alerts of a service, and users who may ask less for now."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Final, TypeAlias

import typer
from rich.table import Table

from privacy_finetuner.cli import output, remote
from privacy_finetuner.cli.options import Json
from privacy_finetuner.cli.remote import ProfileName, Url
from privacy_finetuner.client.shapes.governance import Restraints

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="See and lift restraints: users who may make fewer requests for now.\n\n"
    "For administrators and privacy officers of a service. First say who you are: "
    "privacy-finetuner login --url URL.",
    epilog="Begin: privacy-finetuner security restraints",
)
_EXAMPLE: Final = "Example: privacy-finetuner security"
Why: TypeAlias = Annotated[str, typer.Option("--reason", help="Why; it stays in the journal.")]


@app.command(epilog=f"{_EXAMPLE} restraints --json")
def restraints(*, url: Url = None, profile: ProfileName = None, as_json: Json = False) -> None:
    """List the users of your organisation who may make fewer requests for now, and why."""
    with remote.failures_reported(as_json), remote.opened(url, profile) as client:
        found = client.security.list_restraints()
    output.deliver(_plain(found), _table(found), as_json=as_json)


@app.command(epilog=f"{_EXAMPLE} lift u_2k7w --reason 'it was our own test'")
def lift(
    user: Annotated[str, typer.Argument(metavar="USER", help="Id of the user: u_....")],
    *,
    reason: Why,
    url: Url = None,
    profile: ProfileName = None,
    as_json: Json = False,
) -> None:
    """End a restraint early. Nobody lifts their own; who did it and why stays in the journal."""
    with remote.failures_reported(as_json), remote.opened(url, profile) as client:
        left = client.security.lift_restraint(user, reason)
    output.deliver(_plain(left), f"{user} may ask as much as anybody again", as_json=as_json)


def _plain(found: Restraints) -> dict[str, Any]:
    return {
        "restraints": [
            {**asdict(each), "until": each.until.isoformat()} for each in found.restraints
        ]
    }


def _table(found: Restraints) -> Table | str:
    if not found.restraints:
        return "nobody is restrained"
    table = Table(box=None)
    for name in ("user", "until", "by", "reason"):
        table.add_column(name)
    for each in found.restraints:
        table.add_row(each.user_id, each.until.isoformat(timespec="minutes"), each.by, each.reason)
    return table
