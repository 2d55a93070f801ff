"""The yardstick: the largest task first, each to its cheapest node; and the same with descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from federated_dp_llm.quantum_planning.placement import Placement, descend, scarce_resources
from federated_dp_llm.quantum_planning.problem import AssignmentProblem, Places
from federated_dp_llm.quantum_planning.solver import Found, Limits

_ROUNDS: Final = 1_000
_STEEP: Final = 100.0
"""How much more a full capacity of excess costs than the dearest placement: it must go first."""


def greedy_places(problem: AssignmentProblem) -> Places:
    """Place task after task, the largest first, on the cheapest node with room left.

    A task's cost counts the partners that are placed already. Where no node has room, it goes
    where the excess is smallest.
    """
    demands_RT, room_RN = scarce_resources(problem)
    costs_TN = problem.costs_TN.copy()
    partners: dict[int, list[tuple[int, float]]] = {}
    for one, two, weight in zip(*problem.pairs_2P.tolist(), problem.weights_P, strict=True):
        partners.setdefault(one, []).append((two, weight))
        partners.setdefault(two, []).append((one, weight))
    places_T = np.zeros(len(problem.tasks), dtype=np.intp)
    size_T = demands_RT.max(axis=0, initial=0)
    for task in np.argsort(-size_T, kind="stable"):
        over_N = np.maximum(demands_RT[:, task, None] - room_RN, 0).sum(axis=0)
        least = over_N.min()
        place = np.where(over_N <= least, costs_TN[task], np.inf).argmin()
        places_T[task] = place
        room_RN[:, place] -= demands_RT[:, task]
        for other, weight in partners.get(int(task), ()):
            costs_TN[other, place] -= weight
    return places_T


def steep_penalty(problem: AssignmentProblem) -> float:
    """A penalty under which an excess goes first, whatever that costs."""
    costs_TN = problem.costs_TN
    spread = float(np.ptp(costs_TN, axis=1).sum()) if costs_TN.size else 0.0
    return _STEEP * (1.0 + spread + 2 * float(np.abs(problem.weights_P).sum()))


@dataclass(frozen=True, slots=True)
class Greedy:
    """`greedy_places`, and nothing more."""

    name: str = "greedy"

    def solve(self, problem: AssignmentProblem, limits: Limits) -> Found:
        """Place every task once; takes no notice of the time or the seed."""
        del limits
        return Found(places_T=greedy_places(problem))


@dataclass(frozen=True, slots=True)
class GreedyDescent:
    """`greedy_places`, then moves and swaps as long as they help."""

    name: str = "greedy_descent"

    def solve(self, problem: AssignmentProblem, limits: Limits) -> Found:
        """Descend from the greedy placement; takes no notice of the seed."""
        placement = Placement(problem, greedy_places(problem), steep_penalty(problem))
        while limits.left_s > 0 and descend(placement, rounds=10) == 10:
            pass
        return Found(places_T=placement.places_T)
