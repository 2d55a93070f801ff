"""`privacy-finetuner datasets`: what jobs of a service may name, sent and removed."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from privacy_finetuner.cli import output, remote
from privacy_finetuner.cli.options import Json
from privacy_finetuner.cli.remote import ProfileName, Url
from privacy_finetuner.client.shapes.training import DatasetEntry
from privacy_finetuner.errors import ConfigurationError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="See, send and remove the data sets that jobs of a service may name.\n\n"
    "First say who you are: privacy-finetuner login --url URL.",
    epilog="Begin: privacy-finetuner datasets send notes.jsonl",
)
_EXAMPLE: Final = "Example: privacy-finetuner datasets"


@app.command("list", epilog=f"{_EXAMPLE} list --json")
def list_(*, url: Url = None, profile: ProfileName = None, as_json: Json = False) -> None:
    """List the data sets that a job may name. Nothing of their records is shown."""
    with remote.failures_reported(as_json), remote.opened(url, profile) as client:
        found = client.models.list_datasets()
    document = {"datasets": [_plain(entry) for entry in found]}
    output.deliver(document, _table(found) if found else "no data sets", as_json=as_json)


@app.command(epilog=f"{_EXAMPLE} send notes.jsonl --name notes-2026.jsonl")
def send(
    file: Annotated[Path, typer.Argument(help="A .jsonl, .json, .csv, .txt or .parquet file.")],
    *,
    name: Annotated[
        str | None, typer.Option(help="Its name at the service. Default: that of the file.")
    ] = None,
    url: Url = None,
    profile: ProfileName = None,
    as_json: Json = False,
) -> None:
    """Send a file of records. It belongs to your organisation, and jobs name it `upload:NAME`.

    The service reads it as records before it offers it. A name is never given to other records:
    the same file again is no error, another one is.
    """
    with remote.failures_reported(as_json), remote.opened(url, profile) as client:
        if not file.is_file():
            raise ConfigurationError(f"{file} is no file; nothing was sent")
        sent = client.models.send_dataset(file, name=name)
    output.deliver(_plain(sent), f"{sent.name}: {sent.size_bytes:,} bytes", as_json=as_json)


@app.command(epilog=f"{_EXAMPLE} remove upload:notes.jsonl")
def remove(
    name: Annotated[str, typer.Argument(help="As it is listed: upload:NAME.")],
    *,
    url: Url = None,
    profile: ProfileName = None,
    as_json: Json = False,
) -> None:
    """Delete a data set that was sent. What was trained on it, and its price, stay."""
    with remote.failures_reported(as_json), remote.opened(url, profile) as client:
        client.models.remove_dataset(name)
    output.deliver({"removed": name}, f"{name} was deleted", as_json=as_json)


def _table(found: tuple[DatasetEntry, ...]) -> Table:
    table = Table("name", "bytes", "changed")
    for entry in found:
        changed = "" if entry.modified_at is None else f"{entry.modified_at:%Y-%m-%d %H:%M}"
        table.add_row(entry.name, f"{entry.size_bytes or 0:,}", changed)
    return table


def _plain(value: Any) -> dict[str, Any]:
    return {
        key: each.isoformat() if isinstance(each, datetime) else each
        for key, each in asdict(value).items()
    }
