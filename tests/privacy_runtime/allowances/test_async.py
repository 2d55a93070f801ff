"""The face for event loops: the same answers, no blocked loop, no thread a call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from privacy_runtime.allowances import (
    AllowanceExhausted,
    AllowancesUnavailable,
    AsyncAllowances,
    Balance,
    InvalidAmount,
    KeyReused,
    MemoryHome,
    Store,
    UnknownReservation,
)
from privacy_runtime.allowances.rows import Loaded
from privacy_runtime.testing import ManualClock

TTL_S = 60.0


class HeldUpHome(MemoryHome):
    """A disk that answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived, self.go_on = threading.Event(), threading.Event()
        self.groups: list[int] = []

    def load(self, keys: Any, names: Any) -> Loaded:
        self.arrived.set()
        self.go_on.wait()
        self.groups.append(len(keys))
        return super().load(keys, names)


def test_every_method_answers_as_the_store_does(place: Any) -> None:
    async def ask() -> None:
        allowances = AsyncAllowances(place.open())
        await allowances.open_accounts({"a": 100})
        await allowances.reserve("k", {"a": 60}, ttl_s=TTL_S)
        assert await allowances.reserve_each("e", {"a": 30, "b": 1}, ttl_s=TTL_S) == {"a"}
        await allowances.settle("k", {"a": 20})
        await allowances.spend("s", {"a": 50})
        with pytest.raises(AllowanceExhausted):
            await allowances.spend("more", {"a": 1})
        with pytest.raises(KeyReused):
            await allowances.spend("s", {"a": 1})
        with pytest.raises(UnknownReservation):
            await allowances.settle("nothing")
        await allowances.raise_caps("r", {"a": 5}, signed_by="ada", reason="why")
        assert [raised.key for raised in await allowances.raises()] == ["r"]
        place.clock.advance(TTL_S)
        assert await allowances.balances(["a", "b"]) == {"a": Balance(105, 70, 30)}
        await allowances.expire()
        assert await allowances.balances(["a"]) == {"a": Balance(105, 100, 0)}
        await allowances.aclose()
        with pytest.raises(AllowancesUnavailable):
            await allowances.spend("late", {"a": 1})

    asyncio.run(ask())


def test_those_who_wait_together_share_a_group_and_one_fails_alone() -> None:
    home = HeldUpHome()
    store = Store(home, clock=ManualClock())
    store.open_accounts({"a": 1_000, "empty": 0})

    async def ask() -> list[Any]:
        allowances = AsyncAllowances(store)
        first = asyncio.ensure_future(allowances.spend("first", {"a": 1}))
        await asyncio.to_thread(home.arrived.wait)
        others = [
            asyncio.ensure_future(allowances.spend(f"k{k}", {"a" if k % 2 else "empty": 1}))
            for k in range(40)
        ]
        await asyncio.sleep(0)  # the loop is free while the disk is not
        home.go_on.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    first, *others = asyncio.run(ask())
    assert first is None
    assert home.groups == [1, 40]
    assert [outcome is None for outcome in others] == [k % 2 == 1 for k in range(40)]
    assert all(isinstance(outcome, AllowanceExhausted) for outcome in others[::2])
    assert store.balances(["a"])["a"].spent == 21
    store.close()


def test_a_group_has_a_bounded_size() -> None:
    home = HeldUpHome()
    store = Store(home, clock=ManualClock())
    store.open_accounts({"a": 10_000})

    async def ask() -> None:
        allowances = AsyncAllowances(store)
        first = asyncio.ensure_future(allowances.spend("first", {"a": 1}))
        await asyncio.to_thread(home.arrived.wait)
        others = [asyncio.ensure_future(allowances.spend(f"k{k}", {"a": 1})) for k in range(700)]
        await asyncio.sleep(0)
        home.go_on.set()
        await asyncio.gather(first, *others)

    asyncio.run(ask())
    assert sum(home.groups) == 701
    assert max(home.groups) <= 256
    store.close()


def test_one_who_is_cancelled_may_repeat_the_key() -> None:
    home = HeldUpHome()
    store = Store(home, clock=ManualClock())
    store.open_accounts({"a": 10})

    async def ask() -> None:
        allowances = AsyncAllowances(store)
        task = asyncio.ensure_future(allowances.reserve("k", {"a": 7}, ttl_s=TTL_S))
        await asyncio.to_thread(home.arrived.wait)
        task.cancel()
        home.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await allowances.reserve("k", {"a": 7}, ttl_s=TTL_S)
        assert await allowances.balances(["a"]) == {"a": Balance(10, 0, 7)}

    asyncio.run(ask())
    store.close()


