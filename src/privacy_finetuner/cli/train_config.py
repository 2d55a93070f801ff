"""`train --config`: what an environment's configuration says of the guarantee.

Precedence, the weakest first: defaults, file, environment (`PRIVACY_ML_PRIVACY__EPSILON`), options.
Only what the file or the environment set counts; a default of the configuration changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer
from rich.console import Console

from privacy_finetuner.cli.options import GUARANTEE
from privacy_finetuner.cli.request import TrainRequest
from privacy_finetuner.environment.configuration import EnvironmentConfig
from privacy_finetuner.errors import ConfigurationError
from privacy_runtime.settings.faults import SettingsRefused

UNSAID: Final = math.nan
"""The epsilon of a request that nobody has given one yet."""
_SECTION: Final = "privacy."

Config: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Take the section privacy of this configuration where no option is given: defaults "
        "< file < variables such as PRIVACY_ML_PRIVACY__EPSILON < options. See the command config.",
        rich_help_panel=GUARANTEE,
    ),
]


def applied(
    context: typer.Context, request: TrainRequest, file: Path | None, console: Console
) -> TrainRequest:
    """The request as the command line, the environment and the file have it together.

    Raises:
        ConfigurationError: the configuration has faults, all of them named; or nobody said epsilon.
    """
    try:
        request, notes = settled(request, file, _on_the_command_line(context))
    except SettingsRefused as error:  # bad input of this command, as any other
        raise ConfigurationError(str(error)) from error
    for note in notes:
        console.print(note, soft_wrap=True, markup=False)
    if math.isnan(request.epsilon):
        where = "" if file is None else f", and {file} does not set privacy.epsilon"
        raise ConfigurationError(
            f"missing option --epsilon{where}: how private the training is to be is said by you; "
            "nothing was started"
        )
    return request


def _on_the_command_line(context: typer.Context) -> set[str]:
    """The options that somebody typed."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source and source.name == "COMMANDLINE"}


def _same(value: Any) -> Any:
    return value


def _negated(value: bool) -> bool:
    return not value


_OPTIONS: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "privacy.epsilon": ("epsilon", _same),
    "privacy.delta": ("delta", _same),
    "privacy.max_grad_norm": ("clip_norm", _same),
    "privacy.noise_multiplier": ("noise_multiplier", _same),
    "privacy.accounting_mode": ("accountant", _same),
    "privacy.adaptive_clipping": ("fixed_clipping", _negated),
    "privacy.secure_rng": ("no_secure_rng", _negated),
}
"""A key of the configuration, the option of `train` that means it, and how it is said there."""


def settled(
    request: TrainRequest, file: Path | None, given: Collection[str]
) -> tuple[TrainRequest, list[str]]:
    """A request with what the file and the environment say where no option does.

    Args:
        request: what the options and their defaults say.
        file: the configuration; `None` leaves the request as it is.
        given: names of the options that were on the command line.

    Returns:
        The request, and notes on what came from where and on what this command leaves aside.

    Raises:
        SettingsRefused: the configuration has faults; all are named. Nothing was started.
    """
    if file is None:
        return request, []
    config = EnvironmentConfig.from_file(file)
    found: dict[str, Any] = {}
    notes: list[str] = []
    for key, (option, said) in _OPTIONS.items():
        setting = config.settings[key]
        if setting.is_default or option in given or setting.value is None:
            continue
        found[option] = said(setting.value)
        notes.append(f"{option.replace('_', '-')} {found[option]} is from {setting.place}")
    aside = [
        key
        for key, setting in config.settings.items()
        if key.startswith(_SECTION) and key not in _OPTIONS and not setting.is_default
    ]
    if aside:
        notes.append(f"not used by train: {', '.join(sorted(aside))}")
    return replace(request, **found), notes
