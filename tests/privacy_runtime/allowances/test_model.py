"""Any sequence of requests, beside a plain model: a list of reservations and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privacy_core.errors import PrivacyError
from privacy_runtime.allowances import Balance, MemoryHome, Store, open_allowances
from privacy_runtime.testing import DEFAULT_START, ManualClock

NAMES = ("a", "b", "c", "missing")
CAPS = {"a": 12, "b": 5, "c": 0}
TTL_S = 10.0


@dataclass
class Reserved:
    kind: str
    asked: dict[str, int]
    held: dict[str, int]
    deadline_s: float
    end: str = ""
    spent: dict[str, int] = field(default_factory=dict)


class Model:
    """What the contract says, in the plainest words: balances are sums over a list."""

    def __init__(self) -> None:
        self.caps = dict(CAPS)
        self.raised: dict[str, dict[str, int]] = {}
        self.kept: dict[str, Reserved] = {}
        self.now_s = 0.0

    def filled(self, name: str) -> int:
        return sum(
            row.spent.get(name, 0) if row.end else row.held.get(name, 0)
            for row in self.kept.values()
        )

    def balance(self, name: str) -> Balance:
        spent = sum(row.spent.get(name, 0) for row in self.kept.values() if row.end)
        return Balance(self.caps[name], spent, self.filled(name) - spent)

    def hold(self, kind: str, key: str, debits: dict[str, int]) -> Any:
        earlier = self.kept.get(key)
        if earlier is not None:
            if (earlier.kind, earlier.asked) != (kind, debits):
                return "KeyReused"
            if kind == "spend":
                return None
            if self.ended(earlier):
                return "ReservationEnded"
            return frozenset(earlier.held) if kind == "each" else None
        room = {
            name: amount
            for name, amount in debits.items()
            if name in self.caps and self.filled(name) + amount <= self.caps[name]
        }
        if kind != "each" and room != debits:
            return (
                "UnknownAccount" if not self.caps.keys() >= debits.keys() else "AllowanceExhausted"
            )
        row = Reserved(kind, debits, room, self.now_s + TTL_S)
        if kind == "spend":
            row.end, row.spent = "settled", room
        self.kept[key] = row
        return frozenset(room) if kind == "each" else None

    def settle(self, key: str, spent: dict[str, int] | None) -> Any:
        row = self.kept.get(key)
        if row is None or row.kind == "spend" or (self.ended(row) and row.end == "expired"):
            return "UnknownReservation"
        said = spent or {}
        if any(name not in row.held or amount > row.held[name] for name, amount in said.items()):
            return "InvalidAmount"
        whole = {**row.held, **said}
        if row.end:
            return None if row.spent == whole else "KeyReused"
        row.end, row.spent = "settled", whole
        return None

    def ended(self, row: Reserved) -> bool:
        if not row.end and row.deadline_s <= self.now_s:
            row.end, row.spent = "expired", row.held
        return bool(row.end)

    def expire(self) -> None:
        for row in self.kept.values():
            self.ended(row)

    def raise_caps(self, key: str, more: dict[str, int]) -> Any:
        if key in self.raised:
            return None if self.raised[key] == more else "KeyReused"
        if not self.caps.keys() >= more.keys():
            return "UnknownAccount"
        self.raised[key] = more
        for name, amount in more.items():
            self.caps[name] += amount
        return None


KEYS = st.sampled_from([f"k{k}" for k in range(6)])
DEBITS = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 6), max_size=3)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["all", "each", "spend"]), KEYS, DEBITS),
    st.tuples(st.just("settle"), KEYS, st.none() | DEBITS),
    st.tuples(st.just("expire")),
    st.tuples(st.just("raise"), KEYS, DEBITS),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 9.0, 10.0])),
    st.tuples(st.just("jump"), st.sampled_from([-1000.0, 1000.0])),
    st.tuples(st.just("reopen")),
)


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except PrivacyError as error:
        return type(error).__name__


class Pair:
    """The model and a store, driven alike."""

    def __init__(self, open_store: Callable[[ManualClock], Store]) -> None:
        self.model, self.clock = Model(), ManualClock()
        self._open = open_store
        self.store = open_store(self.clock)
        self.store.open_accounts(CAPS)

    def step(self, step: tuple[Any, ...]) -> None:
        model, store = self.model, self.store
        match step:
            case "all", key, debits:
                found = outcome(lambda: store.reserve(key, debits, ttl_s=TTL_S))
                assert found == model.hold("all", key, debits)
            case "each", key, debits:
                found = outcome(lambda: store.reserve_each(key, debits, ttl_s=TTL_S))
                assert found == model.hold("each", key, debits)
            case "spend", key, debits:
                assert outcome(lambda: store.spend(key, debits)) == model.hold("spend", key, debits)
            case "settle", key, spent:
                assert outcome(lambda: store.settle(key, spent)) == model.settle(key, spent)
            case "raise", key, more:
                found = outcome(
                    lambda: store.raise_caps(key, more, signed_by="ada", reason="why not")
                )
                assert found == model.raise_caps(key, more)
            case ("expire",):
                store.expire()
                model.expire()
            case ("reopen",):
                store.close()
                self.store = self._open(self.clock)
            case "wait", seconds:
                self.clock.advance(seconds)
                self.model.now_s += seconds
            case "jump", seconds:
                # Whether what is due was noted by now is anybody's guess: note it before the jump.
                self.store.expire()
                self.model.expire()
                instant = DEFAULT_START + timedelta(seconds=self.model.now_s + seconds)
                self.clock.set_time_of_day(instant)
                self.model.now_s += seconds
        self.compare()

    def compare(self) -> None:
        found = self.store.balances(NAMES)
        assert found.keys() == self.model.caps.keys()
        for name, balance in found.items():
            expected = self.model.balance(name)
            # What is due may be counted as spent a little later: nobody can tell by what remains.
            assert (balance.cap, balance.remaining) == (expected.cap, expected.remaining), name
            assert balance.remaining >= 0

    def finish(self) -> None:
        self.step(("expire",))
        for name in CAPS:
            assert self.store.balances([name])[name] == self.model.balance(name)
        self.store.close()


@settings(max_examples=120, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_memory_does_what_the_model_does(steps: list[tuple[Any, ...]]) -> None:
    home = MemoryHome()
    pair = Pair(lambda clock: Store(home, clock=clock))
    for step in steps:
        pair.step(step)
    pair.finish()


def on_sqlite(folder: Path, number: int, steps: list[tuple[Any, ...]]) -> None:
    pair = Pair(lambda clock: open_allowances(folder / f"{number}.db", clock=clock))
    for step in steps:
        pair.step(step)
    pair.finish()


numbers = itertools.count()


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(STEPS, min_size=5, max_size=25))
def test_sqlite_does_what_the_model_does(tmp_path: Path, steps: list[tuple[Any, ...]]) -> None:
    on_sqlite(tmp_path, next(numbers), steps)


@pytest.mark.slow
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(STEPS, min_size=5, max_size=50))
def test_sqlite_does_it_for_longer(tmp_path: Path, steps: list[tuple[Any, ...]]) -> None:
    on_sqlite(tmp_path, next(numbers), steps)


def on_postgres(place: Any, steps: list[tuple[Any, ...]]) -> None:
    place.empty()
    pair = Pair(lambda clock: open_allowances(place.where, clock=clock))
    for step in steps:
        pair.step(step)
    pair.finish()


@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(STEPS, min_size=5, max_size=25))
def test_postgres_does_what_the_model_does(
    postgres_place: Any, steps: list[tuple[Any, ...]]
) -> None:
    on_postgres(postgres_place, steps)


@pytest.mark.slow
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(STEPS, min_size=5, max_size=50))
def test_postgres_does_it_for_longer(postgres_place: Any, steps: list[tuple[Any, ...]]) -> None:
    on_postgres(postgres_place, steps)
