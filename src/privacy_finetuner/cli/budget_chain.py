"""`budget verify|export|anchor|repair|reset-clock`: is the ledger still what was written?"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from privacy_core.errors import InvalidParameter
from privacy_finetuner.cli import output
from privacy_finetuner.cli.ledgers import LEDGER_VARIABLE, By, Ledger, Reason, opened
from privacy_finetuner.cli.options import Json
from privacy_runtime.budget_store import AnchorFile, HeadKey, Signature, verify_export
from privacy_runtime.world import SystemEntropy

app = typer.Typer()

KeyFile: TypeAlias = Annotated[
    Path | None, typer.Option("--signing-key", help="Ed25519 key file that signs ledger heads.")
]
Anchor: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="File with heads seen earlier, kept elsewhere. Needs --signing-key."),
]


@app.command(epilog="Example: privacy-finetuner budget verify --ledger ledger.db")
def verify(
    *,
    ledger: Annotated[
        str | None, typer.Option(envvar=LEDGER_VARIABLE, help="A file or postgresql://....")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Check an exported ledger instead; needs no database.")
    ] = None,
    public_key: Annotated[
        str | None, typer.Option(help="With --export: whose signature must be under it.")
    ] = None,
    signing_key: KeyFile = None,
    anchor: Anchor = None,
    as_json: Json = False,
) -> None:
    """Check every entry, the chain, the accounts, and heads seen earlier. Exit code 1 if broken.

    A broken entry is named with the hash that was expected and the one found; the ledger is then
    read-only until `budget repair`.
    """
    with output.failures_reported(as_json):
        if export is not None:
            checked = verify_export(export, public_key=public_key)
            head, signed = checked.head, checked.signed is not None
        elif ledger is not None:
            with opened(ledger, anchor=_anchor(anchor, signing_key)) as store:
                head, signed = store.verify(), False
        else:
            raise InvalidParameter("verify", found="neither", expected="--ledger or --export")
        document = {**asdict(head), "signed": signed, "intact": True}
    text = f"intact: {head.seq} entries, head {head.hash}"
    output.deliver(document, text, as_json=as_json)


@app.command(epilog="Example: privacy-finetuner budget export ledger.jsonl --ledger ledger.db")
def export(
    path: Annotated[Path, typer.Argument(help="The file to write, JSON lines.")],
    *,
    ledger: Ledger,
    signing_key: KeyFile = None,
    as_json: Json = False,
) -> None:
    """Write the whole ledger as a file that anybody can check. It holds no private data."""
    with output.failures_reported(as_json), opened(ledger) as store:
        signer = None if signing_key is None else HeadKey.load(signing_key)
        count = store.export(path, key=signer)
        document = {
            "path": str(path),
            "entries": count,
            "public_key": None if signer is None else signer.public_key,
        }
    output.deliver(document, output.facts("Exported", list(document.items())), as_json=as_json)


@app.command(
    epilog="Example: privacy-finetuner budget anchor /mnt/elsewhere/heads --signing-key key.pem "
    "--ledger ledger.db"
)
def anchor(
    path: Annotated[Path, typer.Argument(help="File that heads are added to; keep it elsewhere.")],
    *,
    signing_key: Annotated[Path, typer.Option(help="Ed25519 key file; made where none is.")],
    ledger: Ledger,
    as_json: Json = False,
) -> None:
    """Record where the ledger ends, so that an older copy of it is recognised later."""
    with output.failures_reported(as_json):
        if not signing_key.exists():
            HeadKey.create(signing_key, SystemEntropy())
        file = AnchorFile(path, HeadKey.load(signing_key))
        with opened(ledger, anchor=file) as store:
            signed = store.anchor_now()
        document = asdict(signed)
    output.deliver(document, output.facts("Anchored", list(document.items())), as_json=as_json)


@app.command(
    epilog="Example: privacy-finetuner budget repair --by 'A. Officer' --reason 'disk fault 12' "
    "--ledger ledger.db"
)
def repair(*, by: By, reason: Reason, ledger: Ledger, as_json: Json = False) -> None:
    """Let a damaged ledger be written again. Damage may cost budget; it never returns any."""
    with output.failures_reported(as_json), opened(ledger) as store:
        store.repair(by=by, reason=reason)
        head = store.verify()
    output.deliver(
        {**asdict(head), "repaired_by": by}, f"repaired; head {head.hash}", as_json=as_json
    )


@app.command(
    "reset-clock",
    epilog="Example: privacy-finetuner budget reset-clock --by 'A. Officer' --reason 'a clock ran "
    "ahead' --ledger ledger.db",
)
def reset_clock(*, by: By, reason: Reason, ledger: Ledger, as_json: Json = False) -> None:
    """Accept the present time, after a clock that had run ahead was put right. Refills nothing.

    Until then a ledger whose newest entry lies in the future reserves nothing.
    """
    with output.failures_reported(as_json), opened(ledger) as store:
        key = f"clock:{SystemEntropy().token_bytes(8).hex()}"
        entry = store.reset_clock(key, signature=Signature(person=by, reason=reason))
    at = datetime.fromtimestamp(entry.at_us / 1e6, UTC).isoformat(timespec="seconds")
    document = {"key": key, "at": at, "by": by}
    output.deliver(document, f"the ledger's time is {at} from now on", as_json=as_json)


def _anchor(path: Path | None, signing_key: Path | None) -> AnchorFile | None:
    if path is None:
        return None
    if signing_key is None:
        raise InvalidParameter("anchor", found="no --signing-key", expected="the key that signed")
    return AnchorFile(path, HeadKey.load(signing_key))
