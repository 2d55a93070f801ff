"""One byte a character: the text as the scanner reads it, with the way back to the original.

What a reader sees and what a pattern matches are two things: a soft hyphen, a zero-width joiner, a
full-width digit or a Cyrillic o hides a number from a pattern and from nobody else. So detection
reads a folded copy and reports positions of the original:

========================  =================================================================
in the text               in the folded copy
========================  =================================================================
ASCII                     itself, byte for byte: nothing is computed
Windows-1252 text         accents kept, curly quotes and dashes made plain: two C calls
invisible characters      gone: zero-width, soft hyphen, direction marks, combining marks
look-alikes               the Latin letter or digit they look like
other decimal digits      the ASCII digit (full-width, Arabic-Indic, Devanagari, ...)
other letters             one stand-in letter, upper or lower case
``&#64;`` ``%40``         the character they stand for, if it is ASCII
========================  =================================================================
"""

# ruff: noqa: RUF001 -- look-alikes are what this file is about

from __future__ import annotations

import codecs
import html
import re
import unicodedata
from dataclasses import dataclass
from typing import Final

_INVISIBLE: Final = frozenset({"Mn", "Me", "Cf", "Cs", "Co", "Cn"})
_STAND_IN_UPPER: Final = "\u00de"
_STAND_IN_LOWER: Final = "\u00fe"

# Cyrillic and Greek letters that look like Latin ones (a part of Unicode TR 39, confusables).
_LOOK_ALIKES: Final = dict(
    zip(
        "АВЕЅІЈКМНОРСТУХаеѕіјорсухԁһԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧονυ",
        "ABESIJKMHOPCTYXaesijopcyxdhqwABEZHIKMNOPTYXovu",
        strict=True,
    )
)
_PLAIN: Final = {
    "‘": "'", "’": "'", "‚": "'", "‛": "'", "“": '"', "”": '"', "„": '"', "′": "'",
    "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "―": "-", "−": "-", "⁃": "-",
    "…": ".", "•": "*", "●": "*", "∙": "*", "·": ".", "․": ".", "。": ".", "．": ".",
    "⁄": "/", "∕": "/", "：": ":", "＠": "@", "﹫": "@", "\u2028": "\n", "\u2029": "\n",
    "\u0085": "\n", "€": "\u00a4", "×": "x", "№": "#",
}  # fmt: skip


class _Fold(dict[int, str | None]):
    """Code point -> one Latin-1 character, or None for what is not seen. Filled as it is asked."""

    def __missing__(self, point: int) -> str | None:
        folded = self[point] = _fold(chr(point))
        return folded


def _fold(char: str) -> str | None:
    known = _PLAIN.get(char) or _LOOK_ALIKES.get(char)
    if known is not None:
        return known
    category = unicodedata.category(char)
    if category in _INVISIBLE or char == "\u00ad":
        return None
    digit = unicodedata.decimal(char, None)
    if digit is not None:
        return str(digit)
    if category == "Zs":
        return " "
    if ord(char) < 256:
        return char
    base = unicodedata.normalize("NFKD", char)[0]
    if ord(base) < 256 and not base.isspace():
        return base
    if category[0] == "L":
        return _STAND_IN_UPPER if category == "Lu" else _STAND_IN_LOWER
    return "\u00a6"


_FOLD: Final = _Fold()


def _windows_table() -> bytes:
    """Folds a byte of Windows-1252; what would vanish is a NUL, and sends the text the long way."""
    folded = bytearray(range(256))
    for byte in range(128, 256):
        char = bytes([byte]).decode("cp1252", errors="replace")
        folded[byte] = ord(_fold(char) or "\0")
    return bytes(folded)


_WINDOWS: Final = _windows_table()
_ERRORS: Final = "privacy_core.redaction.fold"


