"""The number of workers: within its bounds, journalled first, and changed once for a key."""

from __future__ import annotations

import threading

import pytest

from privacy_finetuner.operations.errors import PoolRefused
from privacy_finetuner.operations.scaling import STREAM, Direction, Load, ScalingDesk
from privacy_runtime.journal import Journal, StoreUnavailable
from privacy_runtime.testing import ManualClock, MemoryHome, MemoryRows, SeededEntropy
from privacy_runtime.world import SystemClock


class Pool:
    """Workers that only count."""

    def __init__(self, size: int) -> None:
        self.size = size

    def resize(self, count: int) -> None:
        self.size = count


class Yard:
    def __init__(self) -> None:
        self.clock, self.rows = ManualClock(), MemoryRows()

    def desk(self, least: int = 1, most: int = 8) -> ScalingDesk:
        journal = Journal(MemoryHome(self.rows), clock=self.clock)
        return ScalingDesk(
            journal, clock=self.clock, entropy=SeededEntropy(3), least=least, most=most
        )


WHO = {"tenant": "o_1", "by": "u_1", "reason": "increased_load"}


def test_out_and_in() -> None:
    yard, pool = Yard(), Pool(2)
    desk = yard.desk()
    out = desk.scale(pool, direction=Direction.OUT, count=3, **WHO)
    back = desk.scale(pool, direction=Direction.IN, count=1, **WHO)

    assert ((out.before, out.after), (back.before, back.after)) == ((2, 5), (5, 4))
    assert pool.size == 4
    assert out.id != back.id
    (first, _) = Journal(MemoryHome(yard.rows), clock=yard.clock).read(STREAM)
    assert first.body["by"] == "u_1"
    assert first.body["reason"] == "increased_load"


@pytest.mark.parametrize(("direction", "count"), [(Direction.OUT, 7), (Direction.IN, 2)])
def test_the_bounds_hold(direction: Direction, count: int) -> None:
    yard, pool = Yard(), Pool(2)

    with pytest.raises(PoolRefused):
        yard.desk().scale(pool, direction=direction, count=count, **WHO)
    assert pool.size == 2
    assert yard.rows.entries.get(STREAM, []) == []


def test_the_same_key_happens_once_also_in_another_process() -> None:
    yard, pool = Yard(), Pool(2)
    one = yard.desk().scale(pool, direction=Direction.OUT, count=2, key="k", **WHO)
    two = yard.desk().scale(pool, direction=Direction.OUT, count=2, key="k", **WHO)

    assert one == two
    assert pool.size == 4


def test_many_at_once_add_up() -> None:
    yard, pool = Yard(), Pool(0)
    desk = yard.desk(least=0, most=100)
    threads = [
        threading.Thread(target=lambda: desk.scale(pool, direction=Direction.OUT, count=1, **WHO))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert pool.size == 16


def test_without_its_journal_nothing_changes() -> None:
    class Gone(MemoryHome):
        def begin(self, *_: object) -> None:  # type: ignore[override]
            raise StoreUnavailable("memory", reason="gone")

    clock, pool = ManualClock(), Pool(2)
    desk = ScalingDesk(
        Journal(Gone(), clock=clock), clock=clock, entropy=SeededEntropy(1), least=1, most=8
    )
    with pytest.raises(StoreUnavailable):
        desk.scale(pool, direction=Direction.OUT, count=1, **WHO)
    assert pool.size == 2


def test_changes_are_counted_for_an_hour() -> None:
    yard, pool = Yard(), Pool(2)
    desk = yard.desk()
    desk.scale(pool, direction=Direction.OUT, count=1, **WHO)
    yard.clock.advance(3000)
    desk.scale(pool, direction=Direction.OUT, count=1, **WHO)
    assert desk.changes_last_hour() == 2
    yard.clock.advance(1000)
    assert desk.changes_last_hour() == 1
    yard.clock.advance(3000)
    assert desk.changes_last_hour() == 0


def test_load_is_measured_or_unknown() -> None:
    assert Load(ManualClock()).cpu_percent() is None
    load = Load(SystemClock())
    gpu = load.gpu_percent()
    assert gpu is None or 0 <= gpu <= 100
