"""The ledger's promises over every home: memory, SQLite and PostgreSQL."""

from __future__ import annotations

import json
import shutil
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from privacy_core import errors
from privacy_core.dp_events import Gaussian, SelfComposed
from privacy_core.errors import BudgetExhausted, InvalidParameter
from privacy_core.guarantee import Guarantee
from privacy_runtime.budget_store import (
    AnchorFile,
    BudgetStore,
    Charge,
    HeadKey,
    Reserved,
    Signature,
    Status,
    charge_of,
    protection,
    quota,
    verify_export,
)
from privacy_runtime.journal import (
    AnchorRefused,
    ChainBroken,
    JournalHalted,
    JournalWentBack,
)
from privacy_runtime.testing import (
    Crash,
    CrashingJournal,
    CrashPoint,
    ManualClock,
    SeededEntropy,
)

BLOCK, TEAM, CLINIC = (
    protection("hospital-a", "2026-08"),
    quota("clinic", "research"),
    quota("clinic"),
)
ADA, BOB = Signature("ada", "approved"), Signature("bob", "approved too")
PROMISE = Guarantee(epsilon=2.0, delta=1e-6)


def steps(count: int) -> Charge:
    """A run of so many full-batch steps."""
    return charge_of(SelfComposed(Gaussian(10.0), count))


def both(one: Charge, other: Charge) -> tuple[int, ...]:
    """What two charges add up to; each was rounded up by itself."""
    return tuple(a + b for a, b in zip(one.rdp, other.rdp, strict=True))


def reserve(store: BudgetStore, key: str, count: int = 1, ttl_s: int = 60) -> Any:
    return store.reserve(key, protection=(BLOCK,), quota=(TEAM,), charge=steps(count), ttl_s=ttl_s)


def open_all(store: BudgetStore) -> None:
    for scope in (BLOCK, CLINIC, TEAM):
        store.open_account(f"open {scope}", scope, PROMISE, signature=ADA)


@pytest.fixture
def store(place: Any) -> BudgetStore:
    store = BudgetStore(place.journal(), clock=place.clock)
    open_all(store)
    return store


def another(place: Any) -> BudgetStore:
    """The same ledger as another process would open it."""
    return BudgetStore(place.journal(), clock=place.clock)


def test_a_reservation_is_charged_to_every_scope_and_gives_back_what_was_not_spent(
    place: Any, store: BudgetStore
) -> None:
    reserve(store, "run", 10)
    full = store.balance(BLOCK)
    store.watermark("mark", "run", consumed=steps(2))
    store.commit("done", "run", actual=steps(4))

    assert full.epsilon_committed == 0 < full.epsilon_if_all_commit
    for scope in (BLOCK, TEAM, CLINIC):
        account = another(place).balance(scope)
        assert account.committed[:12] == steps(4).rdp
        assert set(account.reserved) == {0}
    assert store.reservation("run").status is Status.COMMITTED
    assert store.open_reservations() == []
    assert [type(fact.entry).__name__ for fact in store.history(after=3)] == [
        "Reserved",
        "Watermarked",
        "Committed",
    ]
    assert store.verify().seq == 6


def test_the_same_request_returns_the_same_entry_and_another_is_refused(
    place: Any, store: BudgetStore
) -> None:
    first = reserve(store, "run")
    place.clock.advance(30)

    other = another(place)
    assert all(reserve(other, "run") == first for _ in range(100))
    assert store.balance(BLOCK).reserved[:12] == steps(1).rdp
    with pytest.raises(errors.IdempotencyConflict):
        reserve(store, "run", 2)


def test_a_key_asked_for_a_hundred_times_at_once_charges_once(
    place: Any, store: BudgetStore
) -> None:
    stores, answers = [store, another(place)], []

    def ask(number: int) -> None:
        answers.extend(reserve(stores[number % 2], "run") for _ in range(10))

    team = [threading.Thread(target=ask, args=(number,)) for number in range(10)]
    for member in team:
        member.start()
    for member in team:
        member.join()

    assert len(answers) == 100
    assert len(set(map(repr, answers))) == 1
    assert store.verify().seq == 4


