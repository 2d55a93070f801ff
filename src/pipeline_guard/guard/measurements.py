"""Measurements of probes into the metrics store, and back to the probes that compare them.

Writing happens on a thread of its own. When the store cannot keep up or cannot write, the oldest
measurements are dropped and counted; nothing waits for them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pipeline_guard.errors import MonitoringError
from pipeline_guard.metrics_store import MetricsCollector
from pipeline_guard.metrics_store.windows import FUNCTIONS, quantile_over_time
from pipeline_guard.model import MetricPoint
from privacy_runtime.world import Clock

_MOST_WAITING: Final = 100_000
_ROUND_S: Final = 1.0
_UPKEEP_S: Final = 60.0


class Measurements:
    """The store of a guard.

    Args:
        path: of the store.
        clock: dates points.

    Attributes:
        dropped: measurements that were not kept.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self.dropped = 0
        self._clock = clock
        self._collector = MetricsCollector(path, clock=clock)
        self._waiting: deque[MetricPoint] = deque()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="guard-metrics", daemon=True)
        self._thread.start()

    def record(self, points: Sequence[MetricPoint]) -> None:
        """Take in points; returns at once."""
        self._waiting.extend(points)
        while len(self._waiting) > _MOST_WAITING:
            self._waiting.popleft()
            self.dropped += 1

    def over(
        self,
        function: str,
        *,
        component: str,
        metric: str,
        window_s: float,
        until_s: float,
        labels: Mapping[str, str],
        quantile: float | None = None,
    ) -> Sequence[tuple[Mapping[str, str], float | None]]:
        """What a function says of each series over a window; see `probes.inputs.MetricReader`."""
        until = datetime.fromtimestamp(until_s, UTC)
        windows = self._collector.windows(component, metric, labels, over_s=window_s, until=until)
        if function == "quantile_over_time":
            share = 0.5 if quantile is None else quantile
            return [(w.labels or {}, quantile_over_time(w, share)) for w in windows]
        return [(w.labels or {}, FUNCTIONS[function](w)) for w in windows]

    def close(self) -> None:
        """Write what waits, and close the store."""
        self._is_closed.set()
        self._thread.join(10.0)
        self._collector.close()

    def _work(self) -> None:
        upkeep_s = self._clock.monotonic_s() + _UPKEEP_S
        while not self._is_closed.wait(_ROUND_S):
            self._write()
            if self._clock.monotonic_s() >= upkeep_s:
                upkeep_s = self._clock.monotonic_s() + _UPKEEP_S
                self._keep_up()
        self._write()

    def _keep_up(self) -> None:
        """Pack what is new, drop what is too old, and once an hour learn what is usual.

        What fails is tried again a minute later; baselines an hour later.
        """
        with suppress(MonitoringError):
            self._collector.store.maintain()
            self._collector.store.keep_baselines()

    def _write(self) -> None:
        points = []
        while self._waiting:
            points.append(self._waiting.popleft())
        if not points:
            return
        try:
            self._collector.record_metrics(points)
        except MonitoringError:
            self.dropped += len(points)
