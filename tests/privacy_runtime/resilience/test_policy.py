from __future__ import annotations

import asyncio

import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience import (
    Backoff,
    BreakerPolicy,
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    CircuitState,
    EventBus,
    Fallback,
    Hedge,
    Jitter,
    Policy,
    RateLimit,
    Retry,
    RetryBudget,
    RobustExecutor,
    TimeLimit,
)
from privacy_runtime.resilience.retry import Pause
from privacy_runtime.testing import ManualClock

BUS = EventBus()
QUICK = BreakerPolicy(window=4, least_calls=4, jitter=0)


def test_the_order_is_the_same_however_it_is_written() -> None:
    parts = [
        Fallback(str),
        Retry(),
        Hedge(),
        CircuitBreaker(),
        RateLimit(10),
        TimeLimit(1),
        Bulkhead(),
    ]

    assert list(Policy(*reversed(parts))) == parts


def test_two_of_a_kind_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="each kind once"):
        Policy.retry() | Policy.retry()


def test_each_attempt_counts_for_the_circuit_and_an_open_one_ends_them() -> None:
    clock = ManualClock()
    calls: list[int] = []

    def broken() -> None:
        calls.append(1)
        raise ConnectionError

    breaker = CircuitBreaker("db", QUICK, clock=clock, bus=BUS)
    backoff = Backoff(base_s=0.1, most_s=1, jitter=Jitter.NONE)
    policy = Policy(
        Retry(attempts=10, backoff=backoff, bus=BUS, pause=Pause(clock.advance)), breaker
    )

    with pytest.raises(CircuitOpen):
        policy.call(broken)
    assert len(calls) == 4
    assert breaker.state is CircuitState.OPEN


def test_arguments_and_results_pass_through_all_of_them() -> None:
    policy = (
        Policy.fallback(str, bus=BUS)
        | Policy.retry(bus=BUS, budget=RetryBudget())
        | Policy.breaker("x", bus=BUS)
        | Policy.rate(1e6, burst=1000, bus=BUS)
        | Policy.timeout(60, bus=BUS)
        | Policy.bulkhead(4, bus=BUS)
    )

    async def later(a: int, *, b: int) -> int:
        return a - b

    assert policy.call(int, "12", base=8) == 10
    assert asyncio.run(policy.acall(later, 5, b=3)) == 2
    assert Policy().call(int, "3") == 3


def test_functions_and_coroutine_functions_can_be_decorated() -> None:
    policy = Policy.bulkhead(2, bus=BUS)

    @policy
    def double(value: int) -> int:
        """Twice."""
        return 2 * value

    @policy
    async def triple(value: int) -> int:
        return 3 * value

    assert (double(4), double.__doc__) == (8, "Twice.")
    assert asyncio.run(triple(4)) == 12


def test_another_answer_where_a_policy_refuses_but_not_for_a_bug() -> None:
    policy = Policy.fallback(lambda error: type(error).__name__, bus=BUS) | Policy.breaker("x")
    (_, breaker) = policy
    assert isinstance(breaker, CircuitBreaker)
    breaker.isolate("test")
    assert policy.call(str) == "CircuitOpen"
    breaker.close()

    async def lost() -> str:
        raise ConnectionError

    assert asyncio.run(policy.acall(lost)) == "ConnectionError"
    with pytest.raises(ValueError, match="invalid literal"):
        policy.call(int, "x")


def test_adaptive_and_hedged_calls_are_policies_too() -> None:
    policy = Policy.adaptive(bus=BUS) | Policy.hedge(60, bus=BUS)

    assert policy.call(int, "4") == 4


def test_the_documented_executor_does_both() -> None:
    clock = ManualClock()
    errors: list[Exception] = [ConnectionError(), ConnectionError()]

    def flaky(answer: str) -> str:
        if errors:
            raise errors.pop()
        return answer

    async def later() -> str:
        return flaky("later")

    executor = RobustExecutor(
        "db", BreakerPolicy(), Retry(bus=BUS, pause=Pause(clock.advance)), clock=clock, bus=BUS
    )

    assert executor.execute(flaky, "done") == "done"
    assert asyncio.run(executor.execute_async(later)) == "later"
    assert executor.state is CircuitState.CLOSED
