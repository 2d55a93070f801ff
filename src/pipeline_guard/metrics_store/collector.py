"""The documented face: record, ask, and let a thread collect the machine's readings."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from pipeline_guard.errors import ConfigurationError, MonitoringError
from pipeline_guard.metrics_store.retention import RETENTION, Retention
from pipeline_guard.metrics_store.series import SERIES_MAX
from pipeline_guard.metrics_store.store import MetricStore
from pipeline_guard.metrics_store.windows import Window
from pipeline_guard.model import MetricPoint, PipelineComponent
from privacy_runtime.world import Clock, SystemClock

if TYPE_CHECKING:
    from privacy_runtime.resources import Reading

INTERVAL_S: Final = 10.0
UPKEEP_S: Final = 60.0


class MetricsCollector:
    """Records metrics and answers what they were; collects the machine's own while it is started.

    Recording and asking work at any time between construction and `close`. `start_collection` adds
    a thread that records the machine's processor, memory, disk and accelerator readings (components
    `compute` and `storage`) every `interval_s`, and once a minute packs what is new and drops what
    is too old. What a failed look or upkeep said is in `failures`; the thread goes on.

    Args:
        db_path: the file; made if it is missing, in a folder that exists.
        clock: dates points and decides what is too old.
        interval_s: between two looks at the machine.
        folders: whose file systems are looked at.
        series_max: how many series the file may have.
        rules: what retention keeps.
        look: looks at the machine; by default a `privacy_runtime.resources.Sampler`.

    Attributes:
        store: the store, with everything that can be asked of it in `store.query`.
        failures: what the thread could not do since it began, by what it was: the newest of each.

    Raises:
        MonitoringError: the file is damaged, another program's, or a newer version's.
        ConfigurationError: `interval_s` is not a time above zero.
    """

    def __init__(
        self,
        db_path: str | Path = "pipeline_metrics.db",
        *,
        clock: Clock | None = None,
        interval_s: float = INTERVAL_S,
        folders: Sequence[Path | str] = (".",),
        series_max: int = SERIES_MAX,
        rules: Sequence[Retention] = RETENTION,
        look: Callable[[], Reading] | None = None,
    ) -> None:
        if not 0 < interval_s < float("inf"):
            raise ConfigurationError(
                f"interval_s = {interval_s} is outside its domain, expected a time above zero; "
                f"nothing was opened",
                {"parameter": "interval_s", "value": interval_s, "constraint": "> 0"},
            )
        self._clock = clock or SystemClock()
        self.store = MetricStore(db_path, clock=self._clock, series_max=series_max, rules=rules)
        self.failures: dict[str, str] = {}
        self._interval_s = interval_s
        self._folders = tuple(folders)
        self._look = look
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_collecting(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    async def start_collection(self) -> None:
        """Begin to collect, in a thread; nothing happens if it has begun."""
        if self.is_collecting:
            return
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    async def stop_collection(self) -> None:
        """End; returns when the look or upkeep under way is done. Recording still works."""
        await asyncio.to_thread(self._end)

    def record_metric(
        self,
        component: str,
        metric_name: str,
        value: float,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Record one value, of now. When this returns, killing the process does not lose it.

        NaN says that there was none. Many at once: `record_metrics` is much faster.

        Raises:
            MonitoringError: a name or the value was refused, there are too many series, or the file
                cannot take it. Nothing was recorded.
        """
        self.store.record_one(component, metric_name, value, labels)

    def record_metrics(self, points: Iterable[MetricPoint]) -> int:
        """Record many points, each with its own time; see `MetricStore.record`."""
        return self.store.record(points)

    def get_metrics(
        self,
        component: str | None = None,
        metric_name: str | None = None,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
        limit: int = 1000,
        *,
        labels: Mapping[str, str] | None = None,
    ) -> list[MetricPoint]:
        """Return the newest `limit` points that match, oldest first; both times count.

        Raises:
            MonitoringError: `limit` is not 1 to 1,000,000, or the file cannot be read.
        """
        return self.store.query.points(
            component, metric_name, start_time, end_time, limit, labels=labels
        )

    def windows(
        self,
        component: str,
        metric_name: str,
        labels: Mapping[str, str] | None = None,
        *,
        over_s: float,
        until: datetime | None = None,
    ) -> list[Window]:
        """Return the last `over_s` seconds of every series that matches, for thresholds."""
        return self.store.query.windows(component, metric_name, labels, over_s=over_s, until=until)

    def close(self) -> None:
        """Stop collecting and close the file."""
        self._end()
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _end(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        look = self._look or _sampler(self._clock, self._folders)
        upkeep_s = self._clock.monotonic_s() + UPKEEP_S
        while not self._stop.is_set():
            self._try("look", lambda: self.store.record(points_of(look(), self._clock.now())))
            if self._clock.monotonic_s() >= upkeep_s:
                self._try("upkeep", self.store.maintain)
                self._try("baselines", self.store.keep_baselines)
                upkeep_s = self._clock.monotonic_s() + UPKEEP_S
            self._stop.wait(self._interval_s)
        self._try("upkeep", self.store.maintain)

    def _try(self, what: str, work: Callable[[], Any]) -> None:
        try:
            work()
        except (MonitoringError, OSError) as error:
            self.failures[what] = str(error)


def points_of(reading: Reading, at: datetime) -> list[MetricPoint]:
    """Return a look at the machine as points; what could not be read is left out."""
    compute, storage = PipelineComponent.COMPUTE.value, PipelineComponent.STORAGE.value
    rows: list[tuple[str, str, float | None, dict[str, str] | None]] = [
        (compute, "cpu_share", reading.cpu_share, None),
        (compute, "memory_used_bytes", reading.memory_used_bytes, None),
        (compute, "memory_limit_bytes", reading.memory_limit_bytes, None),
        (compute, "swap_used_bytes", reading.swap_used_bytes, None),
        (compute, "memory_stall_share", reading.memory_stall_share, None),
    ]
    for disk in reading.disks:
        rows.append((storage, "disk_free_bytes", disk.free_bytes, {"path": disk.path}))
        rows.append((storage, "disk_used_share", disk.used_share, {"path": disk.path}))
    for each in reading.accelerators:
        labels = {"index": str(each.index), "name": each.name}
        rows.append((compute, "accelerator_used_bytes", each.used_bytes, labels))
        rows.append((compute, "accelerator_memory_share", each.memory_share, labels))
        rows.append((compute, "accelerator_busy_share", each.busy_share, labels))
    return [
        MetricPoint(at, component, name, float(value), labels)
        for component, name, value, labels in rows
        if value is not None
    ]


def _sampler(clock: Clock, folders: Sequence[Path | str]) -> Callable[[], Reading]:
    from privacy_runtime.resources import Sampler  # noqa: PLC0415  psutil only where it is used

    return Sampler(clock, folders).sample
