from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from privacy_core.errors import InvalidParameter
from privacy_runtime.resources import (
    AcceleratorReading,
    Allocation,
    Amounts,
    DiskReading,
    Level,
    NotEnough,
    Reading,
    ResourceWatch,
    Sampler,
    ScalingPolicy,
)
from privacy_runtime.testing import ManualClock
from privacy_runtime.world import SystemClock

GIB = 2**30
FINE = Reading(
    at_s=0.0,
    cores=4.0,
    cpu_share=0.2,
    memory_used_bytes=2 * GIB,
    memory_limit_bytes=10 * GIB,
    swap_used_bytes=0,
    disks=(DiskReading("/data", 80, 100),),
)


# ---- readings


def test_this_machine_can_be_read(tmp_path: Path) -> None:
    sampler = Sampler(SystemClock(), [tmp_path])
    first, second = sampler.sample(), sampler.sample()

    assert first.cpu_share is None
    assert second.cpu_share is None or 0 <= second.cpu_share <= 1
    assert 0 < first.memory_used_bytes < first.memory_limit_bytes
    assert first.cores > 0
    assert 0 <= first.disks[0].used_share <= 1


def group(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)
    return folder


def test_in_a_container_its_limits_count(tmp_path: Path) -> None:
    files = group(
        tmp_path,
        cpu_max="50000 100000\n",
        cpu_stat="usage_usec 1000000\nuser_usec 1\n",
        memory_max=f"{GIB}\n",
        memory_current=f"{GIB // 2}\n",
        memory_stat=f"anon 1\ninactive_file {GIB // 4}\n",
    )
    clock = ManualClock()
    sampler = Sampler(clock, [tmp_path], group=files)
    first = sampler.sample()
    group(tmp_path, cpu_stat="usage_usec 2000000\n")
    clock.advance(4)

    assert (first.memory_used_bytes, first.memory_limit_bytes) == (GIB // 4, GIB)
    assert first.cores == 0.5
    assert sampler.sample().cpu_share == pytest.approx(0.5)  # a second of the two that it may have


def test_without_a_quota_the_machine_counts(tmp_path: Path) -> None:
    files = group(tmp_path, cpu_max="max 100000\n", memory_max="max\n", memory_current="1\n")
    reading = Sampler(ManualClock(), [tmp_path], group=files).sample()

    assert reading.cores >= 1
    assert reading.memory_limit_bytes > GIB // 4


# ---- promises


def allocation(policy: ScalingPolicy = ScalingPolicy.BALANCED) -> Allocation:
    return Allocation(Amounts(cores=10, memory_bytes=1000, accelerator_bytes=100), policy)


@pytest.mark.parametrize(
    ("policy", "cores"),
    [
        (ScalingPolicy.CONSERVATIVE, 6.0),
        (ScalingPolicy.BALANCED, 8.0),
        (ScalingPolicy.AGGRESSIVE, 9.5),
    ],
)
def test_a_policy_gives_its_share_away(policy: ScalingPolicy, cores: float) -> None:
    made = allocation(policy)
    made.allocate("a", Amounts(cores=cores))

    with pytest.raises(NotEnough, match="none promised"):
        made.allocate("b", Amounts(cores=0.1))
    assert made.left.cores == 0


def test_what_is_given_back_can_be_promised_again() -> None:
    made = allocation()
    promise = made.allocate("a", Amounts(memory_bytes=800))
    made.release(promise)
    made.release(promise)

    assert made.allocate("b", Amounts(memory_bytes=800)).number == 2


def test_the_less_important_let_go_the_newest_first_and_hear_of_it() -> None:
    made, told = allocation(), list[str]()
    for name, priority in (("old", 1), ("new", 1), ("low", 0), ("high", 9)):
        made.allocate(
            name,
            Amounts(cores=2),
            priority=priority,
            told=lambda name=name: told.append(name),  # type: ignore[misc]
        )
    made.allocate("urgent", Amounts(cores=4), priority=5)

    assert told == ["low", "new"]
    assert [promise.holder for promise in made.promises] == ["old", "high", "urgent"]


def test_where_it_would_not_be_enough_nobody_lets_go() -> None:
    made, told = allocation(), list[str]()
    made.allocate("low", Amounts(cores=2), told=lambda: told.append("low"))
    made.allocate("high", Amounts(cores=5), priority=9)

    with pytest.raises(NotEnough):
        made.allocate("urgent", Amounts(cores=4), priority=5)
    assert not told
    assert len(made.promises) == 2


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 400), st.integers(0, 3), st.booleans()),
        max_size=40,
    )
)
def test_promises_never_exceed_what_is_given(acts: list[tuple[int, int, int, bool]]) -> None:
    made = allocation()
    for cores, memory, priority, gives_back in acts:
        with suppress(NotEnough):
            made.allocate("x", Amounts(cores=cores, memory_bytes=memory), priority=priority)
        if gives_back and made.promises:
            made.release(made.promises[0])
        assert sum(p.amounts.cores for p in made.promises) <= 8
        assert sum(p.amounts.memory_bytes for p in made.promises) <= 800


def test_sixteen_threads_get_no_more_than_there_is() -> None:
    made, got = allocation(), list[int]()

    def work() -> None:
        for _ in range(50):
            try:
                got.append(made.allocate("x", Amounts(cores=0.5)).number)
            except NotEnough:
                return

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(got) == len(set(got)) == 16


def test_less_than_nothing_is_refused() -> None:
    with pytest.raises(InvalidParameter):
        Amounts(cores=-1)


# ---- watching


