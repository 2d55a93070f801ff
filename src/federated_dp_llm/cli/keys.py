"""`keys`: the key that signs the terms of answers; nodes trust its public half."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from federated_dp_llm.cli import output
from federated_dp_llm.cli.output import Json
from privacy_core.errors import InvalidParameter
from privacy_runtime.world import SystemClock, SystemEntropy

app = typer.Typer(no_args_is_help=True, help="The router's signing key.")


@app.command()
def new(
    path: Annotated[Path, typer.Argument(help="Where the key goes; the public half beside it.")],
    *,
    as_json: Json = False,
) -> None:
    """Make a signing key. Give nodes the public half, by a way you trust."""
    with output.failures_reported(as_json):
        from privacy_runtime.signing import SigningKey  # noqa: PLC0415  cryptography

        if path.exists():
            raise InvalidParameter("path", found=str(path), expected="no file; it was not changed")
        key = SigningKey.create(path, SystemEntropy(), now=SystemClock().now())
        document = {"key": str(path), **key.public.to_json()}
    text = f"{path}: {key.public.key_id}"
    output.deliver(document, text, as_json=as_json)


@app.command()
def show(
    path: Annotated[Path, typer.Argument(help="A key file.")], *, as_json: Json = False
) -> None:
    """Show the public half of a key: what nodes are given."""
    with output.failures_reported(as_json):
        from privacy_runtime.signing import SigningKey  # noqa: PLC0415

        document = SigningKey.load(path).public.to_json()
    output.deliver(document, output.table(list(document.items())), as_json=as_json)
