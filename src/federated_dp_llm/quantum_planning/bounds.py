"""Lower bounds: what no feasible placement can undercut, so that a gap means something.

Capacities get prices, and every pair gets two rows of prices by which it and its tasks come to
agree on their nodes; then each task and each pair is minimised alone. For any prices of capacities
>= 0 and any prices of pairs the sum of these minima is a lower bound (weak duality), so the search
for good prices may stop at any time.

Sources: Geoffrion, Lagrangean relaxation for integer programming (1974); for pairs Komodakis,
Paragios and Tziritas, MRF energy minimization via dual decomposition, PAMI 33 (2011); step sizes
after Polyak (1969), directions averaged as in Barahona and Anbil, The volume algorithm (2000).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from federated_dp_llm.quantum_planning.placement import scarce_resources
from federated_dp_llm.quantum_planning.problem import AssignmentProblem, Floats, Places
from federated_dp_llm.quantum_planning.solver import Limits

_ROUNDS: Final = 3_000
_PATIENCE: Final = 12
_LEAST_STEP: Final = 1e-3
_MEMORY: Final = 0.7
"""Share of the last direction in the next one; without it the prices zigzag."""
_ROUNDING: Final = 1e-12
"""Share of all terms by which a bound is lowered: the rounding of their sums."""


@dataclass(frozen=True, slots=True)
class _Prices:
    """Of capacities (R, N), >= 0, and of pairs (2, P, N); or a direction to change them in."""

    capacities_RN: Floats
    pairs_2PN: Floats

    def __add__(self, other: _Prices) -> _Prices:
        return _Prices(self.capacities_RN + other.capacities_RN, self.pairs_2PN + other.pairs_2PN)

    def __mul__(self, factor: float) -> _Prices:
        return _Prices(self.capacities_RN * factor, self.pairs_2PN * factor)

    @property
    def square(self) -> float:
        return float((self.capacities_RN**2).sum() + (self.pairs_2PN**2).sum())

    def allowed(self) -> _Prices:
        return _Prices(np.maximum(self.capacities_RN, 0), self.pairs_2PN)


def lagrangian_bound(problem: AssignmentProblem, limits: Limits, *, target: float) -> float:
    """A cost that no feasible placement undercuts; better the longer it may search.

    Args:
        problem: any. Of an infeasible one every number is a bound.
        limits: when to stop; no chance is used.
        target: about where the optimum is, the cost of a good placement, say. It scales the steps
            and does not have to be right: the bound holds for any.
    """
    if not problem.tasks:
        return 0.0
    dual = _Dual(problem)
    best_prices = dual.start
    best, slope = dual.at(best_prices)
    direction, step, stale = slope, 1.0, 0
    for _ in range(_ROUNDS):
        reach = target - best
        if limits.left_s == 0 or step < _LEAST_STEP or reach <= 0 or direction.square < 1e-18:
            break
        prices = (best_prices + direction * (step * reach / direction.square)).allowed()
        value, slope = dual.at(prices)
        direction = direction * _MEMORY + slope * (1 - _MEMORY)
        if value > best:
            best, best_prices, stale = value, prices, 0
        else:
            stale += 1
        if stale == _PATIENCE:
            step, stale, direction = step / 2, 0, dual.at(best_prices)[1]
    return best - dual.rounding


class _Dual:
    """The bound as a function of the prices."""

    def __init__(self, problem: AssignmentProblem) -> None:
        demands_RT, capacities_RN = scarce_resources(problem)
        scale_R1 = demands_RT.mean(axis=1, keepdims=True)
        self._demands_RT, self._capacities_RN = demands_RT / scale_R1, capacities_RN / scale_R1
        self._limited_RN = np.isfinite(capacities_RN)
        self._problem = problem
        terms = np.abs(problem.costs_TN).sum() + np.abs(problem.weights_P).sum()
        self.rounding = _ROUNDING * (1.0 + float(terms))
        pairs = len(problem.weights_P)
        self.start = _Prices(np.zeros_like(capacities_RN), np.zeros((2, pairs, len(problem.nodes))))

    def at(self, prices: _Prices) -> tuple[float, _Prices]:
        """The bound at these prices, and the direction in which it grows."""
        problem, size = self._problem, len(self._problem.nodes)
        tasks, nodes = np.arange(len(problem.tasks)), np.arange(size)
        costs_TN = problem.costs_TN + np.einsum("rn,rt->tn", prices.capacities_RN, self._demands_RT)
        for ends_P, prices_PN in zip(problem.pairs_2P, prices.pairs_2PN, strict=True):
            np.add.at(costs_TN, ends_P, prices_PN)
        places_T = costs_TN.argmin(axis=1)
        pairs, chosen_2P = _pairs_alone(problem.weights_P, prices.pairs_2PN)
        paid_RN = np.where(self._limited_RN, prices.capacities_RN * self._room_RN(), 0)
        value = float(costs_TN[tasks, places_T].sum() - paid_RN.sum() + pairs)

        loads_RN = (
            np.stack([np.bincount(places_T, row, size) for row in self._demands_RT])
            if len(self._demands_RT)
            else np.zeros_like(prices.capacities_RN)
        )
        slope_RN = np.where(self._limited_RN, loads_RN - self._room_RN(), 0)
        at_2P = places_T[problem.pairs_2P]
        slope_2PN = (at_2P[..., None] == nodes).astype(np.float64) - (chosen_2P[..., None] == nodes)
        return value, _Prices(slope_RN, slope_2PN)

    def _room_RN(self) -> Floats:
        return np.where(self._limited_RN, self._capacities_RN, 0)


def _pairs_alone(weights_P: Floats, prices_2PN: Floats) -> tuple[float, Places]:
    """The least that the pairs can cost by themselves, and the nodes (2, P) where they do."""
    if not len(weights_P):
        return 0.0, np.zeros((2, 0), dtype=np.intp)
    rows = np.arange(len(weights_P))
    first_PN, second_PN = -prices_2PN
    together_PN = first_PN + second_PN - weights_P[:, None]
    joint_P = together_PN.argmin(axis=1)
    # Apart: the best of each; where both want the same node, one of them takes its second best.
    one_P, two_P = first_PN.argmin(axis=1), second_PN.argmin(axis=1)
    one_next_P, two_next_P = _second_best(first_PN, one_P), _second_best(second_PN, two_P)
    yields_P = (
        first_PN[rows, one_next_P] - first_PN[rows, one_P]
        < second_PN[rows, two_next_P] - second_PN[rows, two_P]
    )
    clash_P = one_P == two_P
    one_P = np.where(clash_P & yields_P, one_next_P, one_P)
    two_P = np.where(clash_P & ~yields_P, two_next_P, two_P)
    apart_P = first_PN[rows, one_P] + second_PN[rows, two_P]
    if prices_2PN.shape[2] == 1:
        apart_P = np.full(len(rows), np.inf)
    joint_cost_P = together_PN[rows, joint_P]
    is_joint_P = joint_cost_P <= apart_P
    chosen_2P = np.stack(
        [np.where(is_joint_P, joint_P, one_P), np.where(is_joint_P, joint_P, two_P)]
    )
    return float(np.minimum(joint_cost_P, apart_P).sum()), chosen_2P


def _second_best(values_PN: Floats, best_P: Places) -> Places:
    """The node of the second smallest value of every row."""
    others_PN = values_PN.copy()
    others_PN[np.arange(len(others_PN)), best_P] = np.inf
    second_P: Places = others_PN.argmin(axis=1)
    return second_P
