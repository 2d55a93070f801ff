"""JSON as pieces: every string, every number and every key, also in JSON inside strings.

Only what is replaced changes: white space, order, repeated keys and the digits of other numbers
stay as they were written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from privacy_finetuner.context.pieces import Edit, Piece, edited, words_of
from privacy_finetuner.errors import ConfigurationError, DocumentError

KEY: Final = "{key}"
"""The column of the keys of an object."""

_TOKEN = re.compile(
    r'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|[{}\[\],:]'
    r"|true|false|null|NaN|-?Infinity"
)
_NESTED_MOST: Final = 8  # JSON in a string in JSON ...; what is deeper is looked at as prose
_LITERALS: Final = frozenset({"true", "false", "null", "NaN", "Infinity", "-Infinity"})


@dataclass(slots=True)
class _Frame:
    """An object or list that is open: its path, and the key that was read last."""

    path: tuple[str, ...]
    is_object: bool
    key: str = ""
    expects_key: bool = False
    keys: dict[str, int] = field(default_factory=dict)  # each with the number for its next copy


@dataclass(frozen=True, slots=True)
class _Slot:
    """A token that may change: where it stands, and which pieces speak for it."""

    start: int
    end: int
    first: int
    inner: JsonText | None = field(default=None, repr=False)
    siblings: dict[str, int] | None = field(default=None, repr=False)  # keys, when it is a key


class JsonText:
    """A record of one JSON document.

    Args:
        text: valid JSON.
        name: what to call it in errors.
        keys_as_hints: whether the names along the path are hints.

    Raises:
        DocumentError: not JSON, with the place; or nested too deeply for the parser.
    """

    def __init__(self, text: str, name: str = "the text", *, depth: int = 0) -> None:
        _validate(text, name)
        self._text = text
        self._slots: list[_Slot] = []
        self.pieces: list[Piece] = []
        self._depth = depth
        for start, end, token, frame in _leaves(text):
            self._take(start, end, token, frame)

    @classmethod
    def of_value(cls, value: Any) -> JsonText:
        """The record of a JSON value.

        Raises:
            ConfigurationError: the value is not JSON.
        """
        try:
            return cls(json.dumps(value, ensure_ascii=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigurationError(f"the value is not JSON ({type(error).__name__})") from None

    def __repr__(self) -> str:
        return f"JsonText(characters={len(self._text)}, pieces={len(self.pieces)})"

    def render(self, edits: Sequence[Sequence[Edit]]) -> str:
        """Write the document with the edits of each piece. What results is valid JSON."""
        changed = []
        for slot in self._slots:
            replaced = self._replaced(slot, edits)
            if replaced is not None:
                changed.append(Edit(slot.start, slot.end, replaced))
        return edited(self._text, changed)

    def _take(self, start: int, end: int, token: str, frame: _Frame | None) -> None:
        first = len(self.pieces)
        is_key = frame is not None and frame.expects_key
        value = json.loads(token) if token.startswith('"') else token
        path = () if frame is None else frame.path
        if frame is not None and frame.is_object and not is_key:
            path = (*path, frame.key)
        if is_key and frame is not None:
            frame.keys[value] = 2
            self.pieces.append(Piece(value, _column((*path, KEY)), KEY, _hints(path)))
            self._slots.append(_Slot(start, end, first, siblings=frame.keys))
            return
        inner = self._nested(value) if token.startswith('"') else None
        if inner is not None:
            self.pieces += [
                Piece(
                    piece.text,
                    ".".join(part for part in (_column(path), piece.column) if part),
                    piece.name,
                    (*_hints(path), *piece.hints),
                )
                for piece in inner.pieces
            ]
        else:
            self.pieces.append(Piece(value, _column(path), _name(path), _hints(path)))
        self._slots.append(_Slot(start, end, first, inner))

    def _nested(self, value: str) -> JsonText | None:
        """The document inside a string, if it is one."""
        inside = value.strip()
        if self._depth >= _NESTED_MOST or inside[:1] not in ("{", "[") or len(inside) < 5:
            return None
        try:
            return JsonText(value, depth=self._depth + 1)
        except DocumentError:
            return None

    def _replaced(self, slot: _Slot, edits: Sequence[Sequence[Edit]]) -> str | None:
        """The token that takes the place of a slot's, or `None` when nothing changes."""
        if slot.inner is not None:
            mine = edits[slot.first : slot.first + len(slot.inner.pieces)]
            value = slot.inner.render(mine) if any(mine) else None
        elif edits[slot.first]:
            value = edited(self.pieces[slot.first].text, edits[slot.first])
        else:
            value = None
        if value is None:
            return None
        if slot.siblings is not None:
            value = _unlike(value, slot.siblings)
        is_plain = self._text[slot.start : slot.end].isascii()
        has_surrogate = any("\ud800" <= char <= "\udfff" for char in value)
        return json.dumps(value, ensure_ascii=is_plain or has_surrogate)


def _validate(text: str, name: str) -> None:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno} " if "\n" in text.strip() else ""
        reason = f"{error.msg}, {line}column {error.colno}"
    except (ValueError, RecursionError) as error:
        reason = type(error).__name__  # an integer of thousands of digits, or nested too deeply
    else:
        return
    raise DocumentError(f"{name} is not JSON ({reason}); nothing was written")


def _leaves(text: str) -> Iterator[tuple[int, int, str, _Frame | None]]:
    """Every string and number of valid JSON, with the innermost open object or list."""
    stack: list[_Frame] = []
    for match in _TOKEN.finditer(text):
        word = match[0]
        top = stack[-1] if stack else None
        if word in "{[":
            stack.append(_opened(top, is_object=word == "{"))
        elif word in "}]":
            stack.pop()
        elif word == ",":
            if top is not None:
                top.expects_key = top.is_object
        elif word == ":":
            continue
        elif word not in _LITERALS:
            yield match.start(), match.end(), word, top
            if top is not None and top.expects_key:
                top.key = json.loads(word)
                top.expects_key = False


def _opened(top: _Frame | None, *, is_object: bool) -> _Frame:
    path: tuple[str, ...] = ()
    if top is not None:
        path = (*top.path, top.key) if top.is_object else top.path
    return _Frame(path if is_object else (*path, "[]"), is_object, expects_key=is_object)


def _column(path: tuple[str, ...]) -> str:
    """A path as it is shown: `patient.phones[]`."""
    return ".".join(path).replace(".[]", "[]")


def _name(path: tuple[str, ...]) -> str:
    """The innermost key of a path."""
    return next((part for part in reversed(path) if part != "[]"), "")


@lru_cache(maxsize=4096)
def _hints(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(words for part in path if part != "[]" and (words := words_of(part)))


def _unlike(key: str, taken: dict[str, int]) -> str:
    """The key, numbered where the object has it already: a key that repeats loses a value."""
    unique, number = key, taken.get(key, 2)
    while unique in taken:
        unique, number = f"{key} ({number})", number + 1
    taken[key] = number
    taken[unique] = 2 if unique != key else number
    return unique
