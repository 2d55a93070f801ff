"""`budget`: what was used, and more of it."""

from __future__ import annotations

from typing import Annotated

import typer

from federated_dp_llm.cli import output
from federated_dp_llm.cli.output import Json
from federated_dp_llm.cli.remote import DEFAULT_URL, Url, call

app = typer.Typer(no_args_is_help=True, help="Budgets of use.")
User = Annotated[str, typer.Argument(help="A user name.")]


@app.command()
def show(
    user: Annotated[
        str | None, typer.Argument(help="A user name; left out: everybody, for officers.")
    ] = None,
    *,
    history: Annotated[bool, typer.Option("--history", help="Every day's sum.")] = False,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Show what was used of a budget, in epsilon over a lifetime."""
    with output.failures_reported(as_json):
        path = "/v1/privacy/budget/"
        if user is None:
            found = call(url, "GET", path + "status")
            rows = [
                (name, line["consumed"], line["remaining"], f"{line['percentage_used']} %")
                for name, line in found["users"].items()
            ]
            text = output.table([("user", "used", "left", ""), *rows])
        elif history:
            found = call(url, "GET", f"{path}history/{user}")
            text = output.table([("day", "epsilon"), *found["days"].items()])
        else:
            found = call(url, "GET", path + user)
            text = output.table([(k, found[k]) for k in ("total_budget", "consumed", "remaining")])
    output.deliver(found, text, as_json=as_json)


@app.command()
def grant(
    user: User,
    epsilon: Annotated[float, typer.Argument(help="How much more.")],
    *,
    reason: Annotated[str, typer.Option(help="Why; kept in the audit trail.")],
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Grant a user more, over their lifetime: for privacy officers."""
    with output.failures_reported(as_json):
        body = {"epsilon": epsilon, "reason": reason}
        found = call(url, "POST", f"/v1/privacy/budget/{user}/grants", body)
    text = f"{user} may use {found['total_budget']:.6g}, {found['remaining']:.6g} is left"
    output.deliver(found, text, as_json=as_json)
