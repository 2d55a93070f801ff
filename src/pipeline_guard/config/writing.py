"""A configuration as YAML text that reads back as the same configuration.

Comments of a file that was read are not kept: they are not part of the values. Secrets are never
written: they have to come from `${NAME}`, and a configuration that holds one is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final

import yaml

from pipeline_guard.config.gates import GateSettings
from pipeline_guard.config.reading import parameters_of
from pipeline_guard.config.settings import CheckSettings, GuardConfig, Step
from pipeline_guard.config.values import Automatic, duration_text
from pipeline_guard.errors import ConfigurationError
from privacy_runtime.secret import Secret
from privacy_runtime.settings.documents import plain

_SIMPLE: Final = re.compile(r"[A-Za-z0-9_./*][A-Za-z0-9_./*:@+-]*(?<!:)")
_WITH_PARAMETERS: Final = (CheckSettings, GateSettings, Step)


class _Dumper(yaml.SafeDumper):
    """Writes texts so that YAML 1.2 reads them as texts."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    is_plain = bool(_SIMPLE.fullmatch(text)) and isinstance(plain(text), str)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_plain else '"')


_Dumper.add_representer(str, _text)


def written(config: GuardConfig) -> str:
    """The YAML text of a configuration; keys that have their defaults are left out.

    Raises:
        ConfigurationError: it holds a secret.
    """
    document = {"version": config.version, **_document(config)}
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10_000)


def _document(value: Any, unit: str = "") -> Any:
    """A value as plain data."""
    if isinstance(value, Secret):
        raise ConfigurationError(
            "the configuration holds a secret; a file names it as ${NAME}. Nothing was written",
            {"parameter": "secret", "constraint": "a reference such as ${NAME}"},
        )
    if is_dataclass(value) and not isinstance(value, type | Automatic):
        return _section(value)
    if isinstance(value, Mapping):
        return {str(key): _document(inner, unit) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_document(inner, unit) for inner in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str | Path | Automatic):
        return str(value).replace("$", "$$")
    if unit == "s" and isinstance(value, float):
        return duration_text(value)
    return value


def _section(value: Any) -> dict[str, Any]:
    known = {field.name: field for field in fields(value)}
    found: dict[str, Any] = {}
    for each in parameters_of(type(value)):
        inner = getattr(value, each.name)
        if each.is_required or inner != each.default:
            found[each.key] = _document(inner, each.unit)
    if isinstance(value, _WITH_PARAMETERS) and "parameters" in known:
        found |= _document(value.parameters)
    return found
