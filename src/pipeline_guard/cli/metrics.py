"""The metrics commands: collect, analyze, learn baselines, show what is unusual.

Exit codes, as Nagios plugins have them:

====  =====================================================================================
0     done, and nothing is unusual
1     `--alerts`: something is unusual
2     the command line is not one
3     the file cannot be read or written; the message says why, and what state it is in
====  =====================================================================================
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, TypeAlias

from pipeline_guard.errors import MonitoringError, PipelineGuardError
from pipeline_guard.metrics_store import MetricsCollector, MetricStore
from privacy_runtime.world import Clock, SystemClock

Row: TypeAlias = Mapping[str, Any]

UNUSUAL: Final = 6.0
"""Scales away from the median of its hour of the week, from which a value is shown."""
RECENT: Final = timedelta(hours=1)
"""Age up to which a series' newest value is judged."""
_DESCRIPTION: Final = (
    "Collect the machine's metrics, and look at what was recorded. What --alerts shows informs and "
    "is never acted on; the alerts of the checks are shown by `pipeline-guard status`."
)


class ExitCode(IntEnum):
    """See the module."""

    DONE = 0
    UNUSUAL = 1
    UNKNOWN = 3


def main(arguments: Sequence[str] | None = None, *, clock: Clock | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    clock = clock or SystemClock()
    try:
        if options.collect:
            return asyncio.run(_collect(options, clock))
        return _look(options, clock)
    except PipelineGuardError as error:
        text = json.dumps(error.to_dict(clock.now())) if options.json else f"error: {error}"
        sys.stderr.write(f"{text}\n")
        return ExitCode.UNKNOWN


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="guard_metrics", description=_DESCRIPTION)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--collect", action="store_true", help="record the machine until stopped")
    task.add_argument("--analyze", metavar="COMPONENT", help="its series, over --hours")
    task.add_argument("--baselines", action="store_true", help="learn anew what is usual, show it")
    task.add_argument("--alerts", action="store_true", help="newest values that are unusual")
    parser.add_argument(
        "--db", type=Path, default=Path("pipeline_metrics.db"), help="the file (%(default)s)"
    )
    parser.add_argument("--interval", type=float, default=10.0, help="of looks, s (%(default)s)")
    parser.add_argument("--seconds", type=float, help="collect for so long, then end")
    parser.add_argument("--hours", type=int, default=24, help="to analyze (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON document only")
    return parser


async def _collect(options: argparse.Namespace, clock: Clock) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    folders = [options.db.absolute().parent]
    with MetricsCollector(
        options.db, clock=clock, interval_s=options.interval, folders=folders
    ) as collector:
        before = _points(collector.store)
        await collector.start_collection()
        if not options.json:
            sys.stdout.write(f"collecting into {options.db}; end with Ctrl-C\n")
            sys.stdout.flush()
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), options.seconds)
        await collector.stop_collection()
        recorded = _points(collector.store) - before
        failures = dict(collector.failures)
    if options.json:
        sys.stdout.write(json.dumps({"recorded": recorded, "failures": failures}) + "\n")
    else:
        sys.stdout.write(f"{recorded} points recorded\n")
        for what, failure in failures.items():
            sys.stderr.write(f"error: {what}: {failure}\n")
    return ExitCode.UNKNOWN if failures else ExitCode.DONE


def _look(options: argparse.Namespace, clock: Clock) -> int:
    if not options.db.exists():
        raise MonitoringError(
            f"there is no metrics store at {options.db}; --collect makes one, --db names another",
            {"parameter": "db", "value": str(options.db), "constraint": "an existing file"},
        )
    code = ExitCode.DONE
    with MetricStore(options.db, clock=clock) as store:
        if options.analyze is not None:
            rows, without = _analysis(store, clock, options.analyze, options.hours)
        elif options.baselines:
            rows, without = _baselines(store)
        else:
            rows, without = _unusual(store, clock)
            code = ExitCode.UNUSUAL if rows else ExitCode.DONE
    _print(rows, without, as_json=options.json)
    return code


