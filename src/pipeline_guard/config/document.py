"""A configuration from YAML text: read, filled in, checked; every fault at once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pipeline_guard.config.forms import Registries, made, special_forms
from pipeline_guard.config.reading import Reader, refusal
from pipeline_guard.config.rules import all_checks, conflicts
from pipeline_guard.config.settings import (
    ComponentSettings,
    Defaults,
    GuardConfig,
    NotifySettings,
)
from privacy_runtime.settings.documents import compose, read_text
from privacy_runtime.settings.faults import Fault, Place
from privacy_runtime.settings.secrets import Lookup
from privacy_runtime.settings.sources import Branch, Items, Tree, from_document, from_keywords

_PART: Final = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def read_config(
    path: Path | str,
    registries: Registries | None = None,
    *,
    variables: Mapping[str, str] | None = None,
) -> GuardConfig:
    """Read a configuration file.

    Args:
        path: of the file.
        registries: the probes and remedies it may name; none: their names go unchecked.
        variables: what `${NAME}` is filled in from; none: the environment.

    Raises:
        ConfigurationError: with every fault: file and line, key, value, constraint.
    """
    text, faults = read_text(Path(path))
    if faults:
        raise refusal(str(path), faults)
    return parse_config(text, str(path), registries, variables=variables)


def parse_config(
    text: str,
    source: str,
    registries: Registries | None = None,
    *,
    variables: Mapping[str, str] | None = None,
) -> GuardConfig:
    """Read a configuration from its text; see `read_config`."""
    registries = registries or Registries()
    root, broken = compose(text, source)
    if broken:
        raise refusal(source, broken)
    lookup = Lookup(os.environ if variables is None else variables)
    reader = Reader(lookup, special_forms(registries))
    tree = from_document(root, source, reader.faults)
    config = reader.instance(GuardConfig, tree, "")
    wrong = {fault.path for fault in reader.faults}
    found = _conflicting(config or _salvaged(reader, tree), tree)
    reader.faults += [fault for fault in found if fault.path not in wrong]
    _check_heartbeats(reader, tree, registries)
    if config is None or reader.faults:
        raise refusal(source, sorted(reader.faults, key=lambda fault: fault.line))
    return replace(config, source=source)


def faults_of(config: GuardConfig, registries: Registries | None = None) -> list[Fault]:
    """What is wrong with a configuration that was made or changed in Python."""
    registries = registries or Registries()
    place = Place(config.source)
    found = [
        Fault.at(place, each.path, str(each), value=each.value, expected=each.expected)
        for each in conflicts(config)
    ]
    reader = Reader(Lookup({}))
    for check in all_checks(config):
        _check_kind(reader, check.type, check.parameters, registries.probes, f"check {check.id}")
    for gate in config.gates:
        _check_kind(reader, gate.type, gate.parameters, registries.gates, f"gate {gate.type}")
    for recovery in config.recoveries:
        for step in recovery.steps:
            where = f"recovery {recovery.name}"
            _check_kind(reader, step.type, step.parameters, registries.remedies, where)
    return [*found, *reader.faults]


def _check_kind(
    reader: Reader,
    kind: str,
    parameters: Mapping[str, object],
    registry: Mapping[str, type] | None,
    where: str,
) -> None:
    if registry is not None:
        made(reader, kind, Branch(from_keywords(parameters).entries, Place("")), registry, where)


def _conflicting(config: GuardConfig, tree: Tree) -> list[Fault]:
    return [
        Fault.at(
            place_of(tree, each.path),
            each.path,
            str(each),
            value=each.value,
            expected=each.expected,
            nearest=each.near,
        )
        for each in conflicts(config)
    ]


def _salvaged(reader: Reader, tree: Branch) -> GuardConfig:
    """What could be read of a configuration that has faults, so that the rest is checked too."""
    kept = reader.kept

    def numbered(key: str) -> tuple[Any, ...]:
        items = tree.entries.get(key)
        count = len(items.items) if isinstance(items, Items) else 0
        return tuple(kept.get(f"{key}[{number}]") for number in range(count))

    components = tree.entries.get("components")
    names = components.entries if isinstance(components, Branch) else ()
    return GuardConfig(
        defaults=kept.get("defaults", Defaults()),
        components={n: kept.get(f"components.{n}", ComponentSettings()) for n in names},
        checks=numbered("checks"),
        recoveries=numbered("recoveries"),
        maintenance=numbered("maintenance"),
        notify=kept.get("notify", NotifySettings()),
    )


def _check_heartbeats(reader: Reader, tree: Branch, registries: Registries) -> None:
    """The parameters of `heartbeat` below components, at their lines."""
    components = tree.entries.get("components")
    if registries.probes is None or not isinstance(components, Branch):
        return
    for name, component in components.entries.items():
        beat = component.entries.get("heartbeat") if isinstance(component, Branch) else None
        if isinstance(beat, Branch):
            path = f"components.{name}.heartbeat"
            made(reader, "heartbeat", beat, registries.probes, path)


def place_of(tree: Tree, path: str) -> Place:
    """Where a key stands, or the nearest one above it that does."""
    place = tree.place
    for match in _PART.finditer(path):
        name, index = match[1], match[2]
        if isinstance(tree, Branch) and name in tree.entries:
            place = tree.places.get(name, tree.place)
            tree = tree.entries[name]
        elif isinstance(tree, Items) and index is not None and int(index) < len(tree.items):
            tree = tree.items[int(index)]
            place = tree.place
        else:
            break
    return place
