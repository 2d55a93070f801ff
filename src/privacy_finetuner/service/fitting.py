"""The number of workers follows the queue: `scaling.enable_auto_scaling`.

A node is a worker process of this server. What is done at a look is decided from values alone:

==============================================================  =================================
jobs                                                            then
==============================================================  =================================
wait, no worker is here                                         one is added
wait, none is free, the workers' load is above its threshold    as many as wait, at most doubling
wait for nobody, some are free, the load is below               free ones go, down to those that
its threshold, and nothing was changed for five looks           work, never below the fewest
anything else                                                   nothing
==============================================================  =================================

With `enable_cost_optimization` fewer workers count for more than shorter waits: free ones go at the
next look, and one is added at a time. The load of processors is that of the workers themselves and
of what they started, in percent of one processor each, 100 at most: how full the machine is with
other things says nothing of whether a worker more would help. The load of accelerators is the
machine's. A load that is not known yet changes nothing.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import psutil  # type: ignore[import-untyped]  # it ships no types

from privacy_finetuner.environment.sections import Scaling
from privacy_finetuner.jobs import Jobs, JobState, WorkerRow
from privacy_finetuner.operations.responses import SERVICE
from privacy_finetuner.operations.scaling import Direction, Load, ScalingDesk
from privacy_runtime.world import Clock

CALM_LOOKS: Final = 5
"""How many looks nothing must have changed before workers are given back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one look saw.

    Attributes:
        waiting: jobs that are queued, of all organisations.
        nodes: workers that this server wants.
        free: workers of this server that have no job.
        cpu_percent, gpu_percent: the load, 0 to 100; None: not known.
        calm_looks: looks since the number was last changed.
    """

    waiting: int
    nodes: int
    free: int
    cpu_percent: float | None
    gpu_percent: float | None
    calm_looks: int


def fitting(demand: Demand, scaling: Scaling) -> int:
    """How many workers there should be. Always within the policy's bounds; pure."""
    policy = scaling.scaling_policy
    wanted = demand.nodes
    if demand.waiting and not demand.nodes:
        wanted = 1
    elif demand.waiting and not demand.free and _is_above(demand, scaling):
        more = 1 if scaling.enable_cost_optimization else min(demand.waiting, demand.nodes)
        wanted = demand.nodes + more
    elif not demand.waiting and demand.free and _is_below(demand, scaling):
        is_calm = demand.calm_looks >= CALM_LOOKS or scaling.enable_cost_optimization
        wanted = demand.nodes - demand.free if is_calm else demand.nodes
    return max(policy.min_nodes, min(wanted, policy.max_nodes))


def _is_above(demand: Demand, scaling: Scaling) -> bool:
    bound = scaling.scaling_policy.scale_up_threshold
    return _exceeds(demand.cpu_percent, bound.cpu_utilization) or _exceeds(
        demand.gpu_percent, bound.gpu_utilization
    )


def _is_below(demand: Demand, scaling: Scaling) -> bool:
    bound = scaling.scaling_policy.scale_down_threshold
    if demand.cpu_percent is None or demand.cpu_percent > bound.cpu_utilization:
        return False
    return demand.gpu_percent is None or demand.gpu_percent <= bound.gpu_utilization


def _exceeds(load: float | None, bound: float) -> bool:
    return load is not None and load >= bound


class Workers(Protocol):
    """The workers of this server: `jobs.pool.WorkerPool`."""

    @property
    def size(self) -> int:
        """How many are wanted."""
        ...

    @property
    def processes(self) -> Sequence[int]:
        """The process numbers of those that run."""
        ...

    def resize(self, count: int, *, spare: Collection[int] = ()) -> None:
        """Have so many; processes named in `spare` stay as long as others can go."""
        ...


