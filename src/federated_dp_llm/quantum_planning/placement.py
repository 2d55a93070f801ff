"""A placement that is being searched: its loads, and what every move would change, kept up to date.

Moves are judged by the *penalised* cost: the objective plus `penalty` times how far the loads
exceed the capacities. Capacities are scaled so that an average one is 1, and resources that cannot
run short are left out. Letters: T tasks, N nodes, B tasks of a block, D the most partners that a
task has, R resources that can run short.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from federated_dp_llm.quantum_planning.problem import AssignmentProblem, Floats, Places

_DRIFT: Final = 1e-12
"""Loads are kept up by adding and subtracting; what they drift by is no excess."""


class Placement:
    """Where every task is, and what that means for the next move.

    Args:
        problem: what is being solved.
        places_T: where the tasks are at first; copied.
        penalty: of an excess of one average capacity, in the units of the objective.
    """

    def __init__(self, problem: AssignmentProblem, places_T: Places, penalty: float) -> None:
        self.problem, self.penalty = problem, penalty
        self.demands_RT, self.capacities_RN = scarce_resources(problem)
        self._partners_TD, self._weights_TD = _partners(problem)
        # One task more than there are stands for the partners that a task does not have.
        self._rank_T = np.full(len(problem.tasks) + 1, len(problem.tasks))
        self.restart(places_T)

    def restart(self, places_T: Places) -> None:
        """Put every task anew."""
        size = len(self.problem.nodes)
        self.places_T = places_T.copy()
        self.loads_RN = np.zeros((len(self.demands_RT), size))
        for load, row in zip(self.loads_RN, self.demands_RT, strict=True):
            load[:] = np.bincount(places_T, row, size)
        self._costs: Floats = np.vstack([self.problem.costs_TN, np.zeros(size)])
        self.costs_TN: Floats = self._costs[:-1]
        one, two = self.problem.pairs_2P
        np.subtract.at(self.costs_TN, (one, places_T[two]), self.problem.weights_P)
        np.subtract.at(self.costs_TN, (two, places_T[one]), self.problem.weights_P)

    @property
    def excess(self) -> float:
        """How far the loads exceed the capacities, in average capacities."""
        return float(np.maximum(self.loads_RN - self.capacities_RN - _DRIFT, 0).sum())

    @property
    def objective(self) -> float:
        """What the placement costs, pairs counted once; the penalty left aside."""
        here = np.arange(len(self.places_T)), self.places_T
        return float(self.problem.costs_TN[here].sum() + self.costs_TN[here].sum()) / 2

    def costs_BN(self, block_B: Places) -> Floats:
        """What each of these tasks would cost on each node if it alone moved, up to a constant."""
        demands_RB = self.demands_RT[:, block_B]
        room_RN = self.capacities_RN - self.loads_RN
        room_RBN = np.repeat(room_RN[:, None], len(block_B), axis=1)
        room_RBN[:, np.arange(len(block_B)), self.places_T[block_B]] += demands_RB
        return self.costs_TN[block_B] + self.penalty * _overflow(demands_RB, room_RBN)

    def exchange_costs_BN(self, group_B: Places) -> Floats:
        """As `costs_BN`, if a group, each task from another node, left and then one came."""
        demands_RB = self.demands_RT[:, group_B]
        room_RN = self.capacities_RN - self.loads_RN
        room_RN[:, self.places_T[group_B]] += demands_RB
        return self.costs_TN[group_B] + self.penalty * _overflow(demands_RB, room_RN[:, None])

    def without_partners(self, group_B: Places) -> Places:
        """The tasks of a group less those that are a partner of an earlier one."""
        rank_B = np.arange(len(group_B))
        self._rank_T[group_B] = rank_B
        late_B = self._rank_T[self._partners_TD[group_B]].min(axis=1, initial=len(group_B)) < rank_B
        self._rank_T[group_B] = len(self._rank_T)
        others_B: Places = group_B[~late_B]
        return others_B

    def move(self, block_B: Places, places_B: Places) -> None:
        """Put these tasks, each once, on these nodes."""
        moved = self.places_T[block_B] != places_B
        block_B, new_B = block_B[moved], places_B[moved]
        if not len(block_B):
            return
        old_B = self.places_T[block_B]
        self.places_T[block_B] = new_B
        places_2B = np.stack([new_B, old_B])
        for load_N, row_B in zip(self.loads_RN, self.demands_RT[:, block_B], strict=True):
            np.add.at(load_N, places_2B.ravel(), np.concatenate([row_B, -row_B]))
        # Flat, because numpy adds at plain indices many times as fast as at pairs of them.
        weights_BD, cells_BD = (
            self._weights_TD[block_B],
            self._partners_TD[block_B] * self.loads_RN.shape[1],
        )
        cells_2BD = cells_BD + places_2B[:, :, None]
        np.add.at(
            self._costs.ravel(), cells_2BD.ravel(), np.stack([-weights_BD, weights_BD]).ravel()
        )

    def shift_changes_TN(self) -> Floats:
        """By how much the penalised cost changes if one task moves to one node."""
        tasks = np.arange(len(self.places_T))
        changes_TN = self.costs_TN - self.costs_TN[tasks, self.places_T][:, None]
        for row_T, room_N in zip(self.demands_RT, self.capacities_RN - self.loads_RN, strict=True):
            over_N = np.maximum(-room_N, 0)
            left_T = np.maximum(-room_N[self.places_T] - row_T, 0) - over_N[self.places_T]
            come_TN = np.maximum(row_T[:, None] - room_N, 0) - over_N
            changes_TN += self.penalty * (come_TN + left_T[:, None])
        changes_TN[tasks, self.places_T] = 0
        return changes_TN

    def swap_changes_TT(self) -> Floats:
        """By how much it changes if two tasks change places; infinite where they share a node."""
        places_T, tasks = self.places_T, np.arange(len(self.places_T))
        half_TT = self.costs_TN[:, places_T] - self.costs_TN[tasks, places_T][:, None]
        for row_T, room_N in zip(self.demands_RT, self.capacities_RN - self.loads_RN, strict=True):
            room_T = room_N[places_T]
            over_TT = np.maximum(row_T - (row_T + room_T)[:, None], 0)
            over_TT -= np.maximum(-room_T, 0)[:, None]
            half_TT += self.penalty * over_TT
        changes_TT = half_TT + half_TT.T
        one, two = self.problem.pairs_2P
        # Each of two partners was promised the other's company, and the other leaves.
        changes_TT[one, two] += 2 * self.problem.weights_P
        changes_TT[two, one] += 2 * self.problem.weights_P
        changes_TT[places_T[:, None] == places_T] = np.inf
        return changes_TT


def scarce_resources(problem: AssignmentProblem) -> tuple[Floats, Floats]:
    """Demands (R, T) and capacities (R, N) of what can run short, an average capacity being 1."""
    total_R = problem.demands_RT.sum(axis=1)
    scarce = (total_R[:, None] > problem.capacities_RN).any(axis=1)
    demands_RT, capacities_RN = problem.demands_RT[scarce], problem.capacities_RN[scarce]
    scales = [row[np.isfinite(row)].mean() or 1.0 for row in capacities_RN]
    scale_R1 = np.array(scales, dtype=np.float64).reshape(-1, 1)
    return demands_RT / scale_R1, capacities_RN / scale_R1


def descend(placement: Placement, *, rounds: int) -> int:
    """Move and swap tasks while that lowers the penalised cost; returns the rounds it took.

    In each round the best moves of different nodes are made together. Moves that share no node
    change neither each other's loads nor who is whose neighbour, so their changes add up exactly
    and the cost falls in every round.
    """
    if not len(placement.places_T):
        return 0
    for number in range(rounds):
        tasks, places = _best_moves(placement)
        if not tasks:
            return number
        placement.move(np.array(tasks), np.array(places))
    return rounds


def _best_moves(placement: Placement) -> tuple[list[int], list[int]]:
    """Improving shifts and swaps, the best first, no node in two of them."""
    shifts_TN, places_T = placement.shift_changes_TN(), placement.places_T
    to_T = shifts_TN.argmin(axis=1)
    shift_T = shifts_TN.min(axis=1)
    swaps_TT = placement.swap_changes_TT()
    with_T = swaps_TT.argmin(axis=1)
    best_T = np.minimum(shift_T, swaps_TT.min(axis=1))
    used = [False] * len(placement.problem.nodes)
    moves: tuple[list[int], list[int]] = ([], [])
    for task in np.argsort(best_T, kind="stable").tolist():
        if best_T[task] > -_least_gain(placement):
            break
        is_shift = shift_T[task] <= best_T[task]
        partner = int(with_T[task])
        here, there = int(places_T[task]), int(to_T[task] if is_shift else places_T[partner])
        if not (used[here] or used[there]):
            used[here] = used[there] = True
            _note(moves, [task] if is_shift else [task, partner], [there, here])
    return moves


def _note(moves: tuple[list[int], list[int]], tasks: Sequence[int], places: Sequence[int]) -> None:
    moves[0].extend(tasks)
    moves[1].extend(places[: len(tasks)])


def _least_gain(placement: Placement) -> float:
    """Less than this is rounding, and could go on for ever."""
    return 1e-9 + 1e-13 * placement.penalty


def _overflow(demands_RB: Floats, room_RBN: Floats) -> Floats:
    """By how much each task does not fit, (B, N): no more than it takes itself."""
    demands_RB1 = demands_RB[:, :, None]
    over_RBN = demands_RB1 - room_RBN
    np.maximum(over_RBN, 0, out=over_RBN)
    np.minimum(over_RBN, demands_RB1, out=over_RBN)
    total_BN: Floats = over_RBN.sum(axis=0)
    return total_BN


def _partners(problem: AssignmentProblem) -> tuple[Places, Floats]:
    """Of each task its partners and their weights (T, D), filled up with a task T of weight 0."""
    size = len(problem.tasks)
    ends_2K = np.concatenate([problem.pairs_2P, problem.pairs_2P[::-1]], axis=1)
    order_K = np.argsort(ends_2K[0], kind="stable")
    owners_K, partners_K = ends_2K[:, order_K]
    column_K = np.arange(len(owners_K)) - np.searchsorted(owners_K, owners_K)
    most = int(column_K.max(initial=-1)) + 1
    partners_TD, weights_TD = np.full((size, most), size), np.zeros((size, most))
    partners_TD[owners_K, column_K] = partners_K
    weights_TD[owners_K, column_K] = np.tile(problem.weights_P, 2)[order_K]
    return partners_TD, weights_TD
