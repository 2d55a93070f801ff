"""`plan`: choose a solver, run it, and say what its placement is worth and what is proved about it.

Whatever a solver says, the objective, the feasibility and the gap are computed here.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Final

import msgspec
from msgspec import Struct

from federated_dp_llm.quantum_planning.annealing import PottsAnnealing
from federated_dp_llm.quantum_planning.bounds import lagrangian_bound
from federated_dp_llm.quantum_planning.dwave import DWaveSampler
from federated_dp_llm.quantum_planning.exact import IntegerProgram, Matching, is_transportation
from federated_dp_llm.quantum_planning.greedy import Greedy, GreedyDescent, greedy_places
from federated_dp_llm.quantum_planning.problem import AssignmentProblem, Places, Violation
from federated_dp_llm.quantum_planning.solver import Limits, Solver
from privacy_core.errors import InvalidParameter
from privacy_runtime.world import Clock, Entropy, SystemClock

SOLVERS: Final[Mapping[str, Solver]] = MappingProxyType(
    {
        solver.name: solver
        for solver in (
            Greedy(),
            GreedyDescent(),
            PottsAnnealing(),
            IntegerProgram(),
            Matching(),
            DWaveSampler(),
        )
    }
)
"""Solvers by name; `plan` takes any other `Solver` as it is."""
AUTO: Final = "auto"
_PROVABLE: Final = 2_000
"""Tasks times nodes up to which an integer program has been seen to finish."""
_PATIENT_S: Final = 1.5
"""With less time an integer program has not been seen to beat annealing."""
_BOUND_SHARE: Final = 0.2
"""Of the time, for a lower bound where the solver has none."""
_ANNEALING_SHARE: Final = 0.2
"""Of the time, before an integer program."""
_PROVED: Final = 1e-6
"""A relative gap below this is rounding."""


class Plan(Struct, frozen=True, kw_only=True):
    """A placement, and what is known about it.

    Attributes:
        solver: that found it.
        quantum_hardware: False: no solver of this program runs on any.
        objective: what it costs; lower is better.
        greedy_objective: what the greedy placement costs; None if that one does not fit.
        improvement_vs_greedy: by which share of the greedy cost it is cheaper; None as above, or
            where that cost is not positive.
        lower_bound: proved: nothing feasible costs less. None: not looked for, or not found.
        gap: (objective - lower_bound) / the larger of both without their signs; 0 for a proved
            optimum. None without a bound, or where the placement does not fit.
        feasible: whether it fits.
        violations: where it does not.
        wall_ms: for everything, the bound included.
        seed: of all chance.
        sweeps: passes over all tasks; None where that means nothing.
        assignment: the node of every task.
    """

    solver: str
    quantum_hardware: bool = False
    objective: float
    greedy_objective: float | None
    improvement_vs_greedy: float | None
    lower_bound: float | None
    gap: float | None
    feasible: bool
    violations: tuple[Violation, ...]
    wall_ms: float
    seed: int
    sweeps: int | None
    assignment: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A placement and where it is from."""

    solver: str
    places_T: Places
    sweeps: int | None
    objective: float
    excess: float

    @property
    def rank(self) -> tuple[float, float]:
        return (self.excess, self.objective)


def plan(
    problem: AssignmentProblem,
    *,
    solver: str | Solver = AUTO,
    time_limit_s: float = 0.25,
    entropy: Entropy,
    seed: int | None = None,
    sweeps: int | None = None,
    clock: Clock | None = None,
) -> Plan:
    """Place the tasks.

    Guarantee: `feasible`, `objective` and `gap` are computed from the assignment, never taken from
    a solver. With `seed` and `sweeps` of an earlier plan of one annealing the assignment is the
    same again, given at least the time. Nothing is executed, and no budget is touched.

    =========================================  ===================================================
    `auto`, the first line that fits           solvers
    =========================================  ===================================================
    no pairs; one size of task, or no limits   assignment: the optimum
    tasks x nodes <= 2000, >= 1.5 s            potts_annealing, then milp: the better of the two
    otherwise                                  potts_annealing
    =========================================  ===================================================

    Args:
        problem: what is to be placed.
        solver: a name in `SOLVERS`, `auto`, or a solver.
        time_limit_s: for the solver and the bound together; exceeded by a sweep and a descent at
            most. `greedy`, `assignment` and samplers of others do not watch the clock. The first
            call of a process loads the solvers before its time begins.
        entropy: gives the seed, where none is given.
        seed: of all chance, 0 to 2^63 - 1.
        sweeps: how many, for solvers that count them; None: as many as there is time for.
        clock: for the time limit; None: the machine's.

    Raises:
        InvalidParameter: an unknown solver, or a number outside its domain.
        SolverUnavailable, SolverUnsuitable: the solver that was asked for cannot do this.
    """
    _check(time_limit_s, seed, sweeps)
    import_module("scipy.optimize")  # the first call of a process would spend its time on that
    clock = clock or SystemClock()
    began_s = clock.monotonic_s()
    drawn = int.from_bytes(entropy.token_bytes(8)) >> 1 if seed is None else seed
    whole = Limits(clock=clock, stop_s=began_s + time_limit_s, seed=drawn, sweeps=sweeps)
    greedy = _candidate(problem, "greedy", greedy_places(problem))

    best, bound = None, -math.inf
    for chosen, share in _stages(problem, solver, time_limit_s):
        part = dataclasses.replace(whole, stop_s=began_s + share * time_limit_s)
        found = chosen.solve(problem, part)
        if found.lower_bound is not None:
            bound = max(bound, found.lower_bound)
        if found.places_T is not None:
            candidate = _candidate(problem, chosen.name, found.places_T, found.sweeps)
            best = candidate if best is None or candidate.rank < best.rank else best
    # A solver that found nothing in its time says so by the name of the one that did.
    best = best or greedy
    if bound == -math.inf and whole.left_s > 0:
        bound = lagrangian_bound(problem, whole, target=best.objective)
    return _plan(problem, best, greedy, bound, drawn, (clock.monotonic_s() - began_s) * 1e3)


