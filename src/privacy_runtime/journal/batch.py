"""Several requests in one transaction: what waits together pays for the disk once.

Each is decided alone, on what those before it changed; a refusal touches nobody else. They become
durable together, so nobody hears of an answer before the disk has it (group commit).

Source: DeWitt et al. 1984, "Implementation Techniques for Main Memory Database Systems", section 5.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from privacy_runtime.journal.contract import Decision, Rows, View
from privacy_runtime.journal.entries import (
    Document,
    Entry,
    canonical_text,
    extend,
    head_after,
    timestamp,
)

Answer: TypeAlias = "list[Entry] | Exception"


@dataclass(eq=False)
class Request:
    """One decision that waits for its turn, and its answer once there is one."""

    stream: str
    decide: Decision
    keys: tuple[str, ...]
    names: tuple[str, ...]
    outcome: Answer | None = None
    wake: threading.Event = field(default_factory=threading.Event)


class Batch:
    """What the requests of one transaction have changed so far.

    Args:
        stream: whose entries.
        rows: what was read under the lock, for all of them.
        now: the clock's instant.
    """

    def __init__(self, stream: str, rows: Rows, now: datetime) -> None:
        self.head = rows.stream.head
        self.appended: list[Entry] = []
        self.changed: dict[str, str | None] = {}
        self._stream, self._now = stream, now
        self._entries = dict(rows.entries)
        self._documents = {name: json.loads(text) for name, text in rows.documents.items()}

    def answer(self, request: Request) -> Answer:
        """Decide one request; a refusal is returned, and changed nothing."""
        view = View(
            head=self.head,
            at=max(timestamp(self._now), self.head.at),
            entries={key: self._entries[key] for key in request.keys if key in self._entries},
            documents={
                name: self._documents[name] for name in request.names if name in self._documents
            },
        )
        try:
            change = request.decide(view)
            entries = extend(self._stream, self.head, self._now, change.entries)
            changed = texts(change.documents)
        except Exception as refusal:  # noqa: BLE001  handed to the one who asked, who raises it
            return refusal
        self.head = head_after(self.head, entries)
        self.appended += entries
        self._entries |= {entry.key: entry for entry in entries}
        self.changed |= changed
        for name, document in change.documents.items():
            if document is None:
                self._documents.pop(name, None)
            else:
                self._documents[name] = document
        return entries


def texts(documents: Mapping[str, Document | None]) -> dict[str, str | None]:
    """Return documents as they are stored.

    Raises:
        InvalidParameter: one is not JSON data.
    """
    return {
        name: None if document is None else canonical_text("document", document)
        for name, document in documents.items()
    }
