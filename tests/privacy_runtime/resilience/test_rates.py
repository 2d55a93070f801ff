from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience import EventBus, RateExceeded, RateLimit
from privacy_runtime.testing import ManualClock


def test_a_burst_passes_and_then_one_at_a_time() -> None:
    clock = ManualClock()
    rate = RateLimit(2, burst=3, clock=clock, bus=EventBus())
    for _ in range(3):
        rate.call(int)
    with pytest.raises(RateExceeded, match="the call did not run") as caught:
        rate.call(int)
    assert caught.value.retry_after_s == pytest.approx(0.5)
    clock.advance(0.5)

    rate.call(int)
    with pytest.raises(RateExceeded):
        asyncio.run(rate.acall(asyncio.sleep, 0))


@given(
    st.lists(st.floats(0, 3), min_size=1, max_size=80),
    st.sampled_from([0.5, 1.0, 3.0, 7.0]),
    st.integers(1, 5),
)
def test_no_stretch_of_time_has_more_calls_than_agreed(
    pauses: list[float], per_s: float, burst: int
) -> None:
    clock = ManualClock()
    rate = RateLimit(per_s, burst=burst, clock=clock, bus=EventBus())
    passed: list[float] = []
    for pause in pauses:
        clock.advance(pause)
        try:
            rate.call(passed.append, clock.monotonic_s())
        except RateExceeded:
            continue

    for first in range(len(passed)):
        for last in range(first, len(passed)):
            most = burst + per_s * (passed[last] - passed[first])
            assert last - first + 1 <= most + 1e-6


def test_who_waits_as_told_passes() -> None:
    clock = ManualClock()
    rate = RateLimit(3, burst=2, clock=clock, bus=EventBus())
    passed = 0
    for _ in range(300):
        try:
            rate.call(int)
            passed += 1
        except RateExceeded as error:
            clock.advance(error.retry_after_s or 0.0)
            rate.call(int)
            passed += 1

    assert passed == 300


def test_a_rate_is_above_zero() -> None:
    with pytest.raises(InvalidParameter):
        RateLimit(0)