def test_what_does_not_fit_is_refused_and_leaves_nothing(place: Any, store: BudgetStore) -> None:
    reserve(store, "most", 10)
    with pytest.raises(BudgetExhausted) as refused:
        reserve(store, "more", 10)
    with pytest.raises(errors.UnknownScope):
        store.reserve("x", protection=(protection("b", "1"),), charge=steps(1), ttl_s=60)

    assert {shortage.scope for shortage in refused.value.shortages} == {
        str(scope) for scope in (BLOCK, TEAM, CLINIC)
    }
    assert store.verify().seq == 4
    store.refund("back", "most")
    reserve(store, "more", 10)


def test_a_reservation_whose_time_ran_out_is_spent(place: Any, store: BudgetStore) -> None:
    reserve(store, "short", ttl_s=10)
    reserve(store, "long", ttl_s=1000)
    assert store.expire_due() == []
    place.clock.advance(11)

    with pytest.raises(errors.ReservationClosed):
        store.refund("late", "short")
    assert [entry.command.reservation for entry in another(place).expire_due()] == ["short"]
    assert store.expire_due() == []
    assert store.balance(BLOCK).committed[:12] == steps(1).rdp
    assert store.reservation("short").status is Status.EXPIRED


def test_a_clock_that_goes_back_refills_nothing_and_a_reset_is_signed(
    place: Any, store: BudgetStore
) -> None:
    place.clock.advance(86400 * 365)
    reserve(store, "from the future")
    place.clock.set_time_of_day(place.clock.now() - timedelta(days=300))

    with pytest.raises(errors.ClockWentBack):
        reserve(store, "now")
    store.reset_clock("reset", signature=ADA)
    reserve(store, "now")

    assert store.balance(BLOCK).reserved[:12] == both(steps(1), steps(1))
    assert store.verify().seq == 6


def test_striking_out_takes_two_persons(store: BudgetStore) -> None:
    reserve(store, "run")
    store.commit("done", "run")
    store.propose_void("v1", "run", signature=ADA)

    with pytest.raises(errors.NotAuthorised):
        store.approve_void("v2", "run", signature=Signature("Ada ", "again"))
    store.approve_void("v2", "run", signature=BOB)

    assert set(store.balance(BLOCK).committed) == {0}


def test_a_grant_raises_the_cap_and_is_remembered(place: Any, store: BudgetStore) -> None:
    store.grant("g", BLOCK, epsilon=1.0, signature=ADA)

    assert another(place).balance(BLOCK).guarantee.epsilon == 3.0
    assert [a.scope for a in store.accounts()] == sorted([BLOCK, CLINIC, TEAM])


@pytest.mark.parametrize("key", ["journal.repaired:4", "expiry:x", ""])
def test_keys_of_the_ledger_itself_are_refused(store: BudgetStore, key: str) -> None:
    with pytest.raises(InvalidParameter):
        reserve(store, key)


def test_unknown_names_are_refused(store: BudgetStore) -> None:
    with pytest.raises(errors.UnknownScope):
        store.balance(protection("nobody", "2026"))
    with pytest.raises(errors.UnknownReservation):
        store.reservation("nothing")
    with pytest.raises(errors.UnknownReservation):
        store.commit("c", "nothing")


@pytest.mark.parametrize("point", [p for p in CrashPoint if p is not CrashPoint.NEVER])
@pytest.mark.parametrize("step", ["reserve", "commit", "refund"])
def test_a_crash_at_any_point_charges_once(place: Any, step: str, point: CrashPoint) -> None:
    store = BudgetStore(place.journal(), clock=place.clock)
    open_all(store)
    acts = {
        "reserve": lambda s: reserve(s, "run"),
        "commit": lambda s: s.commit("end", "run"),
        "refund": lambda s: s.refund("end", "run"),
    }
    if step != "reserve":
        reserve(store, "run")
    doomed = CrashingJournal(place.home(), place.clock, [point])
    with pytest.raises(Crash):
        acts[step](BudgetStore(doomed, clock=place.clock))
    doomed.close()

    acts[step](another(place))

    total = store.balance(BLOCK).total[:12]
    assert total == (steps(1).rdp if step != "refund" else (0,) * 12)
    assert store.verify().seq == (4 if step == "reserve" else 5)


def test_an_account_edited_in_the_database_is_noticed(place: Any, store: BudgetStore) -> None:
    reserve(store, "run", 5)
    name = f"scope/{BLOCK}"
    document = dict(place.journal().document("ledger", name))
    place.edit_document(name, json.dumps(document).replace(str(steps(5).rdp[0]), "0"))

    with pytest.raises(JournalHalted, match="hospital-a"):
        store.verify()
    with pytest.raises(JournalHalted):
        reserve(another(place), "next")
    store.repair(by="ada", reason="the row was edited by hand; the entries are right")

    assert store.balance(BLOCK).reserved[:12] == steps(5).rdp
    reserve(store, "next")
    store.verify()


