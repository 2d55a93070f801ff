"""Another answer where there is none: for comfort, never for a guarantee."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, ParamSpec, TypeVar

from privacy_runtime.resilience.errors import ResilienceError
from privacy_runtime.resilience.events import BUS, Event, EventBus, Kind

P = ParamSpec("P")
R = TypeVar("R")


class Fallback:
    """Answers in place of a call that failed.

    Use it for a cached list, an empty recommendation: what is worse but not wrong. A budget that
    cannot be read has no fallback: the unknown costs infinity.

    Args:
        answer: from the error to the answer; called in the caller's thread.
        on: which errors; the default are refusals of policies, time limits and lost connections.
        name, bus: for events.
    """

    order: Final = 0

    __slots__ = ("_answer", "_bus", "_on", "name")

    def __init__(
        self,
        answer: Callable[[Exception], Any],
        *,
        on: tuple[type[Exception], ...] = (ResilienceError, ConnectionError, TimeoutError),
        name: str = "fallback",
        bus: EventBus = BUS,
    ) -> None:
        self.name = name
        self._answer = answer
        self._on = on
        self._bus = bus

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `function`, or answer in its place."""
        try:
            return function(*args, **kwargs)
        except self._on as error:
            answer: R = self._instead(error)
            return answer

    async def acall(
        self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Await `function(...)`, or answer in its place."""
        try:
            return await function(*args, **kwargs)
        except self._on as error:
            answer: R = self._instead(error)
            return answer

    def _instead(self, error: Exception) -> Any:
        """The other answer; its type is the caller's word."""
        self._bus.emit(Event(self.name, Kind.FELL_BACK, {"error": type(error).__name__}))
        return self._answer(error)
