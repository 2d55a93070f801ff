"""Durable reservations per second on one hot account, asked for by many clients at once.

    python benchmarks/ledger.py --store sqlite|postgres --json [--seconds 6] [--processes 1]
                                [--threads 32]

Every reservation is charged to two accounts (a block of data and an organisation) at twelve RDP
orders and in basic composition, and is on the disk before its call returns: `synchronous=FULL`
and `BEGIN IMMEDIATE` on SQLite, `synchronous_commit=on` on PostgreSQL. The default is one service
process with 32 callers: those that ask at the same time share a transaction (group commit).
Latencies are of single calls, waiting for others included; `--threads 1` is one caller who pays
for the disk alone, `--processes 8 --threads 1` eight programs that take turns. Afterwards the
ledger is verified in full: chain, accounts, every acknowledged charge there, none above the cap.

PostgreSQL is the one at `--url` or TEST_DATABASE_URL, in a schema of its own that is dropped
afterwards. SQLite's file lies in a temporary folder: `TMPDIR` decides on which disk.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from privacy_core.dp_events import Gaussian, PoissonSampled, SelfComposed
from privacy_core.errors import PrivacyError
from privacy_core.guarantee import Guarantee
from privacy_runtime.budget_store import (
    BudgetStore,
    Signature,
    charge_of,
    protection,
    quota,
)

BLOCK, CLINIC = protection("cohort", "2026"), quota("clinic")
ACT = SelfComposed(PoissonSampled(0.001, Gaussian(4.0)), 10)


@contextmanager
def place(store: str, url: str) -> Iterator[str]:
    """Yield where a throw-away ledger may live."""
    if store == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield str(Path(folder) / "ledger.db")
        return
    import psycopg
    from psycopg.sql import SQL, Identifier

    schema = f"ledger_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SQL("CREATE SCHEMA {}").format(Identifier(schema)))
        try:
            yield f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{schema}"
        finally:
            connection.execute(SQL("DROP SCHEMA {} CASCADE").format(Identifier(schema)))


def client(where: str, threads: int, seconds: float, start: Barrier, results: Any) -> None:
    """Reserve for `seconds` from several threads; send the latency of each call."""
    charge, latencies_s, errors = charge_of(ACT), [], []

    def reserve_for_a_while(store: BudgetStore, name: str, until: float) -> None:
        count = 0
        while (began := time.perf_counter()) < until and not errors:
            key = f"{name}/{count}"
            try:
                store.reserve(key, protection=(BLOCK,), quota=(CLINIC,), charge=charge, ttl_s=3600)
            except PrivacyError as error:
                errors.append(str(error))
            latencies_s.append(time.perf_counter() - began)
            count += 1

    with BudgetStore.open(where) as store:
        store.balance(BLOCK)
        start.wait()
        until = time.perf_counter() + seconds
        team = [
            threading.Thread(target=reserve_for_a_while, args=(store, f"{os.getpid()}/{k}", until))
            for k in range(threads)
        ]
        for member in team:
            member.start()
        for member in team:
            member.join()
    results.put((latencies_s, errors))


def measure(where: str, *, processes: int, threads: int, seconds: float) -> dict[str, Any]:
    with BudgetStore.open(where) as store:
        signature = Signature("benchmark", "a throw-away account")
        for scope in (BLOCK, CLINIC):
            store.open_account(
                f"open {scope}", scope, Guarantee(epsilon=100, delta=1e-6), signature=signature
            )
    spawn = multiprocessing.get_context("spawn")
    start, results = spawn.Barrier(processes), spawn.Queue()
    team = [
        spawn.Process(target=client, args=(where, threads, seconds, start, results))
        for _ in range(processes)
    ]
    for member in team:
        member.start()
    latencies_s: list[float] = []
    for _ in team:
        one_s, errors = results.get(timeout=seconds + 60)
        latencies_s += one_s
        if errors:
            raise SystemExit(f"a reservation failed: {errors[0]}")
    for member in team:
        member.join()
    with BudgetStore.open(where) as store:
        head = store.verify()
        acknowledged = head.seq - 2 == len(latencies_s)
        within_cap = store.balance(BLOCK).epsilon_if_all_commit <= 100
    if not (acknowledged and within_cap):
        raise SystemExit("the ledger does not hold what it acknowledged")
    percentiles = statistics.quantiles(latencies_s, n=100)
    return {
        "reservations_per_s": round(len(latencies_s) / seconds, 1),
        "p50_ms": round(percentiles[49] * 1e3, 3),
        "p99_ms": round(percentiles[98] * 1e3, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=("sqlite", "postgres"), required=True)
    parser.add_argument("--json", action="store_true", help="print one JSON document only")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--url", default=os.environ.get("TEST_DATABASE_URL", ""))
    options = parser.parse_args()
    if options.store == "postgres" and not options.url:
        parser.error("PostgreSQL needs --url or TEST_DATABASE_URL")
    with place(options.store, options.url) as where:
        figures = measure(
            where,
            processes=options.processes,
            threads=options.threads,
            seconds=options.seconds,
        )
    result = {
        **figures,
        "store": options.store,
        "processes": options.processes,
        "threads": options.threads,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
    }
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:20s} {value}")


if __name__ == "__main__":
    main()
