"""The figures of a process: counted here, or read when somebody asks.

Several processes of one service share the counted ones when PROMETHEUS_MULTIPROC_DIR names a folder
before this is imported (prometheus_client's multi-process mode): counters and histograms add up,
also those of processes that ended. What is read at a scrape comes from the process that answers.
"""

from __future__ import annotations

import itertools
import logging
import os
import platform
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from privacy_core.errors import InvalidParameter
from privacy_runtime.metrics import table
from privacy_runtime.metrics.instruments import OTHER, Audience, Instrument, Kind, Label
from privacy_runtime.world import Clock, SystemClock

Reading = Mapping[Any, float] | float
"""One figure, or figures by the values of the labels: a tuple, or the value of the only one."""
_log = logging.getLogger(__name__)
_SHARED: Final = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """Counts and reads the figures of `table`. Safe to share between threads; nothing is global.

    Guarantee: a figure has at most `Instrument.most_series` series, whatever is counted. A value
    that a label does not admit counts as `other`.

    Args:
        version: of the product, for `build_info`.
        process: add the figures of the operating system about this process.
        clock: dates what was read; None: the machine's.
        reading_age_s: a figure that was read so recently is not read again, however many scrape.
    """

    def __init__(
        self,
        *,
        version: str = "",
        process: bool = True,
        clock: Clock | None = None,
        reading_age_s: float = 0.0,
    ) -> None:
        self._clock = clock or SystemClock()
        self.reading_age_s = reading_age_s
        self._read: tuple[float, list[Metric]] | None = None
        self._reading = threading.Lock()
        self._registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._made: dict[str, Counter | Gauge | Histogram] = {}
        self._series: dict[tuple[Any, ...], Any] = {}
        self._seen: dict[tuple[str, str], set[str]] = {}
        self._readings: dict[str, tuple[Instrument, Callable[[], Reading]]] = {}
        self._own: list[Collector] = [_Readings(self)]
        if process:
            self._own.append(ProcessCollector(registry=None))
        for instrument in table.TABLE:
            self._begin(instrument)
        if version:
            build = (version, platform.python_version())
            self.reads(table.BUILD, lambda: {build: 1.0})

    def add(self, instrument: Instrument, by: float = 1.0, **labels: str) -> None:
        """Count.

        Raises:
            InvalidParameter: it is no counter, `by` is negative, or the labels are not its own.
        """
        if not by >= 0:
            raise InvalidParameter("by", found=by, expected="a number >= 0")
        self._one(instrument, Kind.COUNTER, labels).inc(by)

    def set(self, instrument: Instrument, value: float, **labels: str) -> None:
        """Say how much there is. Raises `InvalidParameter` as `add`."""
        self._one(instrument, Kind.GAUGE, labels).set(value)

    def change(self, instrument: Instrument, by: float, **labels: str) -> None:
        """Say how much more, or less, there is. Raises `InvalidParameter` as `add`."""
        self._one(instrument, Kind.GAUGE, labels).inc(by)

    def observe(self, instrument: Instrument, value: float, **labels: str) -> None:
        """Count an observation. Raises `InvalidParameter` as `add`."""
        self._one(instrument, Kind.HISTOGRAM, labels).observe(value)

    def request(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request.

        Args:
            method: of the request; an unknown one is `other`.
            route: the template (`/api/v1/training/{job_id}/status`), never the path.
            status: of the answer.
            seconds: it took.
        """
        self.add(table.HTTP_REQUESTS, method=method, route=route, status=f"{status // 100}xx")
        self.observe(table.HTTP_SECONDS, seconds, method=method, route=route)

    def reads(self, instrument: Instrument, reading: Callable[[], Reading]) -> None:
        """Ask `reading` at every scrape; a second reading of a figure replaces the first.

        Where there are more figures than the labels admit, the first ones come out: give the most
        important first. A reading that raises leaves its figure out of that scrape, and shows in
        `reading_failed`.

        Raises:
            InvalidParameter: a histogram cannot be read.
        """
        if instrument.kind is Kind.HISTOGRAM:
            raise InvalidParameter("instrument", found=instrument.name, expected="no histogram")
        self._readings[instrument.name] = (instrument, reading)
        self._read = None

    def exposition(self, audience: Audience = Audience.MONITORING) -> tuple[bytes, str]:
        """What Prometheus reads, and its media type."""
        return generate_latest(self.registry(audience)), CONTENT_TYPE_LATEST

    def registry(self, audience: Audience) -> CollectorRegistry:
        """The figures that an audience may read, as one registry, made anew."""
        found = CollectorRegistry(auto_describe=False)
        found.register(_Admitted(self._collectors(), audience))
        return found

    def _collectors(self) -> list[Collector | CollectorRegistry]:
        counted: Collector | CollectorRegistry = self._registry
        if _SHARED in os.environ:
            shared = CollectorRegistry()
            MultiProcessCollector(shared)  # type: ignore[no-untyped-call]  # it has no types
            counted = shared
        return [counted, *self._own]

    def readings(self) -> Iterator[Metric]:
        """Every figure that is read, no older than `reading_age_s`; used by the scrape."""
        with self._reading:
            now_s = self._clock.monotonic_s()
            if self._read is None or now_s - self._read[0] >= self.reading_age_s:
                self._read = (now_s, list(self._read_now()))
            yield from self._read[1]

    def _read_now(self) -> Iterator[Metric]:
        failed: dict[str, float] = {}
        for instrument, reading in list(self._readings.values()):
            name = instrument.name.removeprefix("privacy_finetuner_")
            failed[name] = 1.0
            try:
                family = _family(instrument, reading())
            except Exception:  # noqa: BLE001  one broken figure must not hide the others
                _log.exception("a figure could not be read")
                continue
            failed[name] = 0.0
            yield family
        yield _family(table.READING_FAILED, failed)

    def _begin(self, instrument: Instrument) -> None:
        """Begin at 0: Prometheus cannot see a counter grow whose first value is 1."""
        if instrument.kind is Kind.COUNTER and all(label.values for label in instrument.labels):
            names = [label.name for label in instrument.labels]
            for values in itertools.product(*(label.values for label in instrument.labels)):
                self.add(instrument, 0.0, **dict(zip(names, values, strict=True)))

    def _one(self, instrument: Instrument, kind: Kind, labels: Mapping[str, str]) -> Any:
        """The series of these labels."""
        key = (instrument.name, kind, *labels.values())
        series = self._series.get(key)
        if series is not None and tuple(labels) == tuple(each.name for each in instrument.labels):
            return series
        return self._named(instrument, kind, labels)

    def _named(self, instrument: Instrument, kind: Kind, labels: Mapping[str, str]) -> Any:
        names = tuple(label.name for label in instrument.labels)
        if instrument.kind is not kind or set(labels) != set(names):
            raise InvalidParameter(
                instrument.name,
                found=f"a {kind} with labels {', '.join(labels) or 'none'}",
                expected=f"a {instrument.kind} with labels {', '.join(names) or 'none'}",
            )
        with self._lock:
            made = self._made.get(instrument.name)
            if made is None:
                made = self._made[instrument.name] = _make(instrument, self._registry)
            values = tuple(self._admitted(instrument, each, labels) for each in instrument.labels)
            series = made.labels(*values) if values else made
            given = tuple(labels[name] for name in names)
            if values == given:  # what became `other` is not kept: there is no end of it
                self._series[instrument.name, kind, *given] = series
            return series

    def _admitted(self, instrument: Instrument, label: Label, labels: Mapping[str, str]) -> str:
        value = labels[label.name]
        if label.values:
            return value if value in label.values else OTHER
        seen = self._seen.setdefault((instrument.name, label.name), set())
        if value not in seen and len(seen) >= label.most:
            return OTHER
        seen.add(value)
        return value


class MetricsServer:
    """Serves the operator's figures on a port of their own, in a thread.

    Args:
        metrics: what is served.
        host: the loopback address, unless only the monitoring network reaches another.
        port: 0: any that is free.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, metrics: Metrics, *, host: str = "127.0.0.1", port: int = 9090) -> None:
        registry = _Fresh(metrics, Audience.OPERATOR)
        self._server, self._thread = start_http_server(port, host, registry=registry)
        self.port: int = self._server.server_port

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Fresh(CollectorRegistry):
    """A registry that is made at every scrape."""

    def __init__(self, metrics: Metrics, audience: Audience) -> None:
        super().__init__(auto_describe=False)
        self._metrics, self._audience = metrics, audience

    def collect(self) -> Iterable[Metric]:
        return self._metrics.registry(self._audience).collect()


