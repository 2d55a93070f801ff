"""Whatever two copies of a ledger say, what is settled between them is never the cheaper."""

from __future__ import annotations

import itertools

import pytest

from privacy_core.dp_events import Gaussian, SelfComposed
from privacy_core.errors import MalformedEntry
from privacy_core.guarantee import Guarantee
from privacy_runtime.budget_store import BudgetStore, Signature, charge_of, protection
from privacy_runtime.budget_store.projection import fold, settle, state_of
from privacy_runtime.journal import Entry
from privacy_runtime.testing import ManualClock, MemoryJournal

BLOCK = protection("hospital-a", "2026-08")
SIGNED = Signature("ada", "approved")


@pytest.fixture(scope="module")
def history() -> list[Entry]:
    clock = ManualClock()
    journal = MemoryJournal(clock)
    store = BudgetStore(journal, clock=clock)
    store.open_account("open", BLOCK, Guarantee(epsilon=3, delta=1e-6), signature=SIGNED)
    charge = charge_of(SelfComposed(Gaussian(30.0), 3))
    less = charge_of(SelfComposed(Gaussian(30.0), 1))
    for key in "abcd":
        store.reserve(key, protection=(BLOCK,), charge=charge, ttl_s=60)
    store.grant("grant", BLOCK, epsilon=1.0, signature=SIGNED)
    store.commit("a end", "a", actual=less)
    store.refund("b end", "b")
    store.watermark("c mark", "c", consumed=less)
    store.commit("c end", "c")
    store.propose_void("v1", "c", signature=SIGNED)
    store.approve_void("v2", "c", signature=Signature("bob", "approved"))
    return list(journal.read("ledger"))


def test_every_pair_of_copies_settles_to_the_worse(history: list[Entry]) -> None:
    lengths = range(1, len(history) + 1)
    for said_by_entries, said_by_rows in itertools.product(lengths, lengths):
        entries = history[:said_by_entries]
        rows = fold(history[:said_by_rows])
        one, other = state_of(fold(entries)).scopes[BLOCK], state_of(rows).scopes[BLOCK]

        settled = state_of(settle(entries, rows))

        account = settled.scopes[BLOCK]
        for k in range(len(account.caps)):
            assert account.caps[k] <= min(one.caps[k], other.caps[k])
            assert account.committed[k] >= max(one.committed[k], other.committed[k])
            assert account.total[k] >= max(one.total[k], other.total[k])
            held = [r for r in settled.reservations.values() if r.status == "open"]
            amounts = [r.charge.in_currency(account.currency)[k] for r in held]
            assert account.reserved[k] >= sum(amounts)


def test_the_same_copy_twice_settles_to_itself(history: list[Entry]) -> None:
    settled, folded = state_of(settle(history, fold(history))), state_of(fold(history))

    assert settled.scopes[BLOCK].total == folded.scopes[BLOCK].total
    assert settled.reservations == folded.reservations


def test_one_readable_copy_is_enough_and_none_is_not(history: list[Entry]) -> None:
    rows = fold(history)
    headless = history[1:]  # the account was never opened, so the rest does not follow

    assert state_of(settle(headless, rows)) == state_of(rows)
    assert settle(history, {}) == rows
    with pytest.raises(MalformedEntry):
        settle(headless, {})
    with pytest.raises(MalformedEntry):
        settle(headless, {"scope/x": {"version": 99}})
