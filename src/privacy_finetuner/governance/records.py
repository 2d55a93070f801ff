"""Records of an organisation in a journal's stream: each change an entry, each record a document.

An entry's body is `{name, document, by, ...}`: the whole record as it became, so that the documents
are the last word of the entries and can be rebuilt or compared at any time (`fold`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from privacy_finetuner.governance.errors import RecordConflict, UnknownRecord
from privacy_runtime.journal import REPAIRED, Change, Draft, Entry, Journal, View
from privacy_runtime.world import Entropy

Document: TypeAlias = Mapping[str, Any]
LABEL: Final = "records-1"
_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a decision about a record wants written: the entry's type and the record after it.

    `more` goes into the entry beside the record: who did it, and why.
    """

    type: str
    document: Document
    more: Document = field(default_factory=dict)


Decide: TypeAlias = Callable[[Document | None, str], Step]
"""From the record as it stands (`None`: there is none) and the entry's instant. Pure; may raise."""


class Records:
    """One kind of record in a stream.

    Args:
        journal: holds the stream.
        stream: its name; several kinds may share it.
        kind: what these are, in words for messages and names of documents.
    """

    def __init__(self, journal: Journal, stream: str, kind: str) -> None:
        self.journal, self.stream, self.kind = journal, stream, kind
        self._is_projected = False

    def write(self, tenant: str, record: str, decide: Decide, *, key: str) -> Document:
        """Decide and write in one transaction; the same key again writes nothing.

        Raises:
            RecordConflict: the key was used for another record.
            JournalError: the database is away; nothing was written.
        """
        self._project()
        name = self._name(tenant, record)
        answer: list[Document] = []

        def attempt(view: View) -> Change:
            held = view.documents.get(name)
            earlier = view.entries.get(key)
            if earlier is not None:
                if earlier.body.get("name") != name or held is None:
                    raise RecordConflict(
                        f"the key {key!r}", found="used for another record", expected="a new key"
                    )
                answer[:] = [held]
                return Change()
            step = decide(held, view.at)
            answer[:] = [step.document]
            body = {**step.more, "tenant": tenant, "name": name, "document": step.document}
            return Change([Draft(step.type, key, body)], {name: step.document})

        self.journal.transact(self.stream, attempt, keys=(key,), names=(name,))
        return answer[0]

    def change(
        self, tenant: str, record: str, decide: Callable[[Document, str], Step], *, key: str
    ) -> Document:
        """As `write`, about a record that is there.

        Raises:
            UnknownRecord: it is not.
        """

        def known(held: Document | None, at: str) -> Step:
            if held is None:
                raise UnknownRecord(self.kind, record)
            return decide(held, at)

        return self.write(tenant, record, known, key=key)

    def get(self, tenant: str, record: str) -> Document:
        """A record as it stands.

        Raises:
            UnknownRecord: there is none of this id in the organisation.
        """
        self._project()
        # An id from outside with a slash or of another form names nothing; it is not looked up.
        held = None
        if record and "/" not in record and record.isprintable():
            held = self.journal.document(self.stream, self._name(tenant, record))
        if held is None:
            raise UnknownRecord(self.kind, record)
        return held

    def all(self, tenant: str) -> list[Document]:
        """An organisation's records, newest first."""
        self._project()
        held = [each for _, each in self.journal.documents(self.stream, self._name(tenant, ""))]
        return sorted(held, key=lambda each: (each["created_at"], each["id"]), reverse=True)

    def every(self) -> list[Document]:
        """The records of all organisations, for the service's own loops."""
        self._project()
        return [each for _, each in self.journal.documents(self.stream, f"{self.kind}/")]

    def _name(self, tenant: str, record: str) -> str:
        return f"{self.kind}/{tenant}/{record}"

    def _project(self) -> None:
        """Rebuild the documents once where their form changed or the stream was repaired."""
        if not self._is_projected:
            self.journal.project(self.stream, LABEL, fold)
            self._is_projected = True


def fold(entries: Iterable[Entry]) -> dict[str, Document]:
    """The documents that a stream's entries add up to; a repair starts anew from its own."""
    documents: dict[str, Document] = {}
    for entry in entries:
        if entry.type == REPAIRED:
            documents = dict(entry.body["documents"])
        else:
            documents[entry.body["name"]] = entry.body["document"]
    return documents


def new_id(prefix: str, entropy: Entropy) -> str:
    """An id of 128 bits: `req_...`."""
    return f"{prefix}_{entropy.token_bytes(_ID_BYTES).hex()}"
