from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitOpen,
    CircuitState,
    Event,
    EventBus,
    Kind,
)
from privacy_runtime.testing import ManualClock, SeededEntropy

QUICK = BreakerPolicy(
    failure_rate=0.5, window=4, least_calls=4, break_s=5, break_most_s=40, jitter=0, trials=2,
    slow_s=1, trial_wait_s=10,
)  # fmt: skip


class Broken(Exception):
    pass


def fail() -> None:
    raise Broken


def circuit(policy: BreakerPolicy = QUICK, **options: object) -> tuple[CircuitBreaker, ManualClock]:
    clock = ManualClock()
    made = CircuitBreaker(
        "db", policy, clock=clock, entropy=SeededEntropy(1), bus=EventBus(), **options  # type: ignore[arg-type]
    )  # fmt: skip
    return made, clock


def opened() -> tuple[CircuitBreaker, ManualClock]:
    breaker, clock = circuit()
    for _ in range(4):
        with pytest.raises(Broken):
            breaker.call(fail)
    assert breaker.state is CircuitState.OPEN
    return breaker, clock


def test_a_result_passes_through_and_so_does_an_error() -> None:
    breaker, _ = circuit()

    assert breaker.call(divmod, 7, 2) == (3, 1)
    with pytest.raises(Broken):
        breaker.call(fail)


def test_a_call_that_is_begun_and_ended_apart_counts_as_any_other() -> None:
    breaker, clock = circuit()
    breaker.returned(breaker.begin(), 7)
    breaker.failed(breaker.begin(), asyncio.CancelledError())  # given up: counts as nothing
    assert (breaker.tally.calls, breaker.is_closed) == (1, True)
    late = breaker.begin()
    for _ in range(3):
        breaker.failed(breaker.begin(), Broken())
    assert breaker.state is CircuitState.OPEN
    assert not breaker.is_closed
    with pytest.raises(CircuitOpen):
        breaker.begin()
    clock.advance(6)
    breaker.failed(late, Broken())  # of an earlier period
    assert breaker.state is CircuitState.HALF_OPEN


def test_fewer_calls_than_the_least_say_nothing() -> None:
    breaker, _ = circuit()
    for _ in range(3):
        with pytest.raises(Broken):
            breaker.call(fail)

    assert breaker.state is CircuitState.CLOSED


def test_an_open_circuit_runs_nothing_and_says_when_to_come_back() -> None:
    breaker, clock = opened()
    clock.advance(2)
    ran: list[int] = []

    with pytest.raises(CircuitOpen) as caught:
        breaker.call(ran.append, 1)

    assert not ran
    assert caught.value.retry_after_s == pytest.approx(3)
    assert "did not run" in str(caught.value)


def test_only_the_last_calls_count() -> None:
    breaker, _ = circuit()
    for _ in range(20):
        breaker.call(int)
    with pytest.raises(Broken):
        breaker.call(fail)
    assert breaker.state is CircuitState.CLOSED
    with pytest.raises(Broken):
        breaker.call(fail)

    assert breaker.state is CircuitState.OPEN


def test_slow_calls_open_it_too() -> None:
    breaker, clock = circuit()
    for _ in range(4):
        breaker.call(clock.advance, 1.0)

    assert breaker.state is CircuitState.OPEN


def test_by_time_old_failures_are_forgotten() -> None:
    policy = BreakerPolicy(failure_rate=0.5, window_s=10, least_calls=4, jitter=0)
    breaker, clock = circuit(policy)
    for _ in range(3):
        with pytest.raises(Broken):
            breaker.call(fail)
    clock.advance(11)
    with pytest.raises(Broken):
        breaker.call(fail)

    assert breaker.state is CircuitState.CLOSED
    assert breaker.tally.calls == 1


def test_half_open_admits_so_many_trials_and_closes_when_they_go_well() -> None:
    breaker, clock = opened()
    clock.advance(5)
    assert breaker.state is CircuitState.HALF_OPEN

    def nested() -> None:
        breaker.call(refused_within)

    def refused_within() -> None:
        with pytest.raises(CircuitOpen):
            breaker.call(int)

    breaker.call(nested)  # two run; a third is refused

    assert breaker.state is CircuitState.CLOSED
    assert breaker.tally.calls == 0