class _Readings(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics.readings()


class _Admitted(Collector):
    """The figures that an audience may read. What is not in the table is about the process."""

    def __init__(
        self, collectors: Iterable[Collector | CollectorRegistry], audience: Audience
    ) -> None:
        self._collectors = tuple(collectors)
        self._withheld = frozenset(
            instrument.name.removesuffix("_total")
            for instrument in table.TABLE
            if instrument.audience is Audience.OPERATOR and audience is not Audience.OPERATOR
        )

    def collect(self) -> Iterator[Metric]:
        for collector in self._collectors:
            for family in collector.collect():
                if family.name not in self._withheld:
                    # when a series began is a series more for each, and Prometheus does not read it
                    family.samples = [s for s in family.samples if not s.name.endswith("_created")]
                    yield family


def _make(instrument: Instrument, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    names = [label.name for label in instrument.labels]
    if instrument.kind is Kind.COUNTER:
        return Counter(instrument.name, instrument.help, names, registry=registry)
    if instrument.kind is Kind.GAUGE:
        return Gauge(
            instrument.name, instrument.help, names, registry=registry, multiprocess_mode="livesum"
        )
    return Histogram(
        instrument.name, instrument.help, names, registry=registry, buckets=instrument.buckets
    )


def _family(instrument: Instrument, reading: Reading) -> Metric:
    """What was read, within the bounds of the labels."""
    names = [label.name for label in instrument.labels]
    kind = CounterMetricFamily if instrument.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(instrument.name, instrument.help, labels=names)
    if isinstance(reading, Mapping):
        seen: list[set[str]] = [set() for _ in names]
        for given, value in reading.items():
            values = given if isinstance(given, tuple) else (given,)
            if _fits(instrument, values, seen):
                family.add_metric([str(each) for each in values], value)
    else:
        family.add_metric([], reading)
    return family


def _fits(instrument: Instrument, values: tuple[Any, ...], seen: list[set[str]]) -> bool:
    """Whether figures of these labels are shown: sums of what is beyond would mean nothing."""
    for label, value, known in zip(instrument.labels, values, seen, strict=True):
        if label.values and str(value) not in label.values:
            return False
        if not label.values and str(value) not in known and len(known) >= label.most:
            return False
    for value, known in zip(values, seen, strict=True):
        known.add(str(value))
    return True
