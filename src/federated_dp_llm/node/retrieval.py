"""Which patients an answer may read, chosen so that a record decides about its own patient only.

A patient *matches* a prompt when the best of their records scores at least `match` of what a record
that holds every word of the prompt once would score. Whoever matches is charged, and the best of
those who have room fill the slots. So

- whether somebody is charged depends on their own records and the public prompt, never on who else
  is there: nobody's ledger tells of another one's record;
- without somebody's record, or with another in its place, one slot of an answer changes: the next
  one who was charged moves up. That is the exchange that `replace` adjacency is priced for.

Both would fail with the usual shape of retrieval, where the top k alone are charged: who loses a
place to a newcomer keeps an allowance that they would have spent, and fills a slot of a later
answer for which the newcomer pays nothing. They would fail as well with the usual BM25, whose
document frequencies and mean length are functions of everybody's records. Here frequencies are
public or absent, and the reference length is a constant.

With `listed` selection no content is looked at: the patients of the cohort have their slots in the
file's order, and `null` adjacency holds for whoever's text is blanked while their line stays.

Sources: Robertson and Zaragoza 2009 (BM25); arXiv:2511.07637 (retrieval with a threshold and a
filter for each document); Feldman and Zrnic 2021 (arXiv:2008.11193, individual filters).
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from bm25s.stopwords import STOPWORDS_EN_PLUS  # type: ignore[import-untyped]  # ships no types

from federated_dp_llm.node.records import EVERYONE, Record, Records
from privacy_core.errors import InvalidParameter

Selection = Literal["matching", "listed"]
Places = npt.NDArray[np.int64]
Parts = npt.NDArray[np.float64]

K1: Final = 1.2
B: Final = 0.75
REFERENCE_LENGTH: Final = 40
"""Words of a record of ordinary length: a constant, where BM25 takes the mean over all records."""
_WORD: Final = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")
_STOPWORDS: Final = frozenset(STOPWORDS_EN_PLUS)


@dataclass(frozen=True, slots=True, repr=False)
class Found:
    """Patients with the text that stands for each, best first."""

    patients: tuple[str, ...]
    texts: tuple[str, ...]

    def slots(self, held: Collection[str], count: int) -> tuple[str | None, ...]:
        """The best of those who pay, one slot each; the rest of the slots are empty."""
        pairs = zip(self.patients, self.texts, strict=True)
        texts = [text for name, text in pairs if name in held][:count]
        return (*texts, *[None] * (count - len(texts)))

    def __repr__(self) -> str:
        return "Found(***)"  # even the number is private


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case, without the commonest English ones."""
    return [word for word in _WORD.findall(text.casefold()) if word not in _STOPWORDS]


def public_weights(texts: Sequence[str]) -> Mapping[str, float]:
    """BM25's weights of words (inverse document frequencies) from public texts.

    Never from the records: a weight would be a function of all of them.
    """
    frequency = Counter(word for text in texts for word in set(words_of(text)))
    return MappingProxyType(
        {
            word: math.log(1 + (len(texts) - count + 0.5) / (count + 0.5))
            for word, count in frequency.items()
        }
    )


class Retrieval:
    """Finds the patients of a cohort for a prompt. Immutable; any thread may use it.

    Args:
        records: what is searched.
        match: the least share of the prompt's words that makes a patient match, in (0, 1].
        weights: of words, from public texts (`public_weights`); None: every word weighs 1. A word
            that is not in them weighs as much as the rarest.

    Raises:
        InvalidParameter: `match` is no such share.
    """

    def __init__(
        self,
        records: Records,
        *,
        match: float = 0.3,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        if not 0 < match <= 1:
            raise InvalidParameter("match", found=match, expected="a share in (0, 1]")
        self.match = match
        self._weights = weights
        self._records = records.records
        self._rarest = max(weights.values()) if weights else 1.0
        self._postings = _postings(records.records)
        self.patients = records.patients

    def matching(self, prompt: str, cohort: str) -> Found:
        """Everybody of the cohort who matches, best first; equal ones in the file's order."""
        words = sorted(set(words_of(prompt)))
        scores = np.zeros(len(self._records))
        for word in words:
            if word in self._postings:
                places, parts = self._postings[word]
                scores[places] += self._weight(word) * parts
        least = self.match * sum(self._weight(word) for word in words)
        best: dict[str, tuple[float, int]] = {}
        for place in np.flatnonzero((scores > 0) & (scores >= least)).tolist():
            record = self._records[place]
            if cohort in (EVERYONE, record.cohort):
                entry = (-float(scores[place]), place)
                best[record.patient] = min(entry, best.get(record.patient, entry))
        return self._found(sorted(best.values()))

    def listed(self, cohort: str, *, most: int) -> Found:
        """The first `most` of the cohort in the file's order, with their first record.

        Who left a blank record has their place in the order and no slot, and pays nothing.
        """
        first: dict[str, int] = {}
        for place, record in enumerate(self._records):
            if cohort in (EVERYONE, record.cohort):
                first.setdefault(record.patient, place)
        places = list(first.values())[:most]
        return self._found([(0.0, place) for place in places if self._records[place].text.strip()])

    def _weight(self, word: str) -> float:
        return self._weights.get(word, self._rarest) if self._weights else 1.0

    def _found(self, ranked: Sequence[tuple[float, int]]) -> Found:
        records = [self._records[place] for _, place in ranked]
        return Found(tuple(r.patient for r in records), tuple(r.text for r in records))


def _postings(records: Sequence[Record]) -> dict[str, tuple[Places, Parts]]:
    """For each word the records that hold it, and BM25's part of each: 1 for one in 40 words."""
    lists: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for place, record in enumerate(records):
        counts = Counter(words_of(record.text))
        length = K1 * (1 - B + B * counts.total() / REFERENCE_LENGTH)
        for word, count in counts.items():
            lists[word].append((place, count * (K1 + 1) / (count + length)))
    return {
        word: (
            np.array([place for place, _ in pairs], dtype=np.int64),
            np.array([part for _, part in pairs]),
        )
        for word, pairs in lists.items()
    }