def test_a_failed_trial_breaks_for_twice_as_long_up_to_the_most() -> None:
    breaker, clock = opened()
    breaks = []
    for _ in range(5):
        clock.advance(breaker_wait(breaker))
        for _ in range(2):
            with pytest.raises(Broken):
                breaker.call(fail)
        breaks.append(breaker_wait(breaker))

    assert breaks == [10, 20, 40, 40, 40]


def breaker_wait(breaker: CircuitBreaker) -> float:
    with pytest.raises(CircuitOpen) as caught:
        breaker.call(int)
    assert caught.value.retry_after_s is not None
    return caught.value.retry_after_s


def test_trials_that_hang_open_it_again() -> None:
    breaker, clock = opened()
    clock.advance(5)
    first = breaker._admit()  # a call that has begun and does not end
    breaker._admit()
    clock.advance(10)

    with pytest.raises(CircuitOpen):
        breaker.call(int)
    breaker._settle(first, 0, 0.0)  # it ends after all, in another period

    assert breaker.state is CircuitState.OPEN


def test_a_cancelled_call_counts_as_nothing() -> None:
    breaker, clock = opened()
    clock.advance(5)

    async def main() -> None:
        task = asyncio.create_task(breaker.acall(asyncio.sleep, 60))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    for _ in range(2):  # both trials are there still
        breaker.call(int)

    assert breaker.state is CircuitState.CLOSED


def test_tasks_are_held_back_like_threads() -> None:
    breaker, _ = opened()

    async def never() -> None:
        raise AssertionError

    with pytest.raises(CircuitOpen):
        asyncio.run(breaker.acall(never))


def test_only_errors_of_the_callee_count_and_results_may() -> None:
    breaker, _ = circuit(
        counts=lambda error: not isinstance(error, KeyError), refuses=lambda result: result == 503
    )
    for _ in range(8):
        with pytest.raises(KeyError):
            breaker.call({}.__getitem__, "a")
    assert breaker.state is CircuitState.CLOSED
    for _ in range(2):
        assert breaker.call(int, 503) == 503

    assert breaker.state is CircuitState.OPEN


def test_by_hand_it_stays_open_until_it_is_closed() -> None:
    breaker, clock = circuit()
    breaker.isolate("maintenance")
    clock.advance(10_000)
    with pytest.raises(CircuitOpen, match="until somebody closes it"):
        breaker.call(int)
    breaker.close()

    assert breaker.call(int) == 0


def test_events_tell_the_story_without_arguments() -> None:
    bus, told = EventBus(), []
    bus.subscribe(told.append)
    clock = ManualClock()
    breaker = CircuitBreaker("db", QUICK, bus=bus, clock=clock)
    for _ in range(4):
        with pytest.raises(Broken):
            breaker.call(fail)
    with pytest.raises(CircuitOpen):
        breaker.call(int, "secret")

    assert [event.kind for event in told] == [Kind.STATE, Kind.REJECTED]
    assert told[0].body == {"from": "closed", "to": "open", "reason": "4 of 4 calls failed"}
    assert "secret" not in repr(told)


def test_a_handler_may_use_the_circuit_it_hears_of() -> None:
    bus = EventBus()
    breaker = CircuitBreaker("db", QUICK, bus=bus, clock=ManualClock())
    seen: list[CircuitState] = []

    def look(_: Event) -> None:
        seen.append(breaker.state)

    end = bus.subscribe(look)
    breaker.isolate("test")
    end()
    breaker.close()

    assert seen == [CircuitState.ISOLATED]


