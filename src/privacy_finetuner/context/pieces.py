"""Pieces of text inside a document, and what is put in their place.

A document of any format is a sequence of records; a record is a handful of pieces (cells, JSON
leaves, the text of a page) and knows how to write itself again once some spans were replaced.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Final, Protocol

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[_\-./:\s]+")
_FRACTION = re.compile(r"-?([0-9]{1,24}(?:\.[0-9]{0,24}(?:[eE]\+?[0-9]{1,2})?|[eE]\+?[0-9]{1,2}))")
_LARGEST_WHOLE: Final = 10**24
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Piece:
    """A text, and what stands beside it in its document.

    Attributes:
        text: what is looked at. Not shown in a repr.
        column: where in a record it stands, without positions: `messages[].content`; "" for prose.
        name: the last name of `column`: what `--column NAME=...` means.
        hints: words beside the text that say what it is: the names along the path.
    """

    text: str = field(repr=False)
    column: str = ""
    name: str = ""
    hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Edit:
    """A span of a piece, and what stands there now."""

    start: int
    end: int
    replacement: str


class Record(Protocol):
    """A part of a document that is protected as a whole: what is numbered is numbered in it."""

    @property
    def pieces(self) -> Sequence[Piece]:
        """The texts of the record, in order."""
        ...

    def render(self, edits: Sequence[Sequence[Edit]]) -> str:
        """Write the record with the edits of each piece, in the order of `pieces`."""
        ...


@dataclass(frozen=True, slots=True)
class Prose:
    """A record that is nothing but text."""

    pieces: tuple[Piece, ...] = field(repr=False)

    @classmethod
    def of(cls, text: str) -> Prose:
        """The record of a text."""
        return cls((Piece(text),))

    def render(self, edits: Sequence[Sequence[Edit]]) -> str:
        """Write the text with its edits."""
        return "".join(
            edited(piece.text, mine) for piece, mine in zip(self.pieces, edits, strict=True)
        )


def edited(text: str, edits: Sequence[Edit]) -> str:
    """The text with the spans of `edits` (in order, not overlapping) replaced."""
    if not edits:
        return text
    parts, done = [], 0
    for edit in edits:
        parts += [text[done : edit.start], edit.replacement]
        done = edit.end
    return "".join([*parts, text[done:]])


def digits_of(text: str) -> str | None:
    """The digits of a whole number that was written as a fraction; `None` for every other text.

    A column of numbers in which one is missing becomes a column of fractions on its way through
    many programs: `536221234.0`, `4.111111111111111e+15` are the numbers that they were.
    """
    found = _FRACTION.fullmatch(text.strip())
    if found is None:
        return None
    number = Decimal(found[1])
    whole = number.to_integral_value()
    return str(int(whole)) if whole == number and whole < _LARGEST_WHOLE else None


@lru_cache(maxsize=4096)
def words_of(name: str) -> str:
    """The words in an identifier: `dateOfBirth`, `date_of_birth` -> `date of birth`."""
    return " ".join(part for part in _CAMEL.split(name) if part).lower()


def without_surrogates(text: str) -> str:
    """The text with every lone half of a surrogate pair as U+FFFD; as many code points as before.

    JSON may hold such halves; no encoder, and so no scanner, takes them.
    """
    if text.isascii():
        return text
    return _SURROGATE.sub("\ufffd", text)
