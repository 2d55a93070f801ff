"""Durable debits per second on one hot account, asked for by many callers at once.

    python benchmarks/allowances.py --store sqlite|postgres --json [--seconds 4] [--callers 128]
                                    [--face async|threads] [--spread N] [--settle] [--kill]

A debit is one `reserve`, on the disk when it returns: `synchronous=FULL` on SQLite,
`synchronous_commit=on` on PostgreSQL. Callers are tasks of one event loop (`--face async`, the
default) or threads of one process; each asks again as soon as it is answered. `--settle` ends each
reservation too, in a second durable call. `--spread N` draws from N accounts in turn.

Processor time is this process's, callers and event loop included; PostgreSQL's server is apart.
Afterwards the tables are read: every acknowledged debit must be there (`lost`), no account above
its cap (`overspent`).

`--kill` adds a round of 4 processes of 24 threads each on accounts that run out, killed at random
with SIGKILL and started again; the same two counts, over what they wrote down as acknowledged.

PostgreSQL is the one at `--url` or TEST_DATABASE_URL, in a schema of its own that is dropped
afterwards. SQLite's file lies in a temporary folder: `TMPDIR` decides on which disk.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import random
import signal
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from privacy_runtime.allowances import (
    AMOUNT_MAX,
    AllowanceExhausted,
    AsyncAllowances,
    Store,
    open_allowances,
)

TTL_S = 3600.0
KILL_CAP, KILL_ACCOUNTS = 2_000, 6


@contextmanager
def place(store: str, url: str) -> Iterator[str]:
    """Yield where throw-away allowances may live."""
    if store == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield str(Path(folder) / "allowances.db")
        return
    import psycopg
    from psycopg.sql import SQL, Identifier

    schema = f"allowances_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SQL("CREATE SCHEMA {}").format(Identifier(schema)))
        try:
            yield f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{schema}"
        finally:
            connection.execute(SQL("DROP SCHEMA {} CASCADE").format(Identifier(schema)))


def stored(where: str, query: str) -> list[tuple[Any, ...]]:
    """Read the tables behind the store's back."""
    if "://" in where:
        import psycopg

        with psycopg.connect(where) as connection:
            return connection.execute(query).fetchall()
    import sqlite3

    with contextlib.closing(sqlite3.connect(where)) as connection:
        return connection.execute(query).fetchall()


def audit(where: str, acknowledged: set[str]) -> dict[str, int]:
    """Count accounts above their caps or at odds with their reservations, and lost debits."""
    totals: dict[str, int] = {}
    keys = set()
    for key, held, ended_us, spent in stored(
        where, "SELECT key, held, ended_us, spent FROM allowance_reservations"
    ):
        keys.add(key)
        amounts = json.loads(spent if ended_us is not None and spent else held)
        for name, amount in amounts.items():
            totals[name] = totals.get(name, 0) + amount
    overspent = 0
    for name, cap, spent, reserved in stored(
        where, "SELECT name, cap, spent, reserved FROM allowance_accounts"
    ):
        overspent += spent + reserved > cap or totals.get(name, 0) != spent + reserved
    return {"overspent": overspent, "lost": len(acknowledged - keys)}


class Tally:
    """What callers measured."""

    def __init__(self, accounts: list[str], *, settle: bool, until: float) -> None:
        self.accounts, self.settle, self.until = accounts, settle, until
        self.latencies_s: list[float] = []
        self.keys: list[str] = []

    def next(self, name: str, count: int) -> tuple[str, dict[str, int]]:
        """Make up a debit."""
        return f"{name}/{count}", {self.accounts[count % len(self.accounts)]: 7}


async def tasks(allowances: AsyncAllowances, tally: Tally, callers: int) -> None:
    clock = time.perf_counter

    async def call(name: str) -> None:
        count = 0
        while (began := clock()) < tally.until:
            key, debits = tally.next(name, count)
            await allowances.reserve(key, debits, ttl_s=TTL_S)
            tally.latencies_s.append(clock() - began)
            if tally.settle:
                await allowances.settle(key)
            tally.keys.append(key)
            count += 1

    await asyncio.gather(*(call(f"{os.urandom(6).hex()}") for _ in range(callers)))


def threads(allowances: Store, tally: Tally, callers: int) -> None:
    clock = time.perf_counter

    def call(name: str) -> None:
        count = 0
        while (began := clock()) < tally.until:
            key, debits = tally.next(name, count)
            allowances.reserve(key, debits, ttl_s=TTL_S)
            tally.latencies_s.append(clock() - began)
            if tally.settle:
                allowances.settle(key)
            tally.keys.append(key)
            count += 1

    team = [threading.Thread(target=call, args=(os.urandom(6).hex(),)) for _ in range(callers)]
    for member in team:
        member.start()
    for member in team:
        member.join()


