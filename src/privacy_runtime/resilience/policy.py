"""Policies put together, in one order.

::

    Fallback( Retry( Hedge( CircuitBreaker( RateLimit( TimeLimit( Bulkhead( call )))))))

Each attempt of a retry is one call for the circuit, and waits its own turn in the bulkhead; a
circuit that opens ends the retries; the time limit is that of one attempt and its wait. Set a
deadline around the whole with `deadlines.deadline`.

>>> policy = Policy.retry(attempts=4) | Policy.breaker("db") | Policy.timeout(2)
>>> [p.name for p in policy]
['retry', 'db', 'time']
>>> policy.call(int, "12")
12
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, ParamSpec, Protocol, TypeVar

from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience.breaker import BreakerPolicy, CircuitBreaker
from privacy_runtime.resilience.bulkhead import Bulkhead
from privacy_runtime.resilience.deadlines import TimeLimit
from privacy_runtime.resilience.fallback import Fallback
from privacy_runtime.resilience.hedge import Hedge
from privacy_runtime.resilience.limits import AdaptiveLimit, Algorithm
from privacy_runtime.resilience.rates import RateLimit
from privacy_runtime.resilience.retry import Retry

P = ParamSpec("P")
R = TypeVar("R")


class Part(Protocol):
    """One policy. A smaller `order` stands farther outside."""

    @property
    def order(self) -> int:
        """Its place."""
        ...

    @property
    def name(self) -> str:
        """For errors and events."""
        ...

    def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run a function under it."""
        ...

    def acall(
        self, function: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any
    ) -> Awaitable[Any]:
        """Await a function under it."""
        ...


class Policy:
    """Some policies around a call, each kind once, in the order of this module. Immutable.

    Raises:
        InvalidParameter: two of one kind.
    """

    __slots__ = ("_acalls", "_calls", "_parts")

    def __init__(self, *parts: Part) -> None:
        self._parts = tuple(sorted(parts, key=lambda part: part.order))
        orders = [part.order for part in self._parts]
        if len(set(orders)) < len(orders):
            twice = next(p.name for p, q in zip(self._parts, self._parts[1:], strict=False)
                         if p.order == q.order)  # fmt: skip
            raise InvalidParameter("policy", found=f"two like {twice!r}", expected="each kind once")
        # `call(g, *args)` of one calls `g(*args)`: so the next `call` is the first argument
        self._calls = tuple(part.call for part in self._parts)
        self._acalls = tuple(part.acall for part in self._parts)

    def __or__(self, other: Policy) -> Policy:
        """Both together."""
        return Policy(*self._parts, *other)

    def __iter__(self) -> Iterator[Part]:
        """The parts, outermost first."""
        return iter(self._parts)

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `function` under all of them."""
        if not self._calls:
            return function(*args, **kwargs)
        first, *rest = self._calls
        result: R = first(*rest, function, *args, **kwargs)
        return result

    async def acall(
        self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Await `function(...)` under all of them."""
        if not self._acalls:
            return await function(*args, **kwargs)
        first, *rest = self._acalls
        result: R = await first(*rest, function, *args, **kwargs)
        return result

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function, or a coroutine function."""
        if inspect.iscoroutinefunction(function):
            asynchronous: Callable[..., Awaitable[Any]] = function

            @functools.wraps(function)
            async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
                return await self.acall(asynchronous, *args, **kwargs)

            return awaited  # type: ignore[return-value]  # R is an awaitable here

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            return self.call(function, *args, **kwargs)

        return run

    @staticmethod
    def retry(**options: Any) -> Policy:
        """See `Retry`."""
        return Policy(Retry(**options))

    @staticmethod
    def breaker(
        name: str = "circuit", policy: BreakerPolicy | None = None, **options: Any
    ) -> Policy:
        """See `CircuitBreaker`."""
        return Policy(CircuitBreaker(name, policy, **options))

    @staticmethod
    def timeout(limit_s: float, **options: Any) -> Policy:
        """See `TimeLimit`."""
        return Policy(TimeLimit(limit_s, **options))

    @staticmethod
    def bulkhead(permits: int = 25, **options: Any) -> Policy:
        """See `Bulkhead`."""
        return Policy(Bulkhead(permits, **options))

    @staticmethod
    def rate(per_s: float, **options: Any) -> Policy:
        """See `RateLimit`."""
        return Policy(RateLimit(per_s, **options))

    @staticmethod
    def hedge(after_s: float | None = None, **options: Any) -> Policy:
        """See `Hedge`."""
        return Policy(Hedge(after_s, **options))

    @staticmethod
    def adaptive(algorithm: Algorithm | None = None, **options: Any) -> Policy:
        """See `AdaptiveLimit`."""
        return Policy(AdaptiveLimit(algorithm, **options))

    @staticmethod
    def fallback(answer: Callable[[Exception], Any], **options: Any) -> Policy:
        """See `Fallback`."""
        return Policy(Fallback(answer, **options))
