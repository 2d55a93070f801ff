"""From what a file says to dataclasses: by their fields, their types and nothing else.

A field's type is what a key takes; the field's default makes the key optional. What a type cannot
say is said by `Annotated[..., Within(...)]` or by a `ValueError` of `__post_init__`. Every fault is
collected with its file, line, key, value and constraint; nothing is guessed and nothing is ignored.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, Final, TypeAlias, TypeVar

from pipeline_guard.config.scalars import REFUSED, scalar_of
from pipeline_guard.errors import ConfigurationError
from privacy_runtime.secret import Secret
from privacy_runtime.settings.expansion import CannotExpand, expand
from privacy_runtime.settings.faults import Fault, Place, nearest, unknown
from privacy_runtime.settings.secrets import Lookup
from privacy_runtime.settings.sources import Branch, Items, Leaf, Tree

T = TypeVar("T")
_UNITS: Final = {"_s": "s", "_bytes": "bytes"}

Special: TypeAlias = "Callable[[Reader, Tree, str], Any]"
"""Reads a type that is written in a form of its own."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One field of a dataclass, as a key of a file.

    Attributes:
        name: of the field.
        key: how it is written: without its unit, and without a trailing underscore.
        hint: its type.
        unit: `s`, `bytes` or nothing.
        default: `MISSING` where it must be given.
    """

    name: str
    key: str
    hint: Any
    unit: str
    default: Any

    @property
    def is_required(self) -> bool:
        """Whether there is no default."""
        return self.default is MISSING


def parameters_of(schema: Any) -> tuple[Parameter, ...]:
    """The parameters of a dataclass in its order; fields that begin with `_` are its own."""
    return _resolved(schema)


@functools.cache  # resolving annotations is most of the time of a reading
def _resolved(schema: Any) -> tuple[Parameter, ...]:
    hints = typing.get_type_hints(schema, include_extras=True)
    found = []
    for each in fields(schema):
        if not each.init or each.name.startswith("_") or each.metadata.get("is_internal"):
            continue
        default = each.default
        if default is MISSING and each.default_factory is not MISSING:
            default = each.default_factory()
        suffix = next((s for s in _UNITS if each.name.endswith(s)), "")
        key = each.name.removesuffix(suffix).removesuffix("_")
        unit = _UNITS.get(suffix, "")
        found.append(Parameter(each.name, key, hints[each.name], unit, default))
    return tuple(found)


@dataclass(slots=True)
class Reader:
    """One reading: where `${...}` is filled in from, and the faults so far.

    Args:
        lookup: variables and secrets.
        special: types that have a form of their own.
        faults: what was found wrong; grows.
        kept: instances that could be read, by path: what can be checked although others are wrong.
    """

    lookup: Lookup
    special: Mapping[type, Special] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)

    def instance(self, schema: type[T], tree: Tree, path: str) -> T | None:
        """An instance of a dataclass; `None` with at least one more fault where it cannot be."""
        if not isinstance(tree, Branch):
            self.refuse(tree.place, path, "is a value, expected keys of its own")
            return None
        before = len(self.faults)
        known = parameters_of(schema)
        self._refuse_unknown(known, tree, path)
        values: dict[str, Any] = {}
        for parameter in known:
            self._take(parameter, tree, path, values)
        if len(self.faults) > before:
            return None
        try:
            made = schema(**values)
        except (ValueError, TypeError, ConfigurationError) as error:
            self._refuse_whole(error, known, tree, path)
            return None
        self.kept.setdefault(path, made)  # a check's own keys are read before its parameters
        return made

    def value(self, hint: Any, tree: Tree, path: str, unit: str = "") -> Any:
        """A value of a type; `REFUSED` with one more fault where it cannot be."""
        origin = typing.get_origin(hint)
        if hint in self.special:
            return self.special[hint](self, tree, path)
        if isinstance(hint, type) and is_dataclass(hint) and isinstance(tree, Branch):
            found = self.instance(hint, tree, path)
            return REFUSED if found is None else found
        if origin in _SEQUENCES:
            return self._items(hint, tree, path, unit)
        if origin in _MAPPINGS:
            return self._mapping(hint, tree, path, unit)
        if _has_section(hint) and isinstance(tree, Branch | Items):
            inner = [h for h in typing.get_args(hint) if h is not type(None)]
            return self.value(_fitting(inner, tree), tree, path, unit)
        if hint is Any:
            return self.plain(tree, path)
        return self._scalar(hint, tree, path, unit)

    def plain(self, tree: Tree, path: str) -> Any:
        """The tree as Python values, filled in; what comes from a place of secrets is a `Secret`.

        `REFUSED` with one more fault where something cannot be filled in.
        """
        if isinstance(tree, Branch):
            inside = {k: self.plain(t, f"{path}.{k}") for k, t in tree.entries.items()}
            return REFUSED if REFUSED in inside.values() else inside
        if isinstance(tree, Items):
            items = [self.plain(t, f"{path}[{n}]") for n, t in enumerate(tree.items)]
            return REFUSED if REFUSED in items else items
        if not (tree.expands and isinstance(tree.value, str)):
            return tree.value
        try:
            expanded = expand(tree.value, self.lookup)
        except CannotExpand as error:
            self.refuse(tree.place, path, str(error))
            return REFUSED
        return Secret(expanded.text) if expanded.is_secret else expanded.text

    def _take(self, each: Parameter, tree: Branch, path: str, values: dict[str, Any]) -> None:
        """Read one key, under either of its names, into `values`."""
        names = [name for name in dict.fromkeys((each.key, each.name)) if name in tree.entries]
        inside = f"{path}.{each.key}" if path else each.key
        if len(names) > 1:
            words = f"is given twice, as {names[0]} and as {names[1]}; expected one of them"
            self.refuse(tree.places.get(names[1], tree.place), inside, words)
        elif names:
            found = self.value(each.hint, tree.entries[names[0]], inside, each.unit)
            if found is not REFUSED:
                values[each.name] = found
        elif each.is_required:
            self.refuse(tree.place, inside, "is missing; it must be given")

    def _items(self, hint: Any, tree: Tree, path: str, unit: str) -> Any:
        if not isinstance(tree, Items):
            self.refuse(tree.place, path, f"is {shown(tree)}, expected a list")
            return REFUSED
        inner = typing.get_args(hint)[0]
        found = [self.value(inner, t, f"{path}[{n}]", unit) for n, t in enumerate(tree.items)]
        return REFUSED if REFUSED in found else tuple(found)

    def _mapping(self, hint: Any, tree: Tree, path: str, unit: str) -> Any:
        if not isinstance(tree, Branch):
            self.refuse(tree.place, path, f"is {shown(tree)}, expected keys of its own")
            return REFUSED
        inner = typing.get_args(hint)[1]
        found = {
            key: self.value(inner, t, f"{path}.{key}" if path else key, unit)
            for key, t in tree.entries.items()
        }
        return REFUSED if REFUSED in found.values() else found

    def _scalar(self, hint: Any, tree: Tree, path: str, unit: str) -> Any:
        raw = self.plain(tree, path)
        if raw is REFUSED:
            return REFUSED
        is_filled = isinstance(tree, Leaf) and raw is not tree.value
        found, expected = scalar_of(hint, raw, unit, is_filled=is_filled)
        if found is REFUSED:
            near = nearest(raw, expected.choices) if isinstance(raw, str) else ""
            is_secret = hint is Secret or Secret in typing.get_args(hint)
            value = repr(Secret("")) if is_secret else shown(tree)
            words = unknown(f"is {value}, expected {expected}", near)
            self.refuse(tree.place, path, words, value=value, expected=str(expected))
        return found

    def _refuse_unknown(self, known: tuple[Parameter, ...], tree: Branch, path: str) -> None:
        names = {name for each in known for name in (each.key, each.name)}
        for key in tree.entries:
            if key not in names:
                near = nearest(key, [each.key for each in known])
                place = tree.places.get(key, tree.place)
                inside = f"{path}.{key}" if path else key
                self.refuse(place, inside, unknown("is not a known key", near), nearest=near)

    def _refuse_whole(
        self, error: Exception, known: tuple[Parameter, ...], tree: Branch, path: str
    ) -> None:
        """What `__post_init__` says, at the key that it names."""
        details = error.details if isinstance(error, ConfigurationError) else {}
        keys = {each.name: each.key for each in known}
        first = str(error).partition(" ")[0]
        name = str(details.get("parameter", first if first in keys else ""))
        key = keys.get(name, name)
        place = tree.places.get(key, tree.places.get(name, tree.place))
        words = str(error).removeprefix(f"{name} ") if name else str(error)
        more = {k: str(details[n]) for k, n in (("value", "value"), ("expected", "constraint"))
                if n in details}  # fmt: skip
        self.refuse(place, f"{path}.{key}".strip(".") if key else path, words, **more)

    def refuse(self, place: Place, path: str, message: str, **more: str) -> None:
        """Add a fault."""
        self.faults.append(Fault.at(place, path, message, **more))


def refusal(source: str, faults: typing.Sequence[Fault]) -> ConfigurationError:
    """The error that says all of them; its details are those of the first."""
    first = faults[0]
    listed = "".join(f"\n  {line_of(fault)}" for fault in faults)
    message = f"{source} cannot be used; nothing was started or changed{listed}"
    return ConfigurationError(
        message,
        {
            "parameter": first.path,
            "value": first.value or None,
            "constraint": first.expected or first.message,
            "faults": [fault.document() | {"message": line_of(fault)} for fault in faults],
        },
    )


def line_of(fault: Fault) -> str:
    """A fault as compilers write it: `file:line: key says what is wrong`."""
    place = str(Place(fault.source, fault.line))
    return f"{place + ': ' if place else ''}{fault.path or 'the document'} {fault.message}"


def shown(tree: Tree) -> str:
    """What was found, as a fault may show it: references as they were written, secrets masked."""
    if isinstance(tree, Branch):
        return "a mapping"
    if isinstance(tree, Items):
        return "a list"
    if tree.value is None or isinstance(tree.value, bool):
        return {None: "null", True: "true", False: "false"}[tree.value]
    text = repr(tree.value)
    return text if len(text) <= 60 else f"{text[:60]}..."


_SEQUENCES: Final = (tuple, list, typing.get_origin(typing.Sequence[int]))
_MAPPINGS: Final = (dict, typing.get_origin(typing.Mapping[str, int]))


def _has_section(hint: Any) -> bool:
    """Whether a union has a member that is written as a mapping or a list."""
    return (
        any(
            (isinstance(h, type) and is_dataclass(h))
            or typing.get_origin(h) in (*_SEQUENCES, *_MAPPINGS)
            for h in typing.get_args(hint)
        )
        and typing.get_origin(hint) is not typing.Annotated
    )


def _fitting(hints: list[Any], tree: Tree) -> Any:
    """The first member of a union that is written as the tree is."""
    for hint in hints:
        origin = typing.get_origin(hint)
        is_list = origin in _SEQUENCES
        is_map = origin in _MAPPINGS or (isinstance(hint, type) and is_dataclass(hint))
        if is_list if isinstance(tree, Items) else is_map:
            return hint
    return hints[0]
