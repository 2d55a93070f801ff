"""No-op jobs through our lease table, and through DBOS: what accepting and handing out one costs.

    python benchmarks/jobs.py [--count 200] [--postgres URL] [--peer PYTHON_WITH_DBOS]

A job here does nothing: training takes minutes, so these figures only have to be small. Each store
is used in one process, empty at the start: `accept` is the median of one submission (ours: the
specification checked, the job, its first event and its journal entry on the disk), `through` is the
number of jobs a second from the first claim to the last end with four threads (ours: claim, end,
events and journal entries). `status` is what a page costs: one job read by its id. The peer runs in
an interpreter of its own (`pip install dbos==3.4.0 "psycopg[binary]"`), in the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

THREADS = 4


def timed_ms(act: Callable[[], object], count: int) -> list[float]:
    """Milliseconds of each of `count` calls."""
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        act()
        taken.append(1e3 * (time.perf_counter() - started))
    return taken


@contextmanager
def schema(url: str) -> Iterator[str]:
    """A PostgreSQL schema of the benchmark's own."""
    import sqlalchemy as sa

    name = f"jobs_bench_{uuid.uuid4().hex[:8]}"
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(sa.text(f"CREATE SCHEMA {name}"))
    try:
        yield f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{name}"
    finally:
        with engine.begin() as connection:
            connection.execute(sa.text(f"DROP SCHEMA {name} CASCADE"))
        engine.dispose()


def ours(where: str, journal_at: str, folder: Path, count: int) -> dict[str, float]:
    """Our own lease table."""
    from privacy_finetuner.jobs import Jobs, JobState, TrainingSpec
    from privacy_finetuner.jobs.claims import Ending
    from privacy_finetuner.jobs.leases import Leases
    from privacy_runtime.budget_store.homes import home_at
    from privacy_runtime.journal import Journal
    from privacy_runtime.world import SystemClock

    journal = Journal(home_at(journal_at), clock=SystemClock())
    jobs = Jobs.open(where, journal, runs=folder / "runs")
    spec = TrainingSpec(model="m", dataset="d", privacy={"epsilon": 8.0})
    accept = timed_ms(lambda: jobs.submit(spec, tenant="o", owner="u", name="n"), count)
    one = jobs.find("o", limit=1)[0].id
    status = timed_ms(lambda: jobs.get(one, tenant="o"), 500)

    def work(number: int) -> None:
        leases = Leases(jobs.store, lease_s=30)
        while (claim := leases.claim(f"w{number}")) is not None:
            leases.finish(claim, Ending(state=JobState.SUCCEEDED))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    through = count / (time.perf_counter() - started)
    done = jobs.counts()[JobState.SUCCEEDED]
    if done != count:
        sys.exit(f"{done} of {count} jobs ended")
    jobs.close()
    journal.home.disconnect()
    return {
        "accept_ms": statistics.median(accept),
        "through_per_s": through,
        "status_ms": statistics.median(status),
    }


def dbos(where: str, count: int) -> dict[str, float]:
    """DBOS as it is fastest: nothing limits what runs at once, its queue is polled often."""
    import logging

    from dbos import DBOS, DBOSConfig

    logging.disable(logging.CRITICAL)
    config = DBOSConfig(name="bench", system_database_url=where, application_version="1")
    DBOS(config=config)

    @DBOS.workflow()
    def nothing() -> None:
        return None

    DBOS.launch()
    queue = DBOS.register_queue("jobs", polling_interval_sec=0.1)
    handles: list[Any] = []
    started = time.perf_counter()  # it begins to work while jobs are still accepted
    accept = timed_ms(lambda: handles.append(queue.enqueue(nothing)), count)
    for handle in handles:
        handle.get_result()
    through = count / (time.perf_counter() - started)
    status = timed_ms(handles[0].get_status, 500)
    DBOS.destroy()
    return {
        "accept_ms": statistics.median(accept),
        "through_per_s": through,
        "status_ms": statistics.median(status),
    }


def peer(python: str, where: str, count: int) -> dict[str, float]:
    """The same file under another interpreter."""
    command = [python, __file__, "--only-dbos", where, "--count", str(count)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(answer.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--postgres", help="postgresql://... in which a schema is made and dropped")
    parser.add_argument("--peer", help="an interpreter that has dbos")
    parser.add_argument("--only-dbos", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.only_dbos:
        print(json.dumps(dbos(chosen.only_dbos, chosen.count)))
        return
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows["ours, SQLite"] = ours(
            str(folder / "jobs.db"), str(folder / "journal.db"), folder, chosen.count
        )
        if chosen.peer:
            rows["DBOS, SQLite"] = peer(
                chosen.peer, f"sqlite:///{folder / 'dbos.db'}", chosen.count
            )
        if chosen.postgres:
            with schema(chosen.postgres) as url:
                rows["ours, PostgreSQL"] = ours(url, url, folder, chosen.count)
            if chosen.peer:
                base, _, _ = chosen.postgres.rpartition("/")
                database = f"{base}/jobs_bench_dbos"
                rows["DBOS, PostgreSQL"] = peer(chosen.peer, database, chosen.count)
    print(f"{'':18}{'accept':>12}{'through':>14}{'status':>12}")
    for title, row in rows.items():
        print(
            f"{title:18}{row['accept_ms']:>9.2f} ms{row['through_per_s']:>10.0f} /s"
            f"{row['status_ms']:>9.2f} ms"
        )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
