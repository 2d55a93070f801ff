"""Typed sections from layered sources.

A schema is a frozen dataclass. A field is a key, `Annotated[int, Key("What it is.", Whole(1, 9))]`,
or a section, another such dataclass. Every field has a default. `settle` reads the layers into an
instance and says of every value where it came from; what no key can hold is a fault, and all faults
are found before anything is refused.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, Final, Generic, TypeVar

from privacy_runtime.secret import MASK, Secret
from privacy_runtime.settings.documents import plain
from privacy_runtime.settings.domains import RESERVED, Address, Domain, OutsideDomain
from privacy_runtime.settings.expansion import CannotExpand, expand
from privacy_runtime.settings.faults import Fault, Place, nearest, unknown
from privacy_runtime.settings.secrets import Lookup
from privacy_runtime.settings.sources import DEFAULT, Branch, Items, Leaf, Tree

_Schema = TypeVar("_Schema")
_MOST_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Key:
    """What a key means.

    Args:
        says: one sentence.
        domain: what it may hold.
        unit: of a number.
        used_by: what reads it in this version; empty when nothing does yet.
    """

    says: str
    domain: Domain
    unit: str = ""
    used_by: str = ""

    @property
    def expected(self) -> str:
        """What it takes, with its unit."""
        return f"{self.domain.expected} ({self.unit})" if self.unit else self.domain.expected


@dataclass(frozen=True, slots=True)
class Entry:
    """A key in its schema; `path` has dots."""

    path: str
    key: Key
    default: Any
    may_be_null: bool


@dataclass(frozen=True, slots=True)
class Setting:
    """A key, its value, and where that came from. `parts`: what was filled in, by name only."""

    entry: Entry
    value: Any
    place: Place
    parts: tuple[str, ...] = ()
    is_masked: bool = False

    @property
    def is_default(self) -> bool:
        """Whether nobody gave it."""
        return self.place == DEFAULT

    @property
    def source(self) -> str:
        """Where it came from, in words."""
        return f"{self.place} ({', '.join(self.parts)})" if self.parts else str(self.place)

    @property
    def shown(self) -> Any:
        """The value as it may be shown."""
        if isinstance(self.value, Secret):
            return repr(self.value)
        if self.is_masked:
            return f"Secret({MASK})"
        return list(self.value) if isinstance(self.value, tuple) else self.value


@dataclass(frozen=True, slots=True)
class Conflict:
    """Values that each are in their domain and cannot be together.

    Args:
        paths: the keys; the first one is named as the fault.
        expected: what would be right.
    """

    paths: tuple[str, ...]
    expected: str


@dataclass(frozen=True, slots=True)
class Settled(Generic[_Schema]):
    """What came of the layers. With faults, `values` holds defaults in the place of what is wrong.

    Attributes:
        values: the instance of the schema.
        settings: every key with its source, in the schema's order.
        faults: everything that is wrong.
    """

    values: _Schema
    settings: Mapping[str, Setting]
    faults: tuple[Fault, ...] = field(default=())


def entries(schema: type[Any], path: str = "") -> Iterator[Entry]:
    """Every key of a schema, in order."""
    for name, hint, default in _fields(schema):
        inside = f"{path}.{name}" if path else name
        if _is_section(hint):
            yield from entries(hint, inside)
        else:
            yield _entry(inside, hint, default)


def sections(schema: type[Any], path: str = "") -> Iterator[tuple[str, type[Any]]]:
    """Every section of a schema with its path, in order, outer before inner."""
    for name, hint, _ in _fields(schema):
        if _is_section(hint):
            inside = f"{path}.{name}" if path else name
            yield inside, hint
            yield from sections(hint, inside)


def settle(
    schema: type[_Schema],
    layers: Sequence[Branch],
    lookup: Lookup,
    conflicts: Callable[[_Schema], Iterable[Conflict]] = lambda _: (),
) -> Settled[_Schema]:
    """Read layers into a schema; a later layer wins over an earlier one, key by key.

    A list is one value: a later one replaces it. A value that a later layer replaces is not
    looked at, so its secrets need not be there; its key must be known all the same.

    Args:
        schema: a frozen dataclass of keys and sections.
        layers: trees, the weakest first.
        lookup: where `${...}` is filled in from.
        conflicts: what is wrong between keys. Those about a key that is wrong by itself are left
            out: its default was never meant.
    """
    reader = _Reader(lookup)
    values = reader.section(schema, layers, "")
    wrong = {fault.path for fault in reader.faults}
    for conflict in conflicts(values):
        if wrong.isdisjoint(conflict.paths):
            reader.faults.append(_conflict(conflict, reader.settings))
    return Settled(values, reader.settings, tuple(reader.faults))


class _Reader:
    """One reading of layers: the settings and faults so far."""

    def __init__(self, lookup: Lookup) -> None:
        self.lookup = lookup
        self.faults: list[Fault] = []
        self.settings: dict[str, Setting] = {}

    def section(self, schema: type[_Schema], layers: Sequence[Branch], path: str) -> _Schema:
        """An instance of a section from its part of every layer."""
        known = [name for name, _, _ in _fields(schema)]
        self._refuse_unknown(known, layers, path)
        values = {}
        for name, hint, default in _fields(schema):
            inside = f"{path}.{name}" if path else name
            given = [layer.entries[name] for layer in layers if name in layer.entries]
            if _is_section(hint):
                values[name] = self.section(hint, self._branches(given, inside), inside)
            else:
                entry = _entry(inside, hint, default)
                values[name] = self._setting(entry, given[-1] if given else None).value
        return schema(**values)

    def _refuse_unknown(self, known: list[str], layers: Sequence[Branch], path: str) -> None:
        for layer in layers:
            for name in layer.entries:
                if name not in known:
                    place = layer.places.get(name, layer.place)
                    near = nearest(name, known)
                    message = unknown("is not a known key", near)
                    inside = f"{path}.{name}" if path else name
                    more = {"nearest": f"{path}.{near}" if path and near else near}
                    self.faults.append(Fault.at(place, inside, message, **more))

    def _branches(self, given: Sequence[Tree], path: str) -> list[Branch]:
        found = []
        for tree in given:
            if isinstance(tree, Branch):
                found.append(tree)
            elif not (isinstance(tree, Leaf) and tree.value is None):
                message = "is a value, expected a section with keys of its own"
                self.faults.append(Fault.at(tree.place, path, message))
        return found

    def _setting(self, entry: Entry, tree: Tree | None) -> Setting:
        setting = Setting(entry, entry.default, DEFAULT)
        if tree is not None:
            try:
                setting = self._read(entry, tree)
            except _Refused as refusal:
                self.faults.append(refusal.fault)
        self.settings[entry.path] = setting
        return setting

    def _read(self, entry: Entry, tree: Tree) -> Setting:
        if isinstance(tree, Branch):
            raise _Refused(Fault.at(tree.place, entry.path, f"is a section, {_words(entry)}"))
        filled = _Filled()
        value = self._value(entry, tree, filled)
        if value is None and entry.may_be_null:
            return Setting(entry, None, tree.place, filled.parts)
        try:
            read = entry.key.domain.read(value)
        except OutsideDomain:
            shown = _shown(tree, is_secret=entry.key.domain.is_secret)
            message = f"is {shown}, {_words(entry)}"
            more = {"value": shown, "expected": entry.key.expected}
            if isinstance(value, str) and not entry.key.domain.is_secret and not filled.parts:
                near = nearest(value, _choices(entry.key.domain))
                message = unknown(message, near)
            raise _Refused(Fault.at(tree.place, entry.path, message, **more)) from None
        return Setting(entry, read, tree.place, filled.parts, filled.is_secret)

    def _value(self, entry: Entry, tree: Tree, filled: _Filled) -> Any:
        """The Python value of a leaf or a list, with references filled in."""
        if isinstance(tree, Items):
            return [self._value(entry, item, filled) for item in tree.items]
        if isinstance(tree, Branch):
            message = f"has a mapping in its list, {_words(entry)}"
            raise _Refused(Fault.at(tree.place, entry.path, message))
        if tree.expands:
            return self._expanded(entry, tree, filled)
        filled.is_secret = filled.is_secret or tree.is_secret
        return _typed(tree.value, entry) if tree.is_text else tree.value

    def _expanded(self, entry: Entry, leaf: Leaf, filled: _Filled) -> Any:
        try:
            expanded = expand(leaf.value, self.lookup)
        except CannotExpand as error:
            raise _Refused(Fault.at(leaf.place, entry.path, str(error))) from error
        if not expanded.parts:
            return expanded.text
        filled.parts += tuple(part.place for part in expanded.parts)
        filled.is_secret = filled.is_secret or expanded.is_secret
        if isinstance(entry.key.domain, Address) and not expanded.is_whole:
            for part in expanded.parts:
                if RESERVED.search(part.text):
                    message = (
                        f"is filled in from {part.place} with a value that has a character of "
                        "'@ : / ? # [ ] %' or a space, which would change the address; write it "
                        "there percent-encoded, or put the whole address in one variable"
                    )
                    raise _Refused(Fault.at(leaf.place, entry.path, message))
        return _typed(expanded.text, entry)


class _Refused(Exception):
    """A value cannot be read."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