def _beyond_windows(error: UnicodeError) -> tuple[bytes, int]:
    """Folds a run of characters that Windows-1252 lacks; a NUL sends the text the long way.

    So does what the table would fold again.
    """
    assert isinstance(error, UnicodeEncodeError)  # noqa: S101 -- it is registered for encoding
    folded = [_FOLD[ord(char)] for char in error.object[error.start : error.end]]
    plain = "".join([char or "\0" for char in folded]).encode("latin-1")
    return (plain if plain.translate(_WINDOWS) == plain else b"\0"), error.end


codecs.register_error(_ERRORS, _beyond_windows)
_ESCAPE: Final = re.compile(
    r"&(?:#\d{1,6}|#[xX][0-9a-fA-F]{1,5}|nbsp|commat|amp|quot|apos|lt|gt|period|num|colon|sol"
    r"|lpar|rpar|plus|hyphen|dash|shy);|%[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}"
)


@dataclass(frozen=True, slots=True, repr=False)
class Folded:
    """A text as the scanner reads it.

    Attributes:
        plain: one byte (Latin-1) for each character that is seen.
        starts: for each byte the index of its first character in the original, and one more for
            the end; None where the two agree.
        ends: for each byte the index after its last character in the original; None likewise.
    """

    plain: bytes
    starts: tuple[int, ...] | None = None
    ends: tuple[int, ...] | None = None

    def __repr__(self) -> str:
        return f"Folded({len(self.plain)} characters, {'shifted' if self.starts else 'aligned'})"

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The span of the original that bytes `start:end` were folded from."""
        if self.starts is None or self.ends is None:
            return start, end
        return self.starts[start], self.ends[end - 1]


def fold(text: str) -> Folded:
    """The text as the scanner reads it. Linear; free for ASCII without escapes."""
    if _holds_escape(text):
        return _fold_escapes(text)
    if text.isascii():
        return Folded(text.encode("ascii"))
    plain = text.encode("cp1252", _ERRORS).translate(_WINDOWS)
    if b"\0" not in plain:
        return Folded(plain)
    seen = text.translate(_FOLD)
    if len(seen) == len(text):
        return Folded(seen.encode("latin-1"))
    return _shifted(list(text), list(range(len(text) + 1)))


def _holds_escape(text: str) -> bool:
    """Whether an escape is anywhere; its first sign is looked for first, that is faster."""
    for sign in "&%\\":
        at = text.find(sign)
        while at >= 0:
            if _ESCAPE.match(text, at):
                return True
            at = text.find(sign, at + 1)
    return False


def _fold_escapes(text: str) -> Folded:
    chars: list[str] = []
    marks: list[int] = []
    last = 0
    for match in _ESCAPE.finditer(text):
        char = _unescape(match.group())
        if char is None:
            continue
        chars.extend(text[last : match.start()])
        marks.extend(range(last, match.start()))
        chars.append(char)
        marks.append(match.start())
        last = match.end()
    chars.extend(text[last:])
    marks.extend(range(last, len(text) + 1))
    return _shifted(chars, marks)


def _unescape(escape: str) -> str | None:
    """The ASCII or invisible character an escape stands for; None keeps the escape as text."""
    char = html.unescape(escape) if escape[0] == "&" else chr(int(escape.lstrip("%\\u"), 16))
    if len(char) != 1 or not (" " <= char <= "~" or _FOLD[ord(char)] in (None, " ")):
        return None
    return char


def _shifted(chars: list[str], marks: list[int]) -> Folded:
    """Fold characters that start at `marks` (one mark more than characters)."""
    plain: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for k, char in enumerate(chars):
        folded = _FOLD[ord(char)]
        if folded is not None:
            plain.append(folded)
            starts.append(marks[k])
            ends.append(marks[k + 1])
        elif ends and char not in "\u200e\u200f\u202a\u202b\u202c\u202d\u202e":
            ends[-1] = marks[k + 1]  # a combining mark belongs to its letter
    starts.append(marks[-1])
    return Folded("".join(plain).encode("latin-1"), tuple(starts), tuple(ends))
