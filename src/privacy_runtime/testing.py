"""Stand-ins for the outside world, for tests only. Nothing in `src` imports this module.

They implement the protocols of `privacy_runtime.world`, so a test passes one where the program
passes the system's own. What they give is predictable: a run keyed by `SeededEntropy` protects
nobody.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from privacy_core.errors import InvalidParameter
from privacy_runtime.blobs import BlobStore
from privacy_runtime.files import WriteFailed
from privacy_runtime.journal import Entry, Home, Journal, KeyTaken, StreamRow
from privacy_runtime.journal.contract import Rows, Transient
from privacy_runtime.world import Clock, Entropy

DEFAULT_START: Final = datetime(2026, 1, 1, tzinfo=UTC)


class ManualClock:
    """A clock that stands still until it is told to move.

    Args:
        start: the first instant; must carry a time zone.

    Raises:
        InvalidParameter: `start` has no time zone.
    """

    def __init__(self, start: datetime = DEFAULT_START) -> None:
        if start.tzinfo is None:
            raise InvalidParameter("start", found=start, expected="an instant with a time zone")
        self._now = start
        self._monotonic_s = 0.0

    def now(self) -> datetime:
        """Return the instant the clock stands at."""
        return self._now

    def monotonic_s(self) -> float:
        """Return the seconds that have passed so far."""
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Move both readings forward.

        Raises:
            InvalidParameter: `seconds` is negative or not finite; the clock did not move.
        """
        if not 0 <= seconds < float("inf"):
            raise InvalidParameter("seconds", found=seconds, expected="a finite number >= 0")
        self._now += timedelta(seconds=seconds)
        self._monotonic_s += seconds

    def set_time_of_day(self, instant: datetime) -> None:
        """Let the time of day jump, also backwards, as real clocks do; `monotonic_s` is unmoved."""
        if instant.tzinfo is None:
            raise InvalidParameter("instant", found=instant, expected="an instant with a time zone")
        self._now = instant


class SeededEntropy:
    """The same bytes in the same order for the same seed. Predictable: for tests only.

    The i-th call returns SHAKE-256 of (seed, i). After a fork both processes continue the same
    sequence; only the system's entropy tells them apart.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._calls = 0

    def token_bytes(self, size_bytes: int) -> bytes:
        """Return the next `size_bytes` bytes of the sequence."""
        label = f"{self._seed}/{self._calls}".encode()
        self._calls += 1
        return hashlib.shake_256(label).digest(size_bytes)


@dataclass(eq=False)
class MemoryRows:
    """What a journal in memory holds; several `MemoryHome`s may share it, as processes would."""

    streams: dict[str, StreamRow] = field(default_factory=dict)
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    documents: dict[str, dict[str, str]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class MemoryHome:
    """A journal's home that forgets with the process: the contract without a disk."""

    name = "memory"

    def __init__(self, rows: MemoryRows | None = None) -> None:
        self.rows = rows or MemoryRows()
        self._in_transaction = False

    def begin(self, stream: str, keys: Sequence[str], names: Sequence[str]) -> Rows:
        """Take the lock, and read."""
        if not self.rows.lock.acquire(timeout=5):
            raise Transient("another transaction is under way")
        self._in_transaction = True
        entries = self.rows.entries.get(stream, [])
        documents = self.rows.documents.get(stream, {})
        return Rows(
            self.rows.streams.setdefault(stream, StreamRow()),
            entries[-1].hash if entries else None,
            {entry.key: entry for entry in entries if entry.key in keys} if keys else {},
            {name: documents[name] for name in names if name in documents},
        )

    def commit(
        self,
        stream: str,
        row: StreamRow,
        entries: Sequence[Entry],
        documents: Mapping[str, str | None],
        *,
        clear: bool = False,
    ) -> None:
        """Write everything at once."""
        stored = self.rows.entries.setdefault(stream, [])
        if taken := {entry.key for entry in stored} & {entry.key for entry in entries}:
            raise KeyTaken(stream, key=", ".join(sorted(taken)))
        kept = {} if clear else dict(self.rows.documents.get(stream, {}))
        for name, text in documents.items():
            if text is None:
                kept.pop(name, None)
            else:
                kept[name] = text
        stored.extend(entries)
        self.rows.documents[stream] = kept
        self.rows.streams[stream] = row
        self.rollback()

    def rollback(self) -> None:
        """Release the lock."""
        if self._in_transaction:
            self._in_transaction = False
            self.rows.lock.release()

    def entries(self, stream: str, *, after: int, limit: int) -> Sequence[Entry]:
        """Return one page of entries."""
        found = [entry for entry in self.rows.entries.get(stream, []) if entry.seq > after]
        return found[:limit]

    def documents(
        self, stream: str, *, prefix: str, after: str, limit: int
    ) -> Sequence[tuple[str, str]]:
        """Return one page of documents."""
        stored = self.rows.documents.get(stream, {})
        names = sorted(name for name in stored if name.startswith(prefix) and name > after)
        return [(name, stored[name]) for name in names[:limit]]

    def row(self, stream: str) -> StreamRow:
        """Return what is recorded about the stream."""
        return self.rows.streams.get(stream, StreamRow())

    def disconnect(self) -> None:
        """End what is under way."""
        self.rollback()


class MemoryJournal(Journal):
    """A journal that forgets with the process."""

    def __init__(self, clock: Clock, rows: MemoryRows | None = None) -> None:
        super().__init__(MemoryHome(rows), clock=clock)


class Crash(BaseException):
    """The process died here. Not an `Exception`: nothing in the program may catch it."""


