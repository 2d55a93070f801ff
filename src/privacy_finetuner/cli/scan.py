"""`scan`: what a data set contains, before anybody trains on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from privacy_finetuner.cli import output
from privacy_finetuner.cli.options import Json
from privacy_finetuner.cli.redaction_options import (
    Allow,
    Columns,
    Deny,
    EncodingName,
    Level,
    LevelName,
    Locales,
    NoNames,
    Threshold,
    columns_of,
    guard_of,
)
from privacy_finetuner.context.batch import FileSettings
from privacy_finetuner.context.documents import files_below
from privacy_finetuner.context.scan import FileScan, Scan

EPILOG: Final = (
    "Example: privacy-finetuner scan ./records --html scan.html\n\n"
    "privacy-finetuner scan notes.csv --show-masked --json\n\n"
    "Exit codes: 0 done, 1 a file could not be looked at, 2 bad input."
)


def scan(  # noqa: PLR0913 -- one parameter an option
    paths: Annotated[list[Path], typer.Argument(help="Files and folders.")],
    *,
    level: Level = LevelName.HIGH,
    column: Columns = None,
    allow: Allow = None,
    deny: Deny = None,
    threshold: Threshold = 0.8,
    no_names: NoNames = False,
    locales: Locales = None,
    encoding: EncodingName = None,
    show_masked: Annotated[
        bool,
        typer.Option(
            "--show-masked", help="Show up to three masked examples of each type and column."
        ),
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write the page for your privacy officer.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a data set contains: types by column, shares of records, and what to do about it.

    Nothing is changed and no value is shown. The counts are exact: they are for the holder of the
    data, and outside any privacy guarantee.
    """
    with output.failures_reported(as_json):
        guard = guard_of(
            threshold=threshold, no_names=no_names, locales=locales, allow=allow, deny=deny
        )
        settings = FileSettings(level=level.value, columns=columns_of(column), encoding=encoding)
        found = Scan(guard, settings, show_masked=show_masked)
        _look(found, paths)
        document = found.to_dict()
        if html is not None:
            from privacy_finetuner.context.pages import write_scan  # noqa: PLC0415 -- jinja

            write_scan(document, [str(path) for path in paths], html)
        document["html"] = None if html is None else str(html)
    output.deliver(document, _shown(document), as_json=as_json)
    if any("refused" in file for file in document["files"]):
        raise typer.Exit(output.ExitCode.FAILED)


def _look(found: Scan, paths: list[Path]) -> None:
    console = output.stderr_console()
    progress = Progress(
        TextColumn("looking"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("files, {task.fields[records]:,} records"),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with progress:
        bar = progress.add_task("looking", total=len(files_below(paths)), records=0)

        def show(file: FileScan) -> None:
            progress.update(bar, advance=1, records=found.records)
            if file.refused:
                console.print(
                    f"not looked at: {file.refused}", style="red", soft_wrap=True, markup=False
                )

        found.look(paths, show)


def _shown(document: dict[str, Any]) -> Any:
    share = 100 * document["records_affected"] / max(1, document["records"])
    parts: list[Any] = [
        Text.assemble(
            (f"{document['records_affected']:,} of {document['records']:,} records", "bold"),
            f" ({share:.0f} %) hold something that was found at level {document['level']}",
        ),
        Text(),
    ]
    if document["entities"]:
        parts += [_entities(document), Text(), _columns(document), Text()]
    parts += [Text(f"- {line}") for line in document["advice"]]
    parts.append(Text(document["note"], style="dim"))
    if document["html"]:
        parts.append(Text(f"page: {document['html']}"))
    return Group(*parts)


def _entities(document: dict[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("type")
    for name in ("findings", "distinct", "records", "share", "about wrong"):
        table.add_column(name, justify="right")
    for each in document["entities"]:
        table.add_row(
            each["label"],
            f"{each['findings']:,}",
            f"{each['distinct']:,}",
            f"{each['records']:,}",
            f"{100 * each['share_of_records']:.1f} %",
            f"{each['expected_wrong']:.1f}",
        )
    return table


def _columns(document: dict[str, Any]) -> Table:
    has_examples = any(
        "masked_examples" in each
        for file in document["files"]
        for column in file["columns"]
        for each in column["entities"]
    )
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("file", "column", "type"):
        table.add_column(name, overflow="fold")
    table.add_column("records", justify="right")
    table.add_column("share", justify="right")
    if has_examples:
        table.add_column("masked examples", overflow="fold")
    for file in document["files"]:
        for column in file["columns"]:
            for each in column["entities"]:
                cells = [
                    Text(file["path"]),
                    Text(column["column"]),
                    each["label"],
                    f"{each['records']:,}",
                    f"{100 * each['share_of_records']:.1f} %",
                ]
                if has_examples:
                    cells.append(Text(", ".join(each.get("masked_examples", []))))
                table.add_row(*cells)
    return table
