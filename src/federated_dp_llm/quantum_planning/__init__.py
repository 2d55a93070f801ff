"""Assigning batches of tasks to nodes: one model, several named solvers, none of them quantum.

`AssignmentProblem` is the model, `plan` solves it, `Plan` says how good the answer is and what is
proved. The documented names (`SuperpositionScheduler` and others) are faces of these.
"""

from federated_dp_llm.quantum_planning.names import (
    EntanglementOptimizer,
    InterferenceBalancer,
    QuantumTaskPlanner,
    SuperpositionScheduler,
    TaskSuperposition,
)
from federated_dp_llm.quantum_planning.planner import AUTO, SOLVERS, Plan, plan, write_plan
from federated_dp_llm.quantum_planning.problem import (
    AssignmentProblem,
    Node,
    Pair,
    Task,
    Violation,
    Weights,
    read_problem,
    write_problem,
)
from federated_dp_llm.quantum_planning.qubo import Qubo, to_qubo
from federated_dp_llm.quantum_planning.solver import (
    Found,
    Limits,
    Solver,
    SolverUnavailable,
    SolverUnsuitable,
)

__all__ = [
    "AUTO",
    "SOLVERS",
    "AssignmentProblem",
    "EntanglementOptimizer",
    "Found",
    "InterferenceBalancer",
    "Limits",
    "Node",
    "Pair",
    "Plan",
    "QuantumTaskPlanner",
    "Qubo",
    "Solver",
    "SolverUnavailable",
    "SolverUnsuitable",
    "SuperpositionScheduler",
    "Task",
    "TaskSuperposition",
    "Violation",
    "Weights",
    "plan",
    "read_problem",
    "to_qubo",
    "write_plan",
    "write_problem",
]
