"""`check`: look once."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from pipeline_guard.cli.output import (
    ConfigFile,
    ExitCode,
    Json,
    config_path,
    faults_reported,
    say,
    say_json,
)
from pipeline_guard.guard import SelfHealingPipelineGuard
from pipeline_guard.guard.looking import GuardTime
from pipeline_guard.guard.once import look_once
from pipeline_guard.model import Reading, Verdict
from privacy_runtime.world import SystemClock

_ORDER = (Verdict.OK, Verdict.UNKNOWN, Verdict.WARNING, Verdict.CRITICAL)


def check(
    names: Annotated[list[str] | None, typer.Argument(help="Checks; none: all.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Look once; the default.")] = True,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Look at everything once, without changing anything.

    Exit codes are those of Nagios plugins: 0 well, 1 warning, 2 critical, 3 unknown. A wrong file
    ends with 2.
    """
    with faults_reported(as_json):
        guard = SelfHealingPipelineGuard(config_path(config))
        found = asyncio.run(look_once(guard.plan, GuardTime(SystemClock()), only=names or ()))
    worst = max((r.verdict for r in found.values()), key=_ORDER.index, default=Verdict.OK)
    if as_json:
        say_json({"verdict": worst.name.lower(), "checks": {n: _row(r) for n, r in found.items()}})
    else:
        counts = ", ".join(
            f"{sum(r.verdict is v for r in found.values())} {v.name.lower()}" for v in _ORDER
        )
        lines = [f"{worst.name}: {counts}"]
        ordered = sorted(found.items(), key=lambda item: -_ORDER.index(item[1].verdict))
        lines += [f"  {r.verdict.name:8} {name}: {r.summary}" for name, r in ordered]
        say("\n".join(lines))
    raise typer.Exit(ExitCode(int(worst)))


def _row(reading: Reading) -> dict[str, Any]:
    return {
        "verdict": reading.verdict.name.lower(),
        "summary": reading.summary,
        "fault": reading.fault.value if reading.fault else None,
        "measurements": dict(reading.measurements),
        "evidence": dict(reading.evidence),
    }
