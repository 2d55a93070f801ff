"""What can go wrong with a journal, as a tree.

JournalError
+-- StoreUnavailable     the database is gone, full, locked or refuses; says what is known
+-- ForeignSchema        the database was written by another version; it was not touched
+-- ChainBroken          an entry is not what was recorded: which one, expected and found hash
+-- JournalHalted        read-only after damage, until an authorised person repairs it
+-- JournalWentBack      the journal ends before a head that was seen: an old copy was restored
+-- KeyTaken             an entry with this idempotency key exists; nothing was appended
+-- AnchorRefused        the anchor file or a signed head is not what was written
"""

from __future__ import annotations

from typing import ClassVar, Final

from privacy_core.errors import PrivacyError

NOTHING_WRITTEN: Final = "nothing was written"
NOT_KNOWN: Final = "whether it was written is not known; repeat it with the same key"


class JournalError(PrivacyError):
    """A journal could not be written or read as promised."""

    code: ClassVar[str] = "journal_error"


class StoreUnavailable(JournalError):
    """The database could not do it. `state` says what is known about the request."""

    code: ClassVar[str] = "store_unavailable"

    def __init__(self, home: str, *, reason: str, state: str = NOTHING_WRITTEN) -> None:
        super().__init__(home, reason, state)
        self.home = home
        self.reason = reason
        self.state = state

    def __str__(self) -> str:
        return f"{self.home}: {self.reason}; {self.state}"


class ForeignSchema(JournalError):
    """The database was written by a version that this one does not know. Nothing was changed."""

    code: ClassVar[str] = "foreign_schema"

    def __init__(self, home: str, *, found: str, expected: str) -> None:
        super().__init__(home, found, expected)
        self.home = home
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        return (
            f"{self.home} holds {self.found}, this version reads {self.expected}; "
            "nothing was changed"
        )


class ChainBroken(JournalError):
    """An entry is not what was recorded. The journal is read-only until it is repaired.

    `expected` is the hash that the rest of the chain vouches for, `found` the one that is there.
    """

    code: ClassVar[str] = "chain_broken"

    def __init__(self, stream: str, *, seq: int, reason: str, expected: str, found: str) -> None:
        super().__init__(stream, seq, reason, expected, found)
        self.stream = stream
        self.seq = seq
        self.reason = reason
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return (
            f"stream {self.stream!r}, entry {self.seq}: {self.reason}; expected hash "
            f"{self.expected}, found {self.found}; the journal is read-only until it is repaired"
        )


class JournalHalted(JournalError):
    """The journal was found damaged and takes no entries. Nothing was written."""

    code: ClassVar[str] = "journal_halted"

    def __init__(self, stream: str, *, reason: str) -> None:
        super().__init__(stream, reason)
        self.stream = stream
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"stream {self.stream!r} is read-only ({self.reason}) until an authorised person "
            "repairs it; nothing was written"
        )


class JournalWentBack(JournalError):
    """The journal ends before a head that was seen: an older copy was put in its place."""

    code: ClassVar[str] = "journal_went_back"

    def __init__(self, stream: str, *, seen: int, found: int, witness: str) -> None:
        super().__init__(stream, seen, found, witness)
        self.stream = stream
        self.seen = seen
        self.found = found
        self.witness = witness

    def __str__(self) -> str:
        return (
            f"stream {self.stream!r} ends at entry {self.found}, but {self.witness} saw entry "
            f"{self.seen}: this is an older copy, what it forgot was spent; nothing was written"
        )


class KeyTaken(JournalError):
    """An entry with this key is in the stream. Nothing was appended."""

    code: ClassVar[str] = "key_taken"

    def __init__(self, stream: str, *, key: str) -> None:
        super().__init__(stream, key)
        self.stream = stream
        self.key = key

    def __str__(self) -> str:
        return f"stream {self.stream!r} has an entry with key {self.key!r}; nothing was appended"


class AnchorRefused(JournalError):
    """An anchor file or a signed head is not what its owner wrote. It vouches for nothing."""

    code: ClassVar[str] = "anchor_refused"
