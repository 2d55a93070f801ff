"""Problems for tests: random ones small enough to enumerate, and their optimum."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import strategies as st

from federated_dp_llm.quantum_planning.problem import AssignmentProblem, Node, Pair, Task

SPECIALISATIONS = ("cardiology", "oncology")


def placements(problem: AssignmentProblem) -> list[np.ndarray]:
    """Every placement there is."""
    nodes = range(len(problem.nodes))
    return [np.array(places, dtype=np.intp) for places in product(nodes, repeat=len(problem.tasks))]


def optimum(problem: AssignmentProblem) -> float | None:
    """The least cost of what fits, from the definition; None: nothing fits."""
    return min((cost(problem, p) for p in placements(problem) if fits(problem, p)), default=None)


def cost(problem: AssignmentProblem, places: np.ndarray) -> float:
    """The objective, written out once more: task by task and pair by pair."""
    total, weights = 0.0, problem.weights
    where = {}
    for task, place in zip(problem.tasks, places, strict=True):
        node = problem.nodes[place]
        where[task.task_id] = node.node_id
        seconds = task.demand / node.speed
        late = 0.0 if task.deadline_s is None else max(0.0, seconds - task.deadline_s)
        total += task.priority * (weights.time * seconds + weights.late * late)
        if task.specialisation is not None and task.specialisation not in node.specialisations:
            total += weights.mismatch
        if task.home is not None and task.home != node.node_id:
            total += weights.distance
    return total - sum(p.weight for p in problem.pairs if where[p.first] == where[p.second])


def fits(problem: AssignmentProblem, places: np.ndarray) -> bool:
    """Whether no node is given too much."""
    for number, node in enumerate(problem.nodes):
        here = [t for t, place in zip(problem.tasks, places, strict=True) if place == number]
        for limit, load in (
            (node.capacity, sum(task.demand for task in here)),
            (node.privacy_capacity, sum(task.privacy_demand for task in here)),
        ):
            if limit is not None and load > limit * (1 + 1e-9):
                return False
    return True


def random_problem(
    seed: int, *, tasks: int = 6, nodes: int = 3, pairs: int = 6, slack: float = 1.3
) -> AssignmentProblem:
    """A problem in whole units, with capacities `slack` times what is needed, a node at a time."""
    chance = np.random.default_rng(seed)  # noqa: TID251 -- a fixed seed makes a fixed problem
    demands, privacy = chance.integers(1, 6, tasks), chance.integers(0, 4, tasks)
    shares = chance.dirichlet(np.full(nodes, 6.0))
    return AssignmentProblem(
        tasks=tuple(
            Task(
                task_id=f"t{i}",
                demand=float(demands[i]),
                privacy_demand=float(privacy[i]),
                specialisation=str(chance.choice(SPECIALISATIONS)) if i % 2 else None,
                home=f"n{chance.integers(nodes)}" if i % 3 else None,
                priority=float(chance.choice([1, 2, 4])),
                deadline_s=float(chance.integers(1, 8)) if i % 4 == 0 else None,
            )
            for i in range(tasks)
        ),
        nodes=tuple(
            Node(
                node_id=f"n{j}",
                capacity=float(np.ceil(shares[j] * demands.sum() * slack)),
                privacy_capacity=float(np.ceil(shares[j] * privacy.sum() * slack)),
                speed=float(chance.uniform(0.5, 2)),
                specialisations=frozenset(s for s in SPECIALISATIONS if chance.random() < 0.6),
            )
            for j in range(nodes)
        ),
        pairs=tuple(
            Pair(first=f"t{a}", second=f"t{b}", weight=float(chance.uniform(-4, 4)))
            for a, b in (chance.choice(tasks, 2, replace=False) for _ in range(pairs))
        ),
    )


small_problems = st.builds(
    random_problem,
    st.integers(0, 10_000),
    tasks=st.integers(2, 6),
    nodes=st.integers(1, 3),
    pairs=st.integers(0, 6),
    slack=st.sampled_from([0.8, 1.05, 1.3, 3.0]),
)
