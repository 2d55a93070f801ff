"""What stands around a word, as scores of labels: pairs and triples of word classes.

A model has a table for each kind of neighbourhood (`word_features.table_codes`). Three of them ask
about the same triple of words, seen from its first, second and third; two and two about the same
pair. Here each triple and each pair is looked up once, and says all it has to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from privacy_core.redaction.word_features import CLASSES, CODES, NAMES

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
# Tables that are asked about the triple or pair that a word begins: for which of its words they
# speak, and their place in the model.
_TRIPLES: Final = {2: 4, 1: 3, 0: 5}
_CLASS_PAIRS: Final = {1: 1, 0: 2}
_NAME_PAIRS: Final = {1: 6, 0: 7}
KINDS: Final = 4


class WordTables:
    """The tables of a model, joined by what they are asked about.

    Args:
        tables: for each table of `word_features.table_codes`, its codes in order and their scores.
        labels: how many labels there are.
    """

    def __init__(self, tables: Sequence[tuple[Ints, Floats]], labels: int) -> None:
        self._class_kinds = _dense(tables[0], CLASSES, labels)
        self._name_kinds = _dense(tables[8], NAMES, labels)
        self._joined = [
            _joined(tables, roles, labels) for roles in (_TRIPLES, _CLASS_PAIRS, _NAME_PAIRS)
        ]

    def add(self, total: Floats, classes: Ints, names: Ints) -> None:
        """Add what the neighbours say to the scores of words.

        Args:
            total: scores, shape (words, labels); changed in place.
            classes: `word_class` of each word, with two words of padding on either side.
            names: coarse class of the lexicon and case of each word, padded like `classes`.
        """
        pairs = classes[:-1] * CLASSES + classes[1:]
        triples = pairs[:-1] * CLASSES + classes[2:]
        codes = triples, pairs, names[:-1] * NAMES + names[1:]
        count, labels = total.shape
        roles = _TRIPLES, _CLASS_PAIRS, _NAME_PAIRS
        for (index, rows), code, spoken in zip(self._joined, codes, roles, strict=True):
            said = rows.take(index.take(code), axis=0)
            for block, role in enumerate(spoken):
                # The triple of the padded word k speaks, as its `role`, for the word k + role - 2.
                first = 2 - role
                total += said[first : first + count, block * labels : (block + 1) * labels]

    def by_kind(self, word_class: int, name: int) -> Floats:
        """What a word says of itself in each kind of sentence, shape (kinds, labels)."""
        said: Floats = self._class_kinds[:, word_class] + self._name_kinds[:, name]
        return said


def _dense(table: tuple[Ints, Floats], size: int, labels: int) -> Floats:
    """A table of kinds of sentence by classes, zeros where the model says nothing."""
    codes, values = table
    rows = np.zeros((KINDS * size, labels), dtype=np.float32)
    rows[codes] = values
    return rows.reshape(KINDS, size, labels)


def _joined(
    tables: Sequence[tuple[Ints, Floats]], roles: dict[int, int], labels: int
) -> tuple[NDArray[np.int32], Floats]:
    """A dense index into rows that hold, side by side, what each of the tables says."""
    chosen = [tables[place] for place in roles.values()]
    codes = np.unique(np.concatenate([codes for codes, _ in chosen]))
    index = np.zeros(CODES[next(iter(roles.values()))], dtype=np.int32)
    index[codes] = np.arange(1, len(codes) + 1)
    rows = np.zeros((len(codes) + 1, labels * len(chosen)), dtype=np.float32)
    for block, (known, values) in enumerate(chosen):
        rows[index[known], block * labels : (block + 1) * labels] = values
    return index, rows
