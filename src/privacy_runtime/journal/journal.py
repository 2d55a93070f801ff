"""The journal: what every home has in common, whatever it stores its rows in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Final, TypeAlias

from privacy_core.errors import InvalidParameter
from privacy_runtime.journal.batch import Answer, Batch, Request, texts
from privacy_runtime.journal.contract import (
    Decision,
    Home,
    Rows,
    StreamRow,
)
from privacy_runtime.journal.entries import (
    Break,
    ChainCheck,
    Document,
    Draft,
    Entry,
    Head,
    canonical_text,
    extend,
    head_after,
)
from privacy_runtime.journal.errors import (
    NOT_KNOWN,
    ChainBroken,
    JournalHalted,
    JournalWentBack,
    KeyTaken,
    StoreUnavailable,
)
from privacy_runtime.journal.turns import Turns
from privacy_runtime.world import Clock

REPAIRED: Final = "journal.repaired"
"""The type of the entry that acknowledges breaks; its body names the person and every break."""
PAGE: Final = 1000

Fold: TypeAlias = Callable[[Iterable[Entry]], Mapping[str, Document]]
"""From the entries, in order, to the documents that they add up to. Pure."""
Settle: TypeAlias = Callable[[Sequence[Entry], Mapping[str, Document]], Mapping[str, Document]]
"""From the entries and documents of a damaged stream to the documents that hold. Pure."""


class Journal:
    """Streams of hash-chained entries with documents beside them, in one home.

    Guarantees: what `transact` returned is on the disk; a stream's entries are in one order that
    all processes see; keys are unique in a stream; time in a stream never goes back. Threads may
    share a journal, and what they ask at the same time shares one wait for the disk; processes
    open their own. No connection is carried over a fork.

    ==================================  =====================================================
    when                                then
    ==================================  =====================================================
    the database is busy                repeated with growing pauses for `retry_s`, then
                                        `StoreUnavailable`, nothing written
    the connection is lost              connected and repeated likewise; if it was lost while
                                        committing and never came back: not known, repeat it
    the end is not the recorded head    `ChainBroken`; read-only from then on, for everybody
    the journal is read-only            `JournalHalted`; reading still works
    the end is before a head that this
    object has seen                     `JournalWentBack`
    ==================================  =====================================================

    Args:
        home: where the rows live; the journal owns it.
        clock: stamps the entries.
        retry_s: how long to repeat, in seconds.
    """

    def __init__(self, home: Home, *, clock: Clock, retry_s: float = 10.0) -> None:
        self.home = home
        self._clock = clock
        self._turns = Turns(home, retry_s=retry_s)
        self._seen: dict[str, Head] = {}

    def transact(
        self,
        stream: str,
        decide: Decision,
        *,
        keys: Sequence[str] = (),
        names: Sequence[str] = (),
    ) -> list[Entry]:
        """Read, decide and write in one transaction; return the entries that were appended.

        Args:
            stream: whose lock is taken.
            decide: pure; may run more than once. What it raises, this raises, nothing written.
            keys: of the entries that `decide` wants to see.
            names: of the documents that it wants to see.

        Raises:
            KeyTaken: a draft's key is in the stream; look it up through `keys` first.
            JournalHalted, ChainBroken, JournalWentBack, StoreUnavailable: see the class.
        """
        request = Request(stream, decide, tuple(keys), tuple(names))
        self._turns.ask(request, self._serve)
        if isinstance(request.outcome, BaseException):
            raise request.outcome
        return request.outcome or []

    def read(self, stream: str, *, after: int = 0) -> Iterator[Entry]:
        """Yield the entries with `seq > after`, in order, as stored; `verify` says if they are."""
        while page := self._turns.guarded(
            partial(self.home.entries, stream, after=after, limit=PAGE)
        ):
            yield from page
            after = page[-1].seq

    def documents(self, stream: str, prefix: str = "") -> Iterator[tuple[str, Document]]:
        """Yield the documents whose name starts with `prefix`, by name, without the lock."""
        after = ""
        while page := self._turns.guarded(
            partial(self.home.documents, stream, prefix=prefix, after=after, limit=PAGE)
        ):
            yield from ((name, json.loads(text)) for name, text in page)
            after = page[-1][0]

    def document(self, stream: str, name: str) -> Document | None:
        """Return one document, without the lock; None if there is none."""
        page = self._turns.guarded(
            lambda: self.home.documents(stream, prefix=name, after="", limit=1)
        )
        return json.loads(page[0][1]) if page and page[0][0] == name else None

    def status(self, stream: str) -> StreamRow:
        """Return the recorded head, whether the stream is halted, and its projection's form."""
        row = self._turns.guarded(lambda: self.home.row(stream))
        self._require_no_return(stream, row.head)
        return row

    def verify(self, stream: str, *, after: Head | None = None) -> Head:
        """Walk the chain to its recorded head and return that head.

        Args:
            stream: the stream; one that was never written is intact and empty.
            after: a head that is already trusted; the walk starts behind it.

        Raises:
            ChainBroken: the first break that no repair has acknowledged. From then on the stream
                is read-only, for every process.
        """
        row = self.status(stream)
        breaks = _unacknowledged(self.read(stream, after=after.seq if after else 0), row, after)
        if breaks:
            self._halt(stream, f"entry {breaks[0].seq}: {breaks[0].reason}")
            raise breaks[0].error(stream)
        return row.head

    def repair(self, stream: str, *, by: str, reason: str, settle: Settle) -> Entry:
        """Acknowledge every break of a damaged stream, and let it take entries again.

        History is never rewritten: an entry names the person, the reason, each break with its
        hashes, and the documents that hold from here on. A later change of the same entries is a
        new break.

        Args:
            stream: the stream.
            by: the authorised person; the caller has checked who they are.
            reason: why the damage may be lived with.
            settle: from the entries and the stored documents to the documents that hold.

        Raises:
            InvalidParameter: the stream is intact and open, or `by` or `reason` is empty.
        """
        for what, text in (("by", by), ("reason", reason)):
            if not text.strip():
                raise InvalidParameter(what, found=text, expected="words")

        def attempt() -> Entry:
            row = self.home.begin(stream, (), ()).stream
            stored = list(self._stored(stream))
            last = head_after(Head(), stored)
            end = row.head if row.head.seq >= last.seq else last
            documents = settle(stored, self._stored_documents(stream))
            body = {"by": by, "reason": reason, "halt": row.halt, "documents": dict(documents)}
            draft = Draft(REPAIRED, f"{REPAIRED}:{end.seq + 1}", {**body, "breaks": []})
            (sketch,) = extend(stream, end, self._clock.now(), [draft])
            # What will be broken once the entry stands: none of it depends on the entry's hash.
            breaks = _unacknowledged([*stored, sketch], StreamRow(head_after(end, [sketch])), None)
            if not breaks and not row.halt and end == row.head:
                raise InvalidParameter("stream", found="an intact journal", expected="damage")
            listed = {**body, "breaks": [asdict(broken) for broken in breaks]}
            (entry,) = extend(stream, end, self._clock.now(), [replace(draft, body=listed)])
            mended = StreamRow(head_after(end, [entry]), projection=row.projection)
            self.home.commit(stream, mended, [entry], texts(documents), clear=True)
            self._seen[stream] = mended.head
            return entry

        return self._turns.guarded(attempt)

    def compare(self, stream: str, fold: Fold) -> None:
        """Check that the documents are what `fold` makes of the entries, under the lock.

        Raises:
            JournalHalted: they are not; the message names one, and the stream is read-only now.
        """

        def attempt() -> list[str]:
            self.home.begin(stream, (), ())
            folded, stored = dict(fold(self._stored(stream))), self._stored_documents(stream)
            self.home.rollback()
            return sorted(
                name
                for name in folded.keys() | stored.keys()
                if name not in folded
                or name not in stored
                or canonical_text("document", folded[name])
                != canonical_text("document", stored[name])
            )

        if differing := self._turns.guarded(attempt):
            reason = f"document {differing[0]!r} is not what the entries add up to"
            self._halt(stream, reason)
            raise JournalHalted(stream, reason=reason)

    def project(self, stream: str, label: str, fold: Fold) -> bool:
        """Replace all documents by what `fold` makes of the entries, unless `label` is stored.

        Returns whether it had to: a new stream, an older form, or a repair since.
        """

        def attempt() -> bool:
            rows = self.home.begin(stream, (), ())
            if rows.stream.projection == label:
                self.home.rollback()
                return False
            if rows.stream.halt:
                raise JournalHalted(stream, reason=rows.stream.halt)
            documents = fold(self._stored(stream))
            row = replace(rows.stream, projection=label)
            self.home.commit(stream, row, [], texts(documents), clear=True)
            return True

        return self.status(stream).projection != label and self._turns.guarded(attempt)

    def close(self) -> None:
        """Let go of the home's connection. Idempotent; a later call connects again."""
        self._turns.disconnect()

    def _serve(self, batch: list[Request]) -> None:
        """Answer every request of a batch. Only what no request is to blame for is shared."""
        stream = batch[0].stream
        try:
            answers = self._turns.guarded(lambda: self._attempt(stream, batch))
        except KeyTaken as taken:
            if len(batch) == 1:
                answers = [taken]
            else:
                for request in batch:
                    self._serve([request])
                return
        except ChainBroken as broken:
            answers = [broken] * len(batch)
            with suppress(StoreUnavailable):
                self._halt(stream, f"entry {broken.seq}: {broken.reason}")
        except Exception as error:  # noqa: BLE001  handed to every caller, who raises it
            answers = [error] * len(batch)
        except BaseException:
            lost = StoreUnavailable(
                self.home.name, reason="the thread that wrote was interrupted", state=NOT_KNOWN
            )
            for request in batch:
                request.outcome = lost
            raise
        for request, answer in zip(batch, answers, strict=True):
            request.outcome = answer

    def _attempt(self, stream: str, batch: list[Request]) -> list[Answer]:
        """Run a batch in one transaction: each request sees what those before it changed."""
        keys = dict.fromkeys(key for request in batch for key in request.keys)
        names = dict.fromkeys(name for request in batch for name in request.names)
        rows = self.home.begin(stream, list(keys), list(names))
        if rows.stream.halt:
            raise JournalHalted(stream, reason=rows.stream.halt)
        self._require_intact_end(stream, rows)
        work = Batch(stream, rows, self._clock.now())
        answers = [work.answer(request) for request in batch]
        if not work.appended and not work.changed:
            self.home.rollback()
            return answers
        row = replace(rows.stream, head=work.head)
        self.home.commit(stream, row, work.appended, work.changed)
        self._seen[stream] = row.head
        return answers

    def _stored(self, stream: str) -> Iterator[Entry]:
        """Yield all entries inside the transaction that is under way."""
        after = 0
        while page := self.home.entries(stream, after=after, limit=PAGE):
            yield from page
            after = page[-1].seq

    def _stored_documents(self, stream: str) -> dict[str, Document]:
        """Return all documents inside the transaction; one that is not JSON counts as missing."""
        stored: dict[str, Document] = {}
        after = ""
        while page := self.home.documents(stream, prefix="", after=after, limit=PAGE):
            for name, text in page:
                with suppress(ValueError):
                    stored[name] = json.loads(text)
            after = page[-1][0]
        return stored

    def _halt(self, stream: str, reason: str) -> None:
        def attempt() -> None:
            row = self.home.begin(stream, (), ()).stream
            if row.halt:
                self.home.rollback()
            else:
                self.home.commit(stream, replace(row, halt=reason), [], {})

        self._turns.guarded(attempt)

    def _require_intact_end(self, stream: str, rows: Rows) -> None:
        head = rows.stream.head
        if (rows.last_hash or Head().hash) != head.hash:
            raise Break(
                head.seq, "it is the recorded end, not the last", head.hash, str(rows.last_hash)
            ).error(stream)
        self._require_no_return(stream, head)

    def _require_no_return(self, stream: str, head: Head) -> None:
        """Refuse a stream that is shorter than, or not the one, this object saw."""
        seen = self._seen.get(stream, Head())
        if head.seq < seen.seq or (head.seq == seen.seq and head.hash != seen.hash):
            raise JournalWentBack(stream, seen=seen.seq, found=head.seq, witness="this process")
        self._seen[stream] = head


def _unacknowledged(entries: Iterable[Entry], row: StreamRow, after: Head | None) -> list[Break]:
    """Return the breaks up to the recorded head that no repair names."""
    check = ChainCheck(after)
    acknowledged: set[Break] = set()
    for entry in entries:
        if entry.seq > row.head.seq and check.last.seq >= row.head.seq:
            break  # appended since the head was read
        check.add(entry)
        if entry.type == REPAIRED and entry.content_hash == entry.hash:
            acknowledged |= {Break(**broken) for broken in entry.body["breaks"]}
    return [broken for broken in check.finish(row.head) if broken not in acknowledged]
