"""The model: what is refused, and that its numbers are those of its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.federated_dp_llm.quantum_planning.problems import cost, fits, small_problems

from federated_dp_llm.quantum_planning import (
    AssignmentProblem,
    Node,
    Pair,
    Task,
    Weights,
    read_problem,
    write_problem,
)
from federated_dp_llm.quantum_planning.problem import MOST_NODES
from privacy_core.errors import InvalidParameter

TASK, NODE = Task(task_id="t"), Node(node_id="n")
BAD_NUMBERS = (-1.0, math.nan, math.inf, -math.inf, 1e13)


@pytest.mark.parametrize("number", BAD_NUMBERS)
@pytest.mark.parametrize("name", ["demand", "privacy_demand", "priority", "deadline_s"])
def test_a_task_has_no_impossible_number(name: str, number: float) -> None:
    with pytest.raises(InvalidParameter, match=name):
        Task(task_id="t", **{name: number})


@pytest.mark.parametrize("number", BAD_NUMBERS)
@pytest.mark.parametrize("name", ["capacity", "privacy_capacity", "speed"])
def test_a_node_has_no_impossible_number(name: str, number: float) -> None:
    with pytest.raises(InvalidParameter, match=name):
        Node(node_id="n", **{name: number})


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf])
def test_a_pair_has_a_finite_weight(weight: float) -> None:
    with pytest.raises(InvalidParameter, match="weight"):
        Pair(first="a", second="b", weight=weight)


@pytest.mark.parametrize("name", ["time", "late", "mismatch", "distance"])
def test_no_part_of_the_cost_pays(name: str) -> None:
    with pytest.raises(InvalidParameter, match=name):
        Weights(**{name: -0.1})


def test_speed_and_priority_are_not_zero_and_names_not_empty() -> None:
    for make in (
        lambda: Node(node_id="n", speed=0.0),
        lambda: Task(task_id="t", priority=0.0),
        lambda: Task(task_id=""),
        lambda: Node(node_id=""),
        lambda: Pair(first="t", second="t", weight=1.0),
    ):
        with pytest.raises(InvalidParameter):
            make()


@pytest.mark.parametrize(
    ("parts", "wrong"),
    [
        ({"tasks": (TASK,), "nodes": ()}, "nodes"),
        ({"tasks": (TASK, TASK), "nodes": (NODE,)}, "'t'"),
        ({"tasks": (TASK,), "nodes": (NODE, NODE)}, "'n'"),
        (
            {
                "tasks": (TASK,),
                "nodes": (NODE,),
                "pairs": (Pair(first="t", second="x", weight=1.0),),
            },
            "'x'",
        ),
        (
            {"tasks": (), "nodes": tuple(Node(node_id=str(j)) for j in range(MOST_NODES + 1))},
            "1001",
        ),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(parts: dict[str, tuple], wrong: str) -> None:
    with pytest.raises(InvalidParameter, match=wrong):
        AssignmentProblem(**parts)


def test_a_home_that_is_no_node_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="elsewhere"):
        AssignmentProblem(tasks=(Task(task_id="t", home="elsewhere"),), nodes=(NODE,))


@given(small_problems, st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_cost_and_fit_are_those_of_the_definition(problem: AssignmentProblem, chance) -> None:
    places = np.array([chance.randrange(len(problem.nodes)) for _ in problem.tasks])

    assert problem.objective(places) == pytest.approx(cost(problem, places))
    assert problem.is_feasible(places) == fits(problem, places)
    assert problem.is_feasible(places) == (problem.violations(places) == ())
    assert (problem.places(problem.names(places)) == places).all()


@given(small_problems)
@settings(max_examples=10, deadline=None)
def test_a_problem_survives_its_json(problem: AssignmentProblem) -> None:
    assert read_problem(write_problem(problem)) == problem


@pytest.mark.parametrize(
    ("document", "wrong"),
    [
        ("", "problem"),
        ("[]", "problem"),
        ('{"tasks": [], "nodes": [{"node_id": "n"}], "extra": 1}', "extra"),
        ('{"tasks": [{"task_id": "t", "demand": -1}], "nodes": [{"node_id": "n"}]}', "demand"),
        ('{"tasks": [{"task_id": "t", "demand": NaN}], "nodes": [{"node_id": "n"}]}', "JSON"),
        ('{"tasks": [{"task_id": "t", "demand": "9"}], "nodes": [{"node_id": "n"}]}', "demand"),
        ('{"tasks": [{"task_id": "t", "demand": 1e400}], "nodes": [{"node_id": "n"}]}', "problem"),
    ],
)
def test_json_that_is_no_problem_is_refused_and_says_where(document: str, wrong: str) -> None:
    with pytest.raises(InvalidParameter, match=wrong):
        read_problem(document)


def test_names_of_an_assignment_are_checked() -> None:
    problem = AssignmentProblem(tasks=(TASK,), nodes=(NODE,))

    with pytest.raises(InvalidParameter, match="nodes of the problem"):
        problem.places({"t": "x"})
    with pytest.raises(InvalidParameter, match="every task"):
        problem.places({})
    with pytest.raises(InvalidParameter, match="every task"):
        problem.places({"t": "n", "u": "n"})


def test_pairs_of_the_same_tasks_add_up() -> None:
    problem = AssignmentProblem(
        tasks=(TASK, Task(task_id="u"), Task(task_id="v")),
        nodes=(NODE,),
        pairs=(
            Pair(first="t", second="u", weight=1.0),
            Pair(first="u", second="t", weight=0.5),
            Pair(first="u", second="v", weight=2.0),
            Pair(first="v", second="u", weight=-2.0),
        ),
    )

    assert problem.pairs_2P.tolist() == [[0], [1]]
    assert problem.weights_P.tolist() == [1.5]