class _Filled:
    """What was filled in while one value was read."""

    def __init__(self) -> None:
        self.parts: tuple[str, ...] = ()
        self.is_secret = False


def _fields(schema: Any) -> tuple[tuple[str, Any, Any], ...]:
    """Name, annotation and default of every field."""
    return _resolved(schema)


@functools.cache  # resolving annotations is most of the time of a reading
def _resolved(schema: Any) -> tuple[tuple[str, Any, Any], ...]:
    found = []
    hints = typing.get_type_hints(schema, include_extras=True)
    for each in fields(schema):
        default = each.default
        if default is MISSING and each.default_factory is not MISSING:
            default = each.default_factory()
        found.append((each.name, hints[each.name], default))
    return tuple(found)


def _is_section(hint: Any) -> bool:
    return isinstance(hint, type) and is_dataclass(hint)


def _entry(path: str, hint: Any, default: Any) -> Entry:
    inner, key = typing.get_args(hint)
    union = typing.get_origin(inner) in (typing.Union, types.UnionType)
    return Entry(path, key, default, union and type(None) in typing.get_args(inner))


def _typed(text: str, entry: Entry) -> Any:
    """A text from a source that knows only texts, as its key takes it."""
    if entry.may_be_null and text in ("", "null", "~"):
        return None
    return text if entry.key.domain.takes_text else plain(text)


