"""The gateway's figures: plain counts on the loop, made into Prometheus' families at a scrape.

A request touches two dictionaries and a list; labels are closed sets (routes, kinds of endings) or
configured names (backends), never what a client sent.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from federated_dp_llm.gateway.backends import Backends
from federated_dp_llm.gateway.charges import Charges
from federated_dp_llm.gateway.relay import Relay

_P: Final = "federated_gateway_"
BOUNDS_S: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
ENDINGS: Final = (
    *("answered", "refused", "unauthenticated", "exhausted", "overloaded"),
    *("backend_failed", "cut", "client_left", "failed"),
)
"""How a request can end; `cut`: a stream that broke off after it had begun."""


class Figures(Collector):
    """Counts requests; give it to a registry of prometheus_client. For one event loop.

    Args:
        backends, charges, relay: whose own counts are shown, too.
    """

    def __init__(self, backends: Backends, charges: Charges, relay: Relay) -> None:
        self._backends, self._charges, self._relay = backends, charges, relay
        self.endings = dict.fromkeys(ENDINGS, 0)
        self.open = 0
        self.tokens = 0
        self._none_open: asyncio.Future[None] | None = None
        self._buckets = [0] * (len(BOUNDS_S) + 1)
        self._seconds = 0.0

    async def none_open(self) -> None:
        """Wait until every request has ended, its settling included."""
        if self.open:
            self._none_open = asyncio.get_running_loop().create_future()
            await self._none_open

    def ended(self, ending: str, seconds: float, spent: int) -> None:
        """Count a request that has ended; `open` was one more while it was under way."""
        self.open -= 1
        if self._none_open is not None and not self.open and not self._none_open.done():
            self._none_open.set_result(None)
        self.endings[ending] += 1
        self._buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self._seconds += seconds
        self.tokens += spent

    def collect(self) -> Iterator[Metric]:
        """The families."""
        endings = CounterMetricFamily(
            f"{_P}requests", "Requests by how they ended.", labels=["ending"]
        )
        for ending, count in self.endings.items():
            endings.add_metric([ending], count)
        yield endings
        yield self._histogram()
        yield GaugeMetricFamily(f"{_P}requests_open", "Requests under way.", value=self.open)
        charges = self._charges
        for name, text, value in (
            ("charged", "Charged to each account of a request, in its unit.", self.tokens),
            ("retries", "Requests that were given to another backend.", self._relay.retries),
            ("unsettled", "Reservations that could not be settled.", charges.unsettled),
            ("beyond", "Counted by backends beyond what was held.", charges.beyond),
            ("unpaid", "Of these, without room in an allowance.", charges.unpaid),
        ):
            yield CounterMetricFamily(f"{_P}{name}", text, value=value)
        waiting = self._backends.waiting
        yield GaugeMetricFamily(f"{_P}waiting", "Requests that wait for a place.", value=waiting)
        yield from self._of_backends()

    def _histogram(self) -> Metric:
        total, buckets = 0, []
        for bound, count in zip((*BOUNDS_S, float("inf")), self._buckets, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else repr(bound), total))
        family = HistogramMetricFamily(
            f"{_P}request_seconds", "Time from a request's body to the end of its answer."
        )
        family.add_metric([], buckets, self._seconds)
        return family

    def _of_backends(self) -> Iterator[Metric]:
        labels = ["backend"]
        open_ = GaugeMetricFamily(f"{_P}backend_open", "Requests at a backend.", labels=labels)
        ejected = GaugeMetricFamily(
            f"{_P}backend_ejected", "1 while a backend is left in peace.", labels=labels
        )
        seconds = GaugeMetricFamily(
            f"{_P}backend_seconds", "Recent time of an answer.", labels=labels
        )
        done = CounterMetricFamily(
            f"{_P}backend_requests", "Requests of a backend.", labels=["backend", "ending"]
        )
        now = self._backends.now()
        for member in self._backends.members:
            name = [member.backend.name]
            open_.add_metric(name, member.in_flight)
            ejected.add_metric(name, float(member.shut_until > now))
            seconds.add_metric(name, member.seconds)
            done.add_metric([*name, "answered"], member.answered)
            done.add_metric([*name, "failed"], member.failed)
        yield from (open_, ejected, seconds, done)
