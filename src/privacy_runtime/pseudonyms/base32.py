"""Bytes as text that survives being retyped: Crockford's base 32.

Canonical: every string of bytes has one spelling, and a spelling whose unused last bits are not
zero is refused, so that no character of a token can be changed without changing its bytes.

Source: D. Crockford, "Base 32", 2002. Decoding reads lower case, and O, I, L as 0, 1, 1.
"""

from __future__ import annotations

import base64
from typing import Final

from privacy_core.redaction.marks import ALPHABET

_RFC: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_TO_CROCKFORD: Final = str.maketrans(_RFC, ALPHABET, "=")
_FROM_CROCKFORD: Final = str.maketrans(
    ALPHABET + ALPHABET.lower() + "OoIiLl",
    _RFC + _RFC + "AABBBB",
)
_LENGTHS: Final = frozenset({0, 2, 4, 5, 7})


def encode(data: bytes) -> str:
    """Return the one spelling of `data`: 8 characters for 5 bytes, no padding."""
    return base64.b32encode(data).decode("ascii").translate(_TO_CROCKFORD)


def normalise(text: str) -> str:
    """Return a spelling in capitals, with O, I, L read as 0, 1, 1."""
    return text.upper().translate(str.maketrans("OIL", "011"))


def decode(text: str) -> bytes | None:
    """Return the bytes of a spelling, or None if it is not the spelling of any."""
    if len(text) % 8 not in _LENGTHS or not text.isascii():
        return None
    try:
        data = base64.b32decode(text.translate(_FROM_CROCKFORD) + "=" * (-len(text) % 8))
    except ValueError:
        return None
    return data if encode(data) == normalise(text) else None