def test_a_loop_that_has_ended_harms_nobody() -> None:
    home = HeldUpHome()
    store = Store(home, clock=ManualClock())
    store.open_accounts({"a": 10})

    async def leave() -> None:
        allowances = AsyncAllowances(store)
        task = asyncio.ensure_future(allowances.spend("k", {"a": 7}))
        await asyncio.to_thread(home.arrived.wait)
        task.cancel()

    asyncio.run(leave())
    home.go_on.set()
    store.spend("other", {"a": 1})
    assert store.balances(["a"])["a"].spent == 8
    store.close()


def test_two_loops_and_threads_share_a_store(place: Any) -> None:
    store = place.open()
    store.open_accounts({"a": 100})

    def in_a_loop(name: str) -> None:
        async def spend() -> None:
            allowances = AsyncAllowances(store)
            await asyncio.gather(*(allowances.spend(f"{name}/{k}", {"a": 1}) for k in range(20)))

        asyncio.run(spend())

    team = [threading.Thread(target=in_a_loop, args=(str(k),)) for k in range(3)]
    for member in team:
        member.start()
    for k in range(20):
        store.spend(f"here/{k}", {"a": 1})
    for member in team:
        member.join()

    assert store.balances(["a"])["a"] == Balance(100, 80, 0)


def test_the_patient_are_answered_alone_too_however_many_they_are() -> None:
    """More than fit in one group, and nobody else comes."""

    async def ask() -> int:
        store = Store(MemoryHome(), clock=ManualClock())
        store.open_accounts({"a": 1000})
        allowances = AsyncAllowances(store)
        keys = [f"k{n}" for n in range(600)]
        await asyncio.gather(*(allowances.reserve(key, {"a": 1}, ttl_s=TTL_S) for key in keys))
        told = [allowances.settle(key, {"a": 0}, is_patient=True) for key in keys]
        await asyncio.wait_for(asyncio.gather(*told), 10)
        balance = store.balances(["a"])["a"]
        await allowances.aclose()
        return balance.reserved + balance.spent

    assert asyncio.run(ask()) == 0


def test_the_patient_go_before_the_next_who_is_not_and_share_its_wait() -> None:
    async def ask() -> list[int]:
        home = HeldUpHome()
        home.go_on.set()
        store = Store(home, clock=ManualClock())
        store.open_accounts({"a": 1})
        allowances = AsyncAllowances(store)
        await allowances.reserve("k", {"a": 1}, ttl_s=TTL_S)
        patient = allowances.settle("k", {"a": 0}, is_patient=True)
        await allowances.reserve("l", {"a": 1}, ttl_s=TTL_S)  # what it gave back is there
        await patient
        await allowances.aclose()
        return home.groups

    assert asyncio.run(ask()) == [1, 2]


def test_the_patient_are_answered_when_the_store_is_closed() -> None:
    async def ask() -> None:
        store = Store(MemoryHome(), clock=ManualClock())
        store.open_accounts({"a": 1})
        allowances = AsyncAllowances(store)
        await allowances.reserve("k", {"a": 1}, ttl_s=TTL_S)
        patient = allowances.settle("k", is_patient=True)
        await allowances.aclose()
        await asyncio.wait_for(patient, 10)
        with pytest.raises(AllowancesUnavailable):
            allowances.settle("k", is_patient=True)

    asyncio.run(ask())


def test_who_is_told_is_told_once_on_the_loop_the_answer_or_the_error(place: Any) -> None:
    async def ask() -> tuple[list[tuple[str, Any]], Balance]:
        store = place.open()
        store.open_accounts({"a": 10})
        allowances = AsyncAllowances(store)
        here, told = threading.get_ident(), []
        done = asyncio.Event()

        def note(name: str, last: bool = False) -> Callable[[object], None]:
            def noted(answer: object) -> None:
                assert threading.get_ident() == here
                told.append((name, answer if answer is None else type(answer).__name__))
                if last:
                    done.set()
                if name == "broken":
                    raise ZeroDivisionError

            return noted

        reported: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: reported.append(what))
        allowances.reserve_then("broken", {"a": 1}, note("broken"), ttl_s=TTL_S)
        allowances.reserve_then("k", {"a": 7}, note("held"), ttl_s=TTL_S)
        allowances.reserve_then("l", {"a": 7}, note("no room"), ttl_s=TTL_S)
        allowances.settle_then("nobody", None, note("unknown"))
        await allowances.reserve("m", {"a": 1}, ttl_s=TTL_S)
        with pytest.raises(InvalidAmount):
            allowances.reserve_then("", {"a": 1}, note("never"), ttl_s=TTL_S)
        allowances.settle_then("k", {"a": 2}, note("settled", last=True))
        await asyncio.wait_for(done.wait(), 10)  # though nobody else asks
        assert [type(one["exception"]) for one in reported] == [ZeroDivisionError]
        return told, store.balances(["a"])["a"]

    told, balance = asyncio.run(ask())

    assert dict(told) == {
        "broken": None,
        "held": None,
        "no room": "AllowanceExhausted",
        "settled": None,
        "unknown": "UnknownReservation",
    }
    assert len(told) == 5
    assert balance == Balance(10, 2, 2)
