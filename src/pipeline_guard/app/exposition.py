"""What Prometheus scrapes: how components, checks, alerts and recoveries stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import CollectorRegistry

from pipeline_guard.model import HealthStatus, Verdict

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
TABLE: Final[Mapping[str, str]] = {
    "pipeline_guard_up": "1 while the guard looks; 0 when it is silent.",
    "pipeline_guard_status_age_seconds": "How old the newest status is.",
    "pipeline_guard_component_health": "1 for the health that a component has, 0 for the others.",
    "pipeline_guard_check_verdict": "Newest look of a check: 0 ok, 1 warning, 2 critical, 3 "
    "unknown.",
    "pipeline_guard_check_flapping": "1 while a check swings and its recoveries are held back.",
    "pipeline_guard_alerts": "Standing alerts by severity.",
    "pipeline_guard_recovery_runs": "Runs of a recovery that the guard remembers.",
    "pipeline_guard_events_total": "What happened since the state began, by kind.",
    "pipeline_guard_killed": "1 while the kill switch holds all recoveries.",
    "pipeline_guard_loop_lag_seconds": "How late the loop is.",
    "pipeline_guard_hanging_probes": "Looks that were given up and have not come back.",
}
"""Every metric, as `docs/guard_http.md` lists them."""
_VERDICTS: Final = {each.name.lower(): float(each) for each in Verdict}


class _Collector:
    """Hands a fixed list to Prometheus' registry."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """What is shown."""
        return self._metrics


def exposition(status: Mapping[str, Any] | None, counts: Mapping[str, int]) -> bytes:
    """The text that is scraped; without a status only that nobody looks."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(list(_families(status, counts))))
    return generate_latest(registry)


def _families(status: Mapping[str, Any] | None, counts: Mapping[str, int]) -> Iterable[Metric]:
    is_up = status is not None and not status["is_silent"]
    yield _gauge("pipeline_guard_up", [], [((), float(is_up))])
    if status is None:
        return
    guard = status["guard"]
    yield _gauge("pipeline_guard_status_age_seconds", [], [((), status["age_seconds"])])
    yield _gauge("pipeline_guard_killed", [], [((), float(status["is_killed"]))])
    yield _gauge("pipeline_guard_loop_lag_seconds", [], [((), guard["loop_lag_seconds"])])
    yield _gauge("pipeline_guard_hanging_probes", [], [((), guard["hanging_probes"])])
    yield _gauge(
        "pipeline_guard_component_health",
        ["component", "status"],
        [
            ((name, health.value), float(each["health"] == health.value))
            for name, each in status["components"].items()
            for health in HealthStatus
        ],
    )
    checks = [
        ((component, name), check)
        for component, each in status["components"].items()
        for name, check in each["checks"].items()
    ]
    yield _gauge(
        "pipeline_guard_check_verdict",
        ["component", "check"],
        [(labels, _VERDICTS[each["newest"]]) for labels, each in checks],
    )
    yield _gauge(
        "pipeline_guard_check_flapping",
        ["component", "check"],
        [(labels, float(each["is_flapping"])) for labels, each in checks],
    )
    severities = [each["severity"] for each in status["alerts"]]
    yield _gauge(
        "pipeline_guard_alerts",
        ["severity"],
        [((name,), float(severities.count(name))) for name in ("degraded", "critical", "failed")],
    )
    yield _gauge(
        "pipeline_guard_recovery_runs",
        ["recovery", "mode"],
        [
            ((name, each["mode"]), float(each["runs"]))
            for name, each in status["recoveries"].items()
        ],
    )
    happened = CounterMetricFamily(
        "pipeline_guard_events_total", TABLE["pipeline_guard_events_total"], labels=["kind"]
    )
    for kind, count in counts.items():
        happened.add_metric([kind], float(count))
    yield happened


def _gauge(
    name: str, labels: list[str], samples: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, TABLE[name], labels=labels)
    for values, value in samples:
        family.add_metric(list(values), value)
    return family
