"""Solvers that prove what they say: integer programming, and matching where that is enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from federated_dp_llm.quantum_planning.problem import (
    AssignmentProblem,
    Floats,
    Places,
)
from federated_dp_llm.quantum_planning.solver import Found, Limits, SolverUnsuitable

MOST_VARIABLES: Final = 400_000
"""Of an integer program; a larger one is not built."""
MOST_SLOTS: Final = 20_000
"""Columns of a matching."""
_INFINITE: Final = 1e20
"""What the solver means by infinity."""


@dataclass(frozen=True, slots=True)
class IntegerProgram:
    """Mixed-integer programming by HiGHS, with a proof when there is time for one.

    Each pair has a variable y_j for every node j: y_j <= x_ij, x_kj where together is better, and
    y_j >= x_ij + x_kj - 1 where apart is. The bound is the solver's own.

    Source: Huangfu and Hall, Parallelizing the dual revised simplex method (2018); the
    linearisation is Glover and Woolsey's (1974).
    """

    name: str = "milp"

    def solve(self, problem: AssignmentProblem, limits: Limits) -> Found:
        """Solve it, or stop at the time limit with the best so far; takes no notice of the seed.

        Raises:
            SolverUnsuitable: it would have more than `MOST_VARIABLES` variables.
        """
        from scipy.optimize import Bounds, milp  # noqa: PLC0415 -- slow to load

        tasks, nodes = problem.costs_TN.shape
        if tasks == 0:
            return Found(places_T=np.zeros(0, dtype=np.intp), lower_bound=0.0)
        variables = (tasks + len(problem.weights_P)) * nodes
        if variables > MOST_VARIABLES:
            raise SolverUnsuitable(
                f"an integer program of {variables} variables is not solved here, at most "
                f"{MOST_VARIABLES}; use potts_annealing"
            )
        if limits.left_s == 0:
            return Found(places_T=None)
        result = milp(
            c=np.concatenate([problem.costs_TN.ravel(), -np.repeat(problem.weights_P, nodes)]),
            integrality=np.repeat([1, 0], [tasks * nodes, variables - tasks * nodes]),
            bounds=Bounds(0, 1),
            constraints=_constraints(problem),
            options={"time_limit": limits.left_s, "mip_rel_gap": 1e-9},
        )
        bound = result.get("mip_dual_bound")
        lower_bound = None if bound is None or abs(bound) >= _INFINITE else float(bound)
        places_T = (
            None if result.x is None else result.x[: tasks * nodes].reshape(tasks, nodes).argmax(1)
        )
        return Found(places_T=places_T, lower_bound=lower_bound)


@dataclass(frozen=True, slots=True)
class Matching:
    """The optimum in milliseconds where no pair and no difference in size stands in its way.

    Without limits every task goes to its cheapest node. With tasks of one size a node is as many
    slots as fit, and the cheapest matching of tasks and slots is the optimum.

    Source: Crouse, On implementing 2D rectangular assignment algorithms (2016), as in SciPy.
    """

    name: str = "assignment"

    def solve(self, problem: AssignmentProblem, limits: Limits) -> Found:
        """Solve it; takes no notice of the time or the seed.

        Raises:
            SolverUnsuitable: there are pairs, or tasks of several sizes, or too many slots.
        """
        del limits
        if not is_transportation(problem):
            raise SolverUnsuitable(
                "assignment solves problems without pairs whose tasks are of one size (or whose "
                "nodes have no limits); use milp or potts_annealing"
            )
        places_T = _matched(problem)
        bound = None if places_T is None else problem.objective(places_T)
        return Found(places_T=places_T, lower_bound=bound)


def is_transportation(problem: AssignmentProblem) -> bool:
    """Whether `Matching` solves this problem."""
    if len(problem.weights_P):
        return False
    if not problem.has_limits:
        return True
    one_size = bool((np.ptp(problem.demands_RT, axis=1) == 0).all())
    return one_size and int(_slots_N(problem).sum()) <= MOST_SLOTS


def _matched(problem: AssignmentProblem) -> Places | None:
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 -- slow to load

    if not problem.has_limits:
        cheapest_T: Places = problem.costs_TN.argmin(axis=1)
        return cheapest_T
    node_of_S = np.repeat(np.arange(len(problem.nodes)), _slots_N(problem))
    if len(node_of_S) < len(problem.tasks):
        return None
    _, slots_T = linear_sum_assignment(problem.costs_TN[:, node_of_S])
    places_T: Places = node_of_S[slots_T]
    return places_T


def _slots_N(problem: AssignmentProblem) -> Places:
    """How many tasks, all of one size, fit on each node; never more than there are."""
    size_R = problem.demands_RT[:, 0]
    slots_N = np.full(len(problem.nodes), float(len(problem.tasks)))
    for size, limit_N in zip(size_R, problem.limits_RN, strict=True):
        if size > 0:
            slots_N = np.minimum(slots_N, np.floor(limit_N / size))
    return slots_N.astype(np.intp)


def _constraints(problem: AssignmentProblem) -> list[Any]:
    from scipy.optimize import LinearConstraint  # noqa: PLC0415 -- slow to load
    from scipy.sparse import coo_array, csr_array, hstack, identity, kron  # noqa: PLC0415

    tasks, nodes = problem.costs_TN.shape
    extra = len(problem.weights_P) * nodes
    eye_NN = identity(nodes, format="csr")

    def widened(matrix: Any) -> Any:
        return hstack([matrix, csr_array((matrix.shape[0], extra))], format="csr")

    each_once = kron(identity(tasks), np.ones((1, nodes)))
    rows = [LinearConstraint(widened(each_once), 1, 1)]
    for demand_T, capacity_N in zip(problem.demands_RT, problem.capacities_RN, strict=True):
        scale = _scale(demand_T)
        loads = kron(demand_T[None] / scale, eye_NN)
        rows.append(LinearConstraint(widened(loads), -np.inf, capacity_N / scale))
    if extra:
        pairs = np.arange(len(problem.weights_P))
        ends = [
            kron(coo_array((np.ones(len(pairs)), (pairs, end_P)), (len(pairs), tasks)), eye_NN)
            for end_P in problem.pairs_2P
        ]
        joint, attract = identity(extra), np.repeat(problem.weights_P > 0, nodes)
        for end in ends:
            both = hstack([-end, joint], format="csr")
            rows.append(LinearConstraint(both[attract], -np.inf, 0))
        either = hstack([ends[0] + ends[1], -joint], format="csr")
        rows.append(LinearConstraint(either[~attract], -np.inf, 1))

    return rows


def _scale(demand_T: Floats) -> float:
    """The solver's tolerance is absolute: loads are counted in average tasks."""
    return float(demand_T.mean()) or 1.0
