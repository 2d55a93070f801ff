"""A YAML document read by hand, for what no schema describes: sections whose keys are names.

An unknown key, a wrong type, a key given twice or a value out of range is a fault; nothing is
guessed. Values that were not given come from the defaults of the reader. Where the keys are known,
`schema` does the reading.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from enum import StrEnum
from typing import TypeVar

import yaml

from privacy_runtime.settings.documents import BOOL, FLOAT, INT, NULL, line_of, scalar
from privacy_runtime.settings.faults import Fault, nearest, unknown

_LEADING_ZERO = re.compile(r"[-+]?0[0-9]")
_Kind = TypeVar("_Kind", bound=StrEnum)
_Value = TypeVar("_Value")


class Section:
    """One mapping of a document. What was not asked for when it is `finish`ed is a fault."""

    def __init__(self, node: yaml.Node | None, path: str, faults: list[Fault]) -> None:
        self.path, self.faults = path, faults
        self.line = line_of(node)
        self._nodes: dict[str, tuple[yaml.Node, int]] = {}
        self._known: set[str] = set()
        if node is None or node.tag == NULL:
            return
        if not isinstance(node, yaml.MappingNode):
            self.report("is not a mapping", node)
            return
        for key, value in node.value:
            self._add(key, value)

    def report(self, message: str, node: yaml.Node | None = None, *, key: str = "") -> None:
        """Add a fault; the section's own line when no node is given."""
        line = line_of(node) if node is not None else self.line
        self.faults.append(Fault(self._at(key) if key else self.path, line, message))

    def has(self, key: str) -> bool:
        """Whether a key was given; it counts as known from then on."""
        self._known.add(key)
        return key in self._nodes

    def names(self) -> tuple[str, ...]:
        """All keys, in order; they count as known. For sections whose keys are names."""
        self._known.update(self._nodes)
        return tuple(self._nodes)

    def section(self, key: str) -> Section:
        """The mapping under a key; an empty one when it was not given."""
        node = self._take(key)
        return Section(node, self._at(key), self.faults)

    def text(self, key: str, default: str = "") -> str:
        """A text under a key."""
        node = self._take(key)
        return default if node is None else self._text(node, self._at(key), default)

    def optional(self, key: str) -> str | None:
        """A text under a key, or nothing."""
        return self.text(key) or None

    def required(self, key: str) -> str:
        """A text that must be given."""
        found = self.text(key)
        if not found and key not in self._nodes:
            self.report("is missing", key=key)
        return found

    def texts(self, key: str, default: Collection[str] = ()) -> tuple[str, ...]:
        """A list of texts under a key."""
        node = self._take(key)
        if node is None:
            return tuple(default)
        return tuple(
            self._text(item, f"{self._at(key)}[{index}]", "")
            for index, item in self._items(node, key)
        )

    def mapping(self, key: str) -> dict[str, str]:
        """A mapping of texts under a key."""
        inner = self.section(key)
        return {name: inner.text(name) for name in inner.names()}

    def flag(self, key: str, default: bool) -> bool:
        """`true` or `false` under a key."""
        node = self._take(key)
        if node is None:
            return default
        if not isinstance(node, yaml.ScalarNode) or node.tag != BOOL:
            self.report("is not true or false", node, key=key)
            return default
        return scalar(node) is True

    def number(self, key: str, default: float, *, above: float = 0.0) -> float:
        """A number larger than `above` under a key."""
        node = self._take(key)
        if node is None:
            return default
        value = (
            scalar(node) if isinstance(node, yaml.ScalarNode) and node.tag in (INT, FLOAT) else None
        )
        if not isinstance(value, int | float) or not above < value < float("inf"):
            self.report(f"is not a number above {above:g}", node, key=key)
            return default
        return float(value)

    def integer(self, key: str, default: int, *, least: int = 1) -> int:
        """A whole number of at least `least` under a key, written without leading zeros.

        YAML 1.1 takes `0777` for 511, YAML 1.2 for 777: who wrote it may have meant either.
        """
        node = self._take(key)
        if node is None:
            return default
        if isinstance(node, yaml.ScalarNode) and _LEADING_ZERO.match(node.value):
            self.report("has a leading zero, which some readers take for octal", node, key=key)
            return default
        value = scalar(node) if isinstance(node, yaml.ScalarNode) and node.tag == INT else None
        if not isinstance(value, int) or value < least:
            self.report(f"is not a whole number of at least {least}", node, key=key)
            return default
        return value

    def choice(self, key: str, kind: type[_Kind], default: _Kind) -> _Kind:
        """One of the words of `kind` under a key."""
        node = self._take(key)
        if node is None:
            return default
        found = node.value if isinstance(node, yaml.ScalarNode) else ""
        try:
            return kind(found)
        except ValueError:
            words = ", ".join(kind)
            self.report(f"is {found!r}, expected one of {words}", node, key=key)
            return default

    def each(self, key: str, read: Callable[[str], _Value]) -> tuple[_Value, ...]:
        """A list of texts, each read by a function whose `ValueError` becomes a fault."""
        node = self._take(key)
        values = []
        for index, item in self._items(node, key) if node is not None else ():
            path = f"{self._at(key)}[{index}]"
            try:
                values.append(read(self._text(item, path, "")))
            except ValueError as error:
                self.faults.append(Fault(path, line_of(item), str(error)))
        return tuple(values)

    def finish(self) -> None:
        """Report every key that nobody asked for, with the nearest one that exists."""
        for name, (_, line) in self._nodes.items():
            if name not in self._known:
                near = nearest(name, self._known)
                message = unknown("is not a known key", near)
                self.faults.append(Fault(self._at(name), line, message, nearest=near))

    def _add(self, key: yaml.Node, value: yaml.Node) -> None:
        if not isinstance(key, yaml.ScalarNode):
            self.report("has a key that is not a text", key)
        elif key.value in self._nodes:
            self.report("is given twice", key, key=key.value)
        else:
            self._nodes[key.value] = (value, line_of(key))

    def _take(self, key: str) -> yaml.Node | None:
        self._known.add(key)
        node = self._nodes.get(key, (None, 0))[0]
        return None if node is None or node.tag == NULL else node

    def _at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def _items(self, node: yaml.Node, key: str) -> Iterator[tuple[int, yaml.Node]]:
        if not isinstance(node, yaml.SequenceNode):
            self.report("is not a list", node, key=key)
            return
        yield from enumerate(node.value)

    def _text(self, node: yaml.Node, path: str, default: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag in (NULL, BOOL):
            self.faults.append(Fault(path, line_of(node), "is not a text"))
            return default
        return str(node.value)
