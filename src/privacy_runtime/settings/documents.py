"""YAML text, read strictly, into nodes that know their lines. The one home of YAML here.

What differs from `yaml.safe_load`, and why:

=========================  =======================================================================
scalars are YAML 1.2       `1e-5` is a number; `no`, `on`, `22:22` and `2026-01-01` are texts;
                           `012` is twelve (YAML 1.2.2, section 10.3.2, the core schema)
a key given twice          a fault: which of them was meant cannot be known
`<<`                       an ordinary key, so an unknown one: there are no merges in YAML 1.2
anchors and aliases        allowed; what they unfold to counts against the limits; no cycles
tags (`!x`, `!!python/..`) a fault: no object is ever made from a document
size, depth, nodes         limited, so that a few lines cannot unfold to gigabytes
=========================  =======================================================================
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import yaml
from yaml.composer import Composer, ComposerError
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from privacy_runtime.settings.faults import Fault

MOST_BYTES: Final = 262_144
MOST_DEPTH: Final = 32
MOST_NODES: Final = 10_000

NULL: Final = "tag:yaml.org,2002:null"
BOOL: Final = "tag:yaml.org,2002:bool"
INT: Final = "tag:yaml.org,2002:int"
FLOAT: Final = "tag:yaml.org,2002:float"
TEXT: Final = "tag:yaml.org,2002:str"
_OURS: Final = frozenset(
    {NULL, BOOL, INT, FLOAT, TEXT, "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
)

_PLAIN: Final = (  # the core schema, in its order
    (NULL, re.compile(r"(?:null|Null|NULL|~|)\Z"), ["n", "N", "~", ""]),
    (BOOL, re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")),
    (INT, re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"), list("-+0123456789")),
    (
        FLOAT,
        re.compile(
            r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
        list("-+0123456789."),
    ),
)
_MOST_DIGITS: Final = 400
"""No setting needs more, and Python refuses to read whole numbers beyond 4,300."""


class _CoreSchema(BaseResolver):
    """What plain scalars are in YAML 1.2."""


for _tag, _pattern, _first in _PLAIN:
    _CoreSchema.add_implicit_resolver(_tag, _pattern, _first)


class _Loader(Reader, Scanner, Parser, Composer, _CoreSchema):
    """Composes nodes; constructs nothing."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        _CoreSchema.__init__(self)
        self._depth = 0
        self._count = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """One node, unless the document is too deep or too large by now."""
        self._depth += 1
        self._count += 1
        mark = self.get_mark()
        if self._depth > MOST_DEPTH:
            raise ComposerError(None, None, f"it is deeper than {MOST_DEPTH} levels", mark)
        if self._count > MOST_NODES:
            raise ComposerError(None, None, f"it has more than {MOST_NODES:,} nodes", mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def read_text(path: Path) -> tuple[str, tuple[Fault, ...]]:
    """The text of a file, or why it cannot be read: not there, too large, not UTF-8."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        return "", (Fault("", 0, f"cannot be read: {error.strerror}", source=str(path)),)
    if len(data) > MOST_BYTES:
        message = f"cannot be read: it is larger than {MOST_BYTES:,} bytes"
        return "", (Fault("", 0, message, source=str(path)),)
    try:
        return data.decode("utf-8-sig"), ()
    except UnicodeDecodeError as error:
        message = f"cannot be read: it is not UTF-8 text (byte {error.start})"
        return "", (Fault("", 0, message, source=str(path)),)


def compose(text: str, source: str = "") -> tuple[yaml.Node | None, tuple[Fault, ...]]:
    """Parse YAML into nodes that know their lines.

    Guarantee: the nodes are a tree that unfolds to at most `MOST_NODES` nodes, `MOST_DEPTH` deep,
    of scalars of the core schema, lists and mappings. Keys that are not texts or are given twice
    are left to whoever reads the mapping: they know its path.

    Returns:
        The root, and what is wrong; with a fault there is no root.
    """
    if len(text) > MOST_BYTES:
        return None, (Fault("", 0, f"is larger than {MOST_BYTES:,} bytes", source=source),)
    loader = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or "it holds characters that YAML does not allow"
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
        return None, (Fault("", line, f"is not YAML: {reason}", source=source, column=column),)
    finally:
        if loader is not None:
            loader.dispose()
    faults = () if root is None else _limits(root, source)
    return (None, faults) if faults else (root, ())


def scalar(node: yaml.ScalarNode) -> bool | int | float | str | None:
    """The value of a scalar: what the core schema says of its tag."""
    return _value(node.tag, node.value)


def plain(text: str) -> bool | int | float | str | None:
    """The value that a text would have as a plain scalar. For variables, which know no types."""
    for tag, pattern, _ in _PLAIN:
        if pattern.match(text):
            return _value(tag, text)
    return text


def line_of(node: yaml.Node | None) -> int:
    """The line of a node, from 1; 0 without one."""
    return 0 if node is None else node.start_mark.line + 1


def _value(tag: str, text: str) -> bool | int | float | str | None:
    if tag == NULL:
        return None
    if tag == BOOL:
        return text.lower() == "true"
    if tag == INT and len(text) <= _MOST_DIGITS:
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if tag == FLOAT:
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def _limits(root: yaml.Node, source: str) -> tuple[Fault, ...]:
    """What makes a document more than a small tree of plain data."""
    faults: list[Fault] = []
    size, height = _unfolded(root, (), {}, faults, source)
    if faults:
        return tuple(faults)
    by = "by its aliases"
    if size > MOST_NODES:
        faults.append(Fault("", 0, f"unfolds to more than {MOST_NODES:,} nodes {by}", source))
    if height > MOST_DEPTH:
        faults.append(Fault("", 0, f"unfolds to more than {MOST_DEPTH} levels {by}", source))
    return tuple(faults)


def _unfolded(
    node: yaml.Node,
    above: Sequence[int],
    known: dict[int, tuple[int, int]],
    faults: list[Fault],
    source: str,
) -> tuple[int, int]:
    """Nodes and levels that a node unfolds to; each is looked at once, however often it is named.

    An anchor stands before its aliases, so what recurses here is what was composed: `MOST_DEPTH`.
    """
    if id(node) in above:
        faults.append(Fault("", line_of(node), "holds itself, by an alias", source=source))
        return 1, 1
    if id(node) in known:
        return known[id(node)]
    if node.tag not in _OURS or (node.tag != TEXT and _is_forced(node)):
        message = f"has a tag, {node.tag.removeprefix('tag:yaml.org,2002:')!r}; tags are not read"
        faults.append(Fault("", line_of(node), message, source=source))
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [each for pair in node.value for each in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = list(node.value)
    inside = (*above, id(node))
    found = [_unfolded(child, inside, known, faults, source) for child in children]
    size = 1 + sum(size for size, _ in found)
    known[id(node)] = (size, 1 + max((height for _, height in found), default=0))
    return known[id(node)]


def _is_forced(node: yaml.Node) -> bool:
    """Whether a scalar was given a tag that its text does not have: `!!int x`."""
    if not isinstance(node, yaml.ScalarNode):
        return False
    return not any(tag == node.tag and pattern.match(node.value) for tag, pattern, _ in _PLAIN)