def _choices(domain: Domain) -> tuple[str, ...]:
    return getattr(domain, "words", ())


def _words(entry: Entry) -> str:
    either = " or null" if entry.may_be_null else ""
    return f"expected {entry.key.expected}{either}"


def _shown(tree: Tree, *, is_secret: bool) -> str:
    """A value as a fault may show it: secrets masked, references as they were written."""
    if is_secret or (isinstance(tree, Leaf) and tree.is_secret):
        return f"Secret({MASK})"
    if isinstance(tree, Items):
        return f"[{', '.join(_shown(item, is_secret=False) for item in tree.items)}]"[:_MOST_SHOWN]
    if isinstance(tree, Branch):
        return "a mapping"
    if tree.value is None or isinstance(tree.value, bool):
        return {None: "null", True: "true", False: "false"}[tree.value]
    if isinstance(tree.value, Secret):
        return repr(tree.value)
    text = repr(tree.value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _conflict(conflict: Conflict, settings: Mapping[str, Setting]) -> Fault:
    first = settings[conflict.paths[0]]
    shown = [f"is {_plainly(first)}"]
    for path in conflict.paths[1:]:
        other = settings[path]
        shown.append(f"{path} is {_plainly(other)} ({other.place})")
    message = f"{', '.join(shown)}; expected {conflict.expected}"
    given = next((settings[p].place for p in conflict.paths if not settings[p].is_default), DEFAULT)
    place = given if first.is_default else first.place
    value = _plainly(first)
    return Fault.at(place, first.entry.path, message, value=value, expected=conflict.expected)


def _plainly(setting: Setting) -> str:
    shown = setting.shown
    if shown is None or isinstance(shown, bool):
        return {None: "null", True: "true", False: "false"}[shown]
    return str(shown)
