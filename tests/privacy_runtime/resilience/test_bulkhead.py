from __future__ import annotations

import asyncio
import threading
from contextlib import nullcontext

import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience import Bulkhead, BulkheadFull, EventBus, deadline
from privacy_runtime.world import SystemClock


def narrow(permits: int = 2, queue: int = 0, wait_s: float | None = None) -> Bulkhead:
    return Bulkhead(permits, queue=queue, wait_s=wait_s, bus=EventBus())


class Gauge:
    """Counts how many run at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = self.ran = 0

    def __enter__(self) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.now -= 1
            self.ran += 1


def test_what_is_too_much_is_refused() -> None:
    bulkhead = narrow(1)

    with pytest.raises(BulkheadFull, match="1 calls run and 0 wait; the call did not run"):
        bulkhead.call(bulkhead.call, int)
    assert bulkhead.running == 0
    assert bulkhead.call(int) == 0


def test_threads_and_tasks_share_the_permits_and_all_get_their_turn() -> None:
    bulkhead, gauge = narrow(3, queue=64), Gauge()

    def work() -> None:
        with gauge:
            threading.Event().wait(0.0005)

    async def later() -> None:
        with gauge:
            await asyncio.sleep(0.0005)

    async def tasks() -> None:
        await asyncio.gather(*(bulkhead.acall(later) for _ in range(20)))

    threads = [threading.Thread(target=bulkhead.call, args=(work,)) for _ in range(20)]
    threads.append(threading.Thread(target=asyncio.run, args=(tasks(),)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert gauge.ran == 40
    assert gauge.most <= 3
    assert bulkhead.running == 0


def test_first_come_first_served() -> None:
    bulkhead = narrow(1, queue=8)
    order: list[int] = []

    async def main() -> None:
        gate = asyncio.Event()

        async def work(k: int) -> None:
            order.append(k)
            await gate.wait()

        tasks = []
        for k in range(6):
            tasks.append(asyncio.create_task(bulkhead.acall(work, k)))
            await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())

    assert order == list(range(6))


def test_the_queue_ends_somewhere() -> None:
    bulkhead = narrow(1, queue=2)

    async def main() -> list[object]:
        gate = asyncio.Event()
        tasks = [asyncio.create_task(bulkhead.acall(gate.wait)) for _ in range(4)]
        await asyncio.sleep(0)
        gate.set()
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    results = asyncio.run(main())

    assert [isinstance(r, BulkheadFull) for r in results] == [False, False, False, True]


@pytest.mark.parametrize("limited", ["wait", "deadline"])
def test_a_wait_that_is_too_long_is_given_up_and_leaves_no_place_taken(limited: str) -> None:
    bulkhead = narrow(1, queue=1, wait_s=0.01 if limited == "wait" else None)

    def inner() -> None:
        within = deadline(0.01, SystemClock()) if limited == "deadline" else nullcontext()
        with within, pytest.raises(BulkheadFull):
            bulkhead.call(int)

    bulkhead.call(inner)

    assert bulkhead.running == 0
    assert bulkhead.call(int) == 0


def test_who_is_cancelled_while_waiting_leaves_the_queue() -> None:
    bulkhead = narrow(1, queue=1)

    async def main() -> None:
        gate = asyncio.Event()
        first = asyncio.create_task(bulkhead.acall(gate.wait))
        await asyncio.sleep(0)
        second = asyncio.create_task(bulkhead.acall(gate.wait))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        third = asyncio.create_task(bulkhead.acall(gate.wait))
        await asyncio.sleep(0)
        gate.set()
        assert await third
        await first

    asyncio.run(main())

    assert bulkhead.running == 0


def test_a_permit_that_came_to_somebody_cancelled_is_passed_on() -> None:
    bulkhead = narrow(1, queue=2)

    async def main() -> None:
        gate = asyncio.Event()
        first = asyncio.create_task(bulkhead.acall(gate.wait))
        await asyncio.sleep(0)
        second = asyncio.create_task(bulkhead.acall(asyncio.sleep, 0))
        third = asyncio.create_task(bulkhead.acall(asyncio.sleep, 0))
        await asyncio.sleep(0)
        gate.set()
        await first  # the permit is the second's now, who has not been woken yet
        second.cancel()
        await asyncio.wait_for(third, 5)

    asyncio.run(main())

    assert bulkhead.running == 0


def test_a_call_that_fails_gives_its_permit_back() -> None:
    bulkhead = narrow(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            bulkhead.call(divmod, 1, 0)

    assert bulkhead.running == 0


def test_no_permits_make_no_sense() -> None:
    with pytest.raises(InvalidParameter):
        Bulkhead(0)
