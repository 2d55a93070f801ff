"""`config`, `probes`, `remedies`: is a file right, and what may it say?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import typer

from pipeline_guard.cli.output import (
    ConfigFile,
    Json,
    config_path,
    faults_reported,
    say,
    say_json,
)
from pipeline_guard.config import described, json_schema, read_config, written
from pipeline_guard.guard.kinds import registries
from pipeline_guard.guard.plan import make_plan

app = typer.Typer(no_args_is_help=True, help="Check, show and describe a configuration.")


@app.command()
def check(config: ConfigFile = None, as_json: Json = False) -> None:
    """Say everything that is wrong with a file: line, key, value, constraint; then exit 2."""
    with faults_reported(as_json):
        path, known = config_path(config), registries()
        found = read_config(path, known)
        plan = make_plan(found, known.probes or {}, known.remedies or {})
        modes = {name: mode.value for name, mode in plan.modes({}).items()}
        if as_json:
            say_json({"file": str(path), "checks": len(plan.checks), "recoveries": modes})
            return
        lines = [f"{path} is right: {len(plan.checks)} checks, {len(modes)} recoveries"]
        lines += [f"  {name} may {mode}" for name, mode in modes.items()]
        say("\n".join(lines))


@app.command()
def show(config: ConfigFile = None) -> None:
    """Print what a file comes down to, without keys that have their defaults."""
    with faults_reported(as_json=False):
        say(written(read_config(config_path(config), registries())))


@app.command()
def schema() -> None:
    """Print the JSON Schema, with every probe and remedy.

    In a file: `# yaml-language-server: $schema=guard.schema.json`.
    """
    say_json(json_schema(registries()))


def probes(as_json: Json = False) -> None:
    """List what a check's `type` may be, with its parameters."""
    _kinds(registries().probes or {}, as_json)


def remedies(as_json: Json = False) -> None:
    """List what a step may be, with its parameters."""
    _kinds(registries().remedies or {}, as_json)


def _kinds(kinds: Mapping[str, type], as_json: bool) -> None:
    documents = {
        name: {
            "description": (kind.__doc__ or "").splitlines()[0],
            "parameters": described(kind),
            "fields": [f.name for f in fields(kind) if f.init and not f.name.startswith("_")],
        }
        for name, kind in sorted(kinds.items())
    }
    if as_json:
        say_json(documents)
        return
    lines = []
    for name, document in documents.items():
        lines.append(f"{name}: {document['description']}")
        lines += [f"    {key}: {words}" for key, words in described(kinds[name]).items()]
    say("\n".join(lines))