@pytest.mark.parametrize("damage", ["cheaper", "unreadable", "missing"])
def test_after_damage_the_worse_of_entries_and_accounts_holds(
    place: Any, store: BudgetStore, damage: str
) -> None:
    reserve(store, "run", 5)
    reserve(store, "other", 2)
    entry = list(place.journal().read("ledger"))[3]
    if damage == "cheaper":
        cheap = entry.body_text.replace(str(steps(5).rdp[0]), "1")
        place.edit_entry(4, body_text=cheap)
    elif damage == "unreadable":
        place.edit_entry(4, body_text="{")
    else:
        place.remove_entry(4)

    with pytest.raises(ChainBroken, match="entry 4"):
        store.verify()
    with pytest.raises(JournalHalted):
        reserve(store, "next")
    assert store.balance(BLOCK).epsilon_if_all_commit > 0  # reading works
    store.repair(by="ada", reason="a disk error; the accounts were unharmed")

    assert store.balance(BLOCK).reserved[:12] == both(steps(5), steps(2))
    store.commit("done", "run")
    store.commit("done too", "other")
    assert store.balance(BLOCK).committed[:12] == both(steps(5), steps(2))
    store.verify()


def test_an_export_is_checked_without_a_database(tmp_path: Path, store: BudgetStore) -> None:
    key, path = HeadKey.create(tmp_path / "key", SeededEntropy(1)), tmp_path / "ledger.jsonl"
    reserve(store, "run")
    assert store.export(path, key=key) == 4
    found = verify_export(path, public_key=key.public_key)
    lines = path.read_text().splitlines()

    assert (found.entries, found.head) == (4, store.head())
    for changed, error in {
        "\n".join([*lines[:1], *lines[2:]]): ChainBroken,
        "\n".join(
            [*lines[:3], lines[3].replace('"ttl_s":60', '"ttl_s":61'), lines[4]]
        ): ChainBroken,
        "\n".join([*lines[:3], lines[4]]): ChainBroken,
        "\n".join(lines[:3]): AnchorRefused,
        "\n".join([*lines[:4], lines[4].replace('"seq":4', '"seq":3')]): ChainBroken,
        "\n".join([lines[0], "{}", *lines[2:]]): ChainBroken,
    }.items():
        path.write_text(changed + "\n")
        with pytest.raises(error):
            verify_export(path, public_key=key.public_key)
    store.export(path)
    assert verify_export(path).signed is None


def test_a_backup_older_than_the_anchor_is_refused(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.db", ManualClock()
    key = HeadKey.create(tmp_path / "key", SeededEntropy(1))
    anchor = AnchorFile(tmp_path / "elsewhere", key)
    with BudgetStore.open(path, clock=clock, anchor=anchor) as store:
        open_all(store)
    shutil.copy(path, tmp_path / "backup.db")
    with BudgetStore.open(path, clock=clock, anchor=anchor) as store:
        reserve(store, "run")
    shutil.copy(tmp_path / "backup.db", path)

    with pytest.raises(JournalWentBack, match=r"ends at entry 3, but anchor .* saw entry 4"):
        BudgetStore.open(path, clock=clock, anchor=anchor)
    with BudgetStore.open(path, clock=clock) as store:  # the file alone cannot know
        reserve(store, "another run")
    with pytest.raises(ChainBroken, match="not the entry that anchor"):
        BudgetStore.open(path, clock=clock, anchor=anchor)


def test_a_ledger_is_found_by_path_or_url(tmp_path: Path, place: Any) -> None:
    where = {"memory": f"sqlite:///{tmp_path / 'l.db'}", "sqlite": tmp_path / "l.db"}
    with BudgetStore.open(where.get(place.kind, place.url), clock=place.clock) as store:
        open_all(store)
    with BudgetStore.open(where.get(place.kind, place.url), clock=place.clock) as store:
        assert isinstance(reserve(store, "run"), Reserved)
    with pytest.raises(InvalidParameter, match="mysql"):
        BudgetStore.open("mysql://x")


def test_an_anchor_needs_to_be_given(store: BudgetStore) -> None:
    with pytest.raises(InvalidParameter, match="anchor"):
        store.anchor_now()
