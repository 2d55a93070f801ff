"""`privacy-finetuner config`: write, check and explain an environment's configuration."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer
from rich.table import Table
from rich.text import Text

from privacy_core.errors import InvalidParameter
from privacy_finetuner.cli import output
from privacy_finetuner.cli.options import Json
from privacy_finetuner.environment import checks
from privacy_finetuner.environment.configuration import EnvironmentConfig, unused
from privacy_finetuner.environment.example import example
from privacy_finetuner.environment.readings import DEFAULT_PREFIX, KEYS, read
from privacy_finetuner.environment.sections import Environment
from privacy_runtime.settings.faults import Fault, nearest, unknown
from privacy_runtime.settings.schema import Setting, Settled

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Write, check and explain the configuration of an environment.\n\n"
    "A value is taken from the first of these that has it: a variable such as "
    "`PRIVACY_ML_DATABASE__POOL_SIZE`, the file, the default. Unknown keys, wrong types and values "
    "out of range are refused, all at once, each with its line. Secrets are never printed.",
    epilog="Begin: privacy-finetuner config init production.yaml --environment production, edit "
    "it, then privacy-finetuner config check production.yaml",
)
_EXAMPLE: Final = "Example: privacy-finetuner config"


class EnvironmentName(StrEnum):
    """Environments that `init` has a file for."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


Prefix: TypeAlias = Annotated[
    str, typer.Option(help="Begins the names of variables that set keys: capitals, then _.")
]


@app.command(epilog=f"{_EXAMPLE} init production.yaml --environment production")
def init(
    file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("config.yaml"),
    *,
    environment: Annotated[
        EnvironmentName, typer.Option(help="What will run: with what the file begins.")
    ] = EnvironmentName.DEVELOPMENT,
    as_json: Json = False,
) -> None:
    """Write a commented file with every key. A file that is there is left alone."""
    with output.failures_reported(as_json), file.open("x", encoding="utf-8") as handle:
        handle.write(example(environment))
    output.deliver(
        {"file": str(file), "environment": str(environment), "keys": len(KEYS)},
        f"wrote {file}: every key with its meaning; check it with: privacy-finetuner config check "
        f"{file}",
        as_json=as_json,
    )


@app.command(epilog=f"{_EXAMPLE} check production.yaml --sample-rate 0.01 --steps 3000 --json")
def check(
    file: Annotated[Path, typer.Argument(help="The file to check.")],
    *,
    sample_rate: Annotated[
        float | None,
        typer.Option(help="With --steps: price a training, against epsilon and the noise given."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of that training.")] = None,
    prefix: Prefix = DEFAULT_PREFIX,
    as_json: Json = False,
) -> None:
    """Say everything that is wrong with a file, or that nothing is. Exit code 0 or 1.

    Variables count as they would when it is used, and secrets must be there. What was set and
    nothing reads yet is listed under **not used by this version**.
    """
    with output.failures_reported(as_json):
        settled = read(file, prefix=prefix)
        faults = [*settled.faults, *_planned(settled, sample_rate, steps)]
        idle = unused(settled.settings)
        notes = [] if settled.faults else list(checks.notes(settled.values, settled.settings))
    document = {
        "file": str(file),
        "usable": not faults,
        "faults": [fault.document() for fault in faults],
        "unused": [_described(setting) for setting in idle],
        "notes": notes,
    }
    output.deliver(document, _verdict(file, faults, idle, notes), as_json=as_json)
    if faults:
        raise typer.Exit(1)


@app.command(epilog=f"{_EXAMPLE} show production.yaml --key database.pool_size")
def show(
    file: Annotated[
        Path | None, typer.Argument(help="A file; default: only variables and defaults.")
    ] = None,
    *,
    key: Annotated[
        str | None, typer.Option(help="One key, or a section: everything in it.")
    ] = None,
    prefix: Prefix = DEFAULT_PREFIX,
    as_json: Json = False,
) -> None:
    """Print every value and where it came from. Secrets show as `Secret(***)`."""
    with output.failures_reported(as_json):
        source = "the environment" if file is None else str(file)
        config = EnvironmentConfig.holding(source, read(file, prefix=prefix))
        found = _selected(config, key)
    document = {
        "file": None if file is None else str(file),
        "settings": [_described(setting) for setting in found],
    }
    output.deliver(document, _table(source, found), as_json=as_json)


def _planned(
    settled: Settled[Environment], sample_rate: float | None, steps: int | None
) -> list[Fault]:
    """The fault of a planned training, if it was asked about and the section itself is right."""
    if sample_rate is None and steps is None:
        return []
    if sample_rate is None or steps is None:
        raise InvalidParameter(
            "sample_rate and steps", found="one of them", expected="both, or neither"
        )
    if any(fault.path.startswith("privacy.") for fault in settled.faults):
        return []
    fault = checks.noise_fault(settled.values.privacy, sample_rate=sample_rate, steps=steps)
    return [] if fault is None else [fault]


def _selected(config: EnvironmentConfig, key: str | None) -> list[Setting]:
    if key is None:
        return list(config.settings.values())
    found = [s for path, s in config.settings.items() if f"{path}.".startswith(f"{key}.")]
    if not found:
        hint = unknown("a key of the configuration", nearest(key, config.settings))
        raise InvalidParameter("key", found=key, expected=hint)
    return found


def _described(setting: Setting) -> dict[str, Any]:
    key = setting.entry.key
    return {
        "key": setting.entry.path,
        "value": setting.shown,
        "source": setting.source,
        "unit": key.unit or None,
        "expected": key.expected,
        "says": key.says,
        "used_by": key.used_by or None,
    }


def _verdict(file: Path, faults: list[Fault], idle: tuple[Setting, ...], notes: list[str]) -> str:
    count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
    lines = [f"{file}: {count}; nothing was started" if faults else f"{file} can be used"]
    lines += [f"  {fault}" for fault in faults]
    lines += [f"note: {note}" for note in notes]
    if idle:
        lines.append("not used by this version:")
        lines += [f"  {setting.entry.path} ({_from(str(file), setting)})" for setting in idle]
    return "\n".join(lines)


def _table(source: str, settings: list[Setting]) -> Table:
    table = Table(title=f"Settings from {source}", title_justify="left", box=None)
    for name in ("key", "value", "from"):
        table.add_column(name, overflow="fold")
    for setting in settings:
        idle = "" if setting.entry.key.used_by or setting.is_default else "; not used"
        unit = f" {setting.entry.key.unit}" if isinstance(setting.value, int | float) else ""
        table.add_row(
            Text(setting.entry.path),
            Text(_shown(setting.shown) + unit.rstrip()),
            Text(_from(source, setting) + idle),
        )
    return table


def _from(source: str, setting: Setting) -> str:
    """Where a value came from, inside a listing that names its file."""
    place = setting.place
    inside = place.source == source and place.line
    return ", ".join([f"line {place.line}" if inside else str(place), *setting.parts])


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