def measure(where: str, options: argparse.Namespace) -> dict[str, Any]:
    accounts = [f"department/{k}" for k in range(options.spread)]
    store = open_allowances(where)
    store.open_accounts(dict.fromkeys(accounts, AMOUNT_MAX))

    def once(seconds: float) -> tuple[Tally, float, float]:
        began, began_cpu = time.perf_counter(), time.process_time()
        tally = Tally(accounts, settle=options.settle, until=began + seconds)
        if options.face == "threads":
            threads(store, tally, options.callers)
        else:
            run = asyncio.run
            if options.uvloop:
                import uvloop

                run = uvloop.run
            run(tasks(AsyncAllowances(store), tally, options.callers))
        return tally, time.perf_counter() - began, time.process_time() - began_cpu

    warm, _, _ = once(0.3)
    tally, took_s, cpu_s = once(options.seconds)
    store.close()
    percentiles = statistics.quantiles(tally.latencies_s, n=100)
    calls = len(tally.keys) * (2 if options.settle else 1)
    return {
        "debits_per_s": round(len(tally.keys) / took_s, 1),
        "p50_ms": round(percentiles[49] * 1e3, 3),
        "p99_ms": round(percentiles[98] * 1e3, 3),
        "cpu_us_per_debit": round(cpu_s / len(tally.keys) * 1e6, 1),
        "cpu_us_per_call": round(cpu_s / calls * 1e6, 1),
        **audit(where, {*warm.keys, *tally.keys}),
    }


def hammer(where: str, name: str, log: int) -> None:
    """Reserve and settle for ever; write down what was acknowledged."""
    store = open_allowances(where)

    def call(thread: int) -> None:
        draws = random.Random(f"{name}/{thread}")  # noqa: S311
        count = 0
        while True:
            key = f"{name}/{thread}/{count}"
            debits = {
                f"patient/{k}": draws.randint(1, 3)
                for k in draws.sample(range(KILL_ACCOUNTS), draws.randint(1, 3))
            }
            count += 1
            try:
                if count % 2:
                    store.reserve(key, debits, ttl_s=TTL_S)
                else:
                    store.reserve_each(key, debits, ttl_s=TTL_S)
            except AllowanceExhausted:
                os.write(log, b"exhausted\n")
                continue
            os.write(log, f"{key}\n".encode())
            if count % 3 and count % 2:
                store.settle(key, {min(debits): 0})

    team = [threading.Thread(target=call, args=(k,)) for k in range(24)]
    for member in team:
        member.start()
    for member in team:
        member.join()


def start(where: str, name: str, log: int) -> int:
    child = os.fork()
    if child == 0:
        try:
            hammer(where, name, log)
        finally:
            os._exit(1)  # only a kill ends it
    return child


def kill_round(where: str, seconds: float) -> dict[str, Any]:
    store = open_allowances(where)
    store.open_accounts({f"patient/{k}": KILL_CAP for k in range(KILL_ACCOUNTS)})
    store.close()
    draws, kills = random.Random(1), 0  # noqa: S311  when to kill whom
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "acknowledged"
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        team = [start(where, str(k), log) for k in range(4)]
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(draws.uniform(0.1, 0.6))
            victim = draws.randrange(4)
            os.kill(team[victim], signal.SIGKILL)
            os.waitpid(team[victim], 0)
            kills += 1
            team[victim] = start(where, f"{victim}-{kills}", log)
        for child in team:
            os.kill(child, signal.SIGKILL)
        for child in team:
            os.waitpid(child, 0)
        os.close(log)
        lines = path.read_text().split("\n")[:-1]
    acknowledged = {line for line in lines if line != "exhausted"}
    return {
        "kills": kills,
        "acknowledged": len(acknowledged),
        "refused": lines.count("exhausted"),
        **audit(where, acknowledged),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=("sqlite", "postgres"), required=True)
    parser.add_argument("--json", action="store_true", help="print one JSON document only")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--callers", type=int, default=128)
    parser.add_argument("--face", choices=("async", "threads"), default="async")
    parser.add_argument("--uvloop", action="store_true", help="callers on uvloop")
    parser.add_argument("--spread", type=int, default=1, help="accounts, drawn from in turn")
    parser.add_argument("--settle", action="store_true", help="settle each reservation too")
    parser.add_argument("--kill", action="store_true", help="add a round of kill -9")
    parser.add_argument("--url", default=os.environ.get("TEST_DATABASE_URL", ""))
    options = parser.parse_args()
    if options.store == "postgres" and not options.url:
        parser.error("PostgreSQL needs --url or TEST_DATABASE_URL")
    with place(options.store, options.url) as where:
        figures = measure(where, options)
    if options.kill:
        with place(options.store, options.url) as where:
            figures["kill"] = kill_round(where, options.seconds)
            figures["overspent"] += figures["kill"]["overspent"]
            figures["lost"] += figures["kill"]["lost"]
    result = {
        "store": options.store,
        "face": options.face,
        "callers": options.callers,
        **figures,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
    }
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:18} {value}")


if __name__ == "__main__":
    main()
