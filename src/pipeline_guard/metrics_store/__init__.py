"""Keeps what is measured: SQLite, packed chunks, rollups, retention, baselines."""

from pipeline_guard.metrics_store.collector import MetricsCollector
from pipeline_guard.metrics_store.queries import Aggregates, Queries
from pipeline_guard.metrics_store.retention import Retention
from pipeline_guard.metrics_store.series import Series
from pipeline_guard.metrics_store.store import MetricStore, Upkeep
from pipeline_guard.metrics_store.windows import Window

__all__ = [
    "Aggregates",
    "MetricStore",
    "MetricsCollector",
    "Queries",
    "Retention",
    "Series",
    "Upkeep",
    "Window",
]
