"""Discrete events: requests, nodes with service times of the notes, and a policy between them.

Service time: log-normal, median 0.775 s, sigma 0.25, and 2.5 times that for one in fifty; divided
by the node's speed. Arrivals: Poisson. Every number comes from a seed.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from federated_dp_llm.routing.scaling import Needs, ScalingPolicy, Signals, decide
from federated_dp_llm.routing.waiting import Ticket, Waiting

TICK_S = 2.0
SPEEDS = (1.3, 1.1, 0.9, 0.5)


def arrivals(rate: float, count: int, seed: int) -> list[float]:
    """When so many requests come, at this rate."""
    chance = np.random.default_rng(seed)  # noqa: TID251  a seeded simulation
    return np.cumsum(chance.exponential(1 / rate, count)).tolist()


def services(count: int, seed: int) -> list[float]:
    """How long so many requests take on a node of speed 1."""
    chance = np.random.default_rng(seed + 1)  # noqa: TID251  as above
    times = 0.775 * np.exp(0.25 * chance.standard_normal(count))
    times[chance.random(count) < 0.02] *= 2.5
    return times.tolist()


@dataclass
class Outcome:
    """How long requests took, from arrival to end."""

    latencies_s: list[float]

    @property
    def mean_s(self) -> float:
        return float(np.mean(self.latencies_s))

    def percentile_s(self, percent: float) -> float:
        return float(np.percentile(self.latencies_s, percent))


def late_binding(
    comes: Sequence[float], takes: Sequence[float], speeds: Sequence[float], slots: int
) -> Outcome:
    """The router's own queue, `routing.waiting`, over nodes with so many credits."""
    queue = Waiting()
    for place, speed in enumerate(speeds):
        queue.set_credits(str(place), slots, speed=speed)
    ends: list[tuple[float, int, str]] = []
    tickets: dict[Ticket, int] = {}
    latencies = [0.0] * len(comes)

    def started(ticket: Ticket, now: float) -> None:
        place = tickets.pop(ticket)
        assert ticket.node is not None
        end = now + takes[place] / speeds[int(ticket.node)]
        latencies[place] = end - comes[place]
        heapq.heappush(ends, (end, place, ticket.node))

    def finish() -> None:
        now, _, node = heapq.heappop(ends)
        queue.release(node)
        for ticket in queue.bind():
            started(ticket, now)

    for place, now in enumerate(comes):
        while ends and ends[0][0] <= now:
            finish()
        ticket = Ticket(deadline_s=now + 1e9)
        tickets[ticket] = place
        queue.submit(ticket)
        if ticket.node is not None:
            started(ticket, now)
    while ends:
        finish()
    return Outcome(latencies)


def early_binding(
    comes: Sequence[float],
    takes: Sequence[float],
    speeds: Sequence[float],
    slots: int,
    choose: Callable[[list[int]], int],
) -> Outcome:
    """Each request is bound to a node when it comes, and waits there in the node's own queue."""
    free = [[0.0] * slots for _ in speeds]  # when each slot of each node is free
    under_way: list[tuple[float, int]] = []
    counts = [0] * len(speeds)
    latencies = []
    for now, takes_s in zip(comes, takes, strict=True):
        while under_way and under_way[0][0] <= now:
            counts[heapq.heappop(under_way)[1]] -= 1
        node = choose(counts)
        end = max(now, heapq.heappop(free[node])) + takes_s / speeds[node]
        heapq.heappush(free[node], end)
        heapq.heappush(under_way, (end, node))
        counts[node] += 1
        latencies.append(end - now)
    return Outcome(latencies)


def round_robin() -> Callable[[list[int]], int]:
    turn = itertools.count()
    return lambda counts: next(turn) % len(counts)


def at_random(seed: int) -> Callable[[list[int]], int]:
    chance = np.random.default_rng(seed + 2)  # noqa: TID251  as above
    return lambda counts: int(chance.integers(len(counts)))


