"""Who is served next, by whom: a router-held queue with credits for each node. Pure.

A request is bound to a node at the moment that node has room for it, not before ("late binding"):
so a slow node never collects a queue while a fast one is idle. Credits bound what a node works on
at once. Order: smaller priority first; within one, tenants take turns by what they were served
(start-time fair queueing: Goyal, Vin and Cheng 1996); within one tenant, the nearest deadline.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final

from privacy_core.errors import InvalidParameter

ANY: Final = None
"""No list of nodes: any of them will do."""


@dataclass(eq=False, slots=True, kw_only=True)
class Ticket:
    """One request that waits.

    Attributes:
        nodes: that may serve it; None: any.
        priority: smaller is served first.
        deadline_s: after it, it is not worth serving.
        node: that serves it, once it is bound.
        gone: it is served, or waits no longer.
    """

    nodes: frozenset[str] | None = ANY
    priority: int = 3
    deadline_s: float = float("inf")
    tenant: Hashable = ""
    node: str | None = None
    gone: bool = False


@dataclass(slots=True)
class _Server:
    credits: int
    speed: float = 1.0
    used: int = 0
    paused: bool = False

    @property
    def free(self) -> int:
        return 0 if self.paused else self.credits - self.used


@dataclass(slots=True)
class _Line:
    """The waiting tickets of one tenant, by deadline."""

    start: float
    heap: list[tuple[float, int, Ticket]] = field(default_factory=list)


class Waiting:
    """The queue, as a value that changes: no clock, no waiting.

    Guarantee: no node ever works on more than its credits, unless they were lowered meanwhile; a
    ticket is bound once, or never; while a node has a free credit, no ticket that it may serve
    waits.
    """

    def __init__(self) -> None:
        self._servers: dict[str, _Server] = {}
        self._open: set[str] = set()  # those with a free credit
        self._lines: dict[int, dict[Hashable, _Line]] = {}
        self._virtual: dict[int, float] = {}
        self._order = itertools.count()
        self.length = 0

    @property
    def servers(self) -> Mapping[str, tuple[int, int]]:
        """Used credits and credits of each node."""
        return {name: (server.used, server.credits) for name, server in self._servers.items()}

    @property
    def credits(self) -> int:
        """Of all nodes that are not paused."""
        return sum(server.credits for server in self._servers.values() if not server.paused)

    def set_credits(self, node: str, credits: int, *, speed: float | None = None) -> None:
        """Say how much a node may work on at once, and how fast it is against others.

        Raises:
            InvalidParameter: fewer than 0, or a speed that is not above 0.
        """
        if credits < 0 or (speed is not None and not speed > 0):
            raise InvalidParameter(
                "credits", found=(credits, speed), expected="a number from 0, a speed above 0"
            )
        server = self._servers.setdefault(node, _Server(credits))
        server.credits = credits
        if speed is not None:
            server.speed = speed
        self._note(node)

    def pause(self, node: str, *, paused: bool = True) -> None:
        """Give a node nothing new; what it works on stays its own."""
        if node in self._servers:
            self._servers[node].paused = paused
            self._note(node)

    def drop(self, node: str) -> None:
        """Forget a node; tickets that only it could serve stay until their deadlines."""
        self._servers.pop(node, None)
        self._open.discard(node)

    def submit(self, ticket: Ticket) -> None:
        """Take a ticket; it is bound at once where a node has room."""
        if (node := self._room(ticket)) is not None:
            self._bind(ticket, node)
            return
        lines = self._lines.setdefault(ticket.priority, {})
        line = lines.get(ticket.tenant)
        if line is None:
            # Who comes new starts where the others are: neither ahead nor behind.
            line = lines[ticket.tenant] = _Line(self._virtual.get(ticket.priority, 0.0))
        heapq.heappush(line.heap, (ticket.deadline_s, next(self._order), ticket))
        self.length += 1

    def abandon(self, ticket: Ticket) -> None:
        """It waits no longer."""
        if not ticket.gone and ticket.node is None:
            self.length -= 1
        ticket.gone = True

    def release(self, node: str) -> None:
        """A node finished something."""
        server = self._servers.get(node)
        if server is not None and server.used > 0:
            server.used -= 1
            self._note(node)

    def bind(self) -> list[Ticket]:
        """Bind whatever can be bound now; in order."""
        bound: list[Ticket] = []
        while (found := self._next()) is not None:
            bound.append(found)
        return bound

    def _next(self) -> Ticket | None:
        if not self.length or not self._open:
            return None
        for priority in sorted(self._lines):
            lines = self._lines[priority]
            for tenant in sorted(lines, key=lambda name: lines[name].start):
                ticket = self._first(lines[tenant])
                if ticket is not None:
                    line = lines[tenant]
                    self._virtual[priority] = line.start
                    line.start += 1.0
                    if not line.heap:
                        self._retire(priority, tenant)
                    return ticket
                if not lines[tenant].heap:
                    self._retire(priority, tenant)
        return None

    def _first(self, line: _Line) -> Ticket | None:
        """The nearest deadline of a line that a node has room for."""
        passed: list[tuple[float, int, Ticket]] = []
        found = None
        while line.heap:
            entry = heapq.heappop(line.heap)
            ticket = entry[2]
            if ticket.gone:
                continue
            if (node := self._room(ticket)) is not None:
                self._bind(ticket, node)
                self.length -= 1
                found = ticket
                break
            passed.append(entry)
        for entry in passed:
            heapq.heappush(line.heap, entry)
        return found

    def _retire(self, priority: int, tenant: Hashable) -> None:
        lines = self._lines[priority]
        del lines[tenant]
        if not lines:
            del self._lines[priority]
            self._virtual.pop(priority, None)

    def _room(self, ticket: Ticket) -> str | None:
        """The fastest node with a free credit that may serve it; of equals the least used."""
        names = self._open if ticket.nodes is ANY else self._open & ticket.nodes
        return max(names, key=self._rank, default=None)

    def _rank(self, name: str) -> tuple[float, float, str]:
        server = self._servers[name]
        return server.speed, server.free / server.credits, name

    def _note(self, name: str) -> None:
        """Keep `_open` right."""
        if self._servers[name].free > 0:
            self._open.add(name)
        else:
            self._open.discard(name)

    def _bind(self, ticket: Ticket, node: str) -> None:
        self._servers[node].used += 1
        self._note(node)
        ticket.node, ticket.gone = node, True