def write_plan(found: Plan) -> bytes:
    """The plan as one JSON document."""
    return msgspec.json.encode(found)


def _stages(
    problem: AssignmentProblem, solver: str | Solver, time_limit_s: float
) -> list[tuple[Solver, float]]:
    """Solvers in order, and by which share of the time each one has to end."""
    if not isinstance(solver, str):
        return [(solver, 1 - _BOUND_SHARE)]
    if solver == AUTO:
        if is_transportation(problem):
            return [(SOLVERS["assignment"], 1.0)]
        annealing = SOLVERS["potts_annealing"]
        size = len(problem.tasks) * len(problem.nodes)
        if size <= _PROVABLE and time_limit_s >= _PATIENT_S:
            return [(annealing, _ANNEALING_SHARE), (SOLVERS["milp"], 1.0)]
        return [(annealing, 1 - _BOUND_SHARE)]
    if solver not in SOLVERS:
        names = (AUTO, *SOLVERS)
        near = difflib.get_close_matches(solver, names, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise InvalidParameter("solver", found=solver, expected=f"one of {', '.join(names)}{hint}")
    proves = solver in {"milp", "assignment"}
    return [(SOLVERS[solver], 1.0 if proves else 1 - _BOUND_SHARE)]


def _candidate(
    problem: AssignmentProblem, solver: str, places_T: Places, sweeps: int | None = None
) -> _Candidate:
    over_RN = (problem.loads_RN(places_T) - problem.limits_RN).clip(min=0)
    size_R1 = problem.demands_RT.mean(axis=1, keepdims=True) if problem.tasks else over_RN[:, :1]
    scaled = over_RN / (size_R1 + (size_R1 == 0))
    return _Candidate(
        solver=solver,
        places_T=places_T,
        sweeps=sweeps,
        objective=problem.objective(places_T),
        excess=float(scaled.sum()),
    )


def _plan(
    problem: AssignmentProblem,
    best: _Candidate,
    greedy: _Candidate,
    bound: float,
    seed: int,
    wall_ms: float,
) -> Plan:
    feasible, yardstick = (problem.is_feasible(c.places_T) for c in (best, greedy))
    improvement, lower_bound = None, bound if math.isfinite(bound) else None
    if feasible and yardstick and greedy.objective > 0:
        improvement = (greedy.objective - best.objective) / greedy.objective
    if feasible and lower_bound is not None:
        # A bound that a feasible placement undercuts was never one; a solver of others may err.
        lower_bound = min(lower_bound, best.objective) if _holds(bound, best.objective) else None
    return Plan(
        solver=best.solver,
        objective=best.objective,
        greedy_objective=greedy.objective if yardstick else None,
        improvement_vs_greedy=improvement,
        lower_bound=lower_bound,
        gap=_gap(best.objective, lower_bound) if feasible and lower_bound is not None else None,
        feasible=feasible,
        violations=problem.violations(best.places_T),
        wall_ms=wall_ms,
        seed=seed,
        sweeps=best.sweeps,
        assignment=problem.names(best.places_T),
    )


def _gap(objective: float, bound: float) -> float:
    """The relative gap; rounding counts as none."""
    apart = objective - bound
    return (
        0.0 if apart <= _PROVED * (1 + abs(objective)) else apart / max(abs(objective), abs(bound))
    )


def _holds(bound: float, objective: float) -> bool:
    """Whether a feasible placement of this cost leaves the bound standing."""
    return math.isfinite(bound) and bound <= objective + _PROVED * (1 + abs(objective))


def _check(time_limit_s: float, seed: int | None, sweeps: int | None) -> None:
    if not 0 < time_limit_s < math.inf:
        raise InvalidParameter("time_limit_s", found=time_limit_s, expected="a finite number > 0")
    if seed is not None and not 0 <= seed < 2**63:
        raise InvalidParameter("seed", found=seed, expected="a whole number, 0 to 2^63 - 1")
    if sweeps is not None and sweeps < 1:
        raise InvalidParameter("sweeps", found=sweeps, expected="a whole number >= 1")