class Story(Sampler):
    """Readings that a test tells."""

    def __init__(self, *readings: Reading) -> None:
        self.rows = list(readings)

    def sample(self) -> Reading:
        return self.rows.pop(0) if len(self.rows) > 1 else self.rows[0]


def memory(share: float, at_s: float = 0.0) -> Reading:
    return replace(FINE, at_s=at_s, memory_used_bytes=int(share * 10 * GIB))


def level(watch: ResourceWatch, resource: str) -> Level:
    return next(s.level for s in watch.shortages() if s.resource == resource)


def test_levels_are_those_of_the_policy() -> None:
    for policy, share, wanted in [
        (ScalingPolicy.CONSERVATIVE, 0.75, Level.WARNING),
        (ScalingPolicy.BALANCED, 0.75, Level.FINE),
        (ScalingPolicy.BALANCED, 0.95, Level.EMERGENCY),
        (ScalingPolicy.AGGRESSIVE, 0.92, Level.WARNING),
    ]:
        watch = ResourceWatch(Story(memory(share)), policy=policy)
        watch.look()
        assert level(watch, "memory") is wanted


def test_an_action_runs_once_until_it_was_fine_again() -> None:
    acts: list[str] = []
    shares = [0.95, 0.97, 0.85, 0.95, 0.5, 0.95]
    watch = ResourceWatch(Story(*map(memory, shares)))
    watch.on_emergency("memory", "drop caches", lambda: acts.append("memory"))
    watch.on_emergency("disk", "clean", lambda: acts.append("disk"))
    for _ in shares:
        watch.look()

    assert acts == ["memory", "memory"]


def test_an_action_that_fails_is_told_and_stops_no_other() -> None:
    acts: list[str] = []
    full = replace(FINE, disks=(DiskReading("/data", 1, 100),))
    watch = ResourceWatch(Story(full))
    watch.on_emergency("disk", "clean", lambda: acts.append("x") or 1 / 0)  # type: ignore[func-returns-value]
    watch.on_emergency("disk", "tell", lambda: acts.append("y"))
    watch.look()

    assert acts == ["x", "y"]
    assert [done["failed"] for done in watch.status()["actions_taken"]] == [
        "ZeroDivisionError",
        None,
    ]


def test_a_steady_leak_is_foreseen() -> None:
    rows = [memory(0.2 + 0.01 * k, at_s=60.0 * k) for k in range(20)]
    watch = ResourceWatch(Story(*rows))
    for _ in rows:
        watch.look()
    (found,) = [s for s in watch.shortages() if s.resource == "memory"]

    assert found.level is Level.FINE
    assert found.exhausted_in_s is not None
    assert found.exhausted_in_s[0] == pytest.approx(61 * 60, rel=0.05)


def test_what_does_not_grow_is_not_foreseen() -> None:
    rows = [memory(0.4, at_s=60.0 * k) for k in range(20)]
    watch = ResourceWatch(Story(*rows))
    for _ in rows:
        watch.look()

    assert all(s.exhausted_in_s is None for s in watch.shortages())


def test_accelerators_are_watched_too_and_can_be_promised() -> None:
    card = AcceleratorReading(0, "card", 79 * GIB, 80 * GIB, 0.5)
    watch = ResourceWatch(Story(replace(FINE, accelerators=(card,))))
    watch.look()

    assert level(watch, "accelerator 0") is Level.EMERGENCY
    assert watch.allocation.left.accelerator_bytes == int(80 * GIB * 0.8)


def wait_for(what: Callable[[], bool]) -> None:
    for _ in range(500):
        if what():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not happen within five seconds")


def test_the_watch_starts_once_and_ends() -> None:
    watch = ResourceWatch(Story(FINE), interval_s=0.01)
    watch.start()
    watch.start()
    wait_for(lambda: watch.newest() is not None)
    assert watch.status()["running"] is True
    watch.stop()
    watch.stop()

    assert watch.status()["running"] is False
    assert watch.status()["reading"]["cores"] == 4.0
    assert not [t for t in threading.enumerate() if t.name == "resources"]


def test_many_threads_may_look_and_time_goes_on(tmp_path: Path) -> None:
    watch = ResourceWatch(Sampler(SystemClock(), [tmp_path]), interval_s=0.001)
    watch.start()
    threads = [threading.Thread(target=lambda: [watch.look() for _ in range(20)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    watch.stop()
    times = [reading.at_s for reading in watch._readings]

    assert times == sorted(times)
    assert watch.shortages()


def test_the_documented_names_work() -> None:
    from privacy_finetuner.core.resource_manager import ResourceManagement
    from privacy_finetuner.examples.resource_management_demo import ResourceManagementDemo

    management = ResourceManagement("conservative", interval_s=0.05)
    assert management.get_system_health()["status"] in ("healthy", "degraded", "critical")
    status = ResourceManagementDemo(management, Console(quiet=True)).run_complete_demo()

    assert status["policy"] == "conservative"
    assert status["running"] is False
    assert [promise["holder"] for promise in status["promised"]] == []


def test_an_interval_is_above_zero() -> None:
    with pytest.raises(InvalidParameter):
        ResourceWatch(Story(FINE), interval_s=0)


def test_a_trainer_tells_how_its_machine_fares() -> None:
    from privacy_finetuner import PrivacyConfig, PrivateTrainer

    trainer = PrivateTrainer("some/model", PrivacyConfig(epsilon=1.0, delta=1e-5))

    assert trainer.get_system_health()["status"] in ("healthy", "degraded", "critical")
    assert trainer.get_resource_status()["reading"]["memory_limit_bytes"] > 0