class CrashPoint(StrEnum):
    """Where in a transaction a process dies."""

    NEVER = "never"
    BEFORE = "before it began"
    UNDECIDED = "after the decision, before the commit"
    UNANSWERED = "after the commit, before the answer"


class CrashingJournal(Journal):
    """A journal whose process dies at chosen points; what was committed stays in its home.

    Args:
        home: the home that survives; after a `Crash`, open another journal on it.
        clock: stamps the entries.
        crashes: one point for each transaction, in order; none after the last.
    """

    def __init__(self, home: Home, clock: Clock, crashes: Iterable[CrashPoint]) -> None:
        super().__init__(_CrashingHome(home, crashes), clock=clock)


class _CrashingHome:
    def __init__(self, home: Home, crashes: Iterable[CrashPoint]) -> None:
        self.name = home.name
        self._home = home
        self._crashes = iter(crashes)
        self._next = CrashPoint.NEVER
        self.rollback, self.disconnect = home.rollback, home.disconnect
        self.entries, self.documents, self.row = home.entries, home.documents, home.row

    def begin(self, stream: str, keys: Sequence[str], names: Sequence[str]) -> Rows:
        self._next = next(self._crashes, CrashPoint.NEVER)
        if self._next is CrashPoint.BEFORE:
            raise Crash(self._next)
        return self._home.begin(stream, keys, names)

    def commit(
        self,
        stream: str,
        row: StreamRow,
        entries: Sequence[Entry],
        documents: Mapping[str, str | None],
        *,
        clear: bool = False,
    ) -> None:
        if self._next is CrashPoint.UNDECIDED:
            raise Crash(self._next)
        self._home.commit(stream, row, entries, documents, clear=clear)
        if self._next is CrashPoint.UNANSWERED:
            raise Crash(self._next)


class StoreFault(StrEnum):
    """What goes wrong with one call of a blob store."""

    NONE = "nothing"
    IO_ERROR = "EIO: refused"
    NO_SPACE = "ENOSPC: refused"
    SLOW = "done after a pause"
    LOST_ANSWER = "written, and refused all the same"
    SHORT_WRITE = "half of it is written, and nothing said"
    TORN_READ = "read up to the middle, then EIO"
    FLIPPED_BIT = "read with one bit changed"


class FaultyStore:
    """A blob store whose calls fail by a schedule: for tests of whatever keeps blobs.

    Most are refusals (EIO, ENOSPC, a lost answer) that every store may give: nothing that was
    acknowledged may be lost by them. `SHORT_WRITE` and `FLIPPED_BIT` break the promise of a store,
    as disks do: who reads must find out before anything of it is used.

    Args:
        store: where the blobs really lie.
        faults: one for each call of `put` and `get`, in order; none after the last.
        pause: called with `latency_s` where the fault is `SLOW`.
        latency_s: in seconds.

    Attributes:
        struck: the faults so far, each with the call and the blob's name.
    """

    def __init__(
        self,
        store: BlobStore,
        faults: Iterable[StoreFault],
        *,
        pause: Callable[[float], object] | None = None,
        latency_s: float = 1.0,
    ) -> None:
        self._store, self._faults = store, iter(faults)
        self._pause, self._latency_s = pause, latency_s
        self.struck: list[tuple[StoreFault, str, str]] = []
        self.names, self.remove = store.names, store.remove

    @property
    def place(self) -> str:
        """That of the store below."""
        return self._store.place

    def put(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write, or do what the schedule says."""
        fault = self._next("put", name)
        if fault is StoreFault.SHORT_WRITE:
            whole = b"".join(chunks)
            chunks = [whole[: len(whole) // 2]]
        self._store.put(name, chunks)
        if fault is StoreFault.LOST_ANSWER:
            raise _refusal(name, errno.EIO, "whether it was written is not known")

    def get(self, name: str) -> Iterator[bytes]:
        """Read, or do what the schedule says."""
        fault = self._next("get", name)
        if fault not in (StoreFault.TORN_READ, StoreFault.FLIPPED_BIT):
            yield from self._store.get(name)
            return
        whole = b"".join(self._store.get(name))
        middle = len(whole) // 2
        yield whole[:middle]
        if fault is StoreFault.TORN_READ:
            raise _refusal(name, errno.EIO, "it was not read")
        if whole:
            yield bytes([whole[middle] ^ 1]) + whole[middle + 1 :]

    def _next(self, call: str, name: str) -> StoreFault:
        fault = next(self._faults, StoreFault.NONE)
        self.struck.append((fault, call, name))
        if fault is StoreFault.IO_ERROR:
            raise _refusal(name, errno.EIO, "nothing was done")
        if fault is StoreFault.NO_SPACE and call == "put":
            raise _refusal(name, errno.ENOSPC, "nothing was written")
        if fault is StoreFault.SLOW and self._pause is not None:
            self._pause(self._latency_s)
        return fault


def drawn_faults(entropy: Entropy, share: float) -> Iterator[StoreFault]:
    """Draw faults without end: each call is struck with probability `share`, by any alike.

    Args:
        entropy: seeded, for a schedule that can be run again.
        share: from 0 to 1.
    """
    kinds = [fault for fault in StoreFault if fault is not StoreFault.NONE]
    while True:
        drawn = int.from_bytes(entropy.token_bytes(8))
        strikes = (drawn >> 32) < share * 2**32
        yield kinds[drawn % 2**32 % len(kinds)] if strikes else StoreFault.NONE


def _refusal(name: str, number: int, state: str) -> WriteFailed:
    return WriteFailed(Path(name), reason=os.strerror(number), state=state)
