"""What every home of a journal keeps: one suite over memory, SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime.journal import (
    REPAIRED,
    ChainBroken,
    Change,
    Decision,
    Draft,
    Head,
    Journal,
    JournalHalted,
    JournalWentBack,
    KeyTaken,
    View,
)
from privacy_runtime.testing import Crash, CrashingJournal, CrashPoint

S = "stream"


def note(key: str, **body: Any) -> Decision:
    """A decision that always appends one entry."""
    return lambda view: Change([Draft("noted", key, body)])


def count_up(key: str) -> Decision:
    """A decision that reads a number, and writes the next, once per key."""

    def decide(view: View) -> Change:
        if key in view.entries:
            return Change()
        count = view.documents.get("count", {"value": 0})["value"] + 1
        return Change([Draft("counted", key, {"value": count})], {"count": {"value": count}})

    return decide


def filled(journal: Journal, entries: int = 5) -> None:
    for number in range(1, entries + 1):
        journal.transact(S, note(f"k{number}", number=number))


def test_entries_come_back_in_order_each_with_the_hash_of_the_one_before(place: Any) -> None:
    journal = place.journal()
    filled(journal, 3)

    entries = list(place.journal().read(S))

    assert [(e.seq, e.key, e.body["number"]) for e in entries] == [
        (1, "k1", 1),
        (2, "k2", 2),
        (3, "k3", 3),
    ]
    assert [e.prev_hash for e in entries] == ["0" * 64, entries[0].hash, entries[1].hash]
    assert journal.verify(S) == Head(3, entries[2].hash, entries[2].at)
    assert [e.seq for e in journal.read(S, after=2)] == [3]


def test_a_hash_is_sha256_of_the_canonical_json_of_the_rest(place: Any) -> None:
    (entry,) = place.journal().transact(S, note("k", text="ä", number=1))

    fields = json.loads(entry.line())
    stored = fields.pop("hash")

    plain = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    assert stored == hashlib.sha256(plain.encode()).hexdigest()


def test_streams_do_not_know_each_other(place: Any) -> None:
    journal = place.journal()
    journal.transact("one", note("k"))
    journal.transact("other", note("k"))

    assert journal.status("one").head.seq == journal.status("other").head.seq == 1
    assert journal.status("third").head == Head()
    assert journal.verify("third") == Head()


def test_a_key_is_taken_once(place: Any) -> None:
    journal = place.journal()
    journal.transact(S, note("k"))

    with pytest.raises(KeyTaken, match="'k'"):
        place.journal().transact(S, note("k"))

    assert journal.verify(S).seq == 1


def test_a_refusal_writes_nothing(place: Any) -> None:
    def refuse(view: View) -> Change:
        raise InvalidParameter("x", found=1, expected="2")

    journal = place.journal()
    with pytest.raises(InvalidParameter):
        journal.transact(S, refuse)

    assert journal.status(S).head == Head()


@pytest.mark.parametrize("body", [{"x": float("nan")}, {"x": {1, 2}}, {"x": float("inf")}])
def test_a_body_that_is_not_json_is_refused(place: Any, body: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        place.journal().transact(S, lambda view: Change([Draft("t", "k", body)]))

    assert place.journal().verify(S) == Head()


@pytest.mark.parametrize("key", ["", "x" * 513, "a\x00b"])
def test_a_key_that_cannot_be_stored_is_refused(place: Any, key: str) -> None:
    with pytest.raises(InvalidParameter):
        place.journal().transact(S, note(key))


def test_documents_change_with_the_entries_and_are_listed_by_name(place: Any) -> None:
    journal = place.journal()
    three = {"b/2": {"v": 2}, "a": {"v": 1}, "b/1": {"v": 3}}
    journal.transact(S, lambda view: Change([Draft("t", "k", {})], three))
    journal.transact(S, lambda view: Change([], {"a": None, "b/2": {"v": 9}}), names=("a",))

    assert list(journal.documents(S)) == [("b/1", {"v": 3}), ("b/2", {"v": 9})]
    assert list(journal.documents(S, "b/2")) == [("b/2", {"v": 9})]
    assert journal.document(S, "b/") is None
    assert journal.document(S, "b/1") == {"v": 3}


def test_time_in_a_stream_never_goes_back(place: Any) -> None:
    journal = place.journal()
    journal.transact(S, note("k1"))
    place.clock.set_time_of_day(place.clock.now() - timedelta(days=400))
    journal.transact(S, note("k2"))

    first, second = journal.read(S)
    assert first.at == second.at


def test_threads_and_processes_that_count_together_lose_nothing(place: Any) -> None:
    journals = [place.journal(), place.journal()]

    def work(name: int) -> None:
        for step in range(6):
            key = f"{name}/{step}"
            for _ in range(2):
                journals[name % 2].transact(S, count_up(key), keys=(key,), names=("count",))

    team = [threading.Thread(target=work, args=(name,)) for name in range(6)]
    for member in team:
        member.start()
    for member in team:
        member.join()

    assert [e.body["value"] for e in journals[0].read(S)] == list(range(1, 37))
    assert journals[0].document(S, "count") == {"value": 36}
    assert journals[0].verify(S).seq == 36


def test_what_shares_a_transaction_shares_no_refusal(place: Any) -> None:
    """One thread holds the turn until the others wait, so that they become one batch."""
    journal = place.journal()
    journal.transact(S, note("taken"))
    waiting = threading.Semaphore(0)
    results: dict[str, Any] = {}

    def slow(view: View) -> Change:
        for _ in range(5):
            waiting.acquire(timeout=10)
        return Change([Draft("t", "slow", {})])

    def ask(name: str, decide: Decision, keys: tuple[str, ...]) -> None:
        waiting.release()
        try:
            results[name] = journal.transact(S, decide, keys=keys, names=("count",))
        except (KeyTaken, InvalidParameter) as refusal:
            results[name] = refusal

    def refuse(view: View) -> Change:
        raise InvalidParameter("x", found=1, expected="2")

    team = [threading.Thread(target=journal.transact, args=(S, slow))]
    for name, decide, key in [
        ("one", count_up("one"), "one"),
        ("one again", count_up("one"), "one"),
        ("refused", refuse, "refused"),
        ("taken", note("taken"), "taken"),
        ("two", count_up("two"), "two"),
    ]:
        team.append(threading.Thread(target=ask, args=(name, decide, (key,))))
    for member in team:
        member.start()
    for member in team:
        member.join()

    assert isinstance(results["refused"], InvalidParameter)
    assert isinstance(results["taken"], KeyTaken)
    assert sorted(map(len, (results["one"], results["one again"]))) == [0, 1]
    assert {entry.body["value"] for entry in journal.read(S) if entry.type == "counted"} == {1, 2}
    assert journal.verify(S).seq == 4


def test_a_thread_that_dies_while_it_writes_leaves_the_others_served(place: Any) -> None:
    journal = place.journal()
    waiting = threading.Semaphore(0)
    died: list[BaseException] = []

    def die(view: View) -> Change:
        for _ in range(3):
            waiting.acquire(timeout=10)
        raise Crash

    def doomed() -> None:
        try:
            journal.transact(S, die)
        except Crash as crash:
            died.append(crash)

    def ask(key: str) -> None:
        waiting.release()
        journal.transact(S, count_up(key), keys=(key,), names=("count",))

    team = [threading.Thread(target=doomed)]
    team += [threading.Thread(target=ask, args=(key,)) for key in ("one", "two", "three")]
    for member in team:
        member.start()
    for member in team:
        member.join(timeout=20)

    assert not any(member.is_alive() for member in team)
    assert len(died) == 1
    assert [entry.body["value"] for entry in journal.read(S)] == [1, 2, 3]


DAMAGE: dict[str, tuple[Callable[[Any], None], int, str]] = {
    "content": (lambda p: p.edit_entry(3, body_text='{"number":4}'), 3, "content was changed"),
    "type": (lambda p: p.edit_entry(3, type="granted"), 3, "content was changed"),
    "time": (lambda p: p.edit_entry(3, at="2026-01-02"), 3, "content was changed"),
    "not json": (lambda p: p.edit_entry(3, body_text="\u00e4{"), 3, "content was changed"),
    "removed": (lambda p: p.remove_entry(3), 3, "missing, entry 4 follows"),
    "first removed": (lambda p: p.remove_entry(1), 1, "missing, entry 2 follows"),
    "hash": (lambda p: p.edit_entry(3, hash="f" * 64), 3, "content was changed"),
    "end removed": (lambda p: p.remove_entry(5), 5, "recorded end"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_halts_all_writers_and_is_repaired_on_the_record(
    place: Any, damage: str
) -> None:
    act, seq, reason = DAMAGE[damage]
    journal, other = place.journal(), place.journal()
    filled(journal)
    act(place)

    with pytest.raises(ChainBroken, match=reason) as broken:
        journal.verify(S)
    assert broken.value.seq == seq
    assert broken.value.expected != broken.value.found

    with pytest.raises(JournalHalted, match=f"entry {seq}"):
        other.transact(S, note("k9"))
    assert list(other.read(S))

    entry = other.repair(S, by="ada", reason="restored from paper", settle=lambda e, d: d)
    assert entry.type == REPAIRED
    assert entry.body["by"] == "ada"
    assert entry.body["breaks"][0]["seq"] in {seq, seq + 1}

    journal.transact(S, note("k9"))
    assert journal.verify(S).seq == 7


def test_another_change_of_a_repaired_entry_is_another_break(place: Any) -> None:
    journal = place.journal()
    filled(journal)
    place.edit_entry(2, body_text="{}")
    with pytest.raises(ChainBroken):
        journal.verify(S)
    journal.repair(S, by="ada", reason="known", settle=lambda e, d: d)
    place.edit_entry(2, body_text='{"number":7}')

    with pytest.raises(ChainBroken, match="entry 2"):
        journal.verify(S)


def test_a_missing_end_is_noticed_by_the_next_writer(place: Any) -> None:
    journal = place.journal()
    filled(journal)
    place.remove_entry(5)

    with pytest.raises(ChainBroken, match="entry 5"):
        place.journal().transact(S, note("k6"))
    with pytest.raises(JournalHalted):
        place.journal().transact(S, note("k6"))


def test_an_intact_journal_is_not_repaired(place: Any) -> None:
    journal = place.journal()
    filled(journal)

    with pytest.raises(InvalidParameter, match="intact"):
        journal.repair(S, by="ada", reason="why not", settle=lambda e, d: d)
    with pytest.raises(InvalidParameter, match="by"):
        journal.repair(S, by=" ", reason="why not", settle=lambda e, d: d)
    assert journal.verify(S).seq == 5


def test_documents_are_rebuilt_once_per_form_and_compared(place: Any) -> None:
    journal = place.journal()
    filled(journal)

    def fold(entries: Any) -> dict[str, Any]:
        return {"total": {"value": sum(e.body["number"] for e in entries)}}

    assert journal.project(S, "totals-1", fold)
    assert not place.journal().project(S, "totals-1", fold)
    assert journal.document(S, "total") == {"value": 15}
    journal.compare(S, fold)
    place.edit_document("total", '{"value":14}')
    with pytest.raises(JournalHalted, match="'total'"):
        journal.compare(S, fold)
    with pytest.raises(JournalHalted):
        journal.transact(S, note("k6"))


@pytest.mark.parametrize("point", [p for p in CrashPoint if p is not CrashPoint.NEVER])
def test_a_crash_leaves_all_or_nothing_and_the_key_decides(place: Any, point: CrashPoint) -> None:
    crashing = CrashingJournal(place.home(), place.clock, [CrashPoint.NEVER, point])
    crashing.transact(S, count_up("k1"), keys=("k1",), names=("count",))
    with pytest.raises(Crash):
        crashing.transact(S, count_up("k2"), keys=("k2",), names=("count",))

    survivor = place.journal()
    assert survivor.verify(S).seq == (2 if point is CrashPoint.UNANSWERED else 1)
    survivor.transact(S, count_up("k2"), keys=("k2",), names=("count",))
    crashing.close()

    assert survivor.verify(S).seq == 2
    assert survivor.document(S, "count") == {"value": 2}


def test_an_older_copy_under_an_open_journal_is_refused(place: Any) -> None:
    journal = place.journal()
    filled(journal, 2)
    if place.kind == "memory":
        place.rows.entries[S].pop()
        before = place.journal().status(S)
        place.rows.streams[S] = type(before)(Head(1, place.rows.entries[S][0].hash))
    else:
        place.sql("DELETE FROM journal_entries WHERE seq = 2")
        place.sql("UPDATE journal_streams SET seq = 1, hash = (SELECT hash FROM journal_entries)")

    with pytest.raises(JournalWentBack, match="ends at entry 1"):
        journal.transact(S, note("k3"))
    with pytest.raises(JournalWentBack):
        journal.verify(S)


def test_a_fork_carries_no_connection(durable: Any) -> None:
    journal = durable.journal()
    filled(journal, 1)
    child = os.fork()
    if child == 0:
        try:
            for step in range(5):
                journal.transact(S, note(f"child {step}"))
        finally:
            os._exit(0 if journal.status(S).head.seq >= 6 else 1)
    for step in range(5):
        journal.transact(S, note(f"parent {step}"))
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert journal.verify(S).seq == 11
