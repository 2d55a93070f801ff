"""The forms that have an own way to be written: checks, steps, components."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from pipeline_guard.config.gates import GateSettings
from pipeline_guard.config.reading import Reader, Special, parameters_of, refusal, shown
from pipeline_guard.config.scalars import REFUSED
from pipeline_guard.config.settings import CheckSettings, Step
from privacy_runtime.settings.faults import Place, nearest, unknown
from privacy_runtime.settings.secrets import Lookup
from privacy_runtime.settings.sources import Branch, Leaf, Tree, from_keywords

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Registries:
    """The probes, remedies and gates that a file may name; `None`: any, unchecked."""

    probes: Mapping[str, type] | None = None
    remedies: Mapping[str, type] | None = None
    gates: Mapping[str, type] | None = None


def build(
    kind: str, parameters: Mapping[str, Any], registry: Mapping[str, type], where: str
) -> Any:
    """Make a probe or a remedy from its parameters.

    Args:
        kind: its name in the registry.
        parameters: as YAML has them: keys with or without their unit, durations as texts.
        registry: dataclasses by name.
        where: what faults name: file and line, or the id of a check.

    Raises:
        ConfigurationError: there is no such kind, or a parameter is not what it takes; nothing was
            made. All faults are in `details["faults"]`.
    """
    reader = Reader(Lookup({}))
    tree = Branch(from_keywords(parameters).entries, Place(where))
    found = made(reader, kind, tree, registry, "")
    if found is None:
        raise refusal(where, [replace(fault, source=where, line=0) for fault in reader.faults])
    return found


def made(
    reader: Reader, kind: str, tree: Branch, registry: Mapping[str, type], path: str
) -> Any | None:
    """An instance of a kind; `None` with at least one more fault where it cannot be."""
    if kind not in registry:
        near = nearest(kind, registry)
        words = unknown(f"is {kind!r}, expected one of {', '.join(sorted(registry))}", near)
        reader.refuse(
            tree.places.get("type", tree.place), f"{path}.type".strip("."), words, nearest=near
        )
        return None
    return reader.instance(registry[kind], tree, path)


def special_forms(registries: Registries) -> dict[type, Special]:
    """How checks and steps are read, given what they may name."""

    def check(reader: Reader, tree: Tree, path: str) -> Any:
        return _named(reader, CheckSettings, tree, path, registries.probes)

    def step(reader: Reader, tree: Tree, path: str) -> Any:
        return _named(reader, Step, _spelled_out(reader, tree, path), path, registries.remedies)

    def gate(reader: Reader, tree: Tree, path: str) -> Any:
        return _named(reader, GateSettings, tree, path, registries.gates)

    return {CheckSettings: check, Step: step, GateSettings: gate}


def _named(
    reader: Reader, schema: type[T], tree: Tree, path: str, registry: Mapping[str, type] | None
) -> Any:
    """A form whose further keys are the parameters of what its `type` names."""
    if not isinstance(tree, Branch):
        if tree is not _WRONG:
            reader.refuse(tree.place, path, f"is {shown(tree)}, expected keys of its own")
        return REFUSED
    own = {name for each in parameters_of(schema) for name in (each.key, each.name)}
    common = Branch({k: t for k, t in tree.entries.items() if k in own}, tree.place, tree.places)
    further = Branch(
        {k: t for k, t in tree.entries.items() if k not in own}, tree.place, tree.places
    )
    before = len(reader.faults)
    found = reader.instance(schema, common, path)
    parameters = reader.plain(further, path)
    kind = tree.entries.get("type")
    if registry is not None and isinstance(kind, Leaf) and len(reader.faults) == before:
        made(reader, str(kind.value), further, registry, path)
    if found is None or len(reader.faults) > before:
        return REFUSED
    return replace(found, parameters=parameters, where=str(tree.place))  # type: ignore[type-var]  # both are dataclasses with these fields


def _spelled_out(reader: Reader, tree: Tree, path: str) -> Tree:
    """A step in its long form: from a name, or from `{name: {parameters}}`."""
    if isinstance(tree, Leaf) and isinstance(tree.value, str):
        return Branch({"type": tree}, tree.place)
    if isinstance(tree, Branch) and len(tree.entries) == 1 and "type" not in tree.entries:
        (name, inside), place = next(iter(tree.entries.items())), tree.place
        if isinstance(inside, Leaf) and inside.value is None:
            return Branch({"type": Leaf(name, place)}, place)
        if not isinstance(inside, Branch):
            reader.refuse(place, f"{path}.{name}", f"is {shown(inside)}, expected parameters")
            return _WRONG
        return Branch({"type": Leaf(name, place), **inside.entries}, place, inside.places)
    return tree


_WRONG: Final = Leaf(None, Place(""))
"""A step whose fault was reported already."""
