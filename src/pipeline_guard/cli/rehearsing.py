"""`test-recovery`: does the healing work here? Real faults, done to real, small programs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pipeline_guard.cli.output import ExitCode, Json, faults_reported, say, say_json
from pipeline_guard.rehearsal.subjects import scenes_of, subjects
from pipeline_guard.rehearsal.trials import LIMIT_S, Trial, rehearse
from privacy_runtime.world import SystemClock


def rehearsal(
    fault: Annotated[
        list[str] | None,
        typer.Option(help="Only this fault; may be given several times. Default: all."),
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="What to hurt: training, router. Default: all.")
    ] = None,
    limit: Annotated[
        float, typer.Option(min=1, help="Seconds until a trial counts as not healed.")
    ] = LIMIT_S,
    as_json: Json = False,
) -> None:
    """Inject real faults into small real programs, and measure how they are found and healed.

    Everything happens in temporary folders, with a ledger of its own; your runs are not touched.
    It takes about ten minutes. A fault that this machine does not let be injected says so.

    Exit codes: 0 all healed; 2 one was not; 3 nothing failed, but one could not be rehearsed.
    """
    with faults_reported(as_json):
        scenes = scenes_of(subject, subjects())
        trials = rehearse(fault or scenes, scenes, clock=SystemClock(), tell=_tell, limit_s=limit)
    say_json([trial.to_dict() for trial in trials]) if as_json else say(_table(trials))
    if any(not each.healed and each.detected_s is not None for each in trials):
        raise typer.Exit(ExitCode.CRITICAL)
    if not all(each.healed for each in trials):
        raise typer.Exit(ExitCode.UNKNOWN)


def _tell(name: str) -> None:
    sys.stderr.write(f"rehearsing {name}\n")


def _table(trials: list[Trial]) -> str:
    rows = ["fault                detected  recovered  lost steps  epsilon difference  healed"]
    for each in trials:
        figures = (each.detected_s, each.recovered_s, each.lost_steps, each.epsilon_difference)
        detected, recovered, lost, epsilon = (
            "-" if value is None else f"{value:g}" for value in figures
        )
        rows.append(
            f"{each.fault:<19} {detected:>7} s {recovered:>8} s {lost:>11} {epsilon:>19}  "
            + ("yes" if each.healed else f"NO: {each.note}")
        )
    return "\n".join(rows)
