"""A plan says of itself only what is so."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from tests.federated_dp_llm.quantum_planning.problems import (
    cost,
    fits,
    optimum,
    random_problem,
    small_problems,
)

from federated_dp_llm.quantum_planning import (
    SOLVERS,
    AssignmentProblem,
    Found,
    Limits,
    Node,
    Plan,
    SolverUnsuitable,
    Task,
    plan,
    write_plan,
)
from privacy_core.errors import InvalidParameter
from privacy_runtime.testing import ManualClock, SeededEntropy


@dataclass
class Claims:
    """A solver of others that says what it likes."""

    places: list[int] | None
    bound: float | None = None
    name: str = "claims"

    def solve(self, problem: AssignmentProblem, limits: Limits) -> Found:
        places = None if self.places is None else np.array(self.places, dtype=np.intp)
        return Found(places_T=places, lower_bound=self.bound)


def planned(problem: AssignmentProblem, **options: object) -> Plan:
    options = {"entropy": SeededEntropy(1), "clock": ManualClock(), "sweeps": 30} | options
    return plan(problem, **options)  # type: ignore[arg-type]


@given(small_problems)
@settings(max_examples=10, deadline=None)
def test_a_plan_reports_its_cost_its_fit_and_its_gap_as_they_are(
    problem: AssignmentProblem,
) -> None:
    best = optimum(problem)
    for name in ("auto", "greedy", "greedy_descent", "milp"):
        found = planned(problem, solver=name)
        places = problem.places(found.assignment)
        assert found.quantum_hardware is False
        assert found.objective == pytest.approx(cost(problem, places))
        assert found.feasible == fits(problem, places) == (found.violations == ())
        assert (found.gap is None) == (not found.feasible or found.lower_bound is None)
        if best is not None and found.lower_bound is not None:
            assert found.lower_bound <= best + 1e-5
        if found.gap is not None:
            assert found.gap >= 0
            assert found.objective >= best - 1e-6
        if found.gap == 0:
            assert found.objective == pytest.approx(best, abs=1e-4)


def test_violations_name_the_node_the_resource_and_the_numbers() -> None:
    problem = AssignmentProblem(
        tasks=(Task(task_id="t", demand=3.0, privacy_demand=2.0),),
        nodes=(Node(node_id="n", capacity=2.0, privacy_capacity=2.0),),
    )
    found = planned(problem)

    assert not found.feasible
    assert found.gap is None
    assert [msgspec.to_builtins(v) for v in found.violations] == [
        {"node": "n", "resource": "demand", "load": 3.0, "capacity": 2.0}
    ]


def test_the_same_seed_and_sweeps_make_the_same_plan() -> None:
    problem = random_problem(5, tasks=40, nodes=6, pairs=60)
    first = planned(problem, entropy=SeededEntropy(7))
    again = planned(problem, seed=first.seed, sweeps=first.sweeps, entropy=SeededEntropy(8))

    assert again.assignment == first.assignment
    assert planned(problem, entropy=SeededEntropy(8)).seed != first.seed


def test_what_a_solver_claims_is_not_what_a_plan_says() -> None:
    problem = AssignmentProblem(
        tasks=(Task(task_id="t"), Task(task_id="u")),
        nodes=(Node(node_id="n", capacity=1.0), Node(node_id="m", capacity=1.0, speed=0.5)),
    )
    lying = planned(problem, solver=Claims([0, 1], bound=99.0))
    crowded = planned(problem, solver=Claims([0, 0], bound=0.0))
    silent = planned(problem, solver=Claims(None))

    assert lying.feasible
    assert lying.solver == "claims"
    assert lying.lower_bound is None
    assert lying.gap is None
    assert not crowded.feasible
    assert crowded.gap is None
    assert silent.solver == "greedy"


def test_improvement_is_against_a_greedy_placement_that_fits() -> None:
    for seed in range(6):
        problem = random_problem(seed, tasks=20, nodes=4, pairs=10, slack=1.15)
        found = planned(problem, sweeps=5)
        greedy = planned(problem, solver="greedy")
        if not greedy.feasible:
            assert found.greedy_objective is None
            assert found.improvement_vs_greedy is None
            continue
        assert found.greedy_objective == pytest.approx(greedy.objective)
        assert found.objective <= greedy.objective + 1e-9
        if greedy.objective > 0:
            assert found.improvement_vs_greedy == pytest.approx(
                1 - found.objective / greedy.objective
            )


def test_auto_takes_what_the_page_says() -> None:
    one_size = AssignmentProblem(
        tasks=tuple(Task(task_id=str(i)) for i in range(4)),
        nodes=(Node(node_id="n", capacity=3.0), Node(node_id="m", capacity=3.0)),
    )
    small = random_problem(1, tasks=6, nodes=3, pairs=4)

    assert planned(one_size).solver == "assignment"
    assert planned(one_size).gap == 0
    assert planned(small).solver in {"potts_annealing", "greedy"}
    assert planned(small, time_limit_s=5.0).gap == 0


def test_a_pinned_solver_is_not_replaced() -> None:
    problem = random_problem(1, tasks=6, nodes=3, pairs=4)
    for name in ("greedy", "greedy_descent", "potts_annealing", "milp"):
        assert planned(problem, solver=name).solver == name
    with pytest.raises(SolverUnsuitable):
        planned(problem, solver="assignment")


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"time_limit_s": 0.0}, "time_limit_s"),
        ({"time_limit_s": float("nan")}, "time_limit_s"),
        ({"time_limit_s": float("inf")}, "time_limit_s"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"sweeps": 0}, "sweeps"),
        ({"solver": "quantum"}, "solver"),
        ({"solver": "pots_annealing"}, "did you mean 'potts_annealing'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], wrong: str) -> None:
    with pytest.raises(InvalidParameter, match=wrong):
        planned(random_problem(1), **options)


def test_a_plan_without_tasks_costs_nothing() -> None:
    found = planned(AssignmentProblem(tasks=(), nodes=(Node(node_id="n", capacity=0.0),)))

    assert (found.objective, found.feasible, found.assignment) == (0.0, True, {})


def test_a_plan_is_one_json_document_with_the_documented_fields() -> None:
    found = msgspec.json.decode(write_plan(planned(random_problem(1))))

    assert found["quantum_hardware"] is False
    assert set(found) == {
        *("solver", "quantum_hardware", "objective", "greedy_objective", "improvement_vs_greedy"),
        *("lower_bound", "gap", "feasible", "violations", "wall_ms", "seed", "sweeps"),
        "assignment",
    }


def test_every_solver_is_known_by_its_name() -> None:
    assert {name: solver.name for name, solver in SOLVERS.items()} == {n: n for n in SOLVERS}