def of_two(seed: int, speeds: Sequence[float]) -> Callable[[list[int]], int]:
    """Power of two choices over calls under way divided by speed."""
    chance = np.random.default_rng(seed + 3)  # noqa: TID251  as above

    def choose(counts: list[int]) -> int:
        one, two = (int(place) for place in chance.choice(len(counts), 2, replace=False))
        return min((one, two), key=lambda place: (counts[place] + 1) / speeds[place])

    return choose


class Spike:
    """A fleet that grows by `scaling.decide` when the rate goes up; a queue at the router.

    Args:
        start_s: that a new node takes until it works.
        before, after, at_s: the rate goes from the one to the other then.
        patience_s: after which a request that waits is dropped.
    """

    def __init__(
        self,
        *,
        start_s: float,
        policy: ScalingPolicy,
        before: float = 50.0,
        after: float = 500.0,
        at_s: float = 20.0,
        until_s: float = 140.0,
        patience_s: float = 30.0,
        seed: int = 1,
    ) -> None:
        self._chance = np.random.default_rng(seed)  # noqa: TID251  as above
        self._start_s, self._policy, self._patience_s = start_s, policy, patience_s
        self._before, self._after, self._at_s = before, after, at_s
        self._times = iter(services(int(2 * after * until_s), seed))
        self._needs, self._queue = Needs(), Waiting()
        self._waiting: dict[Ticket, float] = {}
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()
        self._came = self._nodes = self._starting = self._names = 0
        self.served = self.dropped = self.most_nodes = 0
        self.worst_wait_s = self.settled_s = 0.0
        for _ in range(self._wish(before * TICK_S, 0.0)):
            self._starting += 1
            self._up(0.0)
        self._at(0.0, self._come)
        self._at(TICK_S, self._tick)
        while self._events and (now := self._events[0][0]) <= until_s:
            heapq.heappop(self._events)[2](now)
            for bound in self._queue.bind():
                self.worst_wait_s = max(self.worst_wait_s, now - self._waiting.pop(bound))
                self._serve(bound, now)

    def _at(self, when: float, what: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), what))

    def _come(self, now: float) -> None:
        self._came += 1
        ticket = Ticket(deadline_s=now + self._patience_s)
        self._queue.submit(ticket)
        if ticket.node is None:
            self._waiting[ticket] = now
            self._at(now + self._patience_s, lambda _: self._give_up(ticket))
        else:
            self._serve(ticket, now)
        rate = self._before if now < self._at_s else self._after
        self._at(now + self._chance.exponential(1 / rate), self._come)

    def _serve(self, ticket: Ticket, now: float) -> None:
        self._at(now + next(self._times), lambda _: self._end(str(ticket.node)))

    def _end(self, node: str) -> None:
        self.served += 1
        self._queue.release(node)

    def _give_up(self, ticket: Ticket) -> None:
        if ticket in self._waiting:
            self._queue.abandon(ticket)
            del self._waiting[ticket]
            self.dropped += 1

    def _up(self, now: float) -> None:
        del now
        self._starting, self._nodes, self._names = (
            self._starting - 1,
            self._nodes + 1,
            self._names + 1,
        )
        self._queue.set_credits(str(self._names), self._policy.concurrency)

    def _tick(self, now: float) -> None:
        wish = self._wish(self._came, now)
        self._came = 0
        for _ in range(wish - self._nodes - self._starting):
            self._starting += 1
            self._at(now + self._start_s, self._up)
        self.most_nodes = max(self.most_nodes, self._nodes + self._starting)
        if now > self._at_s and self._queue.length > self._after * 0.1:
            self.settled_s = now + TICK_S - self._at_s
        self._at(now + TICK_S, self._tick)

    def _wish(self, came: float, now: float) -> int:
        signals = Signals(
            offered_per_s=came / TICK_S,
            service_s=0.82,
            waiting=self._queue.length,
            nodes=self._nodes,
            starting=self._starting,
        )
        return decide(signals, self._policy, self._needs, now).nodes
