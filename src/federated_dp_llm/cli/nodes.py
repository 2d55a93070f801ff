"""`nodes`: who answers."""

from __future__ import annotations

from typing import Annotated

import typer

from federated_dp_llm.cli import output
from federated_dp_llm.cli.output import Json
from federated_dp_llm.cli.remote import DEFAULT_URL, Url, call

app = typer.Typer(no_args_is_help=True, help="Nodes of the federation.")
_PATH = "/v1/admin/nodes"


@app.command("list")
def list_nodes(*, url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """List the nodes and how they stand."""
    with output.failures_reported(as_json):
        found = call(url, "GET", _PATH)
    rows = [(one["node_id"], one["state"], one["slots"], one["endpoint"]) for one in found]
    text = output.table([("node", "state", "slots", "endpoint"), *rows])
    output.deliver({"nodes": found}, text, as_json=as_json)


@app.command()
def add(
    node_id: Annotated[str, typer.Argument(help="Its name.")],
    endpoint: Annotated[str, typer.Argument(help="https://host:port")],
    *,
    slots: Annotated[int, typer.Option(min=0, help="Of its records; 0: as its card says.")] = 0,
    specialization: Annotated[list[str] | None, typer.Option(help="What it knows.")] = None,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Register a node."""
    with output.failures_reported(as_json):
        body = {
            "node_id": node_id,
            "endpoint": endpoint,
            "slots": slots,
            "specializations": specialization or [],
        }
        found = call(url, "POST", _PATH, body)
    output.deliver(found, f"{node_id} is {found['state']}", as_json=as_json)


@app.command()
def remove(
    node_id: Annotated[str, typer.Argument(help="Its name.")],
    *,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Remove a node; answers under way are finished without it."""
    with output.failures_reported(as_json):
        found = call(url, "DELETE", f"{_PATH}/{node_id}")
    output.deliver(found, f"{node_id} is removed", as_json=as_json)
