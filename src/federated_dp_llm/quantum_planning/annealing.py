"""Potts annealing: one spin a task, whose values are the nodes, cooled from chance to choice.

A binary model needs penalties so that every task is on exactly one node, and spends its time on
states that mean nothing. Here a task always is on one node, and two kinds of moves take turns:

* **heat bath**: a few tasks at a time draw their node from the Boltzmann distribution of their
  penalised costs. (All of a few at once, from the state before: exact for one task, and what
  several do to each other is mended in the next sweep.)
* **matching**: of every node one task; who goes where is the cheapest matching of the perturbed
  costs. It exchanges whole cycles of tasks between full nodes, which single moves cannot.

Noise is Gumbel's, so that the cheapest perturbed node is a draw from the Boltzmann distribution;
for matchings that is an approximation. At the end the coldest and the best state descend.
No part of this is quantum, nor does it run on quantum hardware.

Sources: F. Y. Wu, The Potts model, Rev. Mod. Phys. 54 (1982); Kirkpatrick, Gelatt and Vecchi,
Science 220 (1983); Geman and Geman (1984) for the heat bath; Papandreou and Yuille, Perturb-and-MAP
random fields, ICCV 2011.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from federated_dp_llm.quantum_planning.greedy import greedy_places, steep_penalty
from federated_dp_llm.quantum_planning.placement import Placement, descend
from federated_dp_llm.quantum_planning.problem import AssignmentProblem, Floats, Places
from federated_dp_llm.quantum_planning.solver import Found, Limits

_WARM_UP: Final = 4
"""Sweeps at the highest temperature, by which the rest of the time is measured out."""
_SHARE: Final = 1.05
"""Of the time that is left, at the pace of the warm-up; colder sweeps move less and are faster."""
_BEHIND: Final = 0.1
"""By so much of the whole a machine may be behind before it skips temperatures."""
_INSISTENCE: Final = 3.0
"""By which the pressure grows while nothing fits."""
_ROUNDS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class PottsAnnealing:
    """Anneals for as long as it may, or for a number of sweeps.

    Guarantee: the same problem, seed and sweeps give the same placement, on one version of numpy,
    if time does not run short (then it skips temperatures). It never returns a
    placement worse than the greedy one: if the greedy one fits, so does the result, and it costs
    no more.

    Attributes:
        hot: the first temperature, in median spreads of a task's costs.
        cold: the last one, in the same unit.
        pressure: what it costs to exceed a capacity by an average task, in average spreads.
        matching: the share of sweeps that are matchings.
        longest: sweeps of one cooling, times the tasks; with time for more, it starts again.
        patience: coolings in a row that find nothing better before it stops early.
    """

    name: str = "potts_annealing"
    hot: float = 0.1
    cold: float = 0.025
    pressure: float = 0.85
    matching: float = 0.9
    longest: int = 10
    patience: int = 20

    def solve(self, problem: AssignmentProblem, limits: Limits) -> Found:
        """Anneal; the time limit holds to within a sweep and a descent."""
        best = _Best(problem)
        placement = Placement(problem, greedy_places(problem), steep_penalty(problem))
        best.keep(placement)
        if len(problem.tasks) == 0 or len(problem.nodes) == 1:
            return Found(places_T=placement.places_T, sweeps=0)
        descend(placement, rounds=_ROUNDS)
        best.keep(placement)
        chance = _Chance(limits.seed)
        done, stale, pressure = 0, 0, self.pressure
        while limits.left_s > 0 and done != limits.sweeps and stale < self.patience:
            before = best.score
            asked = None if limits.sweeps is None else limits.sweeps - done
            count = self._cool(placement, best, chance, limits, asked, pressure)
            done += count
            for places_T in (best.places_T, placement.places_T):
                last = Placement(problem, places_T, steep_penalty(problem))
                descend(last, rounds=_ROUNDS)
                best.keep(last)
            stale = 0 if best.score < before else stale + 1
            if best.score[0] > 0:
                pressure *= _INSISTENCE
            if count < self.longest * len(problem.tasks):
                break
        return Found(places_T=best.places_T, sweeps=done)

    def _cool(
        self,
        placement: Placement,
        best: _Best,
        chance: _Chance,
        limits: Limits,
        asked: int | None,
        pressure: float,
    ) -> int:
        """One cooling; returns the sweeps."""
        spread_T = np.ptp(placement.problem.costs_TN, axis=1) + _ties(placement.problem)
        smallest = min((row.mean() for row in placement.demands_RT), default=1.0)
        placement.penalty = pressure * float(spread_T.mean()) / max(smallest, 1e-12)
        hot, cold = self.hot * float(np.median(spread_T)), self.cold * float(np.median(spread_T))
        longest = self.longest * len(placement.places_T)
        total = min(asked or longest, longest)
        given_s, count = limits.left_s, 0
        while count < total and limits.left_s > 0:
            gone_s = given_s - limits.left_s
            if count == _WARM_UP and asked is None:
                total = min(total, count + int(_SHARE * limits.left_s * count / (gone_s + 1e-9)))
            by_count = max(0, count - _WARM_UP) / max(1, total - _WARM_UP - 1)
            by_time = gone_s / given_s
            # A machine that slowed down skips some, and gets to the cold end all the same.
            cooled = min(1.0, by_time if by_time > by_count + _BEHIND else by_count)
            self._sweep(placement, chance, hot * (cold / hot) ** cooled)
            best.keep(placement)
            count += 1
        return count

    def _sweep(self, placement: Placement, chance: _Chance, heat: float) -> None:
        order_T = chance.order(len(placement.places_T))
        if chance.uniform() >= self.matching:
            size = max(1, len(placement.problem.nodes) // 2)
            for start in range(0, len(order_T), size):
                block_B = order_T[start : start + size]
                costs_BN = chance.perturbed(placement.costs_BN(block_B), heat)
                placement.move(block_B, costs_BN.argmin(axis=1))
            return
        from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 -- slow to load

        for group_B in _one_of_every_node(placement.places_T, order_T):
            free_B = placement.without_partners(group_B)
            costs_BN = chance.perturbed(placement.exchange_costs_BN(free_B), heat)
            placement.move(free_B, linear_sum_assignment(costs_BN)[1])


class _Best:
    """The best placement so far: least excess first, then least cost."""

    def __init__(self, problem: AssignmentProblem) -> None:
        self._problem = problem
        self.score = (np.inf, np.inf)
        self.places_T: Places = np.zeros(len(problem.tasks), dtype=np.intp)

    def keep(self, placement: Placement) -> None:
        """Keep this one if it is better."""
        excess = placement.excess
        if excess > self.score[0]:
            return
        score = (excess, placement.objective)
        if score < self.score:
            self.score, self.places_T = score, placement.places_T.copy()


class _Chance:
    """Chance of a search, not of a release: it has to be repeatable, not unpredictable."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(seed))  # noqa: TID251 -- as above

    def order(self, size: int) -> Places:
        """A permutation."""
        return self._generator.permutation(size)

    def uniform(self) -> float:
        """A number in [0, 1)."""
        return self._generator.random()

    def perturbed(self, costs_BN: Floats, temperature: float) -> Floats:
        """Costs less Gumbel noise: the smallest of a row is a draw from its Boltzmann weights."""
        noise_BN = np.log(self._generator.standard_exponential(costs_BN.shape))
        noisy_BN: Floats = costs_BN + temperature * noise_BN
        return noisy_BN


def _one_of_every_node(places_T: Places, order_T: Places) -> Iterator[Places]:
    """Groups of tasks, no two of one node, in random order; every task is in one of them."""
    sorted_T = order_T[np.argsort(places_T[order_T], kind="stable")]
    nodes_T = places_T[sorted_T]
    rank_T = np.arange(len(order_T)) - np.searchsorted(nodes_T, nodes_T)
    by_rank_T = np.argsort(rank_T, kind="stable")
    yield from np.split(sorted_T[by_rank_T], np.cumsum(np.bincount(rank_T))[:-1])


def _ties(problem: AssignmentProblem) -> Floats:
    """What each task's pairs are worth: part of how much its costs can differ."""
    ties_T = np.zeros(len(problem.tasks))
    for ends_P in problem.pairs_2P:
        np.add.at(ties_T, ends_P, np.abs(problem.weights_P) / 2)
    return ties_T + 1e-9
