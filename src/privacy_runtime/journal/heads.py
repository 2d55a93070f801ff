"""Keeps signed heads of streams: looks back at the start, signs as they grow.

Until a head is signed, whoever owns the database can still rewrite what came after the last one:
that window is `every_s`, or `entries` entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from privacy_core.errors import InvalidParameter
from privacy_runtime import logs
from privacy_runtime.files import WriteFailed
from privacy_runtime.journal.anchor import AnchorFile
from privacy_runtime.journal.entries import Head
from privacy_runtime.journal.errors import ChainBroken, JournalError, JournalWentBack
from privacy_runtime.journal.hybrid_keys import HybridKey
from privacy_runtime.journal.journal import Journal
from privacy_runtime.world import Clock, Entropy

_log = logs.logger(__name__)
KEY_FILE: Final = "audit-key.pem"
HEADS_FILE: Final = "audit-heads.jsonl"
EVERY_S: Final = 3600.0
ENTRIES: Final = 1000


class Heads:
    """Signed heads of some streams of a journal. Used by one thread at a time.

    Args:
        journal: whose.
        streams: which.
        file: with a key that signs.
        clock: says when an hour is over.
        every_s: a stream that grew is signed after so long at most,
        entries: or after so many entries.
    """

    def __init__(
        self,
        journal: Journal,
        streams: Sequence[str],
        file: AnchorFile,
        *,
        clock: Clock,
        every_s: float = EVERY_S,
        entries: int = ENTRIES,
    ) -> None:
        self._journal, self._streams, self.file, self._clock = journal, streams, file, clock
        self._every_s, self._entries = every_s, entries
        self._signed: dict[str, tuple[int, float]] = {}

    def check(self) -> None:
        """Look whether the journal still holds what was signed last.

        Raises:
            JournalWentBack: it lacks it: an older copy was restored.
            ChainBroken: another entry stands there.
            AnchorRefused: the file is not what its key signed.
        """
        now_s = self._clock.monotonic_s()
        for stream in self._streams:
            last = self.file.last(stream)
            self._signed[stream] = (0 if last is None else last.seq, now_s)
            require_anchored(self._journal, stream, self.file)

    def keep(self) -> int:
        """Sign what is due; returns how many heads. Call it now and then."""
        now_s = self._clock.monotonic_s()
        count = 0
        for stream in self._streams:
            head = self._journal.status(stream).head
            seq, at_s = self._signed.get(stream, (0, now_s))
            grown = head.seq - seq
            if grown >= self._entries or (grown > 0 and now_s - at_s >= self._every_s):
                self._sign(stream, head, now_s)
                count += 1
        return count

    def sign(self) -> int:
        """Sign every stream that grew, at once: before the program stops."""
        count = 0
        for stream in self._streams:
            head = self._journal.status(stream).head
            if head.seq > self._signed.get(stream, (0, 0.0))[0]:
                self._sign(stream, head, self._clock.monotonic_s())
                count += 1
        return count

    def close(self) -> None:
        """Sign what grew, before the journal is let go of; a disk that refuses is logged."""
        try:
            self.sign()
        except (JournalError, WriteFailed) as error:
            _log.error("the last heads were not signed", code=error.code)

    def _sign(self, stream: str, head: Head, now_s: float) -> None:
        self.file.record(stream, head)
        self._signed[stream] = (head.seq, now_s)


def opened_heads(
    folder: Path, journal: Journal, streams: Sequence[str], *, clock: Clock, entropy: Entropy
) -> Heads:
    """The heads of a folder, after a look back; the key is made with the first of them.

    Args:
        folder: holds `audit-key.pem` and `audit-heads.jsonl`. Copies of the second belong where
            the owner of the database cannot reach them.
        journal: whose.
        streams: which.
        clock: says when a head is due.
        entropy: makes the key.

    Raises:
        InvalidParameter: heads without the key that signed them: a new one would vouch for
            whatever is there.
        JournalWentBack, ChainBroken, AnchorRefused: as `Heads.check`; nothing was signed.
    """
    key, heads = folder / KEY_FILE, folder / HEADS_FILE
    if not key.exists() and heads.exists():
        raise InvalidParameter(
            "audit_key", found=f"{heads} without its key", expected=f"{key}; no head was signed"
        )
    signer = HybridKey.load(key) if key.exists() else HybridKey.create(key, entropy)
    opened = Heads(journal, streams, AnchorFile(heads, signer), clock=clock)
    opened.check()
    return opened


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
    if anchor is None:
        return
    last = None if every else anchor.last(stream)
    witnesses = anchor.heads(stream) if every else [last] if last is not None else []
    found = journal.status(stream).head.seq if witnesses else 0
    for witness in witnesses:
        if witness.seq == 0:
            continue
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
