"""The contract of a journal and of its homes, on one page.

A *stream* is a chain of entries with documents beside it: a projection that its owner rebuilds
from the entries at any time (balances, open reservations). Both change in one transaction:

1. take the stream's lock; read its head, the entries under some keys and some documents (`View`);
2. a pure function says what follows (`Change`), or raises, and then nothing happened;
3. append, save, move the head, and be on the disk before the caller hears of it.

The function may run again when the database asks for a repetition or a connection was lost while
committing; it then finds its own entries under their keys. That is why every entry has a key.

One lock per stream, not one per document: the chain puts all entries of a stream in one order
anyway, and one lock cannot deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from privacy_runtime.journal.entries import Document, Draft, Entry, Head


@dataclass(frozen=True, slots=True)
class View:
    """What a decision may know: read under the stream's lock. Absent ones are not in the maps.

    `at` is the instant that new entries will carry: the clock's, but never before the last entry.
    """

    head: Head
    at: str
    entries: Mapping[str, Entry]
    documents: Mapping[str, Document]


@dataclass(frozen=True, slots=True)
class Change:
    """What a decision wants: entries to append, documents to save (`None` removes one)."""

    entries: Sequence[Draft] = ()
    documents: Mapping[str, Document | None] = field(default_factory=dict)


Decision: TypeAlias = Callable[[View], Change]


@dataclass(frozen=True, slots=True)
class StreamRow:
    """What a home keeps about a stream beside its entries.

    Args:
        head: the recorded end.
        halt: why the stream is read-only; empty while it is not.
        projection: which form of the documents is stored; empty when none is.
    """

    head: Head = field(default_factory=Head)
    halt: str = ""
    projection: str = ""


@dataclass(frozen=True, slots=True)
class Rows:
    """What `Home.begin` read. `last_hash` is that of the last entry that is really there."""

    stream: StreamRow
    last_hash: str | None
    entries: Mapping[str, Entry]
    documents: Mapping[str, str]


class Home(Protocol):
    """Where a journal lives. One connection, used by one thread at a time.

    Raises of every method:
        Transient: repeating the transaction may help; nothing was written.
        ConnectionLost: the connection is gone; `maybe_written` says whether it died in `commit`.
        StoreUnavailable: repeating does not help.

    `name` says where it is, without secrets.
    """

    name: str

    def begin(self, stream: str, keys: Sequence[str], names: Sequence[str]) -> Rows:
        """Start a transaction, take the lock of `stream` (made if missing), and read."""
        ...

    def commit(
        self,
        stream: str,
        row: StreamRow,
        entries: Sequence[Entry],
        documents: Mapping[str, str | None],
        *,
        clear: bool = False,
    ) -> None:
        """Write and make durable; `clear` removes all other documents of the stream first."""
        ...

    def rollback(self) -> None:
        """End the transaction with nothing written. Never raises."""
        ...

    def entries(self, stream: str, *, after: int, limit: int) -> Sequence[Entry]:
        """Return the entries with `seq > after`, in order. Outside a transaction."""
        ...

    def documents(
        self, stream: str, *, prefix: str, after: str, limit: int
    ) -> Sequence[tuple[str, str]]:
        """Return documents whose name starts with `prefix` and is above `after`, by name."""
        ...

    def row(self, stream: str) -> StreamRow:
        """Return what is recorded about the stream, without its lock."""
        ...

    def disconnect(self) -> None:
        """Let go of the connection; the next call makes a new one. Never raises."""
        ...


class Transient(Exception):
    """The database asks for a repetition (busy, deadlock, serialisation). Nothing was written."""


class ConnectionLost(Exception):
    """The connection is gone. `maybe_written` is true when it died while committing."""

    def __init__(self, reason: str, *, maybe_written: bool) -> None:
        super().__init__(reason)
        self.maybe_written = maybe_written