@pytest.mark.parametrize(
    "wrong",
    [
        {"failure_rate": 0},
        {"slow_rate": 1.5},
        {"jitter": 1},
        {"break_s": 0},
        {"break_s": 500},
        {"trials": 0},
        {"window": 5, "least_calls": 6},
        {"slow_s": 0},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidParameter):
        BreakerPolicy(**wrong)  # type: ignore[arg-type]


# ---- sixteen threads


@pytest.fixture
def _switches_often() -> Iterator[None]:
    held = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(held)


@pytest.mark.usefixtures("_switches_often")
def test_sixteen_threads_never_run_more_trials_than_there_are() -> None:
    policy = BreakerPolicy(window=4, least_calls=4, break_s=5, jitter=0, trials=3)
    for _ in range(50):
        clock = ManualClock()
        breaker = CircuitBreaker("db", policy, clock=clock, bus=EventBus())
        for _ in range(4):
            with pytest.raises(Broken):
                breaker.call(fail)
        clock.advance(5)
        ran: list[int] = []
        gate, together = threading.Event(), threading.Barrier(16)
        threads = [
            threading.Thread(target=_trial, args=(breaker, together, gate, ran)) for _ in range(16)
        ]
        for thread in threads:
            thread.start()
        while sum(thread.is_alive() for thread in threads) > 3:
            gate.wait(0.001)
        assert len(ran) == 3
        gate.set()
        for thread in threads:
            thread.join()

        assert breaker.state is CircuitState.CLOSED


def _trial(
    breaker: CircuitBreaker, together: threading.Barrier, gate: threading.Event, ran: list[int]
) -> None:
    def work() -> None:
        ran.append(1)
        gate.wait(10)

    together.wait()
    try:
        breaker.call(work)
    except CircuitOpen:
        return


@pytest.mark.usefixtures("_switches_often")
def test_sixteen_threads_are_counted_to_the_last_call() -> None:
    policy = BreakerPolicy(failure_rate=1.0, window=10_000, least_calls=10_000)
    breaker = CircuitBreaker("db", policy, bus=EventBus())

    def work() -> None:
        for k in range(500):
            try:
                breaker.call(fail if k % 2 else int)
            except Broken:
                continue

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert breaker.tally == (8_000, 4_000, 0)


# ---- against a model that keeps every call


class Model(RuleBasedStateMachine):
    """The same decisions from a list of all calls: slow, and simple enough to believe."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker, self.clock = circuit()
        self.state, self.calls, self.breaks = "closed", list[tuple[bool, bool]](), 0
        self.until, self.trials = 0.0, 0
        self.now = 0.0

    def settle(self, failed: bool, slow: bool) -> None:
        self.calls.append((failed, slow))
        lately = self.calls[-4:]
        if self.state == "half_open" and len(lately) < 2:
            return
        if self.state == "closed" and len(lately) < 4:
            return
        share = sum(f for f, _ in lately) / len(lately)
        every_slow = all(s for _, s in lately)
        if share >= 0.5 or every_slow:
            self.until = self.now + min(5 * 2**self.breaks, 40)
            self.breaks += 1
            self.become("open")
        elif self.state == "half_open":
            self.breaks = 0
            self.become("closed")

    def become(self, state: str) -> None:
        self.state, self.calls, self.trials = state, [], 0

    @rule(failed=st.booleans(), slow=st.sampled_from([0.0, 0.0, 1.5]))
    def call(self, failed: bool, slow: float) -> None:
        if self.state == "open" and self.now >= self.until:
            self.become("half_open")
            self.until = self.now + 10
        elif self.state == "half_open" and self.now >= self.until:
            self.until = self.now + min(5 * 2**self.breaks, 40)
            self.breaks += 1
            self.become("open")
        admitted = self.state in ("closed", "half_open")

        def work() -> None:
            self.clock.advance(slow)
            if failed:
                raise Broken

        try:
            self.breaker.call(work)
            ran = True
        except Broken:
            ran = True
        except CircuitOpen:
            ran = False
        assert ran == admitted
        if admitted:
            self.now += slow
            self.settle(failed, slow >= 1)

    @rule(seconds=st.sampled_from([0.5, 4.0, 5.0, 10.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.now += seconds

    @precondition(lambda self: self.state != "isolated")
    @rule()
    def isolate(self) -> None:
        self.breaker.isolate("by hand")
        self.become("isolated")

    @precondition(lambda self: self.state == "isolated")
    @rule()
    def close(self) -> None:
        self.breaker.close()
        self.breaks = 0
        self.become("closed")

    @invariant()
    def the_states_are_equal(self) -> None:
        over = self.state == "open" and self.now >= self.until
        assert self.breaker.state.value == ("half_open" if over else self.state)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
