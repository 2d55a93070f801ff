"""The figures of a process: counted for Prometheus, and over the last minute for `/v1/health`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from federated_dp_llm.core.query import Answer
from federated_dp_llm.monitoring import instruments
from privacy_runtime.metrics import Audience, Metrics
from privacy_runtime.world import Clock

WINDOW_S: Final = 60.0
_KEPT: Final = 200_000
_SERVER_ERROR: Final = 500
_OTHERS: Final = "privacy_finetuner_"
_GRID_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class LastMinute:
    """What was answered in the last minute. Means are None where there was nothing."""

    requests_per_second: float
    average_response_time: float | None
    error_rate: float | None


class Figures:
    """Counts requests and answers. Nothing is global.

    Args:
        clock: measures.
    """

    def __init__(self, *, clock: Clock) -> None:
        self.metrics = Metrics(process=True, clock=clock, reading_age_s=1.0)
        self._clock = clock
        self._seen: deque[tuple[float, float, bool]] = deque(maxlen=_KEPT)
        self._started_s = clock.monotonic_s()
        self.in_flight = 0
        self._more: list[Collector] = []
        self.cache_hit_rate: Callable[[], float | None] = lambda: None
        self.metrics.reads(instruments.IN_FLIGHT, lambda: float(self.in_flight))

    def request(self, *, method: str, endpoint: str, status: int, seconds: float) -> None:
        """Count an answered request; `endpoint` is the template, never the path."""
        self._seen.append((self._clock.monotonic_s(), seconds, status >= _SERVER_ERROR))
        self.metrics.add(instruments.REQUEST_COUNT, method=method, endpoint=endpoint)
        self.metrics.observe(instruments.REQUEST_LATENCY, seconds, endpoint=endpoint)
        if status >= 400:
            self.metrics.add(instruments.ERROR_COUNT, error_type=str(status))
        if status == 401:
            self.metrics.add(instruments.AUTH_FAILURES)
        if status == 403:
            self.metrics.add(instruments.ACCESS_VIOLATIONS)

    def answered(self, answer: Answer, redacted: Mapping[str, int]) -> None:
        """Count an answer, and what left as tokens."""
        self.metrics.add(instruments.ANSWERS, mechanism=answer.mechanism)
        self.metrics.add(instruments.TOKENS, float(len(answer.tokens)), mechanism=answer.mechanism)
        if answer.mechanism == "noisy_vote" and answer.rho > 0:
            self.metrics.observe(instruments.DP_NOISE_SCALE, 1 / math.sqrt(2 * answer.rho))
        for label, count in redacted.items():
            self.metrics.add(instruments.REDACTED, float(count), type=label)

    def collect(self, collector: Collector) -> None:
        """Show a collector's figures beside these."""
        self._more.append(collector)

    def alert(self, kind: str) -> None:
        """Count an alert."""
        self.metrics.add(instruments.ALERTS, kind=kind)

    def last_minute(self) -> LastMinute:
        """The last minute, or what there was of it; times on a grid of 10 ms."""
        now = self._clock.monotonic_s()
        while self._seen and self._seen[0][0] < now - WINDOW_S:
            self._seen.popleft()
        seen = list(self._seen)
        over_s = max(1.0, min(WINDOW_S, now - self._started_s))
        if not seen:
            return LastMinute(0.0, None, None)
        mean = sum(one[1] for one in seen) / len(seen)
        return LastMinute(
            requests_per_second=round(len(seen) / over_s, 1),
            average_response_time=round(math.ceil(mean / _GRID_S) * _GRID_S, 2),
            error_rate=round(sum(one[2] for one in seen) / len(seen), 4),
        )

    def exposition(self, audience: Audience = Audience.MONITORING) -> tuple[bytes, str]:
        """What Prometheus reads, and its media type: the router's figures and the process's."""
        registry = CollectorRegistry()
        registry.register(_Own(self.metrics.registry(audience), audience))
        for collector in self._more:
            registry.register(collector)
        return generate_latest(registry), CONTENT_TYPE_LATEST


class _Own(Collector):
    """The families of a registry that are the router's or the process's, and that may be read."""

    def __init__(self, all_of_it: CollectorRegistry, audience: Audience) -> None:
        self._all = all_of_it
        self._withheld = frozenset(
            one.name.removesuffix("_total")
            for one in instruments.TABLE
            if one.audience is Audience.OPERATOR and audience is not Audience.OPERATOR
        )

    def collect(self) -> Iterator[Metric]:
        for family in self._all.collect():
            if family.name not in self._withheld and not family.name.startswith(_OTHERS):
                yield family
