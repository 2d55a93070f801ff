"""A commented file from a schema: every key with its sentence, its domain, unit and default."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from typing import Any, Final

from privacy_runtime.secret import Secret
from privacy_runtime.settings.documents import plain
from privacy_runtime.settings.expansion import escaped
from privacy_runtime.settings.schema import Entry, entries, sections

_WIDTH: Final = 96
_HIDDEN: Final = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_SIMPLE: Final = re.compile(r"[A-Za-z_./][A-Za-z0-9_./+@-]*")


class Reference(str):
    """A text that goes into the file as it is, such as `${DB_PASSWORD}`."""

    __slots__ = ()


def template(schema: type[Any], values: Mapping[str, Any], *, header: str) -> str:
    """The text of a file with every key of a schema.

    Args:
        schema: a dataclass of keys and sections.
        values: by dotted path, what is set; every other key stands as a comment with its default.
        header: the words at its top.
    """
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    titles = {path: (kind.__doc__ or "").splitlines()[0] for path, kind in sections(schema)}
    opened: set[str] = set()
    for entry in entries(schema):
        parents = entry.path.split(".")[:-1]
        for depth in range(len(parents)):
            path = ".".join(parents[: depth + 1])
            if path not in opened:
                opened.add(path)
                if not lines[-1].endswith(":"):
                    lines.append("")
                lines += _opening(path, titles[path], depth)
        if not lines[-1].endswith(":"):
            lines.append("")
        lines += _key(entry, values, "  " * len(parents))
    return "\n".join(lines) + "\n"


def written(value: Any) -> str:
    """A value as YAML 1.2 in one line; read back it is the same value.

    A secret is written only as a `Reference`: one that is known here has no place in a file.
    """
    if isinstance(value, Reference):
        return str(value) if _is_safe(str(value)) else _quoted(str(value))
    if isinstance(value, Secret):
        raise TypeError("a secret is not written to a file; write a reference to it")
    if isinstance(value, tuple | list):
        return f"[{', '.join(written(item) for item in value)}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        simple = _SIMPLE.fullmatch(value) and isinstance(plain(value), str)
        return value if simple else _quoted(escaped(value))
    return repr(value)


def _quoted(text: str) -> str:
    """A text in double quotes; what YAML counts as not printable is escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return _HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)


def _is_safe(text: str) -> bool:
    return not re.search(r"[\s#'\"\[\],]|:\Z|^[&*!|>%@`?{-]", text)


def _opening(path: str, title: str, depth: int) -> list[str]:
    indent = "  " * depth
    name = path.rpartition(".")[2]
    return [*_comment(title, indent), f"{indent}{name}:"]


def _key(entry: Entry, values: Mapping[str, Any], indent: str) -> list[str]:
    key = entry.key
    default = entry.default
    if isinstance(default, Secret):
        default = Reference(default.reveal())
    state = "" if key.used_by else " Not used by this version."
    either = " or null" if entry.may_be_null else ""
    words = f"{key.says} Takes {key.expected}{either}; default {written(default)}.{state}"
    name = entry.path.rpartition(".")[2]
    if entry.path in values:
        line = f"{indent}{name}: {written(values[entry.path])}"
    else:
        line = f"{indent}# {name}: {written(default)}"
    return [*_comment(words, indent), line]


def _comment(words: str, indent: str) -> list[str]:
    mark = f"{indent}# "
    return textwrap.wrap(
        words,
        _WIDTH,
        initial_indent=mark,
        subsequent_indent=mark,
        break_long_words=False,
        break_on_hyphens=False,
    )
