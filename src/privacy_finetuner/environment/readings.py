"""A configuration read from its sources, with everything that is wrong and no exception yet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from privacy_finetuner.environment.checks import conflicts
from privacy_finetuner.environment.sections import Environment
from privacy_runtime.settings.documents import compose, read_text
from privacy_runtime.settings.faults import Fault
from privacy_runtime.settings.schema import Entry, Settled, entries, settle
from privacy_runtime.settings.secrets import Lookup
from privacy_runtime.settings.sources import (
    PREFIX,
    Branch,
    from_document,
    from_keywords,
    from_variables,
    references,
)

DEFAULT_PREFIX: Final = "PRIVACY_ML_"
KEYS: Final[Mapping[str, Entry]] = {entry.path: entry for entry in entries(Environment)}
_ADDRESSES: Final = {"database_url": "database", "redis_url": "redis"}
_ALIASES: Final = {name.upper(): f"{section}.url" for name, section in _ADDRESSES.items()}
_SUFFIX: Final = "_config"
_REPLICAS: Final = {"min_replicas": "min_nodes", "max_replicas": "max_nodes"}
_POLICY: Final = "scaling_policy"


def read(
    path: Path | str | None,
    *,
    prefix: str | None = DEFAULT_PREFIX,
    variables: Mapping[str, str] | None = None,
    keywords: Mapping[str, Any] | None = None,
) -> Settled[Environment]:
    """Read a file, the environment and keywords, a later one winning over an earlier one.

    Args:
        path: a YAML file, or none.
        prefix: of the variables that set keys; `None` reads none.
        variables: the environment; `None` is the process's.
        keywords: as of `EnvironmentConfig`.

    Returns:
        Values, sources and faults; nothing is raised for what a source says.
    """
    lookup = Lookup(os.environ if variables is None else variables)
    faults: list[Fault] = []
    layers: list[Branch] = []
    if path is not None:
        layers.append(_file(Path(path), faults))
    if prefix is not None:
        layers.append(_variables(prefix, lookup, layers, faults))
    layers.append(_keywords(keywords or {}, faults))
    settled = settle(Environment, layers, lookup, conflicts)
    found = tuple(dict.fromkeys((*faults, *settled.faults)))
    return Settled(settled.values, settled.settings, tuple(sorted(found, key=_in_order)))


def _file(path: Path, faults: list[Fault]) -> Branch:
    text, unreadable = read_text(path)
    faults += unreadable
    if unreadable:
        return from_keywords({})
    root, problems = compose(text, str(path))
    faults += problems
    return from_document(root, str(path), faults)


def _variables(prefix: str, lookup: Lookup, layers: list[Branch], faults: list[Fault]) -> Branch:
    if not PREFIX.fullmatch(prefix):
        message = f"is {prefix!r}, expected capitals with an underscore at the end: PRIVACY_ML_"
        faults.append(Fault("prefix", 0, message, source="keyword prefix"))
        return from_keywords({})
    return from_variables(
        {path: entry.key.domain.is_secret for path, entry in KEYS.items()},
        lookup,
        faults,
        prefix=prefix,
        aliases=_ALIASES,
        others={name for layer in layers for name in references(layer)},
    )


def _keywords(keywords: Mapping[str, Any], faults: list[Fault]) -> Branch:
    """The keywords under the names of the file; a key that is given by two names is a fault."""
    values: dict[str, Any] = {}
    for name, value in keywords.items():
        if name in _ADDRESSES:
            _put(values, f"{_ADDRESSES[name]}.url", value, name, faults)
            continue
        section = name.removesuffix(_SUFFIX)
        if not isinstance(value, Mapping):
            _put(values, name, value, name, faults)
            continue
        for key, inner in value.items():
            path = f"{section}.{key}"
            if section == "scaling" and key in _REPLICAS and name != section:
                path = f"{section}.{_POLICY}.{_REPLICAS[key]}"
            _put(values, path, inner, name, faults)
    return from_keywords(values)


def _put(values: dict[str, Any], path: str, value: Any, keyword: str, faults: list[Fault]) -> None:
    """Put a value under its path; what is there stays, and is a fault."""
    *above, last = path.split(".")
    for name in above:
        inner = values.setdefault(name, {})
        if not isinstance(inner, dict):
            faults.append(Fault(path, 0, "is given twice", source=f"keyword {keyword}"))
            return
        values = inner
    if isinstance(value, Mapping):
        if last not in values:
            values[last] = {}
        for key, inner in value.items():
            _put(values, f"{last}.{key}", inner, keyword, faults)
    elif last in values:
        faults.append(Fault(path, 0, "is given twice", source=f"keyword {keyword}"))
    else:
        values[last] = value


def _in_order(fault: Fault) -> tuple[bool, int, str]:
    """Lines of the file first, in order; then what is not in it."""
    return (not fault.line, fault.line, fault.path)
