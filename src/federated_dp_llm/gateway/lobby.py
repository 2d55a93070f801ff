"""What the connections of one server share: its limits, its lists, and one timer for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from uvicorn.server import ServerState

from federated_dp_llm.gateway.app import Gateway
from privacy_runtime.http.server import ServerOptions

_TICK_S: Final = 0.25


class Guest(Protocol):
    """A connection, as the timer sees it.

    Attributes:
        deadline: by the loop's clock; what is to come must come before.
    """

    deadline: float

    def late(self, now: float) -> None:
        """It did not."""
        ...


class Lobby:
    """What the connections of one server share.

    Args:
        gateway: answers what begins at once.
        general: makes the general server's protocol for a connection, which is to call
            `Front.come_back` when it has answered all that it was given.
        options: limits and patience.
        state: of the server; whoever holds a connection stands in its `connections`.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        general: Callable[[Any], Any],
        options: ServerOptions,
        state: ServerState,
    ) -> None:
        self.gateway, self.general, self.options, self.state = gateway, general, options, state
        self.loop = asyncio.get_running_loop()
        self.fronts: set[Guest] = set()
        self._timer: asyncio.TimerHandle | None = None
        shortest = min(options.headers_s, options.body_s, float(options.keep_alive_s))
        self._tick_s = min(_TICK_S, max(0.005, shortest / 8))
        self._of: object = None
        self._headers = b""

    def headers(self) -> bytes:
        """What the server says in every answer: the date."""
        given = self.state.default_headers
        if given is not self._of:  # it makes a new list every second
            self._of = given
            self._headers = b"".join(b"%s: %s\r\n" % one for one in given)
        return self._headers

    def enter(self, front: Guest) -> None:
        """A connection is here."""
        self.state.connections.add(front)  # type: ignore[arg-type]  # it has all that is asked
        self.fronts.add(front)
        if self._timer is None:
            self._timer = self.loop.call_later(self._tick_s, self._sweep)

    def leave(self, front: Guest) -> None:
        """It is not any more."""
        self.state.connections.discard(front)
        self.fronts.discard(front)

    def wait_for(self, task: asyncio.Task[None]) -> None:
        """The server waits for this before it stops, and ends it when it is late."""
        self.state.tasks.add(task)
        task.add_done_callback(self.state.tasks.discard)

    def _sweep(self) -> None:
        """End what is late: one timer for all connections."""
        now = self.loop.time()
        for front in [front for front in self.fronts if front.deadline <= now]:
            front.late(now)
        self._timer = self.loop.call_later(self._tick_s, self._sweep) if self.fronts else None