class NodeLoad:
    """The processor time of processes and of what they started, as load between two looks.

    Args:
        clock: measures.
        seconds: of one process with all that it started, by its number; None: it is gone.
    """

    def __init__(
        self, clock: Clock, *, seconds: Callable[[int], float | None] | None = None
    ) -> None:
        self._clock, self._seconds = clock, seconds or cpu_seconds
        self._at_s = clock.monotonic_s()
        self._before: dict[int, float] = {}

    def percent(self, processes: Sequence[int]) -> float | None:
        """The mean over those that were there at the look before; None if there is none."""
        now_s = self._clock.monotonic_s()
        read = {process: self._seconds(process) for process in processes}
        now = {process: used for process, used in read.items() if used is not None}
        span_s, before = now_s - self._at_s, self._before
        self._at_s, self._before = now_s, now
        both = now.keys() & before.keys()
        if not both or span_s <= 0:
            return None
        loads = (100 * (now[each] - before[each]) / span_s for each in both)
        return sum(min(100.0, max(0.0, load)) for load in loads) / len(both)


def cpu_seconds(process: int) -> float | None:
    """Processor seconds of a process, of its living descendants and of those it waited for."""
    try:
        root = psutil.Process(process)
        times = [root.cpu_times(), *_times_of(root.children(recursive=True))]
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    ended = times[0].children_user + times[0].children_system
    return float(ended + sum(each.user + each.system for each in times))


def _times_of(processes: Sequence[psutil.Process]) -> list[Any]:
    found = []
    for process in processes:
        try:
            found.append(process.cpu_times())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


class Fitting:
    """Looks, decides, and has more or fewer workers. Every change is in the stream `scaling`.

    Several servers over one database each fit their own workers to the one queue.

    Args:
        workers: of this server.
        jobs: the queue.
        desk: changes the number within the bounds, and writes down why.
        scaling: the policy.
        clock: measures.
        tenant: whose workers they are in the journal; asked at each change.
        load, accelerators: how busy the workers and the accelerators are.
    """

    def __init__(  # what a look needs, keyword-only
        self,
        *,
        workers: Workers,
        jobs: Jobs,
        desk: ScalingDesk,
        scaling: Scaling,
        clock: Clock,
        tenant: Callable[[], str | None],
        load: NodeLoad | None = None,
        accelerators: Callable[[], float | None] | None = None,
    ) -> None:
        self._workers, self._jobs, self._desk = workers, jobs, desk
        self._scaling, self._tenant = scaling, tenant
        self._load = load or NodeLoad(clock)
        self._accelerators = accelerators or Load(clock).gpu_percent
        self._lock = threading.Lock()
        self._calm_looks = 0

    def look(self) -> Demand:
        """Look once, and act.

        Raises:
            JobStoreUnavailable, JournalError: a database is away; nothing was changed.
        """
        with self._lock:
            processes = self._workers.processes
            busy = busy_among(processes, self._jobs.workers())
            demand = Demand(
                waiting=self._jobs.counts()[JobState.QUEUED],
                nodes=self._workers.size,
                free=max(0, self._workers.size - len(busy)),
                cpu_percent=self._load.percent(processes),
                gpu_percent=self._accelerators(),
                calm_looks=self._calm_looks,
            )
            wanted = fitting(demand, self._scaling)
            self._calm_looks += 1
            if wanted != demand.nodes:
                self._change(demand, wanted, busy)
                self._calm_looks = 0
            return demand

    def _change(self, demand: Demand, wanted: int, busy: Collection[int]) -> None:
        more = wanted > demand.nodes
        self._desk.scale(
            _Sparing(self._workers, busy),
            direction=Direction.OUT if more else Direction.IN,
            count=abs(wanted - demand.nodes),
            tenant=self._tenant() or "",
            by=SERVICE,
            reason=f"{demand.waiting} jobs wait, {demand.free} of {demand.nodes} workers are free",
        )


@dataclass(frozen=True, slots=True)
class _Sparing:
    """The workers, so that those at work go last."""

    workers: Workers
    busy: Collection[int]

    @property
    def size(self) -> int:
        return self.workers.size

    def resize(self, count: int) -> None:
        self.workers.resize(count, spare=self.busy)


def busy_among(processes: Sequence[int], known: Sequence[WorkerRow]) -> frozenset[int]:
    """Those of our processes that said that they have a job. Numbers of other hosts do not count.

    A worker that has not reported yet counts as free.
    """
    host = socket.gethostname()
    ours = set(processes)
    return frozenset(
        row.process
        for row in known
        if row.is_alive and row.job is not None and row.host == host and row.process in ours
    )
