"""A second call for those that take unusually long: the first answer counts.

Source: Dean and Barroso 2013, "The tail at scale", Communications of the ACM 56(2): hedged
requests.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Final, ParamSpec, TypeVar

from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience.events import BUS, Event, EventBus, Kind
from privacy_runtime.resilience.retry import RetryBudget
from privacy_runtime.world import Clock, SystemClock

P = ParamSpec("P")
R = TypeVar("R")

_REMEMBERED: Final = 200
_LEAST: Final = 20


class Hedge:
    """Asks once more when an answer takes longer than most did.

    Use it only for what is safe to do twice and costs nothing twice: never for what spends a
    privacy budget. A task that lost is cancelled; a thread that lost goes on unseen.

    Guarantee: at most two calls; a second one only after `after_s`, or the given quantile of the
    last 200 answers (not before there were 20), and only if the budget has a token.

    Args:
        after_s: when to ask again until there are enough answers to know; `None`: not at all then.
        quantile: of the answers' times, in (0, 1).
        budget: what second calls are taken from; share it with `Retry`.
        name, bus, clock: for events; the outside world.
    """

    order: Final = 20

    __slots__ = ("_after_s", "_budget", "_bus", "_clock", "_lock", "_quantile", "_took", "name")

    def __init__(
        self,
        after_s: float | None = None,
        *,
        quantile: float = 0.95,
        budget: RetryBudget | None = None,
        name: str = "hedge",
        bus: EventBus = BUS,
        clock: Clock | None = None,
    ) -> None:
        if not 0 < quantile < 1 or (after_s is not None and not after_s > 0):
            raise InvalidParameter(
                "quantile", found=(quantile, after_s), expected="in (0, 1), a time above zero"
            )
        self.name = name
        self._after_s = after_s
        self._quantile = quantile
        self._budget = budget or RetryBudget()
        self._bus = bus
        self._clock = (clock or SystemClock()).monotonic_s
        self._lock = threading.Lock()
        self._took: deque[float] = deque(maxlen=_REMEMBERED)

    @property
    def patience_s(self) -> float | None:
        """When a second call is made; `None`: never."""
        with self._lock:
            times = sorted(self._took)
        if len(times) < _LEAST:
            return self._after_s
        return times[min(len(times) - 1, int(self._quantile * len(times)))]

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `function` in a thread, and in a second one if that takes long."""
        self._budget.earn()
        patience_s = self.patience_s
        began_s = self._clock()
        if patience_s is None:
            result = function(*args, **kwargs)
            self._learn(began_s)
            return result
        answers: queue.SimpleQueue[tuple[R | None, BaseException | None]] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put((function(*args, **kwargs), None))
            except BaseException as error:  # noqa: BLE001  handed to the caller below
                answers.put((None, error))

        asked = self._thread(ask)
        try:
            result_, error = answers.get(timeout=patience_s)
        except queue.Empty:
            if self._may_ask_again(patience_s):
                asked += self._thread(ask)
            result_, error = answers.get()
        if error is not None and asked == 2:
            result_, error = answers.get()  # the other one may still answer
        if error is not None:
            raise error
        self._learn(began_s)
        return result_  # type: ignore[return-value]  # no error, so it is the answer

    async def acall(
        self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Await `function(...)`, and a second one if that takes long; the loser is cancelled."""
        self._budget.earn()
        patience_s = self.patience_s
        began_s = self._clock()
        tasks = {_task(function(*args, **kwargs))}
        try:
            done, _ = await asyncio.wait(tasks, timeout=patience_s)
            if not done and patience_s is not None and self._may_ask_again(patience_s):
                tasks.add(_task(function(*args, **kwargs)))
            winner = await _first_answer(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._learn(began_s)
        return winner

    def _thread(self, ask: Callable[[], None]) -> int:
        context = copy_context()
        threading.Thread(target=context.run, args=(ask,), name=self.name, daemon=True).start()
        return 1

    def _may_ask_again(self, after_s: float) -> bool:
        if not self._budget.spend():
            return False
        self._bus.emit(Event(self.name, Kind.HEDGED, {"after_s": after_s}))
        return True

    def _learn(self, began_s: float) -> None:
        with self._lock:
            self._took.append(self._clock() - began_s)


def _task(answer: Awaitable[R]) -> asyncio.Task[R]:
    async def wait() -> R:
        return await answer

    return asyncio.create_task(wait())


async def _first_answer(tasks: set[asyncio.Task[R]]) -> R:
    """The first that succeeds; if none does, the error of the last."""
    waiting = set(tasks)
    while True:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task.exception() is None:
                return task.result()
        if not waiting:
            return done.pop().result()
