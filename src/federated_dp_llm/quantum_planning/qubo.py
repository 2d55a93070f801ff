"""The same model as a QUBO, for annealers that take nothing else, quantum ones among them.

    energy(b) = offset + sum_i linear_i b_i + sum_k values_k b_row_k b_column_k,    b in {0, 1}^n

holds the costs and the pairs, A (1 - sum_j x_ij)^2 for every task, and for every capacity
A (sum_i d_i x_ij + slack_j - U_j)^2, where slack_j in 0..U_j is written in bits (its last
coefficient is cut, so that no sum of them exceeds U_j). Source: Lucas, Ising formulations of many
NP problems, Frontiers in Physics 2 (2014), sections 2.4 and 5.2; Glover, Kochenberger and Du,
Quantum bridge analytics I (arXiv:1811.11538).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from federated_dp_llm.quantum_planning.problem import AssignmentProblem, Floats, Places
from federated_dp_llm.quantum_planning.solver import SolverUnsuitable
from privacy_core.errors import InvalidParameter

MOST_TERMS: Final = 5_000_000
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Qubo:
    """A quadratic function of bits; the first T x N of them say which task is on which node.

    Attributes:
        tasks: T.
        nodes: N; bit i * N + j says that task i is on node j.
        linear: by bit, (n,).
        rows: of the quadratic terms, (K,); always below `columns`.
        columns: of the quadratic terms, (K,).
        values: of the quadratic terms, (K,).
        offset: of the energy.
    """

    tasks: int
    nodes: int
    linear: Floats
    rows: Places
    columns: Places
    values: Floats
    offset: float

    def energy(self, bits: Floats) -> Floats:
        """The energy of each row of bits, (..., n) of zeros and ones."""
        bits = np.asarray(bits, dtype=np.float64)
        products = bits[..., self.rows] * bits[..., self.columns]
        total: Floats = self.offset + bits @ self.linear + products @ self.values
        return total

    def decode(self, bits: Floats) -> Places | None:
        """The placement (T,), or None where a task is on no node or on several."""
        x_TN = self.placed(bits)
        return x_TN.argmax(axis=1) if (x_TN.sum(axis=1) == 1).all() else None

    def placed(self, bits: Floats) -> Places:
        """The bits of the placement, (T, N), as they are."""
        size = self.tasks * self.nodes
        return np.asarray(bits[:size]).reshape(self.tasks, self.nodes).astype(np.intp)


def to_qubo(
    problem: AssignmentProblem,
    *,
    units: tuple[float, float] = (1.0, 1.0),
    penalty: float | None = None,
) -> Qubo:
    """Write the problem as a QUBO.

    Guarantee: what decodes with no penalty left fits the problem, whatever the units, because
    demands are rounded up to whole units and capacities down. With the penalty left out, and
    demands and capacities in whole units, the least energy is the optimum of the problem.

    Args:
        problem: what is to be solved.
        units: of demand and of privacy demand, > 0: the step of the slacks.
        penalty: A, of a squared unit of violation. None: more than the objective can differ by, so
            that no violation pays; annealers find the optimum more easily with less.

    Raises:
        InvalidParameter: a unit or the penalty is not positive and finite.
        SolverUnsuitable: it would have more than `MOST_TERMS` terms.
    """
    weight = _enough(problem) if penalty is None else penalty
    for name, value in (("units", units[0]), ("units", units[1]), ("penalty", weight)):
        if not 0 < value < math.inf:
            raise InvalidParameter(name, found=value, expected="a finite number > 0")
    tasks, nodes = len(problem.tasks), len(problem.nodes)
    rows = list(_capacity_rows(problem, units))
    terms = tasks * nodes**2 + sum((tasks + len(slack)) ** 2 for _, _, _, slack in rows)
    if terms // 2 > MOST_TERMS:
        raise SolverUnsuitable(
            f"as a QUBO this problem has about {terms // 2} terms, at most {MOST_TERMS} are "
            "written; use potts_annealing, which needs none of them"
        )
    draft = _Draft(tasks * nodes + sum(len(slack) for *_, slack in rows))
    draft.linear[: tasks * nodes] += problem.costs_TN.ravel()
    for one, two, value in zip(*problem.pairs_2P, problem.weights_P, strict=True):
        here = np.arange(nodes)
        draft.add(one * nodes + here, two * nodes + here, np.full(nodes, -value))
    for task in range(tasks):
        draft.square(task * nodes + np.arange(nodes), np.ones(nodes), 1.0, weight)
    next_bit = tasks * nodes
    for node, demand_T, limit, slack in rows:
        bits = [np.arange(tasks) * nodes + node, next_bit + np.arange(len(slack))]
        next_bit += len(slack)
        draft.square(np.concatenate(bits), np.concatenate([demand_T, slack]), limit, weight)
    return draft.qubo(tasks, nodes)


def slack_bits(most: int) -> Floats:
    """Coefficients of bits whose sums are exactly 0..most: 1, 2, 4, ..., and what is left."""
    count = most.bit_length() - 1 if most else 0
    powers = [float(2**k) for k in range(count)]
    return np.array([*powers, most - sum(powers)] if most else [])


class _Draft:
    """Terms of a QUBO that is being written."""

    def __init__(self, size: int) -> None:
        self.linear = np.zeros(size)
        self.offset = 0.0
        self._terms: list[tuple[Places, Places, Floats]] = []

    def add(self, rows: Places, columns: Places, values: Floats) -> None:
        self._terms.append((rows, columns, values))

    def square(self, bits: Places, factors: Floats, target: float, weight: float) -> None:
        """Add weight x (factors @ bits - target)^2; a bit's square is the bit."""
        self.linear[bits] += weight * factors * (factors - 2 * target)
        self.offset += weight * target**2
        one, two = np.triu_indices(len(bits), k=1)
        self.add(bits[one], bits[two], 2 * weight * factors[one] * factors[two])

    def qubo(self, tasks: int, nodes: int) -> Qubo:
        """Collect equal terms."""
        size = len(self.linear)
        empty = np.zeros(0, dtype=np.intp)
        rows = np.concatenate([empty, *(row for row, _, _ in self._terms)])
        columns = np.concatenate([empty, *(column for _, column, _ in self._terms)])
        values = np.concatenate([np.zeros(0), *(value for *_, value in self._terms)])
        keys, inverse = np.unique(
            np.minimum(rows, columns) * size + np.maximum(rows, columns), return_inverse=True
        )
        sums = np.bincount(inverse, values, len(keys))
        kept = sums != 0
        return Qubo(
            tasks=tasks,
            nodes=nodes,
            linear=self.linear,
            rows=keys[kept] // max(size, 1),
            columns=keys[kept] % max(size, 1),
            values=sums[kept],
            offset=self.offset,
        )


def _capacity_rows(
    problem: AssignmentProblem, units: tuple[float, float]
) -> Iterator[tuple[int, Floats, int, Floats]]:
    """Node, demands and capacity in units, slack bits: of every capacity that may be short."""
    for demand_T, limit_N, unit in zip(
        problem.demands_RT, problem.capacities_RN, units, strict=True
    ):
        whole_T = np.ceil(demand_T / unit - _ROUNDING)
        for node, limit in enumerate(limit_N):
            if np.isfinite(limit) and math.floor(limit / unit + _ROUNDING) < whole_T.sum():
                most = math.floor(limit / unit + _ROUNDING)
                yield node, whole_T, most, slack_bits(most)


def _enough(problem: AssignmentProblem) -> float:
    """More than any state can be cheaper than the dearest placement."""
    together = problem.weights_P.clip(min=0).sum() * len(problem.nodes)
    apart = -problem.weights_P.clip(max=0).sum()
    return 1.0 + float(problem.costs_TN.max(axis=1).sum() + together + apart)
