"""The circuit breaker: whoever fails too often is left in peace for a while.

::

            too many failures or slow calls
    CLOSED ---------------------------------> OPEN <---------------.
      ^                                        | the break is over  |  too many of the trials
      |   enough trials went well              v                    |  failed, or they hang
      '------------------------------------ HALF_OPEN --------------'

    ISOLATED: by a person; every call is refused until a person closes it.

The rates, the window and the trials are those of resilience4j; the growing break is Polly's.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, ParamSpec, TypeVar

from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience.errors import CircuitOpen
from privacy_runtime.resilience.events import BUS, Event, EventBus, Kind
from privacy_runtime.resilience.schedules import uniform
from privacy_runtime.resilience.windows import FAILED, GOOD, SLOW, CountWindow, Tally, TimeWindow
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

P = ParamSpec("P")
R = TypeVar("R")

_IGNORED: Final = -1
Begun = tuple[int, float]
"""A call under way: in which period, and since when."""


class CircuitState(StrEnum):
    """Where a circuit stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    ISOLATED = "isolated"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a circuit opens, and how it closes again.

    Attributes:
        failure_rate: share of failures in the window from which it opens, in (0, 1].
        slow_rate: share of slow calls from which it opens.
        slow_s: from how long on a call is slow.
        window: the last so many calls ...
        window_s: ... or, if given, the calls of the last so many seconds.
        least_calls: fewer than these in the window say nothing.
        break_s: how long it stays open at first; twice as long after each failed trial.
        break_most_s: the longest it stays open.
        jitter: share of the break that chance takes away, so that clients do not come back at once.
        trials: how many calls may run while it is half open; their rates decide.
        trial_wait_s: how long their end is awaited before it opens again.
    """

    failure_rate: float = 0.5
    slow_rate: float = 1.0
    slow_s: float = 60.0
    window: int = 100
    window_s: float | None = None
    least_calls: int = 20
    break_s: float = 5.0
    break_most_s: float = 300.0
    jitter: float = 0.1
    trials: int = 10
    trial_wait_s: float = 60.0

    def __post_init__(self) -> None:
        shares = {"failure_rate": self.failure_rate, "slow_rate": self.slow_rate}
        for name, share in shares.items():
            if not 0 < share <= 1:
                raise InvalidParameter(name, found=share, expected="above 0 and at most 1")
        if not 0 <= self.jitter < 1:
            raise InvalidParameter("jitter", found=self.jitter, expected="at least 0 and below 1")
        if not 0 < self.break_s <= self.break_most_s:
            raise InvalidParameter(
                "break_s", found=self.break_s, expected="above 0 and at most break_most_s"
            )
        if min(self.slow_s, self.trial_wait_s) <= 0 or min(self.least_calls, self.trials) < 1:
            raise InvalidParameter(
                "policy", found=str(self), expected="times above zero, counts from one"
            )
        if self.window_s is None and self.window < self.least_calls:
            raise InvalidParameter(
                "window", found=self.window, expected=f"least_calls ({self.least_calls}) or more"
            )

    def opens(self, tally: Tally) -> str | None:
        """Why a circuit with these calls opens; `None` if it does not."""
        calls, failures, slow = tally
        if failures >= self.failure_rate * calls and failures:
            return f"{failures} of {calls} calls failed"
        if slow >= self.slow_rate * calls and slow:
            return f"{slow} of {calls} calls took {self.slow_s:g} s or longer"
        return None


_SHUT: Final = {
    CircuitState.CLOSED: -math.inf,
    CircuitState.HALF_OPEN: -math.inf,
    CircuitState.ISOLATED: math.inf,
}


class CircuitBreaker:
    """Holds calls back from a callee that fails.

    Guarantee, for any number of threads: calls admitted in one period decide about that period
    only; an open circuit runs nothing; a half-open one never runs more than `trials` calls.
    A call that ends by anything but an `Exception` (cancelled, interrupted) counts as nothing.

    Args:
        name: for errors and events.
        policy: when it opens and closes.
        counts: whether an exception is a failure of the callee; the default: every `Exception`.
        refuses: whether a result is a failure (a 503, say).
        bus, clock, entropy: whom to tell; the outside world.
    """

    order: Final = 30

    __slots__ = (
        "_breaks", "_bus", "_clock", "_counts", "_entropy", "_generation", "_lock", "_policy",
        "_refuses", "_running", "_shut_until_s", "_state", "_until_s", "_used", "_window", "name",
    )  # fmt: skip

    def __init__(
        self,
        name: str = "circuit",
        policy: BreakerPolicy | None = None,
        *,
        counts: Callable[[Exception], bool] | None = None,
        refuses: Callable[[object], bool] | None = None,
        bus: EventBus = BUS,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        self.name = name
        self._policy = held = policy or BreakerPolicy()
        self._counts = counts
        self._refuses = refuses
        self._bus = bus
        self._clock = (clock or SystemClock()).monotonic_s
        self._entropy = entropy or SystemEntropy()
        self._lock = threading.Lock()
        self._window = CountWindow(held.window) if held.window_s is None else TimeWindow(
            held.window_s
        )  # fmt: skip
        self._state = CircuitState.CLOSED
        self._generation = 0  # one more with every change of state
        self._until_s = 0.0  # when the break, or the wait for trials, is over
        self._shut_until_s = -math.inf  # until then nothing runs
        self._used = self._running = 0  # trials that were admitted; that have not ended
        self._breaks = 0  # in a row

    @property
    def state(self) -> CircuitState:
        """Where it stands; a break that is over shows as half open."""
        with self._lock:
            return self._state_at(self._clock())

    @property
    def is_closed(self) -> bool:
        """Whether calls run as if it were not there; one reading, without its lock."""
        return self._state is CircuitState.CLOSED

    @property
    def tally(self) -> Tally:
        """The calls in the window."""
        with self._lock:
            return self._window.tally(self._clock())

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `function`, or refuse to.

        Raises:
            CircuitOpen: it did not run.
        """
        begun = self.begin()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            self.failed(begun, error)
            raise
        self.returned(begun, result)
        return result

    async def acall(
        self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Await `function(...)`, or refuse to: as `call`."""
        begun = self.begin()
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            self.failed(begun, error)
            raise
        self.returned(begun, result)
        return result

    def begin(self) -> Begun:
        """Begin a call that neither `call` nor `acall` can run: then one of the two below is due.

        Raises:
            CircuitOpen: it must not run.
        """
        generation = self._generation
        if self._state is not CircuitState.CLOSED:
            generation = self._admit()
        return generation, self._clock()

    def returned(self, begun: Begun, result: object) -> None:
        """The call of `begin` returned."""
        bad = self._refuses is not None and self._refuses(result)
        self._settle(begun[0], FAILED if bad else GOOD, begun[1])

    def failed(self, begun: Begun, error: BaseException) -> None:
        """The call of `begin` raised, or was given up (`asyncio.CancelledError`)."""
        self._settle(begun[0], self._judged(error), begun[1])

    def isolate(self, reason: str) -> None:
        """Refuse every call until `close`."""
        with self._lock:
            event = self._become(CircuitState.ISOLATED, reason)
        self._bus.emit(event)

    def close(self, reason: str = "closed by hand") -> None:
        """Begin anew, closed and with an empty window."""
        with self._lock:
            self._breaks = 0
            event = self._become(CircuitState.CLOSED, reason)
        self._bus.emit(event)

    def _admit(self) -> int:
        """The way of a call while the circuit is not closed, or was not a moment ago."""
        wait_s = self._shut_until_s - self._clock()  # one reading, so it needs no lock
        if wait_s > 0:
            raise self._refusal(wait_s)
        events: list[Event] = []
        with self._lock:
            now_s = self._clock()
            self._move_on(now_s, events)
            state = self._state
            admitted = state is CircuitState.CLOSED or (
                state is CircuitState.HALF_OPEN and self._used < self._policy.trials
            )
            if admitted and state is CircuitState.HALF_OPEN:
                self._used += 1
                self._running += 1
            generation = self._generation
            wait_s = max(0.0, self._until_s - now_s)
        for event in events:
            self._bus.emit(event)
        if not admitted:
            raise self._refusal(wait_s)
        return generation

    def _refusal(self, wait_s: float) -> CircuitOpen:
        if self._bus.has_handlers:
            self._bus.emit(Event(self.name, Kind.REJECTED, {"state": self._state.value}))
        return CircuitOpen(self.name, wait_s if wait_s < math.inf else None)

    def _settle(self, generation: int, outcome: int, began_s: float) -> None:
        """Count how a call of this period ended."""
        now_s = self._clock()
        event = None
        with self._lock:
            if generation != self._generation:
                return  # of an earlier period
            half_open = self._state is CircuitState.HALF_OPEN
            if half_open:
                self._running -= 1
            if outcome == _IGNORED:
                self._used -= half_open
                return
            if now_s - began_s >= self._policy.slow_s:
                outcome += SLOW
            if self._window.add(outcome, now_s) or half_open:
                event = self._decided(now_s)
        if event is not None:
            self._bus.emit(event)

    def _decided(self, now_s: float) -> Event | None:
        """The change that the calls of this period ask for."""
        policy = self._policy
        tally = self._window.tally(now_s)
        if self._state is CircuitState.CLOSED:
            reason = policy.opens(tally) if tally.calls >= policy.least_calls else None
            return None if reason is None else self._break(reason, now_s)
        if tally.calls < policy.trials:
            return None
        reason = policy.opens(tally)
        if reason is not None:
            return self._break(reason, now_s)
        self._breaks = 0
        return self._become(CircuitState.CLOSED, f"{tally.calls} trials went well")

    def _move_on(self, now_s: float, events: list[Event]) -> None:
        """What time alone changes."""
        if now_s < self._until_s:
            return
        if self._state is CircuitState.OPEN:
            events.append(self._become(CircuitState.HALF_OPEN, "the break is over"))
            self._until_s = now_s + self._policy.trial_wait_s
        elif self._state is CircuitState.HALF_OPEN:
            events.append(self._break(f"{self._running} trials did not end", now_s))

    def _state_at(self, now_s: float) -> CircuitState:
        over = self._state is CircuitState.OPEN and now_s >= self._until_s
        return CircuitState.HALF_OPEN if over else self._state

    def _break(self, reason: str, now_s: float) -> Event:
        policy = self._policy
        grown_s = min(policy.break_s * 2.0 ** min(self._breaks, 60), policy.break_most_s)
        self._breaks += 1
        self._until_s = now_s + grown_s * (1 - policy.jitter * uniform(self._entropy))
        return self._become(CircuitState.OPEN, reason)

    def _become(self, state: CircuitState, reason: str) -> Event:
        before, self._state = self._state, state
        self._shut_until_s = _SHUT.get(state, self._until_s)
        self._generation += 1
        self._used = self._running = 0
        self._window.clear()
        body = {"from": before.value, "to": state.value, "reason": reason}
        return Event(self.name, Kind.STATE, body)

    def _judged(self, error: BaseException) -> int:
        if not isinstance(error, Exception):
            return _IGNORED
        return FAILED if self._counts is None or self._counts(error) else GOOD
