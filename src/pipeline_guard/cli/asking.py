"""`status`, `explain`, `history`: how things stand, why, and what happened."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline_guard.cli.output import (
    ConfigFile,
    ExitCode,
    Json,
    ago,
    config_path,
    faults_reported,
    say,
    say_json,
)
from pipeline_guard.config import GuardConfig, read_config
from pipeline_guard.errors import ConfigurationError, MonitoringError
from pipeline_guard.guard.codec import document_of, text_of
from pipeline_guard.guard.published import newest_status
from pipeline_guard.guard.records import broken_at, connect, events_of, silences
from privacy_runtime.world import SystemClock

_CODES = {
    "healthy": ExitCode.WELL,
    "degraded": ExitCode.WARNING,
    "recovering": ExitCode.WARNING,
    "critical": ExitCode.CRITICAL,
    "failed": ExitCode.CRITICAL,
}


def state_of(config: GuardConfig) -> Path:
    """Where the guard of a configuration keeps its state."""
    return config.beside(config.store.path)


def published(path: Path) -> dict[str, Any]:
    """What the guard wrote last, and the silences that hold.

    Raises:
        MonitoringError: there is no state, or nothing was written yet.
    """
    status = newest_status(path, SystemClock())
    with closing(connect(path, must_exist=True)) as connection:
        status["silences"] = [
            json.loads(text_of({"id": s.id, "scope": s.scope, "until": s.until, "by": s.by}))
            for s in silences(connection)
            if s.until > SystemClock().now()
        ]
    return status


def status(config: ConfigFile = None, as_json: Json = False) -> None:
    """Say how everything stands, as the running guard wrote it.

    Exit codes: 0 healthy, 1 degraded or recovering, 2 critical or given up, 3 no guard writes.
    """
    with faults_reported(as_json):
        found = published(state_of(read_config(config_path(config))))
    say_json(found) if as_json else say(status_text(found))
    if found["is_silent"]:
        raise typer.Exit(ExitCode.UNKNOWN)
    raise typer.Exit(_CODES.get(found["overall_health"], ExitCode.UNKNOWN))


def status_text(found: dict[str, Any]) -> str:
    """A status for people."""
    now = SystemClock().now()
    lines = [f"{found['overall_health'].upper()}, as of {ago(found['at'], now)}"]
    if found["is_silent"]:
        lines.append("no guard writes: it does not run, or it hangs")
    if found.get("is_killed"):
        lines.append("the kill switch is set: nothing is done")
    for name, component in found["components"].items():
        checks = component["checks"]
        bad = [f"{check} {state['newest']}" for check, state in checks.items()
               if state["newest"] not in ("ok", "unknown") or state["level"] != "ok"]  # fmt: skip
        lines.append(f"  {component['health']:11} {name}{': ' + ', '.join(bad) if bad else ''}")
    for alert in found["alerts"]:
        lines.append(f"\n{alert['id']}  {alert['severity']}: {alert['reading']['summary']}")
        lines.append(
            f"    {alert['fault']} of {alert['component']}, since {ago(alert['since'], now)}"
        )
        if alert["root"]:
            lines.append(f"    explained by {alert['root']}")
    for name, recovery in found.get("recoveries", {}).items():
        right = recovery["right_in_a_row"]
        said = f", right {right} times in a row" if right else ""
        lines.append(f"\nrecovery {name} may {recovery['mode']}{said}; runs: {recovery['runs']}")
    return "\n".join(lines)


def explain(
    alert: Annotated[str, typer.Argument(help="Its id, or the beginning of it.")],
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Say all about an alert: since when, the evidence, what explains it, what was done."""
    with faults_reported(as_json):
        found = read_config(config_path(config))
        path = state_of(found)
        with closing(connect(path, must_exist=True)) as connection:
            rows = connection.execute(
                "SELECT body FROM incidents WHERE id LIKE ? || '%'", (alert,)
            ).fetchall()
            if len(rows) != 1:
                count = "no alert" if not rows else f"{len(rows)} alerts"
                raise ConfigurationError(
                    f"{count} of {path} begins with {alert!r}; see pipeline-guard status",
                    {"parameter": "alert", "value": alert, "constraint": "the id of one alert"},
                )
            incident = document_of(rows[0][0])
            events = events_of(connection, incident=incident["id"])
        document = incident | {"events": [document_of(text_of(_event(e))) for e in events]}
        say_json(document) if as_json else say(_explained(document))


def history(
    config: ConfigFile = None,
    newest: Annotated[int, typer.Option(min=1, max=100_000, help="How many events.")] = 50,
    verify: Annotated[bool, typer.Option(help="Check that no event was changed.")] = False,
    as_json: Json = False,
) -> None:
    """Print what happened, oldest first; with `--verify`, check the chain of hashes first."""
    with faults_reported(as_json):
        path = state_of(read_config(config_path(config)))
        with closing(connect(path, must_exist=True)) as connection:
            if verify and (seq := broken_at(connection)) is not None:
                raise MonitoringError(
                    f"event {seq} of {path} is not what was written, or one before it is missing"
                )
            events = [document_of(text_of(_event(e))) for e in events_of(connection, newest=newest)]
        if as_json:
            say_json(events)
            return
        say(
            "\n".join(
                f"{e['at'][:19]}  {e['kind']:11} {e['component']:14} {e['text']}" for e in events
            )
        )


def _event(event: Any) -> dict[str, Any]:
    names = ("at", "kind", "component", "recovery", "text", "data")
    return {name: getattr(event, name) for name in names}


def _explained(found: dict[str, Any]) -> str:
    reading = found["reading"]
    lines = [
        f"{found['id']}: {found['fault']} of {found['component']}, {found['stage']}",
        f"    {reading['summary']}",
        f"    check {found['check']}, since {found['since']}, {found['count']} bad looks",
    ]
    if found["is_flapping"]:
        lines.append("    it is flapping: its check swings, and no recovery is run")
    if found["runbook"]:
        lines.append(f"    runbook: {found['runbook']}")
    evidence = {**reading["measurements"], **reading["evidence"]}
    lines += [f"    {name}: {value}" for name, value in evidence.items()]
    lines.append("what happened")
    lines += [f"    {e['at'][:19]}  {e['kind']:11} {e['text']}" for e in found["events"]]
    return "\n".join(lines)
