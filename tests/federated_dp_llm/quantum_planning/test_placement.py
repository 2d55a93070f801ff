"""What a placement says a move would change is what it changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from tests.federated_dp_llm.quantum_planning.problems import random_problem, small_problems

from federated_dp_llm.quantum_planning.greedy import greedy_places, steep_penalty
from federated_dp_llm.quantum_planning.placement import Placement, descend
from federated_dp_llm.quantum_planning.problem import AssignmentProblem


def penalised(placement: Placement, places: np.ndarray) -> float:
    fresh = Placement(placement.problem, places, placement.penalty)
    return placement.problem.objective(places) + placement.penalty * fresh.excess


def somewhere(problem: AssignmentProblem, seed: int) -> np.ndarray:
    chance = np.random.default_rng(seed)  # noqa: TID251 -- a fixed seed makes a fixed placement
    return chance.integers(0, len(problem.nodes), len(problem.tasks))


@given(small_problems)
@settings(max_examples=12, deadline=None)
def test_a_shift_changes_the_cost_by_what_was_said(problem: AssignmentProblem) -> None:
    placement = Placement(problem, somewhere(problem, 1), penalty=3.0)
    changes = placement.shift_changes_TN()
    before = penalised(placement, placement.places_T)
    for task, node in np.ndindex(changes.shape):
        places = placement.places_T.copy()
        places[task] = node
        assert before + changes[task, node] == pytest.approx(penalised(placement, places))


@given(small_problems)
@settings(max_examples=12, deadline=None)
def test_a_swap_changes_the_cost_by_what_was_said(problem: AssignmentProblem) -> None:
    placement = Placement(problem, somewhere(problem, 2), penalty=3.0)
    changes = placement.swap_changes_TT()
    before = penalised(placement, placement.places_T)
    for one, two in np.argwhere(np.isfinite(changes)):
        places = placement.places_T.copy()
        places[[one, two]] = places[[two, one]]
        assert before + changes[one, two] == pytest.approx(penalised(placement, places))


@given(small_problems)
@settings(max_examples=12, deadline=None)
def test_costs_of_one_task_differ_by_what_its_shift_changes(problem: AssignmentProblem) -> None:
    placement = Placement(problem, somewhere(problem, 3), penalty=3.0)
    every = np.arange(len(problem.tasks))
    costs = placement.costs_BN(every)
    here = costs[every, placement.places_T]

    assert np.allclose(costs - here[:, None], placement.shift_changes_TN())


@given(small_problems)
@settings(max_examples=12, deadline=None)
def test_moves_keep_loads_and_costs_as_a_fresh_start_has_them(problem: AssignmentProblem) -> None:
    placement = Placement(problem, somewhere(problem, 4), penalty=3.0)
    every = np.arange(len(problem.tasks))
    for seed in range(5, 9):
        placement.move(every[::2], somewhere(problem, seed)[::2])
    fresh = Placement(problem, placement.places_T, penalty=3.0)

    assert np.allclose(placement.loads_RN, fresh.loads_RN)
    assert np.allclose(placement.costs_TN, fresh.costs_TN)
    assert placement.objective == pytest.approx(problem.objective(placement.places_T))


def test_no_group_without_partners_holds_two_partners() -> None:
    problem = random_problem(1, tasks=30, nodes=5, pairs=60)
    placement = Placement(problem, somewhere(problem, 1), penalty=1.0)
    pairs = {(int(a), int(b)) for a, b in problem.pairs_2P.T}
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(30)[:8]  # noqa: TID251 -- as above
        kept = placement.without_partners(order)
        assert len(kept) >= 1
        assert not any((min(a, b), max(a, b)) in pairs for a in kept for b in kept)


@given(small_problems)
@settings(max_examples=12, deadline=None)
def test_a_descent_ends_where_nothing_helps_and_never_goes_up(problem: AssignmentProblem) -> None:
    placement = Placement(problem, greedy_places(problem), steep_penalty(problem))
    before = penalised(placement, placement.places_T)

    assert descend(placement, rounds=200) < 200
    assert penalised(placement, placement.places_T) <= before + 1e-6
    assert placement.shift_changes_TN().min() > -1e-6
    assert placement.swap_changes_TT().min() > -1e-6
