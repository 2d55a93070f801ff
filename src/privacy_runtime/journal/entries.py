"""What a journal holds: entries, each carrying the hash of the one before it.

The hash of an entry is SHA-256 over its canonical JSON (ASCII, sorted keys, no blanks, no NaN) of
all fields but the hash itself. Bodies are kept as the text that was hashed, so verification reads
what is stored and not what a parser makes of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final, TypeAlias

from privacy_core.errors import InvalidParameter
from privacy_runtime.journal.errors import ChainBroken

GENESIS_HASH: Final = "0" * 64
TEXT_MAX: Final = 2**26
"""Longest body or document, in characters."""
NAME_MAX: Final = 512
"""Longest stream, key, type or document name, in characters."""

Document: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry that is about to be appended.

    Args:
        type: what happened, in the vocabulary of the stream's owner.
        key: idempotency key, unique in its stream.
        body: JSON data with finite numbers. Never private data.
        version: of the body's form.
    """

    type: str
    key: str
    body: Document
    version: int = 1


@dataclass(frozen=True)
class Entry:
    """One fact in a stream. `seq` counts from 1; `at` is ISO 8601 in UTC."""

    stream: str
    seq: int
    at: str
    type: str
    version: int
    key: str
    body_text: str
    prev_hash: str
    hash: str

    @cached_property
    def body(self) -> Document:
        """The body as JSON data. Raises `ValueError` if the stored text was damaged."""
        body: Document = json.loads(self.body_text)
        return body

    @property
    def content_hash(self) -> str:
        """The hash of what the entry says; equal to `hash` unless somebody changed it."""
        return _hash(self)

    def line(self) -> str:
        """Return the entry as one line of canonical JSON, without a newline."""
        return f'{_unsigned(self)[:-1]},"hash":{_quote(self.hash)}}}'


@dataclass(frozen=True, slots=True)
class Head:
    """Where a stream ends. An empty stream ends at 0 with 64 zeros."""

    seq: int = 0
    hash: str = GENESIS_HASH
    at: str = ""


@dataclass(frozen=True, slots=True)
class Break:
    """One place where a chain is not what was recorded."""

    seq: int
    reason: str
    expected: str
    found: str

    def error(self, stream: str) -> ChainBroken:
        """Return the error that reports this break."""
        return ChainBroken(
            stream, seq=self.seq, reason=self.reason, expected=self.expected, found=self.found
        )


def extend(stream: str, head: Head, at: datetime, drafts: Iterable[Draft]) -> list[Entry]:
    """Return the entries that follow `head`. Time in a stream never goes back.

    Raises:
        InvalidParameter: a draft is not what `Draft` says; nothing was made.
    """
    instant = max(timestamp(at), head.at)
    entries: list[Entry] = []
    seq, prev_hash = head.seq, head.hash
    for draft in drafts:
        seq += 1
        _require_name("key", draft.key)
        _require_name("type", draft.type)
        unsigned = Entry(
            stream=stream,
            seq=seq,
            at=instant,
            type=draft.type,
            version=draft.version,
            key=draft.key,
            body_text=canonical_text("body", draft.body),
            prev_hash=prev_hash,
            hash="",
        )
        entry = Entry(**{**unsigned.__dict__, "hash": _hash(unsigned)})
        entries.append(entry)
        prev_hash = entry.hash
    return entries


def head_after(head: Head, entries: list[Entry]) -> Head:
    """Return where a stream ends once `entries` follow `head`."""
    return Head(entries[-1].seq, entries[-1].hash, entries[-1].at) if entries else head


class ChainCheck:
    """Walks a stream and lists every break; feed it the entries in order, then `finish`.

    What is noticed: a changed entry, a removed, added or swapped one, an end that is not the
    recorded head. What is not: a chain rewritten as a whole together with its head; for that, a
    signed head must be kept elsewhere (`privacy_runtime.journal.anchor`).
    """

    def __init__(self, after: Head | None = None) -> None:
        self.last = after or Head()
        self.breaks: list[Break] = []

    def add(self, entry: Entry) -> None:
        """Check one entry against itself and the one before it."""
        content = entry.content_hash
        if content != entry.hash:
            self._report(entry.seq, "its content was changed", entry.hash, content)
        missing = self.last.seq + 1
        if entry.seq != missing:
            self._report(missing, f"missing, entry {entry.seq} follows", entry.prev_hash, "nothing")
        elif entry.prev_hash != self.last.hash:
            self._report(
                entry.seq, "it does not follow the one before", self.last.hash, entry.prev_hash
            )
        self.last = Head(entry.seq, entry.hash, entry.at)

    def finish(self, head: Head) -> list[Break]:
        """Check the end against the recorded head, and return all breaks."""
        if (self.last.seq, self.last.hash) != (head.seq, head.hash):
            self._report(
                head.seq, "it is the recorded end, not the last", head.hash, self.last.hash
            )
        return self.breaks

    def _report(self, seq: int, reason: str, expected: str, found: str) -> None:
        self.breaks.append(Break(seq, reason, expected, found))


def parse_line(line: str) -> Entry:
    """Read an entry as `Entry.line` wrote it; `ValueError` if it has another form.

    The hash is not checked here: `ChainCheck` says which entry is wrong and how.
    """
    document = json.loads(line)
    if not isinstance(document, dict) or not isinstance(document.get("body"), dict):
        raise ValueError("not an entry")  # noqa: TRY004  one kind of error for one kind of caller
    try:
        entry = Entry(body_text=canonical_text("body", document.pop("body")), **document)
    except TypeError:
        raise ValueError("not the fields of an entry") from None
    if entry.line() != line:
        raise ValueError("not in the form in which entries are written")
    return entry


def canonical_text(what: str, data: Document) -> str:
    """Return the one JSON form of `data`: ASCII, sorted keys, no blanks, no NaN or infinity.

    Raises:
        InvalidParameter: `data` is not JSON data, or longer than `TEXT_MAX`. It is not quoted.
    """
    try:
        text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidParameter(
            what, found=f"data that JSON cannot hold ({type(error).__name__})", expected="JSON data"
        ) from None
    if len(text) > TEXT_MAX:
        raise InvalidParameter(what, found=f"{len(text)} characters", expected=f"<= {TEXT_MAX}")
    return text


def timestamp(instant: datetime) -> str:
    """Return an instant as ISO 8601 in UTC with microseconds; texts sort as instants do.

    Raises:
        InvalidParameter: the instant has no time zone.
    """
    if instant.tzinfo is None:
        raise InvalidParameter("instant", found=instant, expected="an instant with a time zone")
    return instant.astimezone(UTC).isoformat(timespec="microseconds")


def _hash(entry: Entry) -> str:
    # Damage may have put any character into a text that was ASCII: it must still hash.
    return hashlib.sha256(_unsigned(entry).encode("utf-8", "surrogatepass")).hexdigest()


def _unsigned(entry: Entry) -> str:
    """Return the canonical JSON of every field but the hash, the body's text as it stands."""
    return (
        f'{{"at":{_quote(entry.at)},"body":{entry.body_text},"key":{_quote(entry.key)},'
        f'"prev_hash":{_quote(entry.prev_hash)},"seq":{entry.seq},'
        f'"stream":{_quote(entry.stream)},"type":{_quote(entry.type)},"version":{entry.version}}}'
    )


def _quote(text: str) -> str:
    return json.dumps(text)


def _require_name(what: str, name: str) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX or "\x00" in name:
        raise InvalidParameter(
            what, found=name, expected=f"1 to {NAME_MAX} characters, none of them NUL"
        )
