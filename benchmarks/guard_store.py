"""The guard's metrics store: recording, size, reading, next to a plain table of the same points.

    python benchmarks/guard_store.py --json [--points 10000000] [--naive-points 500000]

500 series of four kinds (counters, gauges with noise, quantised gauges, constants), one point each
every five seconds; the points of one round share a time that is off by some milliseconds, as a
scraper's is. They are recorded in batches of 1,000 through `MetricStore.record`; sealing, which the
store does by itself, is inside the time. Reads happen afterwards, with one minute of points not
sealed yet, on the file that the writes left, in the page cache; each is the median of several.

The plain table (ISO time, component, metric, labels as JSON; one index; WAL, synchronous=NORMAL) is
what comes to mind first. It gets fewer points, because it would take an hour otherwise; its rows
per second are those of a small table, which flatters it.

Times are of one process. `load` is the machine's, from before and after: above the number of its
cores, times say little; `cpu_s` counts processor time of this process only, and says more then.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from pipeline_guard.metrics_store import MetricStore
from pipeline_guard.metrics_store.batches import parse
from pipeline_guard.model import MetricPoint
from privacy_runtime.world import SystemClock

SERIES = 500
STEP_S = 5
ROUNDS_AT_ONCE = 2
KINDS = ("counter", "noise", "quantised", "constant")
# inside what retention keeps
START = SystemClock().now().replace(minute=0, second=0, microsecond=0) - timedelta(days=13)
COMPONENTS = ("training", "router", "storage", "export")


def identity(place: int) -> tuple[str, str, dict[str, str]]:
    kind = KINDS[place % len(KINDS)]
    labels = {"node": f"node-{place // 20}", "zone": "eu-1", "instance": str(place)}
    return COMPONENTS[place % 4], f"{kind}_reading", labels


def values(rounds: int, chance: np.random.Generator) -> np.ndarray:
    """One row per round, one column per series."""
    table = np.empty((rounds, SERIES))
    hours = np.arange(rounds) * STEP_S / 3600
    for place in range(SERIES):
        match KINDS[place % len(KINDS)]:
            case "counter":
                table[:, place] = np.cumsum(chance.poisson(40, rounds)) + 1e6
            case "noise":
                daily = np.sin(hours * 2 * math.pi / 24)
                table[:, place] = 2 + daily + 0.1 * chance.normal(size=rounds)
            case "quantised":
                table[:, place] = np.round(45 + 5 * chance.normal(size=rounds), 1)
            case _:
                table[:, place] = 34.2
    return table


def batches(rounds: int, after: int = 0, seed: int = 1) -> Iterator[list[MetricPoint]]:
    chance = np.random.default_rng(seed)
    known = [identity(place) for place in range(SERIES)]
    for first in range(0, rounds, 1000):
        table = values(min(1000, rounds - first), chance).tolist()
        jitter_us = chance.normal(0, 2000, len(table)).astype(int).tolist()
        batch: list[MetricPoint] = []
        for place, row in enumerate(table):
            at_s = (after + first + place) * STEP_S
            at = START + timedelta(seconds=at_s, microseconds=jitter_us[place])
            batch += [MetricPoint(at, *known[k][:2], row[k], known[k][2]) for k in range(SERIES)]
            if len(batch) == ROUNDS_AT_ONCE * SERIES or place + 1 == len(table):
                yield batch
                batch = []


def ingest(record: Callable[[list[MetricPoint]], Any], points: int) -> dict[str, Any]:
    taken_s, cpu_s, count = [], 0.0, 0
    for batch in batches(points // SERIES):
        cpu, began = time.process_time(), time.perf_counter()
        record(batch)
        taken_s.append(time.perf_counter() - began)
        cpu_s += time.process_time() - cpu
        count += len(batch)
    percentiles = statistics.quantiles(taken_s, n=100)
    return {
        "points": count,
        "points_per_s": round(count / sum(taken_s)),
        "points_per_cpu_s": round(count / cpu_s),
        "batch_p50_ms": round(percentiles[49] * 1e3, 2),
        "batch_p99_ms": round(percentiles[98] * 1e3, 2),
        "batch_max_ms": round(max(taken_s) * 1e3, 1),
    }


def median_ms(work: Callable[[], Any], times: int = 9) -> float:
    taken_s = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken_s.append(time.perf_counter() - began)
    return round(statistics.median(taken_s) * 1e3, 2)


def sizes(path: Path) -> dict[str, Any]:
    """Bytes per point of what is sealed, by table, and of the packed samples by kind of series."""
    with sqlite3.connect(path) as file:
        points = file.execute("SELECT sum(points) FROM chunks").fetchone()[0]
        tables = dict(file.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"))
        kinds = file.execute(
            "SELECT metric, sum(length(samples)) * 1.0 / sum(points) FROM chunks "
            "JOIN packed ON chunk = chunks.id JOIN series ON series.id = series GROUP BY metric"
        ).fetchall()
        chunks = file.execute("SELECT count(*) FROM chunks").fetchone()[0]
    file.close()
    sealed = sum(size for name, size in tables.items() if name.startswith(("chunks", "packed")))
    return {
        "sealed_bytes_per_point": round(sealed / points, 2),
        "rollup_bytes_per_point": round(tables["rollups"] / points, 2),
        "file_bytes_per_point": round(path.stat().st_size / points, 2),
        "samples_bytes_per_point": {
            name.removesuffix("_reading"): round(size, 2) for name, size in kinds
        },
        "points_per_chunk": round(points / chunks, 1),
    }


def reads(store: MetricStore, last: datetime) -> dict[str, Any]:
    query, (component, metric, labels) = store.query, identity(1)
    day = timedelta(days=1)

    def window(hours: float) -> int:
        (found,) = query.windows(component, metric, labels, over_s=hours * 3600, until=last)
        return len(found.values)

    def points(limit: int) -> list[MetricPoint]:
        return query.points(component, metric, last - day, last, limit, labels=labels)

    def steps(statistic: str, step_s: float) -> None:
        asked = {"start": START, "end": START + day, "step_s": step_s, "labels": labels}
        query.aggregate(component, metric, statistic, **asked)

    return {
        "points_in_24_h": window(24),
        "one_series_24_h_ms": median_ms(lambda: window(24)),
        "one_series_24_h_as_points_ms": median_ms(lambda: points(20_000)),
        "one_series_1_h_ms": median_ms(lambda: window(1)),
        "newest_1000_points_ms": median_ms(lambda: points(1000)),
        "one_series_24_h_by_minute_ms": median_ms(lambda: steps("mean", 60)),
        "one_series_24_h_by_odd_step_ms": median_ms(lambda: steps("mean", 70)),
        "one_series_24_h_hourly_p50_ms": median_ms(lambda: steps("quantile", 3600)),
        "latest_of_all_ms": median_ms(query.latest),
        "min_max_mean_of_all_ms": median_ms(query.summaries),
    }


def naive(folder: Path, points: int) -> dict[str, Any]:
    path = folder / "naive.db"
    file = sqlite3.connect(path, isolation_level=None)
    file.execute("PRAGMA journal_mode=WAL")
    file.execute("PRAGMA synchronous=NORMAL")
    file.execute(
        "CREATE TABLE metrics (id INTEGER PRIMARY KEY, timestamp TEXT, component TEXT, "
        "metric_name TEXT, value REAL, labels TEXT)"
    )
    file.execute("CREATE INDEX by_name ON metrics (component, metric_name, timestamp)")

    def record(batch: list[MetricPoint]) -> None:
        file.execute("BEGIN IMMEDIATE")
        file.executemany(
            "INSERT INTO metrics (timestamp, component, metric_name, value, labels) "
            "VALUES (?, ?, ?, ?, ?)",
            (
                (p.timestamp.isoformat(), p.component, p.metric_name, p.value, json.dumps(p.labels))
                for p in batch
            ),
        )
        file.execute("COMMIT")

    written = ingest(record, points)
    component, metric, labels = identity(1)

    def one_series() -> None:
        file.execute(
            "SELECT timestamp, value FROM metrics WHERE component = ? AND metric_name = ? "
            "AND labels = ? ORDER BY timestamp",
            (component, metric, json.dumps(labels)),
        ).fetchall()

    def summaries() -> None:
        file.execute(
            "SELECT component, metric_name, labels, min(value), max(value), avg(value) "
            "FROM metrics GROUP BY 1, 2, 3"
        ).fetchall()

    found = {
        "one_series_whole_ms": median_ms(one_series, 3),
        "min_max_mean_of_all_ms": median_ms(summaries, 3),
    }
    file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.close()
    return {**written, "file_bytes_per_point": round(path.stat().st_size / points, 1), **found}


def parsing() -> dict[str, Any]:
    """Points per second of `batches.parse`, by form; what the HTTP server pays on top of it."""
    from prometheus_client.parser import text_string_to_metric_families

    now, points = SystemClock().now(), next(iter(batches(20)))
    rows = [
        {
            "timestamp": p.timestamp.isoformat(),
            "component": p.component,
            "metric_name": p.metric_name,
            "value": p.value,
            "labels": p.labels,
        }
        for p in points
    ] * 10
    lines = [
        f'{p.metric_name}{{component="{p.component}",'
        + ",".join(f'{name}="{text}"' for name, text in (p.labels or {}).items())
        + f"}} {p.value!r} {round(p.timestamp.timestamp() * 1000)}\n"
        for p in points
    ] * 10
    bodies = {"application/json": json.dumps(rows), "text/plain": "".join(lines)}
    found: dict[str, Any] = {}
    for kind, body in bodies.items():
        data = body.encode()
        taken_ms = median_ms(lambda data=data, kind=kind: parse(data, kind, now=now))
        found[f"{kind.partition('/')[2]}_points_per_s"] = round(len(rows) / taken_ms * 1e3)
    text = bodies["text/plain"]
    peer_ms = median_ms(lambda: [f.samples for f in text_string_to_metric_families(text)], 3)
    found["prometheus_client_points_per_s"] = round(len(rows) / peer_ms * 1e3)
    return found


def measure(points: int, naive_points: int, folder: Path) -> dict[str, Any]:
    path = folder / "metrics.db"
    rounds = points // SERIES
    last = START + timedelta(seconds=rounds * STEP_S)
    load = [os.getloadavg()[0]]
    with MetricStore(path) as store:
        ingested = ingest(store.record, points)
        began = time.perf_counter()
        left = store.seal()
        sealed_s = time.perf_counter() - began
        store.maintain()
        singles_ms = median_ms(lambda: store.record_one("single", "value", 1.0), 500)
        for batch in batches(60 // STEP_S, after=rounds, seed=2):
            store.record(batch)
        read = reads(store, last)
        began, cpu = time.perf_counter(), time.process_time()
        series = store.refresh_baselines()
        refreshed = {
            "series": series,
            "refresh_ms": round((time.perf_counter() - began) * 1e3, 1),
            "refresh_cpu_ms": round((time.process_time() - cpu) * 1e3, 1),
        }
    figures = {
        "ingest": ingested,
        "one_by_one_per_s": round(1e3 / singles_ms),
        "seal_points_per_s": round(left / sealed_s) if left else None,
        "size": sizes(path),
        "read": read,
        "baselines": refreshed,
        "parse": parsing(),
        "naive": naive(folder, naive_points),
    }
    load.append(os.getloadavg()[0])
    return {**figures, "load": [round(each, 1) for each in load]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document only")
    parser.add_argument("--points", type=int, default=10_000_000)
    parser.add_argument("--naive-points", type=int, default=500_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options.points, options.naive_points, Path(folder))
    figures |= {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for part, found in figures.items():
        print(f"{part:18}", found if not isinstance(found, dict) else "")
        for name, value in found.items() if isinstance(found, dict) else ():
            print(f"  {name:34}{value}")


if __name__ == "__main__":
    main()
