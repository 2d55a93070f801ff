from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline_guard.errors import ConfigurationError, MonitoringError
from pipeline_guard.metrics_store import MetricsCollector
from pipeline_guard.metrics_store.windows import avg_over_time
from pipeline_guard.model import MetricPoint
from privacy_runtime.resources import AcceleratorReading, DiskReading, Reading
from privacy_runtime.testing import DEFAULT_START, ManualClock

READING = Reading(
    at_s=0.0,
    cores=2.0,
    cpu_share=0.25,
    memory_used_bytes=3,
    memory_limit_bytes=8,
    swap_used_bytes=1,
    disks=(DiskReading("/data", 25, 100),),
    accelerators=(AcceleratorReading(0, "H100", 20, 80, 0.5),),
)


def test_what_is_recorded_can_be_asked_for_before_collection_starts(tmp_path: Path) -> None:
    with MetricsCollector(tmp_path / "m.db", clock=ManualClock()) as collector:
        collector.record_metric("training", "accuracy", 0.95, {"model": "v2.1"})
        collector.record_metric("quantization", "model_size_mb", 34.2)
        collector.record_metrics([MetricPoint(DEFAULT_START, "training", "accuracy", 0.97)])

        found = collector.get_metrics(component="training", limit=100)
        (window, _) = collector.windows(
            "training", "accuracy", over_s=60, until=DEFAULT_START + timedelta(seconds=1)
        )

    assert [(p.metric_name, p.value, p.labels) for p in found] == [
        ("accuracy", 0.95, {"model": "v2.1"}),
        ("accuracy", 0.97, None),
    ]
    assert avg_over_time(window) == 0.95


def test_collection_records_the_machine_and_packs_it(tmp_path: Path) -> None:
    looked = threading.Event()

    def look() -> Reading:
        looked.set()
        return READING

    async def collect() -> MetricsCollector:
        collector = MetricsCollector(tmp_path / "m.db", clock=ManualClock(), look=look)
        await collector.start_collection()
        await collector.start_collection()
        await asyncio.to_thread(looked.wait, 10)
        assert collector.is_collecting
        await collector.stop_collection()
        await collector.stop_collection()
        return collector

    with asyncio.run(collect()) as collector:
        found = {(p.component, p.metric_name): p for p in collector.store.query.latest()}
        ((_, summary),) = collector.store.query.summaries("compute", "cpu_share")

    assert not collector.is_collecting
    assert summary.points == 1
    assert found["compute", "cpu_share"].value == 0.25
    assert found["storage", "disk_used_share"].value == 0.75
    assert found["storage", "disk_free_bytes"].labels == {"path": "/data"}
    assert found["compute", "accelerator_memory_share"].value == 0.25
    assert ("compute", "memory_stall_share") not in found


def test_a_look_that_fails_is_reported_and_ends_nothing(tmp_path: Path) -> None:
    looks = threading.Semaphore(0)

    def look() -> Reading:
        looks.release()
        raise OSError("the disk of /data does not answer")

    async def collect(collector: MetricsCollector) -> None:
        await collector.start_collection()
        await asyncio.to_thread(lambda: [looks.acquire(timeout=10) for _ in range(3)])
        await collector.stop_collection()

    with MetricsCollector(tmp_path / "m.db", interval_s=0.01, look=look) as collector:
        asyncio.run(collect(collector))
        collector.record_metric("a", "b", 1.0)

        assert collector.failures == {"look": "the disk of /data does not answer"}
        assert len(collector.get_metrics()) == 1


def test_this_machine_can_be_looked_at(tmp_path: Path) -> None:
    with MetricsCollector(tmp_path / "m.db", interval_s=0.05, folders=[tmp_path]) as collector:
        asyncio.run(collector.start_collection())
        while not collector.get_metrics("compute"):
            time.sleep(0.01)
        asyncio.run(collector.stop_collection())
        (used,) = collector.store.query.latest("compute", "memory_used_bytes")

    assert collector.failures == {}
    assert used.value > 1e6


@pytest.mark.parametrize("interval_s", [0, -1, float("nan"), float("inf")])
def test_an_interval_that_is_none_is_refused(tmp_path: Path, interval_s: float) -> None:
    with pytest.raises(ConfigurationError, match="nothing was opened"):
        MetricsCollector(tmp_path / "m.db", interval_s=interval_s)

    assert not (tmp_path / "m.db").exists()


def test_a_collector_that_was_closed_says_so(tmp_path: Path) -> None:
    collector = MetricsCollector(tmp_path / "m.db")
    collector.close()
    collector.close()

    with pytest.raises(MonitoringError, match="was closed"):
        collector.record_metric("a", "b", 1.0)
