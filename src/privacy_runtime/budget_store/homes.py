"""Where a ledger lives, and whether it is still the one that its anchor saw."""

from __future__ import annotations

import os
from pathlib import Path

from privacy_core.errors import InvalidParameter
from privacy_runtime.journal import AnchorFile, ChainBroken, Home, Journal, JournalWentBack
from privacy_runtime.journal.sqlite import SqliteHome


def home_at(where: str | Path) -> Home:
    """Return the home that a path or a URL names.

    Raises:
        InvalidParameter: it is neither, or needs an extra that is not installed.
    """
    text = os.fspath(where)
    scheme, colon, rest = text.partition("://")
    if not colon:
        return SqliteHome(text)
    if scheme == "sqlite":
        return SqliteHome(rest.removeprefix("/"))
    if scheme.partition("+")[0] in ("postgresql", "postgres"):
        try:
            from privacy_runtime.journal.postgres import PostgresHome  # noqa: PLC0415  an extra
        except ImportError as error:
            raise InvalidParameter(
                "where", found=scheme, expected="privacy-finetuner[postgres] installed"
            ) from error
        return PostgresHome(text)
    raise InvalidParameter("where", found=scheme, expected="a path, sqlite:// or postgresql://")


def require_anchored(
    journal: Journal, stream: str, anchor: AnchorFile | None, *, every: bool = False
) -> None:
    """Refuse a journal that lacks an anchored head, or holds another entry in its place.

    Args:
        journal: to look at.
        stream: which stream.
        anchor: None: nothing is known elsewhere, so nothing is refused.
        every: check all anchored heads instead of the last.

    Raises:
        JournalWentBack: the anchor saw entries that the journal lacks: an older copy was restored.
        ChainBroken: an entry is not the one that the anchor saw: the chain was rewritten.
        AnchorRefused: the anchor itself is not what its key signed.
    """
    witnesses = [signed for signed in anchor.heads(stream) if signed.seq] if anchor else []
    if anchor is None or not witnesses:
        return
    found = journal.status(stream).head.seq
    for witness in witnesses if every else witnesses[-1:]:
        if found < witness.seq:
            raise JournalWentBack(
                stream, seen=witness.seq, found=found, witness=f"anchor {anchor.path}"
            )
        entry = next(iter(journal.read(stream, after=witness.seq - 1)), None)
        content = (
            entry.content_hash if entry is not None and entry.seq == witness.seq else "nothing"
        )
        if content != witness.hash:
            raise ChainBroken(
                stream,
                seq=witness.seq,
                reason=f"not the entry that anchor {anchor.path} saw",
                expected=witness.hash,
                found=content,
            )
