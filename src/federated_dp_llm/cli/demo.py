"""`demo`: three hospitals and a router on this machine, questions, and what each patient paid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from federated_dp_llm.cli import output
from federated_dp_llm.cli.output import Json


def demo(
    *,
    folder: Annotated[
        Path, typer.Option("--output", help="For keys, ledgers and demo.json.")
    ] = Path("federated-dp-llm-demo"),
    as_json: Json = False,
) -> None:
    """Start three nodes with sample records, ask questions, and show what everybody paid.

    Nothing leaves this machine. The answers stand beside those of the public model and those that
    would have been given without privacy.
    """
    with output.failures_reported(as_json):
        from rich.console import Console  # noqa: PLC0415

        from federated_dp_llm.demo.run import run_demo  # noqa: PLC0415  starts nodes, with torch

        document = run_demo(folder, console=Console(stderr=as_json))
    output.deliver(document, f"everything is in {folder}", as_json=as_json)
