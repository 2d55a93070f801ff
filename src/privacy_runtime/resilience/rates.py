"""How fast calls may come.

Source: the generic cell rate algorithm, ITU-T I.371, annex A: one number holds the whole state.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Final, ParamSpec, TypeVar

from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience.errors import RateExceeded
from privacy_runtime.resilience.events import BUS, Event, EventBus, Kind
from privacy_runtime.world import Clock, SystemClock

P = ParamSpec("P")
R = TypeVar("R")

_ROUNDING_S: Final = 1e-9  # sums of steps are rounded; a call that is due is not early


class RateLimit:
    """Lets calls through at `per_s`, and `burst` of them at once after a pause.

    Guarantee: in any t seconds at most `burst` + `per_s` x t calls run.
    """

    order: Final = 40

    __slots__ = ("_bus", "_clock", "_due_s", "_lock", "_slack_s", "_step_s", "name")

    def __init__(
        self,
        per_s: float,
        *,
        burst: int = 1,
        name: str = "rate",
        bus: EventBus = BUS,
        clock: Clock | None = None,
    ) -> None:
        if not (per_s > 0 and burst >= 1):
            raise InvalidParameter(
                "per_s", found=(per_s, burst), expected="a rate above zero, a burst from one"
            )
        self.name = name
        self._step_s = 1 / per_s
        self._slack_s = (burst - 1) / per_s
        self._bus = bus
        self._clock = (clock or SystemClock()).monotonic_s
        self._lock = threading.Lock()
        self._due_s = float("-inf")

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `function`, unless calls come too fast.

        Raises:
            RateExceeded: it did not run; says when the next may.
        """
        self._pass()
        return function(*args, **kwargs)

    async def acall(
        self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Await `function(...)`, unless calls come too fast: as `call`."""
        self._pass()
        return await function(*args, **kwargs)

    def _pass(self) -> None:
        with self._lock:
            now_s = self._clock()
            due_s = max(self._due_s, now_s)
            early_s = due_s - now_s - self._slack_s
            if early_s <= _ROUNDING_S:
                self._due_s = due_s + self._step_s
                return
        self._bus.emit(Event(self.name, Kind.REJECTED, {"retry_after_s": early_s}))
        raise RateExceeded(self.name, early_s)
