"""`replay`: recorded looks through a changed configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline_guard.cli.asking import state_of
from pipeline_guard.cli.output import (
    ConfigFile,
    Json,
    config_path,
    faults_reported,
    say,
    say_json,
)
from pipeline_guard.config import read_config
from pipeline_guard.guard.kinds import registries
from pipeline_guard.guard.replaying import difference, recorded_by, recorded_in, replayed


def replay(
    source: Annotated[str, typer.Argument(help="`history`, or a file of JSON lines.")],
    new: Annotated[Path | None, typer.Option("--new", help="The changed configuration.")] = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Judge recorded looks by the configuration, and by a changed one: which alerts come and go?

    `history` is what the guard itself recorded. Judged again are for, of, clear_after,
    dependencies, maintenance and recoveries; a probe's own thresholds are in what was recorded.
    """
    with faults_reported(as_json):
        before = read_config(config_path(config), registries())
        now = read_config(new, registries()) if new is not None else before
        found = recorded_by(state_of(before)) if source == "history" else recorded_in(Path(source))
        looks = list(found)
        document = difference(replayed(before, looks), replayed(now, looks))
        say_json(document) if as_json else say(_text(document))


def _text(found: dict[str, Any]) -> str:
    lines = [
        f"{found['looks']} looks judged twice",
        f"alerts       {found['alerts_before']:5} -> {found['alerts_now']}",
        f"recoveries   {found['recoveries_before']:5} -> {found['recoveries_now']}",
        f"escalations  {found['escalations_before']:5} -> {found['escalations_now']}",
    ]
    for sign, alerts in (("-", found["gone"]), ("+", found["new"])):
        for each in alerts:
            lines.append(f"{sign} {each['opened'][:19]}  {each['check']}: {each['fault']}")
    return "\n".join(lines)
