from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from privacy_core.budget import (
    ApproveVoid,
    Commit,
    Expire,
    Grant,
    ProposeVoid,
    Refund,
    ResetClock,
    Signature,
    Watermark,
    Window,
    charge_from_json,
    charge_of,
    charge_to_json,
    entry_from_json,
    entry_to_json,
    fold,
    quota,
    reservation_from_json,
    reservation_to_json,
    scope_state_from_json,
    scope_state_to_json,
    shares_of,
)
from privacy_core.dp_events import Gaussian, NonPrivate
from privacy_core.errors import MalformedEntry


def through_json(data: Any) -> Any:
    return json.loads(json.dumps(data, allow_nan=False))


@pytest.fixture
def story(empty_book: Any, run: Any, block: Any, signed: Any) -> Any:
    """One of every kind of entry, each read back from JSON by the book."""
    book, org = empty_book, quota("clinic")
    book.open(block, 2.0)
    book.open(org, 1 / 3, window=Window(length_s=60, epsilon=1.1 + 2.2), authorisers=("ada", "bob"))
    for command in shares_of(org, book.block.guarantee, key="share", signature=signed):
        book.do(command)
    book.do(Grant(key="g", scope=org, epsilon=5.0, signature=signed))
    for i in range(4):
        book.reserve(f"r{i}", run(2), quota=(org,), ttl_s=50)
    book.do(Watermark(key="w", reservation="r0", consumed=run(1), ttl_s=90))
    book.do(Commit(key="c0", reservation="r0", actual=run(1)))
    book.do(Commit(key="c1", reservation="r1"))
    book.do(Refund(key="f", reservation="r2"))
    book.wait_s(60)
    book.do(Expire(reservation="r3"))
    book.do(ProposeVoid(key="p", reservation="r3", signature=signed))
    book.do(ApproveVoid(key="a", reservation="r3", signature=Signature("bob", "agreed")))
    book.do(ResetClock(key="reset", signature=signed))
    return book


def test_every_entry_account_and_reservation_comes_back(story: Any) -> None:
    assert len({type(entry) for entry in story.entries}) == 10
    for entry in story.entries:
        assert entry_from_json(through_json(entry_to_json(entry))) == entry
    for state in story.state.scopes.values():
        assert scope_state_from_json(through_json(scope_state_to_json(state))) == state
    for held in story.state.reservations.values():
        assert reservation_from_json(through_json(reservation_to_json(held))) == held


def test_the_entries_alone_give_the_state(story: Any) -> None:
    assert fold(story.entries) == story.state


def test_an_infinite_charge_comes_back() -> None:
    charge = charge_of(NonPrivate())

    assert charge_from_json(through_json(charge_to_json(charge))) == charge


def _drop(path: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *where, last = path.split(".")
        for name in where:
            document = document[name]
        del document[last]

    return change


def _put(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *where, last = path.split(".")
        for name in where:
            document = document[name]
        document[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_put("version", 2), "version 2 is not known"),
        (_drop("version"), "version None"),
        (_put("type", "Spent"), "entry type"),
        (_put("type", "Refunded"), "entry"),
        (_drop("at_us"), "has fields"),
        (_put("more", 1), "has fields"),
        (_put("at_us", 1.5), "entry.at_us"),
        (_put("at_us", True), "entry.at_us"),
        (_put("command.key", 7), "entry.command.key"),
        (_put("command.key", ""), "key is ''"),
        (_put("command.ttl_s", -1), "ttl_s"),
        (_put("command.protection", ["quota/a"]), "protection"),
        (_put("command.protection", ["nowhere/a"]), r"protection\[0\]"),
        (_put("command.protection", "x"), "is a list"),
        (_put("command.charge", None), "entry.command.charge is an object"),
        (_put("command.charge.orders", "renyi-99"), "orders"),
        (_put("command.charge.unit", "household"), "unit"),
        (_put("command.charge.relation", "none"), "relation"),
        (_put("command.charge.rdp", ["1"]), "rdp"),
        (_put("command.charge.gdp", [1]), r"gdp\[0\]"),
        (_put("command.charge.gdp", ["-1"]), "gdp"),
        (_put("command.charge.event.event.type", "Magic"), "event"),
        (_put("command.charge.event.version", 9), "event version 9"),
    ],
)
def test_what_is_not_an_entry_is_refused_by_its_place(
    book: Any, run: Any, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    document = through_json(entry_to_json(book.reserve("r", run(2)).entry))
    change(document)

    with pytest.raises(MalformedEntry, match=message):
        entry_from_json(document)


@pytest.mark.parametrize(
    ("name", "value"),
    [("currency", "euro"), ("caps", ["x"]), ("guarantee", 3), ("authorisers", [1]), ("window", 1)],
)
def test_what_is_not_an_account_is_refused(book: Any, name: str, value: Any) -> None:
    document = through_json(entry_to_json(book.entries[0]))
    document["command"][name] = value

    with pytest.raises(MalformedEntry, match=name):
        entry_from_json(document)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, "1", None, True])
def test_an_epsilon_that_is_no_number_is_refused(book: Any, value: Any) -> None:
    document = entry_to_json(book.entries[0])
    document["command"]["guarantee"]["epsilon"] = value

    with pytest.raises(MalformedEntry):
        entry_from_json(document)


@pytest.mark.parametrize("document", [None, [], "entry", 3])
def test_what_is_no_object_is_refused(document: Any) -> None:
    for read in (entry_from_json, scope_state_from_json, reservation_from_json, charge_from_json):
        with pytest.raises(MalformedEntry):
            read(document)


def test_entries_that_cannot_follow_are_refused(story: Any) -> None:
    by_type = {type(entry).__name__: entry for entry in story.entries}
    for name in ("Granted", "Reserved", "Watermarked", "Committed", "Refunded", "Expired"):
        with pytest.raises(MalformedEntry):
            fold([by_type[name]])
    with pytest.raises(MalformedEntry, match="occurs twice"):
        fold([*story.entries, story.entries[-1]])
    without_proposal = [e for e in story.entries if type(e).__name__ != "VoidProposed"]
    with pytest.raises(MalformedEntry, match="without a proposal"):
        fold(without_proposal)


def test_a_charge_is_priced_once() -> None:
    assert charge_of(Gaussian(2.0)) is charge_of(Gaussian(2.0))
