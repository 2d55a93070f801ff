"""Workers follow the queue: the decision as a table, and one look after another with real parts."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_finetuner.environment import EnvironmentConfig
from privacy_finetuner.environment.sections import Scaling, ScalingPolicy
from privacy_finetuner.jobs import Jobs, TrainingSpec
from privacy_finetuner.jobs.leases import Leases
from privacy_finetuner.operations.scaling import STREAM, ScalingDesk
from privacy_finetuner.service.fitting import (
    CALM_LOOKS,
    Demand,
    Fitting,
    NodeLoad,
    cpu_seconds,
    fitting,
)
from privacy_runtime.testing import ManualClock, MemoryJournal
from privacy_runtime.world import SystemEntropy

BUSY = Demand(waiting=3, nodes=2, free=0, cpu_percent=95, gpu_percent=None, calm_looks=0)
IDLE = Demand(waiting=0, nodes=4, free=3, cpu_percent=5, gpu_percent=None, calm_looks=CALM_LOOKS)
SCALING = Scaling(enable_auto_scaling=True, scaling_policy=ScalingPolicy(min_nodes=1, max_nodes=10))
THRIFTY = replace(SCALING, enable_cost_optimization=True)


@pytest.mark.parametrize(
    ("demand", "scaling", "expected"),
    [
        (BUSY, SCALING, 4),  # at most doubling
        (replace(BUSY, waiting=1), SCALING, 3),
        (replace(BUSY, waiting=50, nodes=8), SCALING, 10),  # the bound
        (replace(BUSY, free=1), SCALING, 2),  # somebody takes it in a moment
        (replace(BUSY, cpu_percent=69.9), SCALING, 2),
        (replace(BUSY, cpu_percent=70.0), SCALING, 4),
        (replace(BUSY, cpu_percent=10, gpu_percent=75), SCALING, 4),
        (replace(BUSY, cpu_percent=None), SCALING, 2),  # not known yet
        (BUSY, THRIFTY, 3),
        (IDLE, SCALING, 1),
        (replace(IDLE, calm_looks=CALM_LOOKS - 1), SCALING, 4),
        (replace(IDLE, calm_looks=0), THRIFTY, 1),
        (replace(IDLE, cpu_percent=30.1), SCALING, 4),
        (replace(IDLE, gpu_percent=25.1), SCALING, 4),
        (replace(IDLE, free=4), SCALING, 1),  # the fewest
        (replace(IDLE, free=0), SCALING, 4),
        (Demand(waiting=2, nodes=0, free=0, cpu_percent=None, gpu_percent=None, calm_looks=0),
         replace(SCALING, scaling_policy=ScalingPolicy(min_nodes=0)), 1),
    ],
)  # fmt: skip
def test_what_a_look_decides(demand: Demand, scaling: Scaling, expected: int) -> None:
    assert fitting(demand, scaling) == expected


@given(
    demand=st.builds(
        Demand,
        waiting=st.integers(0, 500),
        nodes=st.integers(0, 20),
        free=st.integers(0, 20),
        cpu_percent=st.none() | st.floats(0, 100),
        gpu_percent=st.none() | st.floats(0, 100),
        calm_looks=st.integers(0, 10),
    ),
    least=st.integers(0, 5),
    more=st.integers(0, 20),
    thrifty=st.booleans(),
)
@settings(max_examples=200)
def test_the_bounds_always_hold_and_no_worker_at_work_is_sent_away(
    demand: Demand, least: int, more: int, thrifty: bool
) -> None:
    most = max(1, least + more)
    demand = replace(demand, free=min(demand.free, demand.nodes))
    scaling = Scaling(
        enable_cost_optimization=thrifty,
        scaling_policy=ScalingPolicy(min_nodes=least, max_nodes=most),
    )

    wanted = fitting(demand, scaling)

    assert least <= wanted <= most
    assert wanted >= min(demand.nodes - demand.free, most)
    if demand.waiting and demand.nodes <= most:
        assert wanted >= demand.nodes


@dataclass
class Workers:
    """Workers that only count; `processes` are numbers of this process's own making."""

    size: int
    processes: list[int] = field(default_factory=list)
    spared: Collection[int] = ()

    def resize(self, count: int, *, spare: Collection[int] = ()) -> None:
        self.size, self.spared = count, spare


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def jobs(tmp_path: Path, clock: ManualClock) -> Iterator[Jobs]:
    with Jobs.open(
        tmp_path / "jobs.db",
        MemoryJournal(clock),
        runs=tmp_path / "runs",
        clock=clock,
        lease_s=10_000,
    ) as opened:
        yield opened


def submit(jobs: Jobs) -> str:
    spec = TrainingSpec(
        model="sample:model", dataset="sample:records", privacy={"epsilon": 8.0, "delta": 1e-5}
    )
    return jobs.submit(spec, tenant="o_1", owner="u_1", name="a job").id


def test_a_queue_that_grows_gets_workers_and_an_empty_one_gives_them_back(
    jobs: Jobs, clock: ManualClock
) -> None:
    journal = MemoryJournal(clock)
    config = EnvironmentConfig(scaling_config={"enable_auto_scaling": True, "max_replicas": 3})
    desk = ScalingDesk(journal, clock=clock, entropy=SystemEntropy(), least=1, most=3)
    workers, used = Workers(1, [101]), {101: 0.0, 102: 0.0}
    leases = Leases(jobs.store, lease_s=10_000)
    leases.enrol("w_1", host=socket.gethostname(), process=101)
    follow = Fitting(
        workers=workers,
        jobs=jobs,
        desk=desk,
        scaling=config.scaling,
        clock=clock,
        tenant=lambda: "o_operator",
        load=NodeLoad(clock, seconds=used.get),
        accelerators=lambda: None,
    )

    for _ in range(3):
        submit(jobs)
    claim = leases.claim("w_1")
    assert claim is not None
    leases.seen("w_1", job=claim.job.id)
    follow.look()  # the first look knows no load yet
    assert workers.size == 1
    clock.advance(60)
    used[101] += 59
    follow.look()
    assert workers.size == 2

    for job in jobs.find("o_1"):
        jobs.cancel(job.id, tenant="o_1", by="u_1")
    workers.processes = [101, 102]
    for _ in range(CALM_LOOKS + 1):
        clock.advance(60)
        follow.look()
    assert (workers.size, workers.spared) == (1, frozenset({101}))
    told = [entry.body for entry in journal.read(STREAM)]
    assert [(each["before"], each["after"], each["by"]) for each in told] == [
        (1, 2, "service"),
        (2, 1, "service"),
    ]
    assert told[0]["reason"] == "2 jobs wait, 0 of 1 workers are free"


def test_processor_time_is_read_with_what_was_started() -> None:
    seconds = cpu_seconds(os.getpid())

    assert seconds is not None
    assert 0 < seconds < 1e6
    assert cpu_seconds(2**22 + 1) is None


def test_load_is_that_of_the_workers_that_were_there_before(clock: ManualClock) -> None:
    used = {1: 10.0, 2: 0.0, 3: 0.0}
    load = NodeLoad(clock, seconds=used.get)

    assert load.percent([1, 2]) is None
    clock.advance(10)
    used |= {1: 15.0, 2: 30.0}
    assert load.percent([1, 2, 3]) == pytest.approx(75.0)  # 50 and 100 at most; 3 is new
    assert load.percent([4]) is None
