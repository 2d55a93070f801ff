"""The ledger's documents: its state, one row for each account and reservation.

=================  =====================================  =========================
name               document                               written by
=================  =====================================  =========================
`clock`            the ledger's time, microseconds        every entry
`scope/NAME`       a `ScopeState`                         entries that charge it
`open/KEY`         a `Reservation` that can still change  reserve, watermark
`closed/KEY`       one that ended                         commit, refund, expire,
                                                          void
=================  =====================================  =========================

They are a copy for speed: the entries are the truth, and `verify` compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from privacy_core import budget
from privacy_core.budget import Amounts, LedgerState, Reservation, Scope, ScopeState, Status
from privacy_core.errors import MalformedEntry
from privacy_runtime import journal
from privacy_runtime.journal import REPAIRED, Document

LABEL: Final = "ledger-1"
"""Names the form below; another form is another label, and rebuilt from the entries."""
CLOCK: Final = "clock"
OPEN: Final = "open/"
CLOSED: Final = "closed/"
SCOPE: Final = "scope/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One entry of the ledger's history, with its place in the chain."""

    seq: int
    at: str
    hash: str
    entry: budget.Entry


def facts(entries: Iterable[journal.Entry]) -> Iterator[Fact]:
    """Yield what a ledger's entries say, repairs left out."""
    for entry in entries:
        if entry.type != REPAIRED:
            yield Fact(seq=entry.seq, at=entry.at, hash=entry.hash, entry=read_entry(entry))


def scope_name(scope: Scope) -> str:
    """Return the name of an account's document."""
    return f"{SCOPE}{scope}"


def reservation_names(key: str) -> tuple[str, str]:
    """Return the two names under which a reservation's document may stand."""
    return f"{OPEN}{key}", f"{CLOSED}{key}"


class Accounts:
    """Reads accounts, and remembers the last few: a hot account is mostly what it just became.

    Reading is a pure function of the document, so an equal document has an equal answer.
    """

    MOST: Final = 64

    def __init__(self) -> None:
        self._read: dict[str, tuple[Document, ScopeState]] = {}

    def read(self, name: str, document: Document) -> ScopeState:
        """Return the account that a document holds."""
        known = self._read.get(name)
        if known is not None and known[0] == document:
            return known[1]
        account = budget.scope_state_from_json(document)
        self.remember(name, document, account)
        return account

    def remember(self, name: str, document: Document, account: ScopeState) -> None:
        """Keep an account and the document that was written of it."""
        if len(self._read) >= self.MOST and name not in self._read:
            self._read.clear()
        self._read[name] = (document, account)


def state_of(documents: Mapping[str, Document], accounts: Accounts | None = None) -> LedgerState:
    """Read a state, or a part of one, from documents.

    Raises:
        MalformedEntry: a document is not what this version writes.
    """
    scopes: dict[Scope, ScopeState] = {}
    reservations: dict[str, Reservation] = {}
    clock_us = 0
    for name, document in documents.items():
        if name == CLOCK:
            clock_us = int(document["us"])
        elif name.startswith(SCOPE):
            account = (accounts or Accounts()).read(name, document)
            scopes[account.scope] = account
        else:
            held = budget.reservation_from_json(document)
            reservations[held.key] = held
    return LedgerState(scopes=scopes, reservations=reservations, clock_us=clock_us)


def documents_of(
    state: LedgerState, accounts: Accounts | None = None
) -> dict[str, Document | None]:
    """Write a state as documents; an ended reservation leaves its place among the open ones."""
    documents: dict[str, Document | None] = {CLOCK: {"us": state.clock_us}}
    for account in state.scopes.values():
        name = scope_name(account.scope)
        document = documents[name] = budget.scope_state_to_json(account)
        if accounts is not None:
            accounts.remember(name, document, account)
    for held in state.reservations.values():
        open_name, closed_name = reservation_names(held.key)
        written = budget.reservation_to_json(held)
        if held.status is Status.OPEN:
            documents[open_name] = written
        else:
            documents[open_name] = None
            documents[closed_name] = written
    return documents


def fold(entries: Iterable[journal.Entry]) -> dict[str, Document]:
    """Return the documents that a ledger's entries add up to; a repair starts anew from its own.

    Raises:
        MalformedEntry: an entry is not one that this version knows, or does not follow.
    """
    state, since = LedgerState(), list(entries)
    for place, entry in reversed(list(enumerate(since))):
        if entry.type == REPAIRED:
            state, since = state_of(entry.body["documents"]), since[place + 1 :]
            break
    return _present(documents_of(budget.fold(map(read_entry, since), state)))


def read_entry(entry: journal.Entry) -> budget.Entry:
    """Read the fact that a journal's entry holds.

    Raises:
        MalformedEntry: it is not one that this version knows.
    """
    try:
        return budget.entry_from_json(entry.body)
    except ValueError as error:
        raise MalformedEntry(f"entry {entry.seq} of the ledger: {error}") from None


def settle(
    entries: Sequence[journal.Entry], stored: Mapping[str, Document]
) -> Mapping[str, Document]:
    """Return what holds after damage: of the entries and the documents, always the worse.

    Budget may be lost by damage, never gained. Where both can be read, an account keeps the lower
    cap and the higher spending; where only one can, that one holds.

    Raises:
        MalformedEntry: neither can be read; only a copy from elsewhere helps.
    """
    folded = stated = None
    with suppress(MalformedEntry):
        folded = state_of(fold(entries))
    try:
        stated = state_of(stored) if stored else None
    except MalformedEntry:
        if folded is None:
            raise
    if folded is None or stated is None:
        only = folded or stated
        if only is None:
            raise MalformedEntry("neither the entries nor the documents can be read")
        return _present(documents_of(only))
    return _present(documents_of(_worse(folded, stated)))


def _worse(folded: LedgerState, stated: LedgerState) -> LedgerState:
    reservations = {**folded.reservations, **stated.reservations}
    scopes: dict[Scope, ScopeState] = {}
    for scope in folded.scopes.keys() | stated.scopes.keys():
        one, other = folded.scopes.get(scope), stated.scopes.get(scope)
        account = one or other
        if account is None:
            continue
        if one is not None and other is not None:
            # The total is kept too: what one copy calls committed, the other may call reserved.
            committed = _most(one.committed, other.committed)
            total = _most(one.total, other.total)
            account = replace(
                one,
                guarantee=min(one.guarantee, other.guarantee, key=lambda g: g.epsilon),
                caps=tuple(map(min, one.caps, other.caps)),
                committed=committed,
                reserved=_most(
                    _most(one.reserved, other.reserved),
                    tuple(t - c for t, c in zip(total, committed, strict=True)),
                ),
                window_index=max(one.window_index, other.window_index),
                window_used=_most(one.window_used, other.window_used),
                version=max(one.version, other.version) + 1,
            )
        held = [
            r.charge.in_currency(account.currency)
            for r in reservations.values()
            if r.status is Status.OPEN and scope in r.scopes
        ]
        needed = tuple(map(sum, zip(*held, strict=True))) if held else account.reserved
        scopes[scope] = replace(account, reserved=_most(account.reserved, needed))
    clock_us = max(folded.clock_us, stated.clock_us)
    return LedgerState(scopes=scopes, reservations=reservations, clock_us=clock_us)


def _most(one: Amounts, other: Amounts) -> Amounts:
    return tuple(map(max, one, other))


def _present(documents: Mapping[str, Document | None]) -> dict[str, Document]:
    return {name: document for name, document in documents.items() if document is not None}
