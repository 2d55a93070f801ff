"""What a name model is told about words: attributes, classes, and codes of what stands around them.

Training (`scripts/train_names.py`) and decoding (`tagging`) call the same functions.

Source: features follow Ratinov & Roth 2009 (CoNLL): word shape, affixes, gazetteers, word classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from privacy_core.redaction.subwords import case_of

Ints = NDArray[np.int64]

# Lists of the gazetteer, as bits of a word's entry.
GIVEN, SURNAME, CITY, COUNTRY, FIRM = 1, 2, 4, 8, 16
OFFSETS: Final = (-2, -1, 0, 1, 2)
# How many of a word's attributes speak for a label so far away (see `word_attributes`).
REACH: Final = {-2: 4, -1: 8, 0: 20, 1: 8, 2: 4}
CLASSES: Final = 64
NAMES: Final = 1024  # coarse classes of the lexicon by cases
# Codes of each table of `table_codes` lie below these.
CODES: Final = (
    *(4 * CLASSES, CLASSES**2, CLASSES**2, CLASSES**3, CLASSES**3, CLASSES**3),
    *(NAMES**2, NAMES**2, 4 * NAMES),
)
_MARKS: Final = {mark: k for k, mark in enumerate(".,:;()'\"-/@&#|!?<>\n")}
_QUOTES: Final = dict(zip("\u2019\u2018\u201c\u201d\u2013\u2014", "''\"\"--", strict=True))
# ruff: noqa: SIM905 -- a line of words is easier to read than a column of them
_TITLES: Final = frozenset(
    "mr mrs ms miss dr prof professor sir sr sra dra don doña herr frau mme mlle monsieur madame "
    "doctor nurse judge lady lord rev captain hon mx dottor signor signora médico".split()
)
_PARTICLES: Final = frozenset(
    "van von de da del der den di dos das la le du el al bin ibn ben y e st saint san santa".split()
)


@dataclass(frozen=True, slots=True)
class Lexicon:
    """What is known of lower-cased words without their context.

    Attributes:
        entries: for a word, `gazetteer bits | coarse class << 5 | fine class << 13`; a class of 0
            says that none is known.
    """

    entries: Mapping[str, int]

    def entry(self, word: str) -> tuple[int, int, int]:
        """Gazetteer bits, coarse class and fine class of a word; zeros for an unknown one."""
        code = self.entries.get(word, 0)
        return code & 31, code >> 5 & 255, code >> 13


def word_attributes(word: str, entry: tuple[int, int, int]) -> list[str]:
    """What is said of a word: the further it reaches, the further to the front.

    The first `REACH[offset]` speak for the label of a word from which this one stands `offset`
    words away; all of them for its own.

    Args:
        word: as written.
        entry: what the lexicon knows of it.
    """
    small = "<br>" if word == "\n" else word.lower()
    shape = _shape(word)
    lists, coarse, fine = entry
    said = [f"w={small}", f"s={shape}", f"g={lists}", f"c={coarse}"]
    said += [f"f={fine}", f"sg={shape}|{lists}", f"sc={shape}|{coarse}", f"z={small[-3:]}"]
    said += [f"sf={shape}|{fine}", f"n={min(len(word), 8)}", f"sw={shape}|{small}"]
    if word.isalpha():
        said += [f"p{k}={small[:k]}" for k in (2, 3, 4)] + [f"e{k}={small[-k:]}" for k in (2, 4)]
        said.append(f"se={shape}|{small[-3:]}")
    return said


def word_class(word: str, lists: int) -> int:
    """One of `CLASSES` coarse classes: marks by kind, words by case and gazetteer."""
    mark = _MARKS.get(_QUOTES.get(word, word))
    if mark is not None:
        return mark
    case = case_of(word)
    if case == 0:
        return 19
    if case == 6:
        return 20 if len(word) < 3 else 21 if len(word) == 4 else 22
    small = word.lower()
    if small in _TITLES:
        return 23
    if small in _PARTICLES:
        return 24
    if lists & FIRM:
        return 25
    if not word.isalpha():
        return 26
    return 28 + 6 * min(case - 1, 5) + _group(lists)


def sentence_kinds(cases: Ints, ends: NDArray[np.bool_]) -> Ints:
    """How the sentence of each word is written: 0 no capitals, 1 prose, 2 titles, 3 all capitals.

    Args:
        cases: `subwords.case_of` of each word.
        ends: whether a sentence ends with a word (`tokens.ends_of_sentences`).
    """
    line: Ints = np.cumsum(ends, dtype=np.int64) - ends
    count = int(line[-1]) + 1 if len(line) else 0
    letters = (cases >= 1) & (cases <= 5)
    words = np.bincount(line, weights=letters, minlength=count)
    small = np.bincount(line, weights=cases == 1, minlength=count)
    capitals = np.bincount(line, weights=(cases == 3) | (cases == 4), minlength=count)
    kinds = np.ones(count, dtype=np.int64)
    kinds[2 * small <= words] = 2
    kinds[(small == 0) & (2 * capitals > words)] = 3
    kinds[small == words] = 0
    result: Ints = kinds[line]
    return result


def table_codes(classes: Ints, kinds: Ints, names: Ints) -> list[Ints]:
    """Codes of what stands around each word, one array for each table of a model.

    Args:
        classes: `word_class` of each word, with two words of padding on either side.
        kinds: `sentence_kinds` of each word.
        names: coarse class of the lexicon and case of each word, padded like `classes`.
    """
    own, before, after = classes[2:-2], classes[1:-3], classes[3:-1]
    beyond, behind = classes[4:], classes[:-4]
    return [
        kinds * CLASSES + own,
        before * CLASSES + own,
        own * CLASSES + after,
        (before * CLASSES + own) * CLASSES + after,
        (behind * CLASSES + before) * CLASSES + own,
        (own * CLASSES + after) * CLASSES + beyond,
        names[1:-3] * NAMES + names[2:-2],
        names[2:-2] * NAMES + names[3:-1],
        kinds * NAMES + names[2:-2],
    ]


def _shape(word: str) -> str:
    """`Xx` of `John`, `XX` of `USA`, `Xx0` of `Room3`: runs of alike characters, at most six."""
    if word == "\n" or not word[0].isalnum():
        return "."
    start = word[:12]
    if start.isalpha() and start.islower():
        return "x"
    if start.isdigit():
        return "0"
    shape = ""
    for char in start:
        kind = "X" if char.isupper() else "0" if char.isdigit() else "x"
        if shape[-2:] not in {kind, kind * 2} or (kind == "X" and shape[-2:] == "X"):
            shape += kind
        if len(shape) == 6:
            break
    return shape


def _group(lists: int) -> int:
    """Gazetteer bits in six groups."""
    place = bool(lists & (CITY | COUNTRY))
    names = lists & (GIVEN | SURNAME)
    if place:
        return 5 if names else 4
    return names
