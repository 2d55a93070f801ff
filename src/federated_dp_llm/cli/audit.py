"""`audit`: whether a trail is the one that was written, by its chain and by signed heads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from federated_dp_llm.cli import output
from federated_dp_llm.cli.output import Json
from privacy_core.errors import InvalidParameter
from privacy_runtime.world import SystemClock

if TYPE_CHECKING:
    from privacy_runtime.journal import Journal

app = typer.Typer(no_args_is_help=True, help="Audit trails of the router and of nodes.")


@app.command(epilog="Example: federated-dp-llm audit verify ./north --heads /mnt/elsewhere/heads")
def verify(
    home: Annotated[Path, typer.Argument(help="Home of a router, or of a node.")],
    *,
    config: Annotated[
        Path | None, typer.Option(help="The router's configuration, if its journal is PostgreSQL.")
    ] = None,
    heads: Annotated[
        Path | None, typer.Option(help="Signed heads. Default: audit-heads.jsonl in the home.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            help="Whose heads count: a .pub file. Default: audit-key.pem.pub in the home."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Recompute every hash of a trail, and check both signatures of every head.

    A head counts with an Ed25519 and an ML-DSA-65 signature. Whoever may write to the home may put
    other heads and another key there: name copies that were kept elsewhere.
    """
    with output.failures_reported(as_json):
        from privacy_runtime.journal import (  # noqa: PLC0415
            AnchorFile,
            HybridPublic,
            require_anchored,
        )
        from privacy_runtime.journal.heads import HEADS_FILE, KEY_FILE  # noqa: PLC0415
        from privacy_runtime.journal.hybrid_keys import public_file  # noqa: PLC0415

        file = heads or home / HEADS_FILE
        if not file.exists():
            raise InvalidParameter("heads", found=f"no {file}", expected="signed heads")
        public = HybridPublic.read(key or public_file(home / KEY_FILE))
        anchor = AnchorFile(file, public)
        with _journal(home, config) as journal:
            found = []
            for stream in _streams(journal, anchor):
                head = journal.verify(stream)
                require_anchored(journal, stream, anchor, every=True)
                signed = anchor.heads(stream)
                last = signed[-1].seq if signed else 0
                found.append(
                    {
                        "stream": stream,
                        "entries": head.seq,
                        "head": head.hash,
                        "signed_heads": len(signed),
                        "signed_until": last,
                    }
                )
        document = {"intact": True, "key_id": public.key_id, "streams": found}
    output.deliver(document, output.table(_rows(document)), as_json=as_json)


def _rows(document: dict[str, Any]) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = [("intact, by key", document["key_id"])]
    for one in document["streams"]:
        said = (
            f"{one['entries']} entries; signed with Ed25519 and ML-DSA-65 until "
            f"{one['signed_until']}, {one['signed_heads']} times"
        )
        rows.append((one["stream"], said))
    return rows


def _streams(journal: Journal, anchor: Any) -> list[str]:
    """Every stream that was signed, and every one that a router has."""
    from federated_dp_llm.api.service import STREAMS  # noqa: PLC0415

    known = {stream for stream in STREAMS if journal.status(stream).head.seq}
    return sorted(known | set(anchor.streams()))


@contextmanager
def _journal(home: Path, config: Path | None) -> Iterator[Journal]:
    from federated_dp_llm.config import RouterConfig  # noqa: PLC0415
    from federated_dp_llm.node.home import AUDIT  # noqa: PLC0415
    from privacy_runtime.budget_store.homes import home_at  # noqa: PLC0415
    from privacy_runtime.journal import Journal  # noqa: PLC0415

    database = None if config is None else RouterConfig.read(config).store.database
    if database is not None:
        place = database.reveal().replace("postgresql+psycopg://", "postgresql://", 1)
    else:
        files = [path for path in (home / "journal.db", home / AUDIT) if path.exists()]
        if not files:
            raise InvalidParameter(
                "home", found=f"no journal in {home}", expected="a router's or a node's home"
            )
        place = str(files[0])
    journal = Journal(home_at(place), clock=SystemClock())
    try:
        yield journal
    finally:
        journal.close()
