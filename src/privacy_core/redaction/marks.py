"""What may stand in a text in place of a value, and how it is recognised again.

======================  ==========================  ==============================================
mark                    example                     made by
======================  ==========================  ==============================================
placeholder             `[PERSON]`, `[PERSON_2]`    `operators.Placeholder`
sealed token            `[EMAIL:7KQ2:9X4...]`       `pseudonyms.TokenCipher`: key id, ciphertext
session token           `[PERSON_7KQ2M3]`           `pseudonyms.SessionVault`
keyed hash              `[PERSON#4T9W...]`          `pseudonyms.EntityHasher`
======================  ==========================  ==============================================

All are written in square brackets, capitals, digits and `_ : #`, so that JSON, HTML, CSV and a
shell's double quotes leave them as they are. Codes use Crockford's alphabet: no I, L, O or U.

A mark is never redacted again, which is what makes protection idempotent. Somebody who writes
`[PERSON_2]` by hand hides nothing. Values in brackets are not marks only because they are short and
in capitals: see `is_short_code`; counts have at most six digits, and a hash is not all digits. Some
values pass for a code still (`[POSTAL_CODE_K1A0B1]`), and somebody who encodes a value in the
alphabet of a sealed token does hide it, as in any other encoding; where that matters, give `Scope`
a check of authenticity.

Source of the alphabet: D. Crockford, "Base 32", 2002.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final

from privacy_core.redaction.entities import ENTITIES

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
KEY_ID_CHARACTERS: Final = 4
SHORTEST_SEALED: Final = 27  # a 16-byte tag and one byte of value
SHORTEST_HASH: Final = 16  # 80 bits
SHORT_CODE_CHARACTERS: Final = range(4, 9)
FEWEST_TURNS: Final = 3
_SHORT: Final = 5
FILLER: Final = "_"  # of several signs the one that disturbs the name model least

LABELS: Final = frozenset(ENTITIES)


class MarkKind(StrEnum):
    """Which of the four."""

    PLACEHOLDER = "placeholder"
    SEALED = "sealed"
    SESSION = "session"
    HASH = "hash"


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark in a text.

    Attributes:
        start: index of its bracket, in code points.
        end: index after its closing bracket.
        kind: what made it.
        label: entity type that it names.
        code: number of a placeholder, ciphertext, session code or hash, as written.
    """

    start: int
    end: int
    kind: MarkKind
    label: str
    code: str


_CODE: Final = f"[{ALPHABET}]"
_MARK: Final = re.compile(
    r"\[([A-Z][A-Z0-9_]{1,63})"
    rf"(?::({_CODE}{{{KEY_ID_CHARACTERS}}}):({_CODE}{{{SHORTEST_SEALED},}})"
    rf"|\#({_CODE}{{{SHORTEST_HASH},64}}))?\]"
)
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,5}")  # `[US_SSN_536221234]` is a number, not a count


def is_short_code(code: str) -> bool:
    """Whether `code` can be a session token's: it goes from letters to digits or back three times.

    Twice is enough for four or five characters, of which too few codes would be left.

    Numbers do not, nor words, nor most numbers of passports and plates: `[PASSPORT_X1234567]` and
    `[LICENSE_PLATE_AB12CDE]` are values that somebody put into brackets, and are looked at.
    """
    if len(code) not in SHORT_CODE_CHARACTERS or not all(letter in ALPHABET for letter in code):
        return False
    turns = sum(one.isdigit() != other.isdigit() for one, other in pairwise(code))
    return turns >= (FEWEST_TURNS if len(code) > _SHORT else FEWEST_TURNS - 1)


def find_marks(text: str, labels: Collection[str] = LABELS) -> Iterator[Mark]:
    """Yield the marks of a text in order.

    Args:
        text: any string.
        labels: entity types that placeholders and session tokens may name. Sealed tokens and
            hashes are recognised under any label: what is in their brackets is long enough.
    """
    if "[" not in text:
        return
    for match in _MARK.finditer(text):
        word, key_id, sealed, digest = match.groups()
        if digest is not None and digest.isdigit():
            continue  # `[CARD#4111111111111111]`; one hash in a hundred million looks like this
        if key_id is not None:
            kind, label, code = MarkKind.SEALED, word, sealed
        elif digest is not None:
            kind, label, code = MarkKind.HASH, word, digest
        else:
            read = _read_word(word, labels)
            if read is None:
                continue
            kind, label, code = read
        yield Mark(match.start(), match.end(), kind, label, code)


def _read_word(word: str, labels: Collection[str]) -> tuple[MarkKind, str, str] | None:
    if word in labels:
        return MarkKind.PLACEHOLDER, word, "1"
    label, _, code = word.rpartition("_")
    if label not in labels:
        return None
    if _NUMBER.fullmatch(code):
        return MarkKind.PLACEHOLDER, label, code
    return (MarkKind.SESSION, label, code) if is_short_code(code) else None


def blanked(text: str, marks: Iterable[Mark]) -> str:
    """Return the text with marks made unreadable, every other character in its place.

    For detectors: a word inside a mark (`[DATE_OF_BIRTH]`) must not count as context, or what was
    protected once would make other values look personal.
    """
    pieces: list[str] = []
    at = 0
    for mark in marks:
        pieces += (text[at : mark.start], FILLER * (mark.end - mark.start))
        at = mark.end
    return text if not at else "".join((*pieces, text[at:]))
