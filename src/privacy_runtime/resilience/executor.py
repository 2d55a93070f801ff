"""`RobustExecutor`: a circuit breaker and retries around a call, by their documented names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from privacy_runtime.resilience.breaker import BreakerPolicy, CircuitBreaker, CircuitState
from privacy_runtime.resilience.policy import Policy
from privacy_runtime.resilience.retry import Retry

P = ParamSpec("P")
R = TypeVar("R")


class RobustExecutor:
    """Runs calls under one circuit breaker, with retries.

    Each attempt counts for the circuit, and an open circuit ends the attempts.

    Args:
        name: of the callee.
        breaker: when its circuit opens.
        retry: attempts and waits; the default is `Retry()`.
        **options: of `CircuitBreaker`.
    """

    __slots__ = ("_circuit", "_policy")

    def __init__(
        self,
        name: str,
        breaker: BreakerPolicy | None = None,
        retry: Retry | None = None,
        **options: Any,
    ) -> None:
        self._circuit = CircuitBreaker(name, breaker, **options)
        self._policy = Policy(retry or Retry(), self._circuit)

    @property
    def state(self) -> CircuitState:
        """Where the circuit stands."""
        return self._circuit.state

    def execute(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `function`.

        Raises:
            CircuitOpen: it did not run.
        """
        return self._policy.call(function, *args, **kwargs)

    async def execute_async(
        self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Await `function(...)`: as `execute`."""
        return await self._policy.acall(function, *args, **kwargs)
