"""An adapter for D-Wave's samplers: the QUBO goes out, bits come back, and are mended.

It runs `dwave-samplers` (simulated annealing on the processor) or any sampler with dimod's
interface, one that owns quantum hardware included. Nothing here has been run on such hardware, and
in our measurements it was behind `potts_annealing`: see docs/planning.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final, Protocol

import numpy as np

from federated_dp_llm.quantum_planning.greedy import steep_penalty
from federated_dp_llm.quantum_planning.placement import Placement, descend
from federated_dp_llm.quantum_planning.problem import AssignmentProblem, Floats, Places
from federated_dp_llm.quantum_planning.qubo import Qubo, to_qubo
from federated_dp_llm.quantum_planning.solver import Found, Limits, SolverUnavailable

_STEPS: Final = 127
"""Units of an average capacity: seven bits of slack a node."""
_PENALTY: Final = 2.0
"""In largest spreads of a task's costs, for a violation of an average task."""
_ROUNDS: Final = 200


class Sampler(Protocol):
    """What dimod calls a sampler."""

    def sample(self, bqm: Any, **parameters: Any) -> Any:
        """Return states of low energy; `.record.sample` holds them, a row each."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DWaveSampler:
    """A binary sampler over the QUBO, then repair and descent as of every other solver.

    Attributes:
        sampler: None: simulated annealing of `dwave-samplers`.
        parameters: of its `sample`.
        reads: states asked for.
        sweeps: of each, where `Limits.sweeps` says nothing; simulated annealing only.
    """

    name: str = "dwave"
    sampler: Sampler | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    reads: int = 10
    sweeps: int = 1_000

    def solve(self, problem: AssignmentProblem, limits: Limits) -> Found:
        """Sample, and mend the best states; the time limit holds between reads.

        Raises:
            SolverUnavailable: dimod or dwave-samplers is not installed.
            SolverUnsuitable: the QUBO is too large.
        """
        qubo = _qubo(problem)
        bqm = _installed("dimod").BinaryQuadraticModel.from_numpy_vectors(
            qubo.linear, (qubo.rows, qubo.columns, qubo.values), qubo.offset, "BINARY"
        )
        sweeps = limits.sweeps or self.sweeps
        parameters: dict[str, Any] = dict(self.parameters)
        sampler = self.sampler
        if sampler is None:
            sampler = _installed("dwave.samplers").SimulatedAnnealingSampler()
            parameters |= {
                "num_reads": self.reads,
                "num_sweeps": sweeps,
                "seed": limits.seed % 2**31,
                "interrupt_function": lambda: limits.left_s == 0,
            }
        answer = sampler.sample(bqm, **parameters)
        order = [list(answer.variables).index(bit) for bit in range(len(qubo.linear))]
        states = np.asarray(answer.record.sample)[:, order]
        placed = [_mended(problem, qubo, state) for state in states]
        best = min(placed, key=lambda p: (p.excess, p.objective), default=None)
        return Found(places_T=None if best is None else best.places_T, sweeps=sweeps)


def _qubo(problem: AssignmentProblem) -> Qubo:
    sizes = problem.demands_RT.mean(axis=1) if problem.tasks else np.ones(2)
    units = []
    for limit_N, size in zip(problem.capacities_RN, sizes, strict=True):
        finite_N = limit_N[np.isfinite(limit_N)]
        units.append(float(finite_N.mean()) / _STEPS if finite_N.any() else float(size) or 1.0)
    spread = float(np.ptp(problem.costs_TN, axis=1).max(initial=0.0)) or 1.0
    return to_qubo(problem, units=(units[0], units[1]), penalty=_PENALTY * spread)


def _mended(problem: AssignmentProblem, qubo: Qubo, state: Floats) -> Placement:
    """A placement from bits: a task on several nodes or none goes to the cheapest of those."""
    x_TN = qubo.placed(state)
    allowed_TN = np.where(x_TN.sum(axis=1, keepdims=True) == 0, 1, x_TN)
    places_T: Places = np.where(allowed_TN > 0, problem.costs_TN, np.inf).argmin(axis=1)
    placement = Placement(problem, places_T, steep_penalty(problem))
    descend(placement, rounds=_ROUNDS)
    return placement


def _installed(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise SolverUnavailable(
            f"solver dwave needs {module}, which is not installed; install it with "
            "`pip install 'privacy-finetuner[quantum]'`, or use potts_annealing"
        ) from error
