"""What a solver is: a name, and a way from a problem to a placement within limits.

A solver proposes; the planner recomputes what the placement costs and whether it fits. Solvers of
other distributions may be offered under the entry-point group `federated_dp_llm.solvers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

from federated_dp_llm.errors import FederatedError
from federated_dp_llm.quantum_planning.problem import AssignmentProblem, Places
from privacy_runtime.world import Clock

GROUP: Final = "federated_dp_llm.solvers"


class SolverUnavailable(FederatedError):
    """A solver needs something that is not installed; says what, and how to get it."""

    code: ClassVar[str] = "solver_unavailable"


class SolverUnsuitable(FederatedError):
    """This solver cannot solve a problem of this kind or size; says which one can."""

    code: ClassVar[str] = "solver_unsuitable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a solver may use.

    Attributes:
        clock: tells when to stop.
        stop_s: the reading of `clock.monotonic_s` at which to return what there is.
        seed: of all chance.
        sweeps: exactly so many, for solvers that count them, unless time runs out before; None:
            as many as there is time for.
    """

    clock: Clock
    stop_s: float
    seed: int
    sweeps: int | None = None

    @property
    def left_s(self) -> float:
        """Seconds that are left; not below 0."""
        return max(0.0, self.stop_s - self.clock.monotonic_s())


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a solver found.

    Attributes:
        places_T: for every task the index of its node; None: nothing in the time it had.
        sweeps: passes over all tasks; None where that means nothing.
        lower_bound: no feasible placement costs less; None: it does not know.
    """

    places_T: Places | None
    sweeps: int | None = None
    lower_bound: float | None = None


class Solver(Protocol):
    """Finds placements."""

    @property
    def name(self) -> str:
        """What it is asked for by, and what the plan says."""
        ...

    def solve(self, problem: AssignmentProblem, limits: Limits) -> Found:
        """Find a cheap placement that fits; the best that it saw where none fits.

        Raises:
            SolverUnavailable, SolverUnsuitable: see there.
        """
        ...
