"""The documented names do what their docstrings say."""

from __future__ import annotations

import numpy as np
import pytest
from tests.federated_dp_llm.quantum_planning.problems import random_problem

from federated_dp_llm.quantum_planning import (
    AssignmentProblem,
    EntanglementOptimizer,
    InterferenceBalancer,
    Node,
    QuantumTaskPlanner,
    SuperpositionScheduler,
    Task,
    TaskSuperposition,
)
from privacy_core.errors import InvalidParameter
from privacy_runtime.testing import ManualClock, SeededEntropy

ROUTINE = Task(task_id="routine")
URGENT = Task(task_id="urgent", deadline_s=0.5)
IMPORTANT = Task(task_id="important", priority=3.0)


def test_amplitudes_are_a_distribution_in_the_order_of_the_tasks() -> None:
    held = SuperpositionScheduler(coherence_threshold=2.0).create_superposition(
        [ROUTINE, URGENT, IMPORTANT]
    )
    probabilities = np.abs(held.amplitudes) ** 2

    assert isinstance(held, TaskSuperposition)
    assert held.tasks == (ROUTINE, URGENT, IMPORTANT)
    assert held.coherence_time == 2.0
    assert probabilities.sum() == pytest.approx(1)
    assert probabilities[0] < probabilities[1] < probabilities[2]


def test_the_measured_task_is_the_most_urgent_wherever_it_stands() -> None:
    scheduler = SuperpositionScheduler()
    for tasks in ([ROUTINE, URGENT, IMPORTANT], [IMPORTANT, ROUTINE, URGENT]):
        held = scheduler.create_superposition(tasks)
        assert scheduler.measure_optimal_state(held) is IMPORTANT
    assert (
        scheduler.measure_optimal_state(scheduler.create_superposition([ROUTINE, URGENT])) is URGENT
    )


def test_a_low_temperature_does_not_overflow() -> None:
    held = SuperpositionScheduler(temperature=1e-9).create_superposition([ROUTINE, IMPORTANT])

    assert (np.abs(held.amplitudes) ** 2).tolist() == [0.0, 1.0]


def test_no_tasks_have_no_superposition_and_settings_are_positive() -> None:
    with pytest.raises(InvalidParameter, match="tasks"):
        SuperpositionScheduler().create_superposition([])
    for name in ("temperature", "horizon_s", "coherence_threshold"):
        with pytest.raises(InvalidParameter, match=name):
            SuperpositionScheduler(**{name: 0.0})


def test_entangled_tasks_come_together_or_part() -> None:
    optimizer = EntanglementOptimizer()
    planner = QuantumTaskPlanner(entropy=SeededEntropy(1), time_limit_s=0.05)
    tasks = [Task(task_id="a", home="x"), Task(task_id="b", home="y")]
    nodes = [Node(node_id="x"), Node(node_id="y")]
    joined = planner.plan(tasks, nodes, optimizer.attract(["a", "b"], 9.0)).assignment
    apart = planner.plan(
        [Task(task_id="a", home="x"), Task(task_id="b", home="x")],
        nodes,
        optimizer.repel(["a", "b"], 9.0),
    ).assignment

    assert joined["a"] == joined["b"]
    assert apart["a"] != apart["b"]
    with pytest.raises(InvalidParameter):
        optimizer.attract(["a", "b"], -1.0)
    with pytest.raises(InvalidParameter):
        optimizer.repel(["a", "b"], float("nan"))


def test_the_gain_of_pairs_is_counted_once() -> None:
    pairs = EntanglementOptimizer().attract(["a", "b", "c"], 2.0)
    problem = AssignmentProblem(
        tasks=tuple(Task(task_id=name) for name in "abc"),
        nodes=(Node(node_id="x"), Node(node_id="y")),
        pairs=pairs,
    )

    assert EntanglementOptimizer().gain(problem, {"a": "x", "b": "x", "c": "y"}) == 2.0
    assert EntanglementOptimizer().gain(problem, dict.fromkeys("abc", "x")) == 6.0


def test_utilisation_is_the_largest_share_of_a_node() -> None:
    problem = AssignmentProblem(
        tasks=(Task(task_id="a", demand=2.0, privacy_demand=3.0),),
        nodes=(
            Node(node_id="x", capacity=4.0, privacy_capacity=2.0),
            Node(node_id="y"),
            Node(node_id="z", capacity=0.0),
        ),
    )
    balancer = InterferenceBalancer()

    assert balancer.utilisation(problem, {"a": "x"}) == {"x": 1.5, "y": 0.0, "z": 0.0}
    assert balancer.utilisation(problem, {"a": "y"}) == {"x": 0.0, "y": 0.0, "z": 0.0}
    assert balancer.utilisation(problem, {"a": "z"})["z"] == float("inf")


def test_balancing_mends_what_does_not_fit() -> None:
    problem = random_problem(4, tasks=20, nodes=4, pairs=10, slack=1.4)
    crowded = {task.task_id: "n0" for task in problem.tasks}
    mended = InterferenceBalancer().balance(problem, crowded)

    assert problem.violations(problem.places(crowded))
    assert not problem.violations(problem.places(mended))


def test_the_planner_can_tell_that_it_works() -> None:
    assert QuantumTaskPlanner(entropy=SeededEntropy(1), clock=ManualClock()).is_healthy()
