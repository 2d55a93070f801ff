"""`privacy-finetuner keys list|rotate`: the keys that wrap the keys of sealed files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from privacy_finetuner.cli import output
from privacy_finetuner.cli.options import Json
from privacy_finetuner.cli.sealing import KeyringAt, Memory, keyring_at, opened_sets
from privacy_runtime.keys import ROTATE_AFTER, Keyring
from privacy_runtime.world import SystemClock

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look after the keys that wrap the keys of sealed checkpoints.\n\n"
    "Every checkpoint has a key of its own, which lies beside it, wrapped. A rotation makes a new "
    "wrapping key and wraps those small keys anew: no checkpoint is decrypted.",
    epilog="Begin: privacy-finetuner keys list",
)


@app.command("list", epilog="Example: privacy-finetuner keys list --json")
def list_(keyring: KeyringAt = None, as_json: Json = False) -> None:
    """List wrapping keys, and say whether a rotation is due (after 90 days)."""
    with output.failures_reported(as_json):
        document = _document(keyring_at(keyring))
    output.deliver(document, _table(document), as_json=as_json)


@app.command(epilog="Example: privacy-finetuner keys rotate --store sealed")
def rotate(
    keyring: KeyringAt = None,
    *,
    store: Annotated[
        list[Path] | None,
        typer.Option(help="Wrap the keys of this folder of sealed sets anew; may be repeated."),
    ] = None,
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """Make a new wrapping key, and wrap the keys of sealed checkpoints anew.

    It may be interrupted and repeated: older wrapping keys still open what they wrapped.
    """
    with output.failures_reported(as_json):
        wrapping = keyring_at(keyring)
        made = wrapping.rotate()
        count = 0
        for folder in store or []:
            with opened_sets(folder, keyring, memory) as sets, _Bar(str(folder)) as progress:
                count += sets.rewrap(progress)
        document = _document(wrapping) | {"made": made.id, "rewrapped": count}
    output.deliver(document, _table(document), as_json=as_json)


class _Bar:
    """A bar on stderr that `rewrap` moves."""

    def __init__(self, title: str) -> None:
        console = output.stderr_console()
        self._bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(f"wrapping {title}", total=None)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, done: int, of: int) -> None:
        self._bar.update(self._task, completed=done, total=of)


def _document(keyring: Keyring) -> dict[str, Any]:
    now = SystemClock().now()
    return {
        "keeper": keyring.keeper,
        "rotate_after_days": ROTATE_AFTER.days,
        "keys": [
            {
                "id": key.id,
                "created_at": None
                if key.created_at is None
                else key.created_at.isoformat(timespec="seconds"),
                "is_current": key.is_current,
                "rotation_is_due": key.is_due(now),
            }
            for key in keyring.known()
        ],
    }


def _table(document: dict[str, Any]) -> Table:
    title = f"Wrapping keys ({document['keeper']})"
    if "made" in document:
        title += f": {document['made']} is new, {document['rewrapped']} keys were wrapped anew"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("Key", "Made", "State"):
        table.add_column(name)
    for row in document["keys"]:
        state = "current" if row["is_current"] else "opens older ones"
        if row["rotation_is_due"]:
            state += f"; older than {document['rotate_after_days']} days: keys rotate"
        table.add_row(row["id"], row["created_at"] or "not known", state)
    return table
