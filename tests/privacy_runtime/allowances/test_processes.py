"""Threads of several processes on accounts that run out, killed at random: nothing is lost."""

from __future__ import annotations

import json
import os
import random  # noqa: TID251  when to kill whom
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from privacy_runtime.allowances import AllowanceExhausted, open_allowances

ACCOUNTS = [f"patient/{k}" for k in range(5)]
TTL_S = 3600.0
PROCESSES = 3


def call(where: str, name: str, threads: int, log: int) -> None:
    """Hold for ever; settle some; write down what was acknowledged."""
    store = open_allowances(where)

    def hammer(thread: int) -> None:
        draws = random.Random(f"{name}/{thread}")  # noqa: S311
        count = 0
        while True:
            count += 1
            key = f"{name}/{thread}/{count}"
            debits = {k: draws.randint(1, 3) for k in draws.sample(ACCOUNTS, draws.randint(1, 3))}
            try:
                if count % 2:
                    store.reserve(key, debits, ttl_s=TTL_S)
                    os.write(log, f"held {key}\n".encode())
                    if count % 3:
                        store.settle(key, {min(debits): 0})
                        os.write(log, f"settled {key}\n".encode())
                else:
                    held = store.reserve_each(key, debits, ttl_s=TTL_S)
                    os.write(log, f"each {key} {' '.join(sorted(held))}\n".encode())
                store.reserve("shared", {ACCOUNTS[0]: 2}, ttl_s=TTL_S)
            except AllowanceExhausted:
                os.write(log, b"exhausted\n")

    team = [threading.Thread(target=hammer, args=(k,)) for k in range(threads)]
    for member in team:
        member.start()
    for member in team:
        member.join()


def start(where: str, name: str, threads: int, log: int) -> int:
    child = os.fork()
    if child == 0:
        try:
            call(where, name, threads, log)
        finally:
            os._exit(1)  # only a kill ends it; whatever else is a failure
    return child


def run(place: Any, folder: Path, *, seconds: float, threads: int, cap: int) -> None:
    draws = random.Random(1)  # noqa: S311  when to kill whom
    with_caps = open_allowances(place.where)
    with_caps.open_accounts(dict.fromkeys(ACCOUNTS, cap))
    with_caps.reserve("shared", {ACCOUNTS[0]: 2}, ttl_s=TTL_S)
    with_caps.close()
    path = folder / "acknowledged"
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    team = [start(place.where, str(k), threads, log) for k in range(PROCESSES)]
    kills = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until or "exhausted" not in path.read_text():
        time.sleep(draws.uniform(seconds / 10, seconds / 4))  # how long they live
        victim = draws.randrange(PROCESSES)
        assert os.waitpid(team[victim], os.WNOHANG) == (0, 0), "a client failed by itself"
        os.kill(team[victim], signal.SIGKILL)
        os.waitpid(team[victim], 0)
        kills += 1
        team[victim] = start(place.where, f"{victim}-{kills}", threads, log)
    for child in team:
        os.kill(child, signal.SIGKILL)
    for child in team:
        os.waitpid(child, 0)
    os.close(log)
    require_sound(place, path.read_text().split("\n")[:-1], cap)


def require_sound(place: Any, acknowledged: list[str], cap: int) -> None:
    rows = {
        key: (json.loads(held), None if ended is None else json.loads(spent or held))
        for key, held, ended, spent in place.sql(
            "SELECT key, held, ended_us, spent FROM allowance_reservations"
        )
    }
    for line in acknowledged:
        match line.split():
            case ["held", key]:
                assert key in rows, "an acknowledged reservation is lost"
            case ["settled", key]:
                assert rows[key][1] is not None, "an acknowledged settling is lost"
            case ["each", key, *names]:
                assert set(rows[key][0]) == set(names), "other accounts are held than was said"
    spent = dict.fromkeys(ACCOUNTS, 0)
    reserved = dict.fromkeys(ACCOUNTS, 0)
    for held, ended in rows.values():
        for name, amount in (held if ended is None else ended).items():
            (reserved if ended is None else spent)[name] += amount
    for name, balance in place.open().balances(ACCOUNTS).items():
        assert balance.spent + balance.reserved <= cap
        assert (balance.spent, balance.reserved) == (spent[name], reserved[name])


def test_processes_that_are_killed_overspend_nothing_and_lose_nothing(
    durable: Any, tmp_path: Path
) -> None:
    run(durable, tmp_path, seconds=1.0, threads=6, cap=300)


@pytest.mark.slow
def test_the_same_with_24_threads_for_longer(durable: Any, tmp_path: Path) -> None:
    run(durable, tmp_path, seconds=30.0, threads=24, cap=20_000)