def _analysis(
    store: MetricStore, clock: Clock, component: str, hours: int
) -> tuple[Sequence[Row], str]:
    """The series of a component over the last hours, whole ones, the present one included."""
    if hours < 1:
        raise MonitoringError(
            f"--hours = {hours} is outside its domain, expected at least 1; nothing was read",
            {"parameter": "hours", "value": hours, "constraint": ">= 1"},
        )
    now = clock.now()
    end = now + timedelta(microseconds=1)
    start = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours - 1)
    newest = {
        _name(point.metric_name, point.labels): point for point in store.query.latest(component)
    }
    rows: dict[str, dict[str, Any]] = {}
    for metric in sorted({series.metric_name for series in store.query.series(component)}):
        for column, statistic, rank in (
            ("points", "count", 0.0),
            ("min", "min", 0.0),
            ("median", "quantile", 0.5),
            ("mean", "mean", 0.0),
            ("p95", "quantile", 0.95),
            ("max", "max", 0.0),
        ):
            found = store.query.aggregate(
                component,
                metric,
                statistic,
                start=start,
                end=end,
                step_s=hours * 3600,
                quantile=rank,
            )
            for each in found:
                name = _name(metric, each.series.labels)
                row = rows.setdefault(name, {"series": name})
                row[column] = int(each.values[0]) if column == "points" else each.values[0]
    for name, row in rows.items():
        row["newest"] = newest[name].value
        row["at"] = newest[name].timestamp.isoformat(timespec="seconds")
    return list(rows.values()), f"no metric of {component!r} was ever recorded"


def _baselines(store: MetricStore) -> tuple[Sequence[Row], str]:
    store.seal()
    store.refresh_baselines()
    rows = []
    for series, baseline in store.query.baselines():
        usual = baseline.overall
        if usual is not None:
            rows.append(
                {
                    "component": series.component,
                    "series": _name(series.metric_name, series.labels),
                    "points": baseline.count,
                    "median": usual.median,
                    "mad": usual.mad,
                    "p01": usual.q01,
                    "p99": usual.q99,
                    "hours_of_week": len(baseline.hours),
                    "version": baseline.version,
                    "learning": baseline.is_learning,
                }
            )
    return rows, "nothing was recorded in the last four weeks"


def _unusual(store: MetricStore, clock: Clock) -> tuple[Sequence[Row], str]:
    from pipeline_guard.detection.baselines import unusual  # noqa: PLC0415  numpy, only here

    rows: list[dict[str, Any]] = []
    now = clock.now()
    newest = {
        (point.component, _name(point.metric_name, point.labels)): point
        for point in store.query.latest()
        if point.timestamp >= now - RECENT
    }
    known = store.query.baselines()
    for series, baseline in known:
        name = (series.component, _name(series.metric_name, series.labels))
        point = newest.get(name)
        if point is None or baseline.overall is None:
            continue
        scales = unusual(baseline, point.timestamp.timestamp(), point.value)
        if scales >= UNUSUAL:
            rows.append(
                {
                    "component": name[0],
                    "series": name[1],
                    "newest": point.value,
                    "median": baseline.overall.median,
                    "scales_away": round(scales, 1),
                    "at": point.timestamp.isoformat(timespec="seconds"),
                    "baseline": baseline.version,
                }
            )
    rows.sort(key=lambda row: -row["scales_away"])
    if not known:
        return rows, "there are no baselines yet: --baselines makes them"
    return rows, f"no newest value is unusual ({len(known)} baselines)"


def _points(store: MetricStore) -> int:
    return sum(summary.points for _, summary in store.query.summaries())


def _name(metric: str, labels: Mapping[str, str] | None) -> str:
    if not labels:
        return metric
    pairs = ",".join(f"{name}={json.dumps(labels[name])}" for name in sorted(labels))
    return f"{metric}{{{pairs}}}"


def _print(rows: Sequence[Row], without: str, *, as_json: bool) -> None:
    if as_json:
        document = [{name: _plain(value) for name, value in row.items()} for row in rows]
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    if not rows:
        sys.stdout.write(without + "\n")
        return
    cells = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def _plain(value: Any) -> Any:
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "none" if math.isnan(value) else f"{value:.6g}"
    return str(value)
