from __future__ import annotations

import asyncio
import threading

import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience import (
    AdaptiveLimit,
    AdditiveIncrease,
    BulkheadFull,
    EventBus,
    Gradient2,
)
from privacy_runtime.resilience.limits import Sample
from privacy_runtime.testing import ManualClock


def settled(bears: int, calls: int = 3_000) -> list[float]:
    """Limits along a simulation: 0.1 s for up to `bears` calls, more in proportion, up to 0.3."""
    algorithm, limit, limits = Gradient2(least=5, most=500), 20.0, []
    for _ in range(calls):
        running = int(limit)
        took_s = 0.1 * max(1.0, running / bears)
        limit = algorithm.next(limit, Sample(min(took_s, 0.3), running, took_s > 0.3))
        limits.append(limit)
    return limits


@pytest.mark.parametrize("bears", [30, 100])
def test_the_limit_finds_what_the_callee_bears(bears: int) -> None:
    limits = settled(bears)[-200:]

    assert bears <= sum(limits) / len(limits) <= 3 * bears


def test_the_limit_falls_when_the_callee_slows_down_and_comes_back() -> None:
    algorithm, limit = Gradient2(least=5, most=100), 100.0
    for _ in range(600):
        limit = algorithm.next(limit, Sample(0.1, int(limit), False))
    assert limit == 100
    for _ in range(20):
        limit = algorithm.next(limit, Sample(1.0, int(limit), False))
    slow = limit
    for _ in range(300):
        limit = algorithm.next(limit, Sample(0.1, int(limit), False))

    assert slow < 40
    assert limit == 100


def test_a_limit_that_is_hardly_used_stays() -> None:
    algorithm = Gradient2(least=5, most=100)

    assert algorithm.next(50.0, Sample(0.1, 20, False)) == 50
    assert algorithm.next(50.0, Sample(0.1, 2, True)) < 50


def test_one_more_after_a_round_and_a_tenth_less_after_a_drop() -> None:
    algorithm, limit = AdditiveIncrease(least=2, most=12), 10.0
    for _ in range(10):
        limit = algorithm.next(limit, Sample(0.1, 10, False))

    assert limit == pytest.approx(11, abs=0.1)
    assert algorithm.next(10.0, Sample(0.1, 10, True)) == 9
    assert algorithm.next(2.0, Sample(0.1, 2, True)) == 2
    assert AdditiveIncrease(slow_s=1).next(10.0, Sample(1.0, 10, False)) == 9


def test_no_more_run_than_the_limit_and_batch_work_leaves_room() -> None:
    limit = AdaptiveLimit(
        AdditiveIncrease(least=4, most=4), first=4, shares={"batch": 0.5}, bus=EventBus()
    )

    def nested(depth: int, kind: str) -> int:
        try:
            return limit.call_as(kind, nested, depth + 1, kind)
        except BulkheadFull:
            return depth

    assert nested(0, "live") == 4
    assert nested(0, "batch") == 2
    assert limit.running == 0


def test_time_limits_shrink_it_and_the_callees_own_errors_do_not() -> None:
    clock = ManualClock()
    limit = AdaptiveLimit(AdditiveIncrease(backoff=0.5), first=20, clock=clock, bus=EventBus())

    async def late() -> None:
        raise TimeoutError

    with pytest.raises(ZeroDivisionError):
        limit.call(divmod, 1, 0)
    assert limit.limit == 20
    with pytest.raises(TimeoutError):
        asyncio.run(limit.acall(late))

    assert limit.limit == 10


def test_sixteen_threads_keep_to_it() -> None:
    limit = AdaptiveLimit(AdditiveIncrease(least=3, most=3), first=3, bus=EventBus())
    now, most, lock = 0, 0, threading.Lock()

    def inside() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.0002)
        with lock:
            now -= 1

    def work() -> None:
        for _ in range(60):
            try:
                limit.call(inside)
            except BulkheadFull:
                continue

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 <= most <= 3
    assert limit.running == 0


def test_bounds_that_make_no_sense_are_refused() -> None:
    for make in (
        lambda: Gradient2(least=5, most=4),
        lambda: AdditiveIncrease(backoff=1),
        lambda: AdaptiveLimit(first=0),
        lambda: AdaptiveLimit(shares={"batch": 2}),
    ):
        with pytest.raises(InvalidParameter):
            make()
