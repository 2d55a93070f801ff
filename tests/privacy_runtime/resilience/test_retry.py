from __future__ import annotations

import asyncio
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience import (
    Backoff,
    CircuitOpen,
    Event,
    EventBus,
    Growth,
    Jitter,
    Kind,
    Retry,
    RetryBudget,
    deadline,
    is_transient,
)
from privacy_runtime.resilience.retry import Pause
from privacy_runtime.testing import ManualClock, SeededEntropy

STEADY = Backoff(base_s=1, most_s=30, jitter=Jitter.NONE)


class Callee:
    """Fails so often, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self, answer: str = "done") -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return answer

    async def later(self, answer: str = "done") -> str:
        await asyncio.sleep(0)
        return self(answer)


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.waits: list[float] = []
        self.bus = EventBus()
        self.events: list[Event] = []
        self.bus.subscribe(self.events.append)

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.clock.advance(seconds)

    async def await_(self, seconds: float) -> None:
        self.wait(seconds)

    def retry(self, **options: Any) -> Retry:
        return Retry(
            **{"backoff": STEADY, "attempts": 4, "entropy": SeededEntropy(3), **options},
            bus=self.bus,
            pause=Pause(self.wait, self.await_),
        )


def run(retry: Retry, callee: Callee, how: str) -> str:
    if how == "thread":
        return retry.call(callee)
    return asyncio.run(retry.acall(callee.later))


both = pytest.mark.parametrize("how", ["thread", "task"])


@both
def test_what_may_pass_is_tried_again(how: str) -> None:
    world, callee = World(), Callee(ConnectionError(), TimeoutError(), ConnectionError())

    assert run(world.retry(), callee, how) == "done"
    assert world.waits == [1, 2, 4]
    assert [e.kind for e in world.events] == [Kind.RETRIED] * 3


@both
def test_what_will_not_pass_is_raised_at_once(how: str) -> None:
    world, callee = World(), Callee(ValueError("bad"))

    with pytest.raises(ValueError, match="bad"):
        run(world.retry(), callee, how)
    assert (callee.calls, world.waits) == (1, [])


@both
def test_the_last_error_is_the_callees_own(how: str) -> None:
    errors = [ConnectionError(str(k)) for k in range(4)]
    world, callee = World(), Callee(*errors)

    with pytest.raises(ConnectionError) as caught:
        run(world.retry(), callee, how)
    assert caught.value is errors[3]
    assert callee.calls == 4
    assert world.events[-1].body["reason"] == "no attempt is left"


def test_it_waits_as_long_as_the_callee_asks() -> None:
    world, callee = World(), Callee(CircuitOpen("db", 7.5))

    assert world.retry().call(callee) == "done"
    assert world.waits == [7.5]


def test_a_wait_longer_than_agreed_is_not_waited() -> None:
    world, callee = World(), Callee(CircuitOpen("db", 31))

    with pytest.raises(CircuitOpen):
        world.retry().call(callee)
    assert world.waits == []


def test_an_isolated_circuit_is_not_asked_again() -> None:
    assert not is_transient(CircuitOpen("db", None))


def test_no_wait_outlasts_the_deadline() -> None:
    world, callee = World(), Callee(*[ConnectionError()] * 3)

    with deadline(2.5, world.clock), pytest.raises(ConnectionError):
        world.retry().call(callee)
    assert world.waits == [1]
    assert world.events[-1].body["reason"] == "the deadline comes first"


def test_retries_of_an_outage_are_a_tenth_of_its_calls() -> None:
    world = World()
    retry = world.retry(budget=RetryBudget(share=0.1, reserve=5))
    calls = 0
    for _ in range(1_000):
        callee = Callee(*[ConnectionError()] * 4)
        with pytest.raises(ConnectionError):
            retry.call(callee)
        calls += callee.calls

    assert 1_000 * 1.09 <= calls <= 1_000 * 1.1 + 5


@given(st.lists(st.booleans(), max_size=200), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_a_budget_never_gives_more_than_its_share(acts: list[bool], share: float) -> None:
    budget = RetryBudget(share=share, reserve=3)
    earned = spent = 0
    for earn in acts:
        if earn:
            budget.earn()
            earned += 1
        else:
            spent += budget.spend()

    assert spent <= share * earned + 3 + 1e-9


def test_at_least_one_call_is_asked_for() -> None:
    with pytest.raises(InvalidParameter):
        Retry(attempts=0)


# ---- waits

WANTED: dict[Growth, Callable[[int], int]] = {
    Growth.CONSTANT: lambda k: 1,
    Growth.LINEAR: lambda k: k,
    Growth.FIBONACCI: lambda k: [1, 1, 2, 3, 5, 8, 13, 21, 34, 55][k - 1],
    Growth.EXPONENTIAL: lambda k: 2 ** (k - 1),
}


@pytest.mark.parametrize("growth", Growth)
def test_waits_grow_as_named_up_to_the_most(growth: Growth) -> None:
    backoff = Backoff(base_s=0.25, most_s=8, growth=growth, jitter=Jitter.NONE)

    steady = [backoff.steady_s(k) for k in range(1, 11)]

    assert steady == [min(8, 0.25 * WANTED[growth](k)) for k in range(1, 11)]
    assert backoff.steady_s(10_000) in (0.25, 8)


@pytest.mark.parametrize(
    ("jitter", "low", "high"), [(Jitter.FULL, 0.0, 4.0), (Jitter.EQUAL, 2.0, 4.0)]
)
def test_chance_stays_in_its_bounds_and_fills_them(jitter: Jitter, low: float, high: float) -> None:
    backoff, entropy = Backoff(base_s=1, jitter=jitter), SeededEntropy(5)
    drawn = [backoff.wait_s(3, 1.0, entropy) for _ in range(2_000)]

    assert low <= min(drawn) < low + 0.02 * (high - low)
    assert high > max(drawn) > high - 0.02 * (high - low)
    mean = Fraction(sum(map(Fraction, drawn)), len(drawn))
    assert abs(float(mean) - (low + high) / 2) < 0.06 * (high - low)


def test_decorrelated_waits_follow_each_other() -> None:
    backoff, entropy = Backoff(base_s=1, most_s=50, jitter=Jitter.DECORRELATED), SeededEntropy(2)
    before = 1.0
    for retry in range(1, 500):
        wait = backoff.wait_s(retry, before, entropy)
        assert 1 <= wait <= min(50, 3 * before)
        before = wait


def test_waits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InvalidParameter):
        Backoff(base_s=5, most_s=1)
    with pytest.raises(InvalidParameter):
        Backoff().steady_s(0)
