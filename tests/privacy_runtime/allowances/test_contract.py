"""What every home keeps: one suite over memory, SQLite and PostgreSQL."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from privacy_core.errors import InvalidParameter, PrivacyError
from privacy_runtime.allowances import (
    AMOUNT_MAX,
    AllowanceExhausted,
    AllowancesUnavailable,
    Balance,
    InvalidAmount,
    KeyReused,
    ReservationEnded,
    Reserved,
    Store,
    UnknownAccount,
    UnknownReservation,
)

TTL_S = 60.0


def opened(place: Any, **caps: int) -> Store:
    store: Store = place.open()
    store.open_accounts(caps or {"a": 100, "b": 10})
    return store


def test_what_is_reserved_is_held_and_what_is_settled_is_spent(place: Any) -> None:
    store = opened(place)

    store.reserve("k", {"a": 40, "b": 10}, ttl_s=TTL_S)
    assert store.balances(["a", "b"]) == {"a": Balance(100, 0, 40), "b": Balance(10, 0, 10)}
    store.settle("k", {"a": 15})
    assert store.balances(["a", "b"]) == {"a": Balance(100, 15, 0), "b": Balance(10, 10, 0)}
    assert place.open().balances(["a"])["a"].remaining == 85


def test_reservations_are_found_by_how_their_keys_begin(place: Any) -> None:
    store = opened(place)
    store.reserve("q/1/x", {"a": 40, "b": 10}, ttl_s=TTL_S)
    store.reserve("q/1/y", {"a": 3}, ttl_s=TTL_S)
    store.settle("q/1/x", {"a": 15})
    store.spend("q/1/\U0001f600", {"a": 1})
    store.reserve_each("q/2", {"b": 1, "nobody": 7}, ttl_s=TTL_S)
    for other in ("q/1", "q/10", "p/1/x", "q/0/z"):
        store.reserve(other, {"a": 1}, ttl_s=TTL_S)

    assert place.open().reservations("q/1/") == [
        Reserved("q/1/x", {"a": 40, "b": 10}, {"a": 15, "b": 10}),
        Reserved("q/1/y", {"a": 3}, None),
        Reserved("q/1/\U0001f600", {"a": 1}, {"a": 1}),
    ]
    assert store.reservations("q/2") == [Reserved("q/2", {}, None)]
    assert store.reservations("nobody asked this") == []
    place.clock.advance(TTL_S + 1)
    store.expire()
    assert store.reservations("q/1/y") == [Reserved("q/1/y", {"a": 3}, {"a": 3})]
    with pytest.raises(InvalidAmount):
        store.reservations("")


def test_a_refused_reservation_holds_nothing_and_names_the_accounts_without_room(
    place: Any,
) -> None:
    store = opened(place)
    with pytest.raises(AllowanceExhausted, match="b has 10 left, 11 was asked for") as refused:
        store.reserve("k", {"a": 100, "b": 11}, ttl_s=TTL_S)

    assert refused.value.shortages == {"b": (11, 10)}
    assert store.balances(["a", "b"]) == {"a": Balance(100, 0, 0), "b": Balance(10, 0, 0)}
    store.reserve("k", {"a": 100, "b": 10}, ttl_s=TTL_S)  # the key is free still


def test_an_account_that_is_not_open_cannot_be_spent(place: Any) -> None:
    store = opened(place)
    for spend in (
        lambda: store.reserve("k", {"a": 1, "nobody": 0}, ttl_s=TTL_S),
        lambda: store.spend("k", {"nobody": 1}),
        lambda: store.raise_caps("k", {"a": 1, "nobody": 1}, signed_by="ada", reason="r"),
    ):
        with pytest.raises(UnknownAccount, match="nobody"):
            spend()

    assert store.balances(["a", "nobody"]) == {"a": Balance(100, 0, 0)}


def test_the_same_key_with_the_same_debits_holds_once(place: Any) -> None:
    store = opened(place)
    for _ in range(3):
        store.reserve("k", {"a": 60, "b": 1}, ttl_s=TTL_S)
        place.open().reserve("k", {"b": 1, "a": 60}, ttl_s=2 * TTL_S)
        store.spend("s", {"a": 7})

    assert store.balances(["a"])["a"] == Balance(100, 7, 60)


@pytest.mark.parametrize("again", ["reserve", "reserve_each", "spend"])
def test_a_key_does_not_stand_for_two_requests(place: Any, again: str) -> None:
    store = opened(place)
    calls: dict[str, Callable[[str, dict[str, int]], object]] = {
        "reserve": lambda key, debits: store.reserve(key, debits, ttl_s=TTL_S),
        "reserve_each": lambda key, debits: store.reserve_each(key, debits, ttl_s=TTL_S),
        "spend": store.spend,
    }
    for name, call in calls.items():
        call(name, {"a": 1})
    before = store.balances(["a", "b"])
    for key in calls:
        for debits in ({"a": 2}, {"b": 1}, {"a": 1, "b": 0}, {}):
            with pytest.raises(KeyReused):
                calls[again](key, debits)
        if key != again:
            with pytest.raises(KeyReused):
                calls[again](key, {"a": 1})

    assert store.balances(["a", "b"]) == before


def test_an_ended_reservation_is_not_used_again(place: Any) -> None:
    store = opened(place)
    for key, spent in (("nothing", {"a": 0}), ("all", None)):
        store.reserve(key, {"a": 5}, ttl_s=TTL_S)
        store.reserve_each(f"{key} each", {"a": 5}, ttl_s=TTL_S)
        store.settle(key, spent)
        store.settle(f"{key} each", spent)

        with pytest.raises(ReservationEnded, match="nothing was changed"):
            store.reserve(key, {"a": 5}, ttl_s=TTL_S)
        with pytest.raises(ReservationEnded):
            store.reserve_each(f"{key} each", {"a": 5}, ttl_s=TTL_S)

    assert store.balances(["a"])["a"] == Balance(100, 10, 0)


def test_each_account_with_room_is_held_and_the_others_are_not(place: Any) -> None:
    store = opened(place, a=10, b=1, c=0)
    debits = {"a": 3, "b": 2, "c": 1, "nobody": 1}

    assert store.reserve_each("k", debits, ttl_s=TTL_S) == {"a"}
    store.raise_caps("more", {"b": 50}, signed_by="ada", reason="new data")
    assert store.reserve_each("k", debits, ttl_s=TTL_S) == {"a"}
    assert store.reserve_each("k2", debits, ttl_s=TTL_S) == {"a", "b"}
    assert store.reserve_each("k3", {"c": 1}, ttl_s=TTL_S) == frozenset()
    store.settle("k", {"a": 1})
    store.settle("k3")
    assert store.balances(["a", "b", "c"]) == {
        "a": Balance(10, 1, 3),
        "b": Balance(51, 0, 2),
        "c": Balance(0, 0, 0),
    }


def test_errors_of_reserving_each_and_its_settling_name_nobody(place: Any) -> None:
    store = opened(place, **{"patient-77": 5})
    store.reserve_each("k", {"patient-77": 5}, ttl_s=TTL_S)
    calls: tuple[Callable[[], object], ...] = (
        lambda: store.reserve_each("k", {"patient-77": 4}, ttl_s=TTL_S),
        lambda: store.reserve_each("k2", {"patient-77": -1}, ttl_s=TTL_S),
        lambda: store.settle("k", {"patient-77": 6}),
        lambda: store.settle("other", {"patient-77": 6}),
    )
    for call in calls:
        with pytest.raises(PrivacyError) as refused:
            call()
        assert "patient-77" not in f"{refused.value!s} {refused.value!r}"


def test_settling_twice_alike_is_one_and_otherwise_changes_nothing(place: Any) -> None:
    store = opened(place)
    store.reserve("k", {"a": 9, "b": 5}, ttl_s=TTL_S)
    store.settle("k", {"a": 4})
    store.settle("k", {"a": 4})
    store.settle("k", {"a": 4, "b": 5})
    for other in ({"a": 5}, None, {"a": 4, "b": 4}):
        with pytest.raises(KeyReused):
            store.settle("k", other)

    assert store.balances(["a", "b"]) == {"a": Balance(100, 4, 0), "b": Balance(10, 5, 0)}


@pytest.mark.parametrize("spent", [{"a": 10}, {"b": 0}, {"a": 1, "c": 1}])
def test_more_than_was_held_cannot_be_settled(place: Any, spent: dict[str, int]) -> None:
    store = opened(place)
    store.reserve("k", {"a": 9}, ttl_s=TTL_S)
    with pytest.raises(InvalidAmount, match="nothing was changed"):
        store.settle("k", spent)

    assert store.balances(["a"])["a"] == Balance(100, 0, 9)


def test_what_was_never_reserved_cannot_be_settled(place: Any) -> None:
    store = opened(place)
    store.spend("s", {"a": 1})
    for key in ("k", "s"):
        with pytest.raises(UnknownReservation, match="no reservation"):
            store.settle(key)


def test_a_reservation_past_its_deadline_is_spent_and_never_given_back(place: Any) -> None:
    store = opened(place)
    store.reserve("k", {"a": 90}, ttl_s=TTL_S)
    store.reserve("later", {"a": 10}, ttl_s=2 * TTL_S)
    place.clock.advance(TTL_S)

    with pytest.raises(AllowanceExhausted):
        store.reserve("more", {"a": 1}, ttl_s=TTL_S)
    with pytest.raises(UnknownReservation, match="ended at its deadline"):
        store.settle("k", {"a": 0})
    with pytest.raises(ReservationEnded):
        store.reserve("k", {"a": 90}, ttl_s=TTL_S)
    store.expire()
    assert store.balances(["a"])["a"] == Balance(100, 90, 10)
    place.clock.advance(TTL_S)
    assert store.expire() == 1
    assert store.expire() == 0
    assert store.balances(["a"])["a"] == Balance(100, 100, 0)


def test_many_reservations_expire_in_one_call(place: Any) -> None:
    store = opened(place, a=10_000)
    for k in range(12):
        store.reserve_each(f"k{k}", {"a": 3}, ttl_s=TTL_S)
    place.clock.advance(TTL_S)

    assert store.expire() == 12
    assert store.balances(["a"])["a"] == Balance(10_000, 36, 0)


def test_what_nobody_asks_about_expires_with_the_next_request(place: Any) -> None:
    store = opened(place)
    store.reserve("k", {"b": 4}, ttl_s=TTL_S)
    place.clock.advance(TTL_S)
    store.spend("other", {"a": 1})

    assert store.balances(["b"])["b"] == Balance(10, 4, 0)


def test_clock_jumps_free_nothing(place: Any) -> None:
    store = opened(place)
    start = place.clock.now()
    store.reserve("k", {"a": 90}, ttl_s=TTL_S)
    place.clock.set_time_of_day(start - timedelta(days=4000))
    store.reserve("back then", {"a": 5}, ttl_s=TTL_S)
    store.expire()
    place.clock.set_time_of_day(start + timedelta(days=4000))
    store.reserve("in the future", {"a": 5}, ttl_s=TTL_S)
    store.expire()
    place.clock.set_time_of_day(start)

    with pytest.raises(AllowanceExhausted):
        store.spend("more", {"a": 1})
    with pytest.raises(UnknownReservation):
        store.settle("k", {"a": 0})
    store.settle("in the future", {"a": 1})
    assert store.balances(["a"])["a"] == Balance(100, 96, 0)


def test_ended_keys_are_remembered_for_the_stated_time_and_then_forgotten(place: Any) -> None:
    store = place.open(keep_s=100.0)
    store.open_accounts({"a": 100})
    store.reserve("settled", {"a": 1}, ttl_s=TTL_S)
    store.settle("settled")
    store.spend("spent", {"a": 2})
    store.reserve("open", {"a": 4}, ttl_s=1_000.0)
    place.clock.advance(100.0)
    store.spend("spent", {"a": 2})
    store.settle("settled")
    assert store.balances(["a"])["a"] == Balance(100, 3, 4)
    place.clock.advance(1.0)
    store.spend("other", {"a": 8})  # forgets in passing

    store.spend("spent", {"a": 2})
    with pytest.raises(UnknownReservation):
        store.settle("settled")
    store.settle("open", {"a": 0})
    assert store.balances(["a"])["a"] == Balance(100, 13, 0)


def test_what_is_stored_does_not_grow_beyond_what_is_remembered(memory_place: Any) -> None:
    store = memory_place.open(keep_s=10.0)
    store.open_accounts({"a": AMOUNT_MAX})
    for k in range(300):
        store.spend(f"k{k}", {"a": 1})
        memory_place.clock.advance(1.0)

    assert len(memory_place.rows.reservations) <= 12
    assert store.balances(["a"])["a"].spent == 300


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_a_time_that_is_none_is_refused(memory_place: Any, seconds: float) -> None:
    for times in ({"keep_s": seconds}, {"retry_s": seconds}):
        with pytest.raises(InvalidParameter):
            memory_place.open(**times)


def test_an_open_account_keeps_its_cap(place: Any) -> None:
    store = opened(place, a=5)
    store.spend("s", {"a": 4})
    store.open_accounts({"a": 500, "c": 1})

    assert store.balances(["a", "c"]) == {"a": Balance(5, 4, 0), "c": Balance(1, 0, 0)}


def test_caps_are_raised_once_for_a_key_and_the_signature_is_kept(place: Any) -> None:
    store = opened(place)
    for _ in range(2):
        store.raise_caps("r1", {"b": 7, "a": 1}, signed_by="ada", reason="new cohort")
    place.clock.advance(5.0)
    store.raise_caps("r2", {"b": 1}, signed_by="bob", reason="audit")
    for more, who, why in (
        ({"b": 8, "a": 1}, "ada", "new cohort"),
        ({"b": 7, "a": 1}, "eve", "new cohort"),
        ({"b": 7, "a": 1}, "ada", "another"),
    ):
        with pytest.raises(KeyReused):
            store.raise_caps("r1", more, signed_by=who, reason=why)

    assert store.balances(["a", "b"]) == {"a": Balance(101, 0, 0), "b": Balance(18, 0, 0)}
    kept = place.open().raises()
    assert [(r.key, dict(r.more), r.signed_by, r.reason) for r in kept] == [
        ("r1", {"a": 1, "b": 7}, "ada", "new cohort"),
        ("r2", {"b": 1}, "bob", "audit"),
    ]
    assert kept[1].at - kept[0].at == timedelta(seconds=5)


def test_a_raise_without_words_is_refused(memory_place: Any) -> None:
    store = opened(memory_place)
    for who, why in ((" ", "r"), ("ada", "")):
        with pytest.raises(InvalidParameter):
            store.raise_caps("r", {"a": 1}, signed_by=who, reason=why)

    assert store.raises() == []


@pytest.mark.parametrize("amount", [-1, AMOUNT_MAX + 1, 1.0, True, "1", None])
def test_what_is_no_amount_is_refused(memory_place: Any, amount: Any) -> None:
    store = opened(memory_place)
    for call in (
        lambda: store.open_accounts({"new": amount}),
        lambda: store.raise_caps("r", {"a": amount}, signed_by="ada", reason="r"),
        lambda: store.reserve("k", {"a": amount}, ttl_s=TTL_S),
        lambda: store.reserve_each("k", {"a": amount}, ttl_s=TTL_S),
        lambda: store.spend("k", {"a": amount}),
        lambda: store.settle("k", {"a": amount}),
    ):
        with pytest.raises(InvalidAmount, match="a whole number"):
            call()

    assert store.balances(["a", "new"]) == {"a": Balance(100, 0, 0)}


@pytest.mark.parametrize("name", ["", "x" * 513, "a\x00b", "a\nb", "\ud800", 7])
def test_what_is_no_name_is_refused(memory_place: Any, name: Any) -> None:
    store = opened(memory_place)
    for call in (
        lambda: store.open_accounts({name: 1}),
        lambda: store.raise_caps(name, {"a": 1}, signed_by="ada", reason="r"),
        lambda: store.balances([name]),
        lambda: store.reserve(name, {"a": 1}, ttl_s=TTL_S),
        lambda: store.reserve("k", {name: 1}, ttl_s=TTL_S),
        lambda: store.settle(name),
    ):
        with pytest.raises(InvalidAmount, match="printable"):
            call()


@pytest.mark.parametrize("ttl_s", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_a_reservation_has_a_deadline(memory_place: Any, ttl_s: float) -> None:
    with pytest.raises(InvalidParameter):
        opened(memory_place).reserve("k", {"a": 1}, ttl_s=ttl_s)


def test_the_largest_amounts_neither_wrap_nor_round(place: Any) -> None:
    store = opened(place, a=AMOUNT_MAX)
    store.reserve("k", {"a": AMOUNT_MAX}, ttl_s=TTL_S)
    with pytest.raises(AllowanceExhausted):
        store.reserve("k2", {"a": 1}, ttl_s=TTL_S)
    with pytest.raises(InvalidAmount, match="too large"):
        store.raise_caps("r", {"a": 1}, signed_by="ada", reason="r")
    store.settle("k", {"a": AMOUNT_MAX - 1})

    assert store.balances(["a"])["a"] == Balance(AMOUNT_MAX, AMOUNT_MAX - 1, 0)


def test_names_are_any_printable_text(place: Any) -> None:
    names = ["ä", "quo\"te'; --", "%s", "{}", "a\\b", "日本"]
    store = opened(place, **dict.fromkeys(names, 5))
    store.reserve("%s'\"\\", dict.fromkeys(names, 2), ttl_s=TTL_S)
    store.settle("%s'\"\\", {names[0]: 1})

    assert store.balances(names) == {
        names[0]: Balance(5, 1, 0),
        **dict.fromkeys(names[1:], Balance(5, 2, 0)),
    }


def test_thousands_of_accounts_are_held_at_once(place: Any) -> None:
    names = [f"patient/{k}" for k in range(2_100)]
    store = opened(place, **dict.fromkeys(names, 3))
    assert store.reserve_each("k", dict.fromkeys(names, 2), ttl_s=TTL_S) == set(names)
    assert store.reserve_each("k2", dict.fromkeys(names, 2), ttl_s=TTL_S) == frozenset()
    store.settle("k", dict.fromkeys(names[:100], 0))

    assert sum(balance.spent for balance in store.balances(names).values()) == 2 * 2_000


def test_an_empty_request_holds_nothing(place: Any) -> None:
    store = opened(place)
    store.reserve("k", {}, ttl_s=TTL_S)
    assert store.reserve_each("e", {}, ttl_s=TTL_S) == frozenset()
    store.settle("k")
    store.open_accounts({})

    assert store.balances([]) == {}


def test_two_stores_see_each_other(place: Any) -> None:
    one, two = opened(place), place.open()
    for k in range(5):
        one.reserve(f"one/{k}", {"a": 10}, ttl_s=TTL_S)
        two.reserve(f"two/{k}", {"a": 10}, ttl_s=TTL_S)
    with pytest.raises(AllowanceExhausted):
        one.spend("s", {"a": 1})
    one.settle("two/0", {"a": 0})
    two.raise_caps("r", {"a": 1}, signed_by="ada", reason="r")
    one.spend("s", {"a": 11})

    assert two.balances(["a"])["a"] == Balance(101, 11, 90)


def test_threads_overspend_nothing_and_share_what_there_is(place: Any) -> None:
    stores = [opened(place, a=500), place.open()]
    outcomes: list[str] = []

    def spend(thread: int) -> None:
        for count in range(50):
            try:
                stores[thread % 2].spend(f"{thread}/{count}", {"a": 1})
                outcomes.append("spent")
            except AllowanceExhausted:
                outcomes.append("refused")

    team = [threading.Thread(target=spend, args=(k,)) for k in range(24)]
    for member in team:
        member.start()
    for member in team:
        member.join()

    assert outcomes.count("spent") == 500
    assert outcomes.count("refused") == 24 * 50 - 500
    assert stores[0].balances(["a"])["a"] == Balance(500, 500, 0)


def test_a_closed_store_says_so(place: Any) -> None:
    store = opened(place)
    store.close()
    store.close()
    with pytest.raises(AllowancesUnavailable, match="closed; nothing was changed"):
        store.reserve("k", {"a": 1}, ttl_s=TTL_S)


def test_a_forked_child_must_open_its_own(place: Any) -> None:
    store = opened(place)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            store.spend("k", {"a": 1})
        except AllowancesUnavailable:
            code = 0
        finally:
            os._exit(code)

    assert os.waitpid(child, 0)[1] == 0
    store.spend("k", {"a": 2})
