"""Placing tasks on nodes: what each solver finds in which time, and what is proved about it.

    python benchmarks/planning.py [--json] [--quick] [--proof-s 60] [--most-tasks 500] [--wall]

The instances are tight: demand fills 85 % of the capacities, privacy demand 80 %. With pairs every
task has two on average, seven of ten attracting. `best` of a size is the least cost that any
solver found in this run, a long annealing and the integer program among them; `gap` is the mean
of (cost - best) / |best| over instances and seeds where the placement fits, `fits` how many do.
`proved` is the gap between best and the greatest lower bound, likewise.

Times are processor time of one thread, so that other programs disturb less; `--wall` measures the
clock on the wall. The integer program watches the wall either way.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import scipy.optimize  # noqa: F401 -- loaded before anything is timed

from federated_dp_llm.quantum_planning import (
    SOLVERS,
    AssignmentProblem,
    Limits,
    Node,
    Pair,
    SolverUnavailable,
    SolverUnsuitable,
    Task,
)
from federated_dp_llm.quantum_planning.bounds import lagrangian_bound
from privacy_runtime.world import SystemClock

SIZES = ((20, 4, 3), (50, 8, 2), (100, 16, 3), (200, 32, 1), (500, 64, 1))
"""Tasks, nodes, instances."""
BUDGETS_S = (0.05, 0.25, 1.0)
SPECIALISATIONS = ("cardiology", "dermatology", "neurology", "oncology")


class ProcessorClock(SystemClock):
    """Measures the processor time of this process."""

    def monotonic_s(self) -> float:
        """Seconds that this process has computed."""
        return time.process_time()


@dataclass
class Row:
    """One solver with one time limit on the instances of one size."""

    solver: str
    gaps: list[float] = field(default_factory=list)
    times_ms: list[float] = field(default_factory=list)
    fits: int = 0
    runs: int = 0
    note: str = ""

    def summary(self) -> dict[str, Any]:
        """What is printed."""
        return {
            "solver": self.solver,
            "gap": float(np.mean(self.gaps)) if self.gaps else None,
            "worst_gap": float(np.max(self.gaps)) if self.gaps else None,
            "fits": f"{self.fits}/{self.runs}",
            "ms": float(np.mean(self.times_ms)) if self.times_ms else None,
            "note": self.note,
        }


def instance(tasks: int, nodes: int, seed: int, *, pairs: float) -> AssignmentProblem:
    """A tight problem: log-normal demands, Gamma privacy demands, unequal nodes."""
    chance = np.random.default_rng([tasks, nodes, seed])
    demands = np.round(chance.lognormal(5.0, 0.6, tasks)).clip(20, 2_000)
    privacy = np.round(chance.gamma(2, 0.5, tasks) + 0.1, 3)
    capacity = np.maximum(chance.dirichlet(np.full(nodes, 8.0)) * demands.sum(), demands.max() / 2)
    capacity *= demands.sum() / 0.85 / capacity.sum()
    room = chance.dirichlet(np.full(nodes, 8.0)) * privacy.sum() / 0.80
    partners = [chance.choice(tasks, 2, replace=False) for _ in range(round(pairs * tasks))]
    return AssignmentProblem(
        tasks=tuple(
            Task(
                task_id=f"t{i}",
                demand=float(demands[i]),
                privacy_demand=float(privacy[i]),
                specialisation=str(chance.choice(SPECIALISATIONS)),
                home=f"n{chance.integers(nodes)}",
                priority=float(chance.choice([1, 2, 4], p=[0.6, 0.3, 0.1])),
                deadline_s=float(chance.choice([2, 5, 20])),
            )
            for i in range(tasks)
        ),
        nodes=tuple(
            Node(
                node_id=f"n{j}",
                capacity=float(capacity[j]),
                privacy_capacity=float(room[j]),
                speed=float(100 * chance.lognormal(0, 0.4)),
                specialisations=frozenset(s for s in SPECIALISATIONS if chance.random() < 0.6),
            )
            for j in range(nodes)
        ),
        pairs=tuple(
            Pair(first=f"t{a}", second=f"t{b}", weight=_weight(chance)) for a, b in partners
        ),
    )


def _weight(chance: np.random.Generator) -> float:
    return float(chance.uniform(0.5, 4) if chance.random() < 0.7 else -chance.uniform(2, 6))


def runs(quick: bool) -> Iterator[tuple[str, str, float | None, int]]:
    """Label, solver, seconds and seeds of every run on an instance."""
    yield "greedy", "greedy", None, 1
    yield "greedy_descent", "greedy_descent", None, 1
    for budget_s in BUDGETS_S[1:2] if quick else BUDGETS_S:
        yield f"potts_annealing {budget_s:g} s", "potts_annealing", budget_s, 2 if quick else 4
    if not quick:
        yield "dwave (simulated annealing, 10 x 1000)", "dwave", None, 1


@dataclass
class Table:
    """Everything that was found on the instances of one size."""

    problems: list[AssignmentProblem]
    clock: SystemClock
    results: dict[str, list[tuple[int, float | None, float]]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.best = [np.inf] * len(self.problems)
        self.bounds = [-np.inf] * len(self.problems)

    def run(self, label: str, name: str, number: int, *, seconds: float, seed: int) -> None:
        """One solver on one instance."""
        problem = self.problems[number]
        clock = SystemClock() if name == "milp" else self.clock
        began_s = clock.monotonic_s()
        try:
            limits = Limits(clock=clock, stop_s=began_s + seconds, seed=seed)
            found = SOLVERS[name].solve(problem, limits)
        except (SolverUnavailable, SolverUnsuitable) as error:
            self.notes[label] = str(error)
            return
        cost, taken_s = None, clock.monotonic_s() - began_s
        if found.places_T is not None and problem.is_feasible(found.places_T):
            cost = problem.objective(found.places_T)
            self.best[number] = min(self.best[number], cost)
        if found.lower_bound is not None:
            self.bounds[number] = max(self.bounds[number], found.lower_bound)
        self.results.setdefault(label, []).append((number, cost, taken_s))

    def bound(self, number: int, *, seconds: float) -> None:
        """The Lagrangian bound of one instance."""
        limits = Limits(clock=self.clock, stop_s=self.clock.monotonic_s() + seconds, seed=0)
        found = lagrangian_bound(self.problems[number], limits, target=self.best[number])
        self.bounds[number] = max(self.bounds[number], found)

    def summary(self) -> dict[str, Any]:
        """What is printed."""
        rows = []
        for label, results in self.results.items():
            row = Row(label, runs=len(results), note=self.notes.get(label, ""))
            for number, cost, taken_s in results:
                row.times_ms.append(taken_s * 1e3)
                if cost is not None:
                    row.fits += 1
                    row.gaps.append((cost - self.best[number]) / abs(self.best[number]))
            rows.append(row.summary())
        absent = self.notes.keys() - self.results.keys()
        rows += [Row(label, note=self.notes[label]).summary() for label in sorted(absent)]
        pairs = zip(self.best, self.bounds, strict=True)
        proved = [max(0.0, (best - bound) / abs(best)) for best, bound in pairs]
        return {
            "best": self.best,
            "lower_bound": self.bounds,
            "proved_gap": proved,
            "solvers": rows,
        }


def measure(
    problems: list[AssignmentProblem], *, quick: bool, proof_s: float, clock: SystemClock
) -> dict[str, Any]:
    """Run every solver on the instances of one size."""
    table = Table(problems, clock)
    for number in range(len(problems)):
        for label, name, budget_s, seeds in runs(quick):
            for seed in range(seeds):
                table.run(label, name, number, seconds=budget_s or 600.0, seed=seed)
        label = f"potts_annealing {proof_s:g} s"
        table.run(label, "potts_annealing", number, seconds=proof_s, seed=99)
        table.run(f"milp {proof_s:g} s", "milp", number, seconds=proof_s, seed=0)
        table.bound(number, seconds=proof_s / 4)
    return table.summary()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--quick", action="store_true", help="two sizes, a minute")
    parser.add_argument("--wall", action="store_true", help="measure the wall clock")
    parser.add_argument(
        "--proof-s",
        type=float,
        default=None,
        help="for the integer program, and for the longest annealing",
    )
    parser.add_argument("--most-tasks", type=int, default=500, help="leave out larger sizes")
    options = parser.parse_args()
    proof_s = options.proof_s or (5.0 if options.quick else 60.0)
    clock = SystemClock() if options.wall else ProcessorClock()
    tables: dict[str, Any] = {}
    load = os.getloadavg()[0]
    for pairs in (2.0, 0.0):
        for tasks, nodes, count in SIZES[:3:2] if options.quick else SIZES:
            if tasks > options.most_tasks:
                continue
            seeds = range(1 if options.quick else count)
            problems = [instance(tasks, nodes, seed, pairs=pairs) for seed in seeds]
            name = f"{tasks} x {nodes}, {'with' if pairs else 'without'} pairs"
            tables[name] = measure(problems, quick=options.quick, proof_s=proof_s, clock=clock)
            if not options.json:
                show(name, tables[name])
    if options.json:
        machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "load": load}
        print(json.dumps({"machine": machine, "tables": tables}, indent=1))


def show(name: str, table: dict[str, Any]) -> None:
    """Print one size."""
    proved = ", ".join(f"{gap:.1%}" for gap in table["proved_gap"])
    print(f"\n{name}: best {', '.join(f'{b:.1f}' for b in table['best'])}; proved within {proved}")
    for row in table["solvers"]:
        gap = "-" if row["gap"] is None else f"{row['gap']:6.1%} (worst {row['worst_gap']:.1%})"
        time_ms = "" if row["ms"] is None else f"{row['ms']:.0f} ms"
        print(f"  {row['solver']:42} {gap:24} fits {row['fits']:6} {time_ms:>9}  {row['note']}")


if __name__ == "__main__":
    main()
