"""The QUBO says the same as the problem: by enumeration of every state of its bits."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from tests.federated_dp_llm.quantum_planning.problems import optimum, random_problem

from federated_dp_llm.quantum_planning import (
    AssignmentProblem,
    Node,
    SolverUnsuitable,
    Task,
    to_qubo,
)
from federated_dp_llm.quantum_planning import qubo as qubo_module
from federated_dp_llm.quantum_planning.qubo import slack_bits
from privacy_core.errors import InvalidParameter


def states(size: int) -> np.ndarray:
    if size > 18:
        pytest.skip("too many to enumerate")
    return (np.arange(2**size)[:, None] >> np.arange(size)) & 1


@pytest.mark.parametrize("seed", range(12))
def test_the_least_energy_is_the_optimum_and_decodes_to_it(seed: int) -> None:
    problem = random_problem(seed, tasks=3, nodes=2, pairs=3, slack=1.2)
    qubo = to_qubo(problem)
    every = states(len(qubo.linear))
    energies = qubo.energy(every)
    best = optimum(problem)
    if best is None:
        pytest.skip("nothing fits")
    places = qubo.decode(every[energies.argmin()])

    assert energies.min() == pytest.approx(best, abs=1e-6)
    assert places is not None
    assert problem.is_feasible(places)
    assert problem.objective(places) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_what_decodes_below_the_penalty_fits_whatever_the_units(seed: int) -> None:
    problem = random_problem(seed, tasks=3, nodes=2, pairs=2, slack=1.3)
    qubo = to_qubo(problem, units=(1.7, 1.3), penalty=1_000.0)
    every = states(len(qubo.linear))
    cheap = every[qubo.energy(every) < 500.0]
    for bits in cheap:
        places = qubo.decode(bits)
        assert places is not None
        assert problem.is_feasible(places)
        assert qubo.energy(bits) == pytest.approx(problem.objective(places), abs=1e-6)


@pytest.mark.parametrize("most", range(70))
def test_slack_bits_sum_to_every_number_up_to_the_capacity_and_no_other(most: int) -> None:
    bits = slack_bits(most)
    sums = {int(np.dot(bits, state)) for state in product((0, 1), repeat=len(bits))}

    assert sums == set(range(most + 1))
    assert len(bits) == most.bit_length()


def test_a_task_on_two_nodes_or_none_does_not_decode() -> None:
    problem = AssignmentProblem(
        tasks=(Task(task_id="t"),), nodes=(Node(node_id="n"), Node(node_id="m"))
    )
    qubo = to_qubo(problem)

    assert qubo.decode(np.array([1, 1])) is None
    assert qubo.decode(np.array([0, 0])) is None
    assert qubo.decode(np.array([0, 1])).tolist() == [1]


def test_an_empty_problem_is_an_empty_qubo() -> None:
    qubo = to_qubo(AssignmentProblem(tasks=(), nodes=(Node(node_id="n", capacity=1.0),)))

    assert len(qubo.linear) == 0
    assert qubo.energy(np.zeros(0)) == 0


@pytest.mark.parametrize("units", [(0.0, 1.0), (1.0, -1.0), (float("nan"), 1.0)])
def test_units_are_positive(units: tuple[float, float]) -> None:
    with pytest.raises(InvalidParameter, match="units"):
        to_qubo(random_problem(1), units=units)


def test_a_qubo_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qubo_module, "MOST_TERMS", 10)
    with pytest.raises(SolverUnsuitable, match="at most 10"):
        to_qubo(random_problem(1))
