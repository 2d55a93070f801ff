from __future__ import annotations

import asyncio
import threading

import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience import DeadlineExceeded, EventBus, TimeLimit, deadline, remaining_s
from privacy_runtime.testing import ManualClock


def test_everything_inside_can_read_what_is_left() -> None:
    clock = ManualClock()
    assert remaining_s() is None

    with deadline(10, clock) as left:
        assert left == 10
        clock.advance(4)
        assert remaining_s() == 6
        with deadline(100, clock) as inner:
            assert inner == 6
        with deadline(1, clock) as inner:
            assert inner == 1
        clock.advance(50)
        assert remaining_s() == 0

    assert remaining_s() is None


def test_a_late_result_is_refused() -> None:
    clock = ManualClock()
    limit = TimeLimit(2, clock=clock, bus=EventBus())

    assert limit.call(clock.advance, 1.9) is None
    with pytest.raises(DeadlineExceeded, match="whether it had an effect is not known"):
        limit.call(clock.advance, 2)


def test_a_call_after_the_deadline_does_not_run() -> None:
    clock = ManualClock()
    ran: list[int] = []
    limit = TimeLimit(5, clock=clock, bus=EventBus())
    with deadline(1, clock):
        clock.advance(1)
        with pytest.raises(DeadlineExceeded, match="did not run"):
            limit.call(ran.append, 1)

    assert not ran


def test_a_task_is_cancelled_at_its_end() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    with pytest.raises(DeadlineExceeded):
        asyncio.run(TimeLimit(0.01, bus=EventBus()).acall(work))
    assert ended == ["cancelled"]


def test_the_callees_own_time_error_stays_its_own() -> None:
    async def work() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        asyncio.run(TimeLimit(60, bus=EventBus()).acall(work))


def test_a_thread_can_be_left_behind() -> None:
    gate = threading.Event()
    limit = TimeLimit(0.01, abandon=True, bus=EventBus())

    with pytest.raises(DeadlineExceeded):
        limit.call(gate.wait)
    gate.set()

    assert limit.call(int, 7) == 7
    with pytest.raises(ZeroDivisionError):
        limit.call(divmod, 1, 0)


def test_what_is_left_behind_knows_its_deadline() -> None:
    left = TimeLimit(5, abandon=True, bus=EventBus()).call(remaining_s)

    assert left is not None
    assert 0 < left <= 5


def test_a_time_limit_is_above_zero() -> None:
    with pytest.raises(InvalidParameter):
        TimeLimit(0)
