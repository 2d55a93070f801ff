"""The documented names, and what each of them is. None of it is quantum physics.

==========================  ======================================================================
documented                  here
==========================  ======================================================================
superposition of tasks      a Boltzmann distribution over tasks; amplitudes are its square roots
measurement                 its most probable task
entanglement of nodes       pairs of tasks that gain, or lose, by sharing a node
interference                the price of a node's load: what exceeds a capacity pushes tasks away
quantum annealing           classical Potts annealing (`annealing`); no quantum hardware is used
==========================  ======================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

import numpy as np

from federated_dp_llm.quantum_planning.greedy import steep_penalty
from federated_dp_llm.quantum_planning.placement import Placement, descend
from federated_dp_llm.quantum_planning.planner import AUTO, Plan, plan
from federated_dp_llm.quantum_planning.problem import (
    AssignmentProblem,
    Floats,
    Node,
    Pair,
    Task,
    Weights,
)
from federated_dp_llm.quantum_planning.solver import Solver
from privacy_core.errors import InvalidParameter
from privacy_runtime.world import Clock, Entropy, SystemEntropy

_ROUNDS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TaskSuperposition:
    """Tasks, and how likely each one is to be the next.

    Attributes:
        tasks: in the order they were given.
        amplitudes: square roots of the probabilities, (T,); their squares sum to 1.
        coherence_time: seconds for which the distribution is meant; deadlines come closer.
    """

    tasks: tuple[Task, ...]
    amplitudes: Floats
    coherence_time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SuperpositionScheduler:
    """Which task is next: the one whose priority and deadline say so.

    A Boltzmann distribution over tasks, computed classically. The energy of a task is minus its
    urgency, `priority + pressure`, where pressure is horizon / (horizon + deadline): 1 for what is
    due now, 0 without a deadline. With equal amplitudes, as the documents draw them, a measurement
    would always return the first task.

    Attributes:
        temperature: > 0; low: the most urgent task has nearly all of the probability.
        horizon_s: > 0; the deadline at which the pressure is a half.
        coherence_threshold: seconds; becomes the `coherence_time`.
    """

    temperature: float = 1.0
    horizon_s: float = 10.0
    coherence_threshold: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is not in its domain."""
        for name in ("temperature", "horizon_s", "coherence_threshold"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise InvalidParameter(name, found=value, expected="a finite number > 0")

    def create_superposition(self, tasks: Sequence[Task]) -> TaskSuperposition:
        """The distribution over these tasks.

        Raises:
            InvalidParameter: there are none.
        """
        if not tasks:
            raise InvalidParameter("tasks", found=0, expected="at least one task")
        urgency_T = np.array([task.priority + self._pressure(task) for task in tasks])
        weights_T = np.exp((urgency_T - urgency_T.max()) / self.temperature)
        return TaskSuperposition(
            tasks=tuple(tasks),
            amplitudes=np.sqrt(weights_T / weights_T.sum()),
            coherence_time=self.coherence_threshold,
        )

    def measure_optimal_state(self, superposition: TaskSuperposition) -> Task:
        """The most probable task; of equal ones the first. No chance is used."""
        probabilities = np.abs(superposition.amplitudes) ** 2
        return superposition.tasks[int(np.argmax(probabilities))]

    def _pressure(self, task: Task) -> float:
        if task.deadline_s is None:
            return 0.0
        return self.horizon_s / (self.horizon_s + task.deadline_s)


@dataclass(frozen=True, slots=True)
class EntanglementOptimizer:
    """Correlated tasks: pairs that gain or lose by sharing a node. A quadratic term, no more."""

    def attract(self, tasks: Iterable[str], weight: float) -> tuple[Pair, ...]:
        """Every two of these tasks gain `weight` > 0 on one node: one session, one prefix."""
        if not weight > 0:
            raise InvalidParameter("weight", found=weight, expected="a number > 0")
        return tuple(Pair(first=a, second=b, weight=weight) for a, b in combinations(tasks, 2))

    def repel(self, tasks: Iterable[str], weight: float) -> tuple[Pair, ...]:
        """Every two of these tasks lose `weight` > 0 on one node: replicas that shall agree."""
        if not weight > 0:
            raise InvalidParameter("weight", found=weight, expected="a number > 0")
        return tuple(Pair(first=a, second=b, weight=-weight) for a, b in combinations(tasks, 2))

    def gain(self, problem: AssignmentProblem, assignment: Mapping[str, str]) -> float:
        """What the pairs of a problem are worth under an assignment."""
        one, two = problem.places(assignment)[problem.pairs_2P]
        return float(problem.weights_P[one == two].sum())


@dataclass(frozen=True, slots=True)
class InterferenceBalancer:
    """Loads against capacities. Nodes "interfere" by the penalty of what exceeds a capacity."""

    def utilisation(
        self, problem: AssignmentProblem, assignment: Mapping[str, str]
    ) -> dict[str, float]:
        """For every node the largest share of a capacity in use; above 1 it does not fit."""
        loads_RN = problem.loads_RN(problem.places(assignment))
        with np.errstate(divide="ignore"):
            shares_RN = np.divide(
                loads_RN, problem.capacities_RN, out=np.zeros_like(loads_RN), where=loads_RN > 0
            )
        return {
            node.node_id: float(share)
            for node, share in zip(problem.nodes, shares_RN.max(axis=0), strict=True)
        }

    def balance(self, problem: AssignmentProblem, assignment: Mapping[str, str]) -> dict[str, str]:
        """Move and swap tasks, first until nothing is exceeded, then while it gets cheaper.

        A descent: it ends where no single move or swap helps. That may still exceed a capacity;
        `AssignmentProblem.violations` says so.
        """
        placement = Placement(problem, problem.places(assignment), steep_penalty(problem))
        descend(placement, rounds=_ROUNDS)
        return problem.names(placement.places_T)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantumTaskPlanner:
    """The planner under its documented name: `plan` with settings that stay.

    Classical: see `planner`. Every plan says `quantum_hardware: false`.

    Attributes:
        solver: as of `plan`.
        time_limit_s: as of `plan`.
        weights: of the parts of the cost.
        entropy: gives the seeds.
        clock: for the time limit; None: the machine's.
    """

    solver: str | Solver = AUTO
    time_limit_s: float = 0.25
    weights: Weights = field(default_factory=Weights)
    entropy: Entropy = field(default_factory=SystemEntropy)
    clock: Clock | None = None

    def plan(
        self, tasks: Sequence[Task], nodes: Sequence[Node], pairs: Sequence[Pair] = ()
    ) -> Plan:
        """Place the tasks; see `plan` for what holds and what is raised."""
        problem = AssignmentProblem(
            tasks=tuple(tasks), nodes=tuple(nodes), pairs=tuple(pairs), weights=self.weights
        )
        return plan(
            problem,
            solver=self.solver,
            time_limit_s=self.time_limit_s,
            entropy=self.entropy,
            clock=self.clock,
        )

    def is_healthy(self) -> bool:
        """Plan two tasks that do not fit together, and see whether the answer is the optimum.

        For `/health`: milliseconds, and wrong only if something is broken.
        """
        small = AssignmentProblem(
            tasks=(Task(task_id="a", home="x"), Task(task_id="b", home="x", priority=2.0)),
            nodes=(Node(node_id="x", capacity=1.0), Node(node_id="y", capacity=1.0, speed=0.5)),
            weights=Weights(distance=0.0),
        )
        found = plan(small, time_limit_s=self.time_limit_s, entropy=self.entropy, clock=self.clock)
        return found.feasible and found.assignment == {"a": "y", "b": "x"}
