"""A ledger as a file that anybody can check: JSON lines, the last one a signed head."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from privacy_runtime.files import write_atomic
from privacy_runtime.journal import AnchorRefused, ChainBroken, HeadKey, Journal, SignedHead
from privacy_runtime.journal.entries import ChainCheck, Head, parse_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What a checked export holds.

    Args:
        entries: how many.
        head: where the chain ends.
        signed: by whom the head was signed; None if nobody did.
    """

    entries: int
    head: Head
    signed: SignedHead | None


def verify_export(path: Path | str, *, public_key: str | None = None) -> Export:
    """Check an exported ledger: every entry, the chain, and the signed head.

    Needs the file and the key only, no database.

    Args:
        path: what `BudgetStore.export` wrote.
        public_key: whose signature must be there, hexadecimal; None: the signature is not checked,
            and then nothing shows a chain that was rewritten as a whole.

    Raises:
        ChainBroken: which entry, expected and found hash.
        AnchorRefused: the signed head is missing, not this chain's, or not signed by the key.
    """
    check, count, stream = ChainCheck(), 0, ""
    signed: SignedHead | None = None
    for number, line in enumerate(_lines(path), start=1):
        if signed is not None:
            raise AnchorRefused(f"{path}, line {number}: after the signed head nothing may follow")
        try:
            if line.startswith('{"signed_head":'):
                signed = SignedHead(**json.loads(line)["signed_head"])
                continue
            entry = parse_line(line)
        except (ValueError, TypeError, KeyError):
            raise ChainBroken(
                stream, seq=number, reason="not an entry", expected=check.last.hash, found="nothing"
            ) from None
        check.add(entry)
        count, stream = count + 1, entry.stream
    for broken in check.finish(signed.head if signed else check.last):
        raise broken.error(stream)
    if public_key is not None:
        if signed is None:
            raise AnchorRefused(f"{path} has no signed head; it vouches for nothing")
        signed.require_signature(public_key)
    return Export(entries=count, head=check.last, signed=signed)


def write_export(journal: Journal, stream: str, path: Path, *, key: HeadKey | None) -> int:
    """Verify a stream and write it as JSON lines, ended by a signed head if there is a `key`.

    Returns the number of the last entry.

    Raises:
        ChainBroken, WriteFailed: no file was made or changed.
    """
    head = journal.verify(stream)
    lines = [entry.line() for entry in journal.read(stream) if entry.seq <= head.seq]
    if key is not None:
        signed = {"signed_head": asdict(key.sign(stream, head))}
        lines.append(json.dumps(signed, sort_keys=True, separators=(",", ":")))
    write_atomic(path, "".join(f"{line}\n" for line in lines).encode("ascii"))
    return head.seq


def _lines(path: Path | str) -> Iterable[str]:
    with Path(path).open(encoding="ascii") as lines:
        for line in lines:
            yield line.removesuffix("\n")
