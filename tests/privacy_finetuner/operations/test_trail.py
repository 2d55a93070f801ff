"""The audit trail by organisation: nothing of another's, nothing lost, nothing doubled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from privacy_finetuner.operations.trail import STREAM, AuditTrail
from privacy_runtime.journal import Change, Draft, Journal
from privacy_runtime.testing import ManualClock, MemoryHome, MemoryRows, SeededEntropy


class Book:
    """A journal in memory, and what two organisations do in it."""

    def __init__(self) -> None:
        self.rows, self.clock, self.count = MemoryRows(), ManualClock(), 0

    def journal(self) -> Journal:
        return Journal(MemoryHome(self.rows), clock=self.clock)

    def says(self, type_: str, **body: Any) -> None:
        self.count += 1
        draft = Draft(type_, f"k{self.count}", body)
        self.journal().transact(STREAM, lambda _: Change([draft]))


@pytest.fixture
def book() -> Book:
    book = Book()
    for number in (1, 2):
        book.says("identity.organisation_created", tenant=f"o_{number}", by="host")
        book.says("identity.user_created", tenant=f"o_{number}", subject=f"u_{number}", by="host")
    return book


def shown(trail: AuditTrail, tenant: str, **how: Any) -> list[int]:
    return [entry.seq for entry in trail.page(tenant, **how).entries]


def test_entries_belong_to_the_organisation_of_who_they_are_about(book: Book) -> None:
    trail = AuditTrail(book.journal())
    book.says("identity.login_refused", subject="u_1")  # 5
    book.says("identity.role_changed", by="u_2", subject="u_2", new="admin")  # 6
    book.says("identity.login_refused", subject=None)  # 7: nobody's
    book.says("webhook.added", tenant="o_2", by="u_2")  # 8

    assert shown(trail, "o_1") == [5, 2, 1]
    assert shown(trail, "o_2") == [8, 6, 4, 3]
    assert shown(trail, "o_3") == []


def test_an_attempt_on_nobody_is_shown_where_there_is_one_organisation() -> None:
    book = Book()
    book.says("identity.organisation_created", tenant="o_1", by="host")
    trail = AuditTrail(book.journal())
    book.says("identity.login_refused", subject=None)
    assert shown(trail, "o_1") == [2, 1]

    book.says("identity.organisation_created", tenant="o_2", by="host")
    assert shown(trail, "o_1") == [1]
    assert trail.operator == "o_1"


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 200])
def test_pages_hold_everything_once_newest_first(book: Book, limit: int) -> None:
    for number in range(40):
        book.says("x.even" if number % 2 else "y.odd", tenant=f"o_{1 + number % 3 % 2}")
    trail = AuditTrail(book.journal())

    for prefix in ("", "x.", "none"):
        seen, before = [], None
        while True:
            page = trail.page("o_1", before=before, limit=limit, prefix=prefix)
            seen += [entry.seq for entry in page.entries]
            before = page.next_before
            if before is None:
                break
        whole = trail.entries(trail.numbers("o_1"))
        assert seen == [e.seq for e in reversed(whole) if e.type.startswith(prefix)]


def test_what_comes_while_pages_are_turned_disturbs_none(book: Book) -> None:
    trail = AuditTrail(book.journal())
    for _ in range(6):
        book.says("x", tenant="o_1")
    first = trail.page("o_1", limit=3)
    book.says("x", tenant="o_1")

    assert shown(trail, "o_1", before=first.next_before, limit=100) == [7, 6, 5, 2, 1]


def test_a_written_event_is_written_once_under_its_key(book: Book) -> None:
    trail = AuditTrail(book.journal())
    for _ in range(2):
        trail.write("redaction.revealed", {"tenant": "o_1"}, entropy=SeededEntropy(1), key="k")

    assert shown(trail, "o_1") == [5, 2, 1]


def test_an_intact_chain_verifies_and_a_changed_one_says_where(book: Book) -> None:
    trail = AuditTrail(book.journal())
    assert trail.verify().is_intact

    entries = book.rows.entries[STREAM]
    entries[2] = replace(entries[2], body_text='{"tenant":"o_9"}')
    found = AuditTrail(book.journal()).verify()
    assert (found.is_intact, found.broken_at) == (False, 3)
    assert found.reason == "its content was changed"
