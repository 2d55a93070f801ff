"""`federated-dp-llm plan`: place a batch of tasks on nodes, and say how good the placement is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from msgspec import to_builtins

from federated_dp_llm.cli.output import ExitCode, Json, deliver, failures_reported, table
from federated_dp_llm.quantum_planning import (
    AUTO,
    SOLVERS,
    AssignmentProblem,
    InterferenceBalancer,
    Plan,
    read_problem,
)
from federated_dp_llm.quantum_planning import plan as make_plan
from privacy_runtime.world import SystemEntropy


def plan(
    problem: Annotated[
        Path, typer.Argument(help="A problem as JSON; - reads it from the standard input.")
    ],
    solver: Annotated[
        str, typer.Option("--solver", help=f"{AUTO}, or one of {', '.join(SOLVERS)}.")
    ] = AUTO,
    time_limit_s: Annotated[
        float, typer.Option("--time-limit", help="Seconds for the solver and the lower bound.")
    ] = 2.0,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Of all chance; default: a fresh one.")
    ] = None,
    sweeps: Annotated[
        int | None, typer.Option("--sweeps", help="Exactly so many; with --seed: the same plan.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Place the tasks of a problem on its nodes. Nothing is run, and no budget is touched.

    Every solver is classical; no quantum hardware is used. Exit codes: 0 the plan fits; 1 no
    solver found one that does, or the file cannot be read; 2 the problem or an option is wrong.
    """
    with failures_reported(as_json):
        asked = read_problem(_content(problem))
        found = make_plan(
            asked,
            solver=solver,
            time_limit_s=time_limit_s,
            entropy=SystemEntropy(),
            seed=seed,
            sweeps=sweeps,
        )
    deliver(to_builtins(found), _words(asked, found), as_json=as_json)
    if not found.feasible:
        raise typer.Exit(ExitCode.FAILED)


def _content(path: Path) -> bytes:
    return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()


def _words(problem: AssignmentProblem, found: Plan) -> str:
    rows: list[tuple[str, ...]] = [("node", "in use", "tasks")]
    for node, share in InterferenceBalancer().utilisation(problem, found.assignment).items():
        names = [task for task, place in found.assignment.items() if place == node]
        rows.append((node, f"{share:.0%}", " ".join(names) or "-"))
    return "\n".join([table(rows), *_verdict(found)])


def _verdict(found: Plan) -> list[str]:
    lines = [
        f"{found.solver}: cost {found.objective:.6g}, {found.wall_ms:.0f} ms, no quantum hardware"
    ]
    if found.greedy_objective is None:
        lines.append("the greedy placement does not fit")
    else:
        share = found.improvement_vs_greedy
        saved = "" if share is None else f"; this plan is {share:.1%} cheaper"
        lines.append(f"greedy: cost {found.greedy_objective:.6g}{saved}")
    if found.gap == 0:
        lines.append("optimal: nothing that fits costs less")
    elif found.gap is not None:
        lines.append(
            f"nothing that fits costs less than {found.lower_bound:.6g}: gap {found.gap:.1%}"
        )
    lines += [
        f"DOES NOT FIT: {v.node} is given {v.resource} {v.load:.6g} of {v.capacity:.6g}"
        for v in found.violations
    ]
    lines.append(
        f"again: --seed {found.seed}" + (f" --sweeps {found.sweeps}" if found.sweeps else "")
    )
    return lines
