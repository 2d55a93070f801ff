"""`privacy-finetuner checkpoint seal|list|verify|restore`: states of a run, sealed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table

from privacy_core.errors import InvalidParameter, PrivacyError
from privacy_finetuner.cli import output
from privacy_finetuner.cli.options import Json
from privacy_finetuner.cli.sealing import KeyringAt, Memory, Store, opened_sets
from privacy_runtime.blobs import FolderStore, Manifest, RolledBack, SealedSets
from privacy_runtime.budget_store import BudgetStore
from privacy_runtime.world import SystemClock

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Seal checkpoints: encrypted, signed, and remembered.\n\n"
    "What was changed, cut, mixed or wound back is refused, before anything of it can be loaded. "
    "The journal that remembers the newest state must not lie where the states do.",
    epilog="Begin: privacy-finetuner checkpoint seal ./private/checkpoint-40 --store sealed",
)
_STORE = Path("sealed")
Series: TypeAlias = Annotated[str | None, typer.Argument(help="One series; default: all of them.")]


@app.command(
    epilog="Example: privacy-finetuner checkpoint seal ./private/checkpoint-40 --store sealed "
    "--series private --label step=40"
)
def seal(  # noqa: PLR0913  # every argument is an option of the command
    folder: Annotated[Path, typer.Argument(help="A checkpoint, or any folder without links.")],
    *,
    store: Store = _STORE,
    series: Annotated[
        str | None, typer.Option(help="What it is a state of. Default: the folder above it.")
    ] = None,
    ledger: Annotated[
        str | None, typer.Option(help="A ledger: where it stands is signed with the set.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE to find it by, public; may be repeated.")
    ] = None,
    replica: Annotated[
        list[Path] | None, typer.Option(help="A further folder that gets a copy; may be repeated.")
    ] = None,
    least: Annotated[
        int | None, typer.Option(help="How many replicas must hold it. Default: all of them.")
    ] = None,
    keyring: KeyringAt = None,
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """Seal a folder as the next set of a series. The folder itself stays as it is."""
    with output.failures_reported(as_json):
        places = [FolderStore(path) for path in replica or []]
        labels = dict(map(_label, label or []))
        with opened_sets(store, keyring, memory) as sets, _working(f"sealing {folder}"):
            manifest = sets.seal(
                series or folder.resolve().parent.name, folder, ledger=_head(ledger), labels=labels
            )
            if places:
                sets.replicate(
                    manifest, list(places), least=len(places) if least is None else least
                )
        document = _row(manifest) | {"store": str(store), "replicas": [p.place for p in places]}
    output.deliver(document, _table([document], "Sealed"), as_json=as_json)


@app.command("list", epilog="Example: privacy-finetuner checkpoint list --store sealed")
def list_(
    series: Series = None,
    *,
    store: Store = _STORE,
    keyring: KeyringAt = None,
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """List sealed sets. Signatures are checked; files are not (`verify` does that)."""
    with output.failures_reported(as_json), opened_sets(store, keyring, memory) as sets:
        rows = [
            _row(manifest)
            for name in ([series] if series else sets.series())
            for manifest in sets.manifests(name)
        ]
    output.deliver({"sets": rows}, _table(rows, f"Sealed sets in {store}"), as_json=as_json)


@app.command(epilog="Example: privacy-finetuner checkpoint verify --store sealed")
def verify(
    series: Series = None,
    *,
    store: Store = _STORE,
    keyring: KeyringAt = None,
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """Read every sealed file back, and compare the newest sets with what the journal remembers.

    Exit code 0 only if all of it is what was sealed.
    """
    with output.failures_reported(as_json), opened_sets(store, keyring, memory) as sets:
        rows = [
            row for name in ([series] if series else sets.series()) for row in _looks(sets, name)
        ]
        broken = [row for row in rows if row["problem"]]
    document = {"sets": rows, "genuine": not broken}
    title = (
        "All of it is what was sealed" if not broken else f"{len(broken)} are not what was sealed"
    )
    output.deliver(document, _table(rows, title), as_json=as_json)
    if broken:
        raise typer.Exit(int(output.ExitCode.VIOLATION))


@app.command(
    epilog="Example: privacy-finetuner checkpoint restore private --output ./back --store sealed"
)
def restore(
    series: Annotated[str, typer.Argument(help="Of which series.")],
    *,
    output_dir: Annotated[
        Path, typer.Option("--output", help="The folder to make; it must not exist.")
    ],
    number: Annotated[
        int | None,
        typer.Option(help="Which set. Default: the newest, which must be the one remembered."),
    ] = None,
    store: Store = _STORE,
    keyring: KeyringAt = None,
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """Put a sealed set back into a folder, which appears once all of it was verified.

    An older set than the newest is restored only by its number. The ledger never goes back with it:
    steps after that state stay spent.
    """
    with output.failures_reported(as_json), opened_sets(store, keyring, memory) as sets:
        manifest = sets.newest(series) if number is None else _numbered(sets, series, number)
        with _working(f"restoring {manifest.name}"):
            sets.restore(manifest, output_dir)
        document = _row(manifest) | {"restored_to": str(output_dir)}
    output.deliver(document, _table([document], f"Restored to {output_dir}"), as_json=as_json)


def _looks(sets: SealedSets, series: str) -> list[dict[str, Any]]:
    """Each set of a series with what is wrong with it, and the newest if it is gone."""
    rows: list[dict[str, Any]] = []
    try:
        manifests = sets.manifests(series)
    except PrivacyError as error:
        return [{"name": series, "problem": str(error)}]
    for manifest in manifests:
        with _working(f"reading {manifest.name}"):
            rows.append(_row(manifest) | {"problem": _problem(sets, manifest)})
    try:
        sets.newest(series)
    except PrivacyError as error:
        rows.append({"name": series, "problem": str(error)})
    return rows


def _problem(sets: SealedSets, manifest: Manifest) -> str:
    try:
        sets.verify(manifest)
    except PrivacyError as error:
        return str(error)
    return ""


def _numbered(sets: SealedSets, series: str, number: int) -> Manifest:
    for manifest in sets.manifests(series):
        if manifest.number == number:
            return manifest
    raise RolledBack(series, f"there is no set {number}")


def _head(ledger: str | None) -> dict[str, str | int] | None:
    if ledger is None:
        return None
    with BudgetStore.open(ledger, clock=SystemClock()) as store:
        head = store.head()
    return {"stream": "ledger", "seq": head.seq, "hash": head.hash}


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise InvalidParameter("label", found=text, expected="NAME=VALUE")
    return name, value


def _row(manifest: Manifest) -> dict[str, Any]:
    return {
        "name": manifest.name,
        "series": manifest.series,
        "number": manifest.number,
        "sealed_at": manifest.sealed_at,
        "files": len(manifest.files),
        "bytes": sum(file.plain_bytes for file in manifest.files),
        "digest": manifest.digest,
        "labels": dict(manifest.labels),
        "ledger": dict(manifest.ledger),
    }


def _table(rows: list[dict[str, Any]], title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("Set", "Sealed", "Files", "Bytes", "Labels", "Problem"):
        if name != "Problem" or any(row.get("problem") for row in rows):
            table.add_column(name, justify="right" if name in ("Files", "Bytes") else "left")
    for row in rows:
        labels = " ".join(f"{name}={value}" for name, value in row.get("labels", {}).items())
        cells = [row["name"], row.get("sealed_at", "-"), str(row.get("files", "-"))]
        cells += [f"{row['bytes']:,}" if "bytes" in row else "-", labels, row.get("problem", "")]
        table.add_row(*cells[: len(table.columns)])
    return table


def _working(what: str) -> Progress:
    """A spinner on stderr while something long runs."""
    console = output.stderr_console()
    bar = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), console=console, transient=True,
        disable=not console.is_terminal,
    )  # fmt: skip
    bar.add_task(what, total=None)
    return bar
