"""Files of records that are set aside: by digest, so that another name does not help.

Two things are kept in the journal's stream `sources`:

====================  ==========================================================================
document              is
====================  ==========================================================================
`seen/TENANT/NAME`    the digest under which a source was registered, and when
`aside/TENANT/DIGEST` why the file of this digest may not be trained on, and since when
====================  ==========================================================================

A digest says nothing about the records but whether they are the same, and it is compared here only.
A run that would read a file that is set aside is refused before its first step. Who may release it
gives a reason; both stay in the journal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from privacy_finetuner.operations.errors import SourceSetAside, UnknownSource
from privacy_runtime.journal import REPAIRED, Change, Draft, Entry, Journal, View

SOURCES: Final = "sources"
LABEL: Final = "sources-1"
_PIECE_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDigest:
    """A source as it was registered, and as it is now."""

    name: str
    registered: str
    found: str

    @property
    def is_changed(self) -> bool:
        """Whether it is another file than the one that was registered."""
        return self.registered != self.found


class Quarantine:
    """Sources by digest, of all organisations. For any number of threads and processes.

    Args:
        journal: keeps the stream `sources`.

    Raises, in every method: JournalError: the journal cannot be used.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._is_projected = False

    def register(self, tenant: str, name: str, path: Path) -> SourceDigest:
        """Remember the digest of a source, the first time it is seen; compare it after that.

        Args:
            tenant: whose source it is.
            name: under which it is known; never the records.
            path: a file, or a folder of files.

        Raises:
            OSError: it cannot be read; nothing was remembered.
        """
        found, place = digest_of(path), f"seen/{tenant}/{name}"
        held = self._document(place)
        if held is None:
            body = {"tenant": tenant, "name": name, "sha256": found}
            held = self._keep("source.registered", place, body, if_new=True)
        return SourceDigest(name=name, registered=str(held["sha256"]), found=found)

    def accept(self, tenant: str, name: str, path: Path, *, by: str) -> None:
        """Register what a source has become: its owner says that the change was meant."""
        body = {"tenant": tenant, "name": name, "sha256": digest_of(path), "by": by}
        self._keep("source.registered", f"seen/{tenant}/{name}", body)

    def set_aside(self, tenant: str, sha256: str, *, by: str, reason: str) -> None:
        """Refuse the file of this digest from now on."""
        body = {"tenant": tenant, "sha256": sha256, "by": by, "reason": reason}
        self._keep("source.set_aside", f"aside/{tenant}/{sha256}", {**body, "is_aside": True})

    def release(self, tenant: str, sha256: str, *, by: str, reason: str) -> None:
        """Let it be used again.

        Raises:
            UnknownSource: it is not set aside; nothing was changed.
        """
        place = f"aside/{tenant}/{sha256}"
        held = self._document(place)
        if held is None or not held["is_aside"]:
            raise UnknownSource(sha256)
        body = {"tenant": tenant, "sha256": sha256, "by": by, "reason": reason}
        self._keep("source.released", place, {**body, "is_aside": False})

    def require_free(self, tenant: str, path: Path) -> None:
        """Refuse a source that is set aside. Nothing is read where nothing is set aside.

        Raises:
            SourceSetAside: its digest is on the list; nothing was started.
            OSError: it cannot be read.
        """
        self._project()
        held = [document for _, document in self._journal.documents(SOURCES, f"aside/{tenant}/")]
        listed = {str(each["sha256"]) for each in held if each["is_aside"]}
        if listed and (found := digest_of(path)) in listed:
            raise SourceSetAside(found)

    def _document(self, place: str) -> Any:
        self._project()
        return self._journal.document(SOURCES, place)

    def _project(self) -> None:
        if not self._is_projected:
            self._journal.project(SOURCES, LABEL, _fold)
            self._is_projected = True

    def _keep(
        self, type_: str, place: str, body: dict[str, Any], *, if_new: bool = False
    ) -> dict[str, Any]:
        self._project()
        kept: list[dict[str, Any]] = []

        def decide(view: View) -> Change:
            held = view.documents.get(place)
            if held is not None and (if_new or held == body):
                kept[:] = [dict(held)]
                return Change()
            kept[:] = [body]
            key = f"{place}:{view.head.seq + 1}"
            return Change([Draft(type_, key, {"place": place, "document": body})], {place: body})

        self._journal.transact(SOURCES, decide, names=(place,))
        return kept[0]


def digest_of(path: Path) -> str:
    """SHA-256 of a file; of a folder, over the names and digests of its files in order."""
    if path.is_dir():
        inside = sorted(each for each in path.rglob("*") if each.is_file())
        lines = (f"{each.relative_to(path).as_posix()}\x1f{digest_of(each)}\n" for each in inside)
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for piece in _pieces(file.read):
            digest.update(piece)
    return digest.hexdigest()


def _pieces(read: Callable[[int], bytes]) -> Any:
    while piece := read(_PIECE_BYTES):
        yield piece


def _fold(entries: Any) -> dict[str, Any]:
    documents: dict[str, Any] = {}
    for entry in entries:
        _follow(documents, entry)
    return documents


def _follow(documents: dict[str, Any], entry: Entry) -> None:
    body = entry.body
    if entry.type == REPAIRED:
        documents.clear()
        documents.update(body["documents"])
    else:
        documents[body["place"]] = body["document"]
