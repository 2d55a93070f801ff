"""The stream `audit`, organisation by organisation.

Entries are chained for the whole installation; each belongs to the organisation that its body
names, or to that of the user it is about. An attempt on a name that nobody has belongs to no
organisation; where there is only one organisation, it is shown there.

Which entry is whose is remembered; entries are read from the journal whenever they are shown, so
what is shown is what is stored.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from privacy_runtime.journal import (
    REPAIRED,
    ChainBroken,
    Change,
    Draft,
    Entry,
    Head,
    Journal,
    View,
)
from privacy_runtime.world import Entropy

STREAM: Final = "audit"
_KEY_BYTES: Final = 16
_NOBODY: Final = ""
_SEARCHED: Final = 2000
"""Entries that are looked through at once for a type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailPage:
    """Some entries, newest first. `next_before` is the number to go on before; `None`: the end."""

    entries: tuple[Entry, ...]
    next_before: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What checking the chain found. `broken_at` is the first bad entry, if there is one."""

    is_intact: bool
    entries: int
    head: str
    broken_at: int | None = None
    reason: str | None = None


class AuditTrail:
    """Reads and writes the trail, for any number of threads.

    Args:
        journal: holds the stream.

    Raises, in every method: JournalError where the database is away.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        self._seen = 0
        self._owners: dict[str, str] = {}
        self._numbers: defaultdict[str, list[int]] = defaultdict(list)
        self._organisations: dict[str, None] = {}

    def page(
        self, tenant: str, *, before: int | None = None, limit: int = 50, prefix: str = ""
    ) -> TrailPage:
        """An organisation's entries, newest first.

        Args:
            tenant: whose.
            before: only entries with a smaller number; `None`: from the newest on.
            limit: at most so many, at least 1.
            prefix: of the types that are wanted, such as `identity.login`.
        """
        numbers = self.numbers(tenant)
        end = len(numbers) if before is None else bisect_left(numbers, before)
        found: list[Entry] = []
        while end > 0 and len(found) < limit:
            start = max(0, end - (max(limit, _SEARCHED) if prefix else limit))
            chosen = self.entries(numbers[start:end])
            wanted = [each for each in reversed(chosen) if each.type.startswith(prefix)]
            room = limit - len(found)
            found += wanted[:room]
            if len(wanted) > room:
                return TrailPage(entries=tuple(found), next_before=found[-1].seq)
            end = start
        has_more = bool(found) and end > 0
        return TrailPage(entries=tuple(found), next_before=found[-1].seq if has_more else None)

    def numbers(self, tenant: str) -> list[int]:
        """The numbers of an organisation's entries, in order."""
        with self._lock:
            self._catch_up()
            own = self._numbers[tenant]
            if self._organisations.keys() <= {tenant}:
                return sorted([*own, *self._numbers[_NOBODY]])
            return list(own)

    def owner_of(self, entry: Entry) -> str:
        """Whose entry it is; empty for nobody's. `numbers` must have been asked since it came."""
        with self._lock:
            return self._owner(body_of(entry))

    @property
    def organisations(self) -> frozenset[str]:
        """The organisations that the trail has seen come into being."""
        with self._lock:
            self._catch_up()
            return frozenset(self._organisations)

    @property
    def operator(self) -> str | None:
        """The organisation that was made first: that of whoever runs the machine."""
        with self._lock:
            self._catch_up()
            return next(iter(self._organisations), None)

    def entries(self, numbers: Sequence[int]) -> list[Entry]:
        """The entries of some numbers, in order, as stored."""
        if not numbers:
            return []
        wanted, found = set(numbers), []
        for entry in self._journal.read(STREAM, after=numbers[0] - 1):
            if entry.seq in wanted:
                found.append(entry)
            if entry.seq >= numbers[-1]:
                break
        return found

    def since(self, after: int) -> Iterator[Entry]:
        """Every entry of the installation with a larger number."""
        return self._journal.read(STREAM, after=after)

    def verify(self, *, after: Head | None = None) -> Verified:
        """Walk the chain. It is the chain of the installation: another's break is everybody's.

        Args:
            after: a head that is trusted already; `None`: from the beginning.
        """
        try:
            head = self._journal.verify(STREAM, after=after)
        except ChainBroken as broken:
            return Verified(
                is_intact=False,
                entries=broken.seq,
                head=broken.found,
                broken_at=broken.seq,
                reason=broken.reason,
            )
        # Somebody else may have found what lies before the head that is trusted here.
        halt = self._journal.status(STREAM).halt
        return Verified(is_intact=not halt, entries=head.seq, head=head.hash, reason=halt or None)

    def write(self, type_: str, body: dict[str, Any], *, entropy: Entropy, key: str = "") -> None:
        """Append an event: `{tenant, by, ...}`, ids and counts, never a value.

        Raises:
            JournalError: it could not be written; the caller must not go on.
        """
        name = key or f"operations:{entropy.token_bytes(_KEY_BYTES).hex()}"

        def decide(view: View) -> Change:
            return Change() if name in view.entries else Change([Draft(type_, name, body)])

        self._journal.transact(STREAM, decide, keys=(name,))

    def _catch_up(self) -> None:
        for entry in self._journal.read(STREAM, after=self._seen):
            body = {} if entry.type == REPAIRED else body_of(entry)
            if entry.type == "identity.organisation_created" and body.get("tenant"):
                self._organisations[str(body["tenant"])] = None
            if body.get("tenant") and body.get("subject"):
                self._owners[str(body["subject"])] = str(body["tenant"])
            self._numbers[self._owner(body)].append(entry.seq)
            self._seen = entry.seq

    def _owner(self, body: Any) -> str:
        if body.get("tenant"):
            return str(body["tenant"])
        for role in ("subject", "by"):
            if (owner := self._owners.get(str(body.get(role)))) is not None:
                return owner
        return _NOBODY


def body_of(entry: Entry) -> dict[str, Any]:
    """What an entry says; nothing, where somebody damaged it so that it cannot be read."""
    try:
        body = entry.body
    except ValueError:
        return {}
    return dict(body) if isinstance(body, dict) else {}
