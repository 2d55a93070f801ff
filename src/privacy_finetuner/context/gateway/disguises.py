r"""Texts that say something else once they are read as HTML, as escapes, or as base64.

A reader, and a model is one, reads `jane&#64;example.org` and `jane\u0040example.org` as what they
stand for. So what they stand for is examined too; only where something is found there does the text
lose its disguise, and gets a token.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Iterator
from typing import Final

import re2  # type: ignore[import-untyped]  # the binding has no types

_ENTITY: Final = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_ESCAPE: Final = re.compile(
    r"\\(?:u\{([0-9A-Fa-f]{1,6})\}|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|x([0-9A-Fa-f]{2}))"
)
_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_BASE64: Final = re.compile(r"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9+/_-]{12,}={0,2}(?![A-Za-z0-9+/=_-])")
_LONG_WORD: Final = re2.compile(r"[A-Za-z0-9+/_-]{12,}")  # says no to prose five times as fast
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_LARGEST: Final = 0x10FFFF
_SHORTEST: Final = 12


def readings(text: str) -> Iterator[Callable[[str], str]]:
    """Yield the ways in which a text can be read besides as it stands."""
    if "&" in text and _ENTITY.search(text):
        yield html.unescape
    if "\\" in text and _ESCAPE.search(text):
        yield unescaped


def unescaped(text: str) -> str:
    r"""Return a text with `\u0040`, `\u{40}`, `\U00000040` and `\x40` as what they stand for."""
    plain = _ESCAPE.sub(_character, text)
    return _PAIR.sub(
        lambda found: found[0].encode("utf-16", "surrogatepass").decode("utf-16"), plain
    )


def words_in_base64(text: str, change: Callable[[str], str]) -> str:
    """Return a text in which words that are base64 of a text were changed where that changes.

    A word is taken for base64 when it decodes to UTF-8 without control characters: what a program
    wrote as bytes, and most identifiers, do not.
    """
    if len(text) < _SHORTEST or _LONG_WORD.search(text) is None:
        return text

    def changed(found: re.Match[str]) -> str:
        plain = _text_behind(found[0])
        after = plain if plain is None else change(plain)
        return found[0] if after is None or after == plain else _encoded(after)

    return _BASE64.sub(changed, text)


def _text_behind(word: str) -> str | None:
    body = word.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        text = base64.b64decode(body + "=" * (-len(body) % 4), validate=True).decode()
    except ValueError:
        return None
    return None if _CONTROL.search(text) else text


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _character(found: re.Match[str]) -> str:
    number = int(next(digits for digits in found.groups() if digits), 16)
    return chr(number) if number <= _LARGEST else found[0]
