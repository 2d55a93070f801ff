"""Every solver against all placements there are, on problems small enough to enumerate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from tests.federated_dp_llm.quantum_planning.problems import (
    fits,
    optimum,
    random_problem,
    small_problems,
)

from federated_dp_llm.quantum_planning import (
    SOLVERS,
    AssignmentProblem,
    Limits,
    Node,
    Pair,
    SolverUnsuitable,
    Task,
)
from federated_dp_llm.quantum_planning import exact as exact_module
from federated_dp_llm.quantum_planning.bounds import lagrangian_bound
from federated_dp_llm.quantum_planning.dwave import DWaveSampler
from federated_dp_llm.quantum_planning.solver import SolverUnavailable
from privacy_runtime.testing import ManualClock
from privacy_runtime.world import SystemClock

HEURISTICS = ("greedy", "greedy_descent", "potts_annealing")
EVERY = (*HEURISTICS, "milp")


def enough(sweeps: int | None = 60) -> Limits:
    """A clock that stands still: only sweeps end it."""
    return Limits(clock=ManualClock(), stop_s=60.0, seed=3, sweeps=sweeps)


@given(small_problems)
@settings(max_examples=10, deadline=None)
def test_no_solver_beats_the_optimum_and_milp_reaches_it(problem: AssignmentProblem) -> None:
    best = optimum(problem)
    for name in EVERY:
        found = SOLVERS[name].solve(problem, enough())
        if found.places_T is None:
            assert name == "milp"
            assert best is None
            continue
        assert found.places_T.shape == (len(problem.tasks),)
        if best is None:
            assert not problem.is_feasible(found.places_T)
        elif fits(problem, found.places_T):
            assert problem.objective(found.places_T) >= best - 1e-6
            if name == "milp":
                assert problem.objective(found.places_T) == pytest.approx(best, abs=1e-5)
                assert found.lower_bound == pytest.approx(best, abs=1e-4)


def test_annealing_reaches_the_optimum_of_nearly_all_that_can_be_enumerated() -> None:
    reached = 0
    for seed in range(12):
        problem = random_problem(seed, tasks=6, nodes=3, pairs=8, slack=1.25)
        found = SOLVERS["potts_annealing"].solve(problem, enough(sweeps=80))
        assert problem.is_feasible(found.places_T)
        reached += problem.objective(found.places_T) == pytest.approx(optimum(problem))

    assert reached >= 9


@given(small_problems)
@settings(max_examples=10, deadline=None)
def test_a_lower_bound_is_below_the_optimum_whatever_it_aims_at(
    problem: AssignmentProblem,
) -> None:
    best = optimum(problem)
    if best is None:
        return
    for target in (best, best + 50.0, best - 5.0):
        assert lagrangian_bound(problem, enough(), target=target) <= best + 1e-9


def test_a_lower_bound_gets_close_where_there_are_no_pairs() -> None:
    problem = random_problem(3, tasks=7, nodes=3, pairs=0, slack=1.6)
    best = optimum(problem)
    assert best is not None

    assert lagrangian_bound(problem, enough(), target=best) >= 0.9 * best


def test_annealing_repeats_itself_with_its_seed_and_sweeps() -> None:
    problem = random_problem(5, tasks=60, nodes=8, pairs=120, slack=1.2)
    solve = SOLVERS["potts_annealing"].solve
    first, second = solve(problem, enough(20)), solve(problem, enough(20))
    other = solve(problem, Limits(clock=ManualClock(), stop_s=60.0, seed=4, sweeps=20))

    assert first.sweeps == second.sweeps == 20
    assert (first.places_T == second.places_T).all()
    assert (first.places_T != other.places_T).any()


def test_annealing_is_never_worse_than_greedy() -> None:
    for seed in range(8):
        problem = random_problem(seed, tasks=25, nodes=5, pairs=30, slack=1.3)
        greedy = SOLVERS["greedy"].solve(problem, enough()).places_T
        found = SOLVERS["potts_annealing"].solve(problem, enough(5)).places_T
        if problem.is_feasible(greedy):
            assert problem.is_feasible(found)
            assert problem.objective(found) <= problem.objective(greedy) + 1e-9


def test_annealing_finds_what_fits_where_greedy_does_not() -> None:
    solved = 0
    for seed in range(6):
        chance = np.random.default_rng(seed)  # noqa: TID251 -- a fixed seed makes a fixed problem
        demands = chance.uniform(1, 9, 30)
        loads = np.bincount(chance.integers(0, 5, 30), demands, 5)
        problem = AssignmentProblem(
            tasks=tuple(Task(task_id=f"t{i}", demand=d) for i, d in enumerate(demands.tolist())),
            nodes=tuple(
                Node(node_id=f"n{j}", capacity=c) for j, c in enumerate((1.01 * loads).tolist())
            ),
        )
        greedy = SOLVERS["greedy"].solve(problem, enough()).places_T
        found = SOLVERS["potts_annealing"].solve(problem, enough(20)).places_T
        solved += problem.is_feasible(found) and not problem.is_feasible(greedy)

    assert solved >= 3


def test_annealing_without_time_returns_the_greedy_placement_mended() -> None:
    problem = random_problem(5, tasks=40, nodes=6, pairs=60)
    found = SOLVERS["potts_annealing"].solve(
        problem, Limits(clock=ManualClock(), stop_s=0.0, seed=1)
    )

    assert found.sweeps == 0
    assert found.places_T.shape == (40,)


@pytest.mark.parametrize("seed", range(6))
def test_matching_is_exact_for_tasks_of_one_size(seed: int) -> None:
    base = random_problem(seed, tasks=6, nodes=3, pairs=0)
    problem = AssignmentProblem(
        tasks=tuple(
            Task(task_id=t.task_id, demand=2.0, home=t.home, priority=t.priority)
            for t in base.tasks
        ),
        nodes=tuple(Node(node_id=n.node_id, capacity=5.0, speed=n.speed) for n in base.nodes),
    )
    found = SOLVERS["assignment"].solve(problem, enough())

    assert problem.is_feasible(found.places_T)
    assert problem.objective(found.places_T) == pytest.approx(optimum(problem))
    assert found.lower_bound == pytest.approx(optimum(problem))


def test_matching_finds_nothing_where_nothing_fits_and_refuses_what_is_not_its_kind() -> None:
    tasks = tuple(Task(task_id=str(i), demand=2.0) for i in range(3))
    full = AssignmentProblem(tasks=tasks, nodes=(Node(node_id="n", capacity=5.0),))
    paired = AssignmentProblem(
        tasks=tasks, nodes=full.nodes, pairs=(Pair(first="0", second="1", weight=1.0),)
    )

    assert SOLVERS["assignment"].solve(full, enough()).places_T is None
    with pytest.raises(SolverUnsuitable, match="potts_annealing"):
        SOLVERS["assignment"].solve(paired, enough())


def test_an_integer_program_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_module, "MOST_VARIABLES", 10)
    with pytest.raises(SolverUnsuitable, match="at most 10"):
        SOLVERS["milp"].solve(random_problem(1), enough())


@pytest.mark.parametrize("name", EVERY)
def test_problems_at_the_edge_have_answers(name: str) -> None:
    nothing = AssignmentProblem(tasks=(), nodes=(Node(node_id="n"),))
    free = AssignmentProblem(
        tasks=(Task(task_id="t", demand=0.0), Task(task_id="u", demand=0.0)),
        nodes=(Node(node_id="n", capacity=0.0), Node(node_id="m", capacity=0.0)),
        pairs=(Pair(first="t", second="u", weight=2.0),),
    )
    hopeless = AssignmentProblem(
        tasks=(Task(task_id="t", demand=2.0),), nodes=(Node(node_id="n", capacity=0.0),)
    )
    solve = SOLVERS[name].solve

    assert solve(nothing, enough()).places_T.shape == (0,)
    assert free.is_feasible(solve(free, enough()).places_T)
    found = solve(hopeless, enough()).places_T
    assert found is None or not hopeless.is_feasible(found)


def test_the_sampler_says_how_to_get_what_it_needs() -> None:
    try:
        import dimod  # noqa: F401 -- installed here: there is nothing to say
    except ImportError:
        with pytest.raises(SolverUnavailable, match=r"pip install .*quantum"):
            DWaveSampler().solve(random_problem(1), enough())


def test_the_sampler_finds_what_fits() -> None:
    pytest.importorskip("dwave.samplers")
    problem = random_problem(2, tasks=8, nodes=3, pairs=6, slack=1.4)
    clock = SystemClock()
    limits = Limits(clock=clock, stop_s=clock.monotonic_s() + 20, seed=1, sweeps=200)
    found = DWaveSampler().solve(problem, limits)

    assert problem.is_feasible(found.places_T)
    assert problem.objective(found.places_T) <= 1.3 * optimum(problem)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_bounds_and_solvers_agree_with_all_placements(seed: int) -> None:
    problem = random_problem(seed, tasks=7, nodes=4, pairs=9, slack=1.0 + seed % 5 / 10)
    best = optimum(problem)
    for name in EVERY:
        places = SOLVERS[name].solve(problem, enough(100)).places_T
        if best is None:
            assert places is None or not problem.is_feasible(places)
        elif places is not None and problem.is_feasible(places):
            assert problem.objective(places) >= best - 1e-6
    if best is not None:
        assert lagrangian_bound(problem, enough(), target=best + 1) <= best + 1e-9
