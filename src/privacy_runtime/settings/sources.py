"""Where values come from: a file, the environment, keywords. Each becomes a tree of the same form.

A tree says of every value where it stands, so that a fault can name the line and `show` the source.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import yaml

from privacy_runtime.settings.documents import NULL, TEXT, line_of, scalar
from privacy_runtime.settings.expansion import names_in
from privacy_runtime.settings.faults import Fault, Place, SecretUnavailable, nearest, unknown
from privacy_runtime.settings.secrets import Lookup

JOINT: Final = "__"
PREFIX: Final = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*_")


DEFAULT: Final = Place("default")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A scalar as it was found.

    Attributes:
        value: the value; a text with `${...}` where `expands`.
        place: where it stands.
        expands: whether `${...}` in it is to be filled in: in files only.
        is_text: whether the source knows only texts: the environment.
        is_secret: whether the source is one of secrets.
    """

    value: Any = field(repr=False)
    place: Place
    expands: bool = False
    is_text: bool = False
    is_secret: bool = False


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[Tree, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Branch:
    """A mapping; `places` are those of its keys."""

    entries: Mapping[str, Tree]
    place: Place
    places: Mapping[str, Place] = field(default_factory=dict)


Tree: TypeAlias = Leaf | Items | Branch
EMPTY: Final = Branch({}, DEFAULT)


def from_document(root: yaml.Node | None, source: str, faults: list[Fault]) -> Branch:
    """The tree of a composed document; keys given twice or that are no texts are faults."""
    if root is None or root.tag == NULL:
        return Branch({}, Place(source))
    tree = _tree(root, "", source, faults)
    if isinstance(tree, Branch):
        return tree
    faults.append(Fault("", line_of(root), "is not a mapping", source=source))
    return Branch({}, Place(source))


def from_keywords(values: Mapping[str, Any], name: str = "") -> Branch:
    """The tree of Python values: mappings, lists and scalars."""
    entries: dict[str, Tree] = {}
    for key, value in values.items():
        path = f"{name}.{key}" if name else str(key)
        entries[str(key)] = _keyword(value, path)
    return Branch(entries, Place(f"keyword {name}" if name else "keywords"))


def from_variables(
    paths: Mapping[str, bool],
    lookup: Lookup,
    faults: list[Fault],
    *,
    prefix: str,
    aliases: Mapping[str, str] | None = None,
    others: Collection[str] = (),
) -> Branch:
    """The tree of the environment: `PREFIX` and the path in capitals, joined by two underscores.

    Args:
        paths: every key, with whether it is secret; a secret one may be given as `NAME_FILE`.
        lookup: where variables are.
        faults: what is wrong is added here: a variable with the prefix that names no key, a key
            that is given twice.
        prefix: in capitals, with an underscore at its end.
        aliases: further names, without the prefix, and their keys.
        others: variables with the prefix that a file refers to: not keys, and not faults.
    """
    names = {prefix + path.upper().replace(".", JOINT): path for path in paths}
    names |= {prefix + name: path for name, path in (aliases or {}).items()}
    given: dict[str, tuple[str, Leaf]] = {}
    for name in sorted(lookup.variables):
        path = names.get(name) or _pointed(name, names, paths)
        if path is None:
            if name.startswith(prefix) and name.removesuffix("_FILE") not in others:
                near = nearest(name, names)
                message = unknown("is a variable for no known key", near)
                faults.append(Fault(name, 0, message, source="environment", nearest=near))
            continue
        place = f"variable {name}"
        if path in given:
            message = f"is given by {given[path][0]} and by {name}; expected one of them"
            faults.append(Fault(path, 0, message, source=place))
            continue
        try:
            text = _text_of(name, names, lookup)
        except SecretUnavailable as error:
            faults.append(Fault(path, 0, f"cannot be read: {error}", source=place))
            continue
        leaf = Leaf(text, Place(place), is_text=True, is_secret=paths[path])
        given[path] = (name, leaf)
    return _grown({path: leaf for path, (_, leaf) in given.items()})


def references(tree: Tree) -> Iterator[str]:
    """The variables that the texts of a tree refer to."""
    if isinstance(tree, Leaf):
        if tree.expands:
            yield from names_in(str(tree.value))
        return
    for child in tree.items if isinstance(tree, Items) else tree.entries.values():
        yield from references(child)


def _tree(node: yaml.Node, path: str, source: str, faults: list[Fault]) -> Tree:
    place = Place(source, line_of(node), node.start_mark.column + 1)
    if isinstance(node, yaml.ScalarNode):
        return Leaf(scalar(node), place, expands=node.tag == TEXT)
    if isinstance(node, yaml.SequenceNode):
        items = (_tree(item, f"{path}[{n}]", source, faults) for n, item in enumerate(node.value))
        return Items(tuple(items), place)
    entries: dict[str, Tree] = {}
    places: dict[str, Place] = {}
    for key, value in node.value:
        at = Place(source, line_of(key), key.start_mark.column + 1)
        if not isinstance(key, yaml.ScalarNode):
            faults.append(Fault.at(at, path, "has a key that is not a text"))
            continue
        name = str(key.value)
        inside = f"{path}.{name}" if path else name
        if name in entries:
            message = f"is given twice; the first time in line {places[name].line}"
            faults.append(Fault.at(at, inside, message))
            continue
        entries[name] = _tree(value, inside, source, faults)
        places[name] = at
    return Branch(entries, place, places)


def _keyword(value: Any, path: str) -> Tree:
    if isinstance(value, Mapping):
        return from_keywords(value, path)
    place = Place(f"keyword {path}")
    if isinstance(value, list | tuple):
        items = tuple(_keyword(item, f"{path}[{n}]") for n, item in enumerate(value))
        return Items(items, place)
    return Leaf(value, place)


def _pointed(name: str, names: Mapping[str, str], paths: Mapping[str, bool]) -> str | None:
    """The secret key that `NAME_FILE` gives."""
    path = names.get(name.removesuffix("_FILE")) if name.endswith("_FILE") else None
    return path if path is not None and paths[path] else None


def _text_of(name: str, names: Mapping[str, str], lookup: Lookup) -> str:
    """The text of a variable, or of the file that it names."""
    found = lookup.find(name if name in names else name.removesuffix("_FILE"))
    return "" if found is None else found.text


def _grown(leaves: Mapping[str, Leaf]) -> Branch:
    """A tree from dotted paths."""
    inner: dict[str, dict[str, Leaf]] = {}
    entries: dict[str, Tree] = {}
    for path, leaf in leaves.items():
        head, dot, rest = path.partition(".")
        if dot:
            inner.setdefault(head, {})[rest] = leaf
        else:
            entries[head] = leaf
    place = Place("environment")
    entries |= {head: _grown(rest) for head, rest in inner.items()}
    return Branch(entries, place)
