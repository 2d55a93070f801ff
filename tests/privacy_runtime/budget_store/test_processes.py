"""Eight processes on one hot account, killed at random: nothing overspent, nothing lost."""

from __future__ import annotations

import itertools
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privacy_core.budget import LedgerState
from privacy_core.budget.charges import fits
from privacy_core.dp_events import Gaussian, SelfComposed
from privacy_core.errors import BudgetExhausted
from privacy_core.guarantee import Guarantee
from privacy_runtime.budget_store import (
    BudgetStore,
    Signature,
    charge_of,
    protection,
    quota,
)
from privacy_runtime.testing import ManualClock
from privacy_runtime.world import SystemClock

BLOCK, CLINIC = protection("hospital-a", "2026-08"), quota("clinic")
SIGNED = Signature("ada", "approved")
RESERVED, USED = (charge_of(SelfComposed(Gaussian(60.0), count)) for count in (4, 3))
TTL_S = 3600


def hammer(where: str, name: str, log: int) -> None:
    """Reserve for ever; end two of three reservations; write down what was acknowledged."""
    store = BudgetStore.open(where)
    for count in itertools.count():
        key = f"{name}/{count}"
        try:
            store.reserve(key, protection=(BLOCK,), quota=(CLINIC,), charge=RESERVED, ttl_s=TTL_S)
            os.write(log, f"{key}\n".encode())
            if count % 3 == 1:
                store.commit(f"{key} end", key, actual=USED)
                os.write(log, f"{key} end\n".encode())
            elif count % 3 == 2:
                store.refund(f"{key} end", key)
                os.write(log, f"{key} end\n".encode())
        except BudgetExhausted:
            os.write(log, b"exhausted\n")
        if count % 5 == 0:  # the same request again, as a client does that heard no answer
            try:
                store.reserve(
                    "shared", protection=(BLOCK,), quota=(CLINIC,), charge=RESERVED, ttl_s=TTL_S
                )
                os.write(log, b"shared\n")
            except BudgetExhausted:
                pass


def start(where: str, name: str, log: int) -> int:
    child = os.fork()
    if child == 0:
        try:
            hammer(where, name, log)
        finally:
            os._exit(1)  # only a kill ends it; whatever else is a failure
    return child


def run(where: str, folder: Path, *, seconds: float, epsilon: float, seed: int) -> None:
    draws = np.random.default_rng(seed)  # noqa: TID251  when to kill whom
    with BudgetStore.open(where) as store:
        for scope in (BLOCK, CLINIC):
            store.open_account(
                f"open {scope}", scope, Guarantee(epsilon=epsilon, delta=1e-6), signature=SIGNED
            )
    log = os.open(folder / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    names = itertools.count()
    team = [start(where, str(next(names)), log) for _ in range(8)]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(draws.uniform(0, seconds / 15))
        victim = int(draws.integers(8))
        assert os.waitpid(team[victim], os.WNOHANG) == (0, 0), "a client failed by itself"
        os.kill(team[victim], signal.SIGKILL)
        os.waitpid(team[victim], 0)
        team[victim] = start(where, str(next(names)), log)
    for child in team:
        os.kill(child, signal.SIGKILL)
    for child in team:
        os.waitpid(child, 0)
    os.close(log)
    require_sound(where, (folder / "acknowledged").read_text().split("\n")[:-1])


def require_sound(where: str, acknowledged: list[str]) -> None:
    later = ManualClock(SystemClock().now())
    later.advance(2 * TTL_S)
    with BudgetStore.open(where, clock=later) as store:
        store.verify()
        assert "exhausted" in acknowledged, "the cap was never reached: this shows nothing"
        expired = store.expire_due()
        assert expired
        assert store.open_reservations() == []
        keys, state = set(), LedgerState()
        for fact in store.history():
            state = state.after(fact.entry)
            keys.add(fact.entry.key)
            for account in state.scopes.values():
                assert fits(account.currency, account.total, account.caps), f"entry {fact.seq}"
        assert set(acknowledged) - {"exhausted"} <= keys
        for scope in (BLOCK, CLINIC):
            assert store.balance(scope) == state.scopes[scope]
            assert set(state.scopes[scope].reserved) == {0}
        store.verify()


def test_processes_that_are_killed_overspend_nothing_and_lose_nothing(
    durable: Any, tmp_path: Path
) -> None:
    run(durable.url, tmp_path, seconds=1.5, epsilon=0.5, seed=1)


@pytest.mark.slow
def test_the_same_for_longer(durable: Any, tmp_path: Path) -> None:
    run(durable.url, tmp_path, seconds=40.0, epsilon=2.5, seed=2)


def test_processes_that_ask_with_one_key_charge_once(durable: Any) -> None:
    with BudgetStore.open(durable.url) as store:
        for scope in (BLOCK, CLINIC):
            store.open_account(
                f"open {scope}", scope, Guarantee(epsilon=1, delta=1e-6), signature=SIGNED
            )
    team = []
    for _ in range(5):
        child = os.fork()
        if child == 0:
            failed = 1
            try:
                with BudgetStore.open(durable.url) as store:
                    for _ in range(20):
                        store.reserve(
                            "one",
                            protection=(BLOCK,),
                            quota=(CLINIC,),
                            charge=RESERVED,
                            ttl_s=TTL_S,
                        )
                failed = 0
            finally:
                os._exit(failed)
        team.append(child)

    assert [os.waitpid(child, 0)[1] for child in team] == [0] * 5
    with BudgetStore.open(durable.url) as store:
        assert store.verify().seq == 3
        assert store.balance(BLOCK).reserved[:12] == RESERVED.rdp
