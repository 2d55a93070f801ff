"""Names in text by a linear-chain conditional random field, decoded in numpy.

The score of a labelling is a sum: what each word says for its own label and for those of two words
on either side, what pairs and triples of word classes say, and what one label says for the next.
Because a word says the same wherever it stands, its part is computed once and kept; a text costs
one look-up a word, a few gathers, and dynamic programming over the few words that may be names.

Which may be names: those for which a labelling that says so could win, by a bound on what its
transitions can add (`candidates`). What remains are short runs of words between settled ones,
solved side by side (`chains`).

A finding depends on its sentence and the two words on either side of its run: nothing else of a
text is looked at, so a text may be cut between sentences that are not its neighbours.

Source: Lafferty, McCallum & Pereira 2001 (ICML), sections 3 and 4.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from privacy_core.redaction import chains
from privacy_core.redaction.candidates import Candidates
from privacy_core.redaction.findings import Finding
from privacy_core.redaction.subwords import case_of
from privacy_core.redaction.tokens import (
    decode,
    ends_of_sentences,
    pieces_of,
    sentence_role,
    tidied,
)
from privacy_core.redaction.word_features import (
    OFFSETS,
    REACH,
    Lexicon,
    sentence_kinds,
    word_attributes,
    word_class,
)
from privacy_core.redaction.word_tables import KINDS, WordTables

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Confidence = Mapping[str, tuple[Sequence[float], Sequence[float]]]

_LONGEST_WORD: Final = 40
_CACHE: Final = 100_000
_BLOCK: Final = 40_000  # pieces that are in work at once
_SPACE: Final = -1
# A second opinion on so few words costs little.
_SHORT: Final = 64
# A word may be a name from this probability on, and where the scores are no further apart.
_POSSIBLE: Final = 0.05
_DOUBTED: Final = 3.0


@dataclass(frozen=True)
class Weights:
    """A trained model.

    Attributes:
        labels: labels of words (see `tokens.encode`); the first is `O`.
        attributes: place of an attribute, as `word_attributes` names them, in `places`.
        places: for each attribute and offset its row of `rows`, 0 where it says nothing.
        rows: scores for each label, shape (rows, labels); the first row is zeros.
        tables: for each table of `table_codes`, its codes in order and their scores.
        transitions: scores of a label (row) before another (column).
        settled: a word is taken to be no name if every labelling that says otherwise scores this
            much less than one that does not; at least 0, where the best labelling is still exact.
        confidence: raw confidences in order and the probability that belongs to each, by label.
    """

    labels: tuple[str, ...]
    attributes: Mapping[str, int]
    places: NDArray[np.int32]
    rows: Floats
    tables: Sequence[tuple[Ints, Floats]]
    transitions: Floats
    settled: float
    confidence: Confidence

    @cached_property
    def around(self) -> WordTables:
        """The tables, ready for use; made once, however many taggers share the weights."""
        return WordTables(self.tables, len(self.labels))

    @cached_property
    def padded_places(self) -> NDArray[np.int32]:
        """`places` after a row for the attribute that says nothing."""
        nothing = np.zeros((1, len(OFFSETS)), dtype=np.int32)
        return np.concatenate([nothing, self.places])


@dataclass(frozen=True, slots=True)
class Examined:
    """What a text holds, word by word.

    Attributes:
        findings: names, in order, not overlapping.
        promising: for each word, whether a word of its sentence may be a name: where a second
            opinion is worth its cost.
    """

    findings: list[Finding]
    promising: NDArray[np.bool_]


@dataclass(slots=True)
class _Rows:
    """What is kept of pieces that were seen: arrays that grow, and the row of each piece."""

    of: dict[str, int]
    scores: Floats  # (pieces, offsets x labels)
    facts: Ints  # (pieces, the columns below)
    pair_of: dict[tuple[int, int], int]  # of class and name
    pairs: Floats  # what each pair says in each kind of sentence, (pairs x kinds, labels)


_LENGTH, _ROLE, _CLASS, _CASE, _NAME, _PAIR = range(6)


class CrfTagger:
    """A `NameTagger` from trained weights.

    It keeps what it has computed of at most 100,000 words; nothing else of a text. Not for use by
    several threads at once.
    """

    def __init__(self, weights: Weights, lexicon: Lexicon, *, rule: str = "names.crf") -> None:
        self._weights = weights
        self._lexicon = lexicon
        self._rule = rule
        self._reach = np.array(
            [[k < REACH[offset] for offset in OFFSETS] for k in range(max(REACH.values()))]
        )
        self._rows = self._empty()
        self._candidates = Candidates(weights.labels, weights.transitions)
        self._potentials = chains.Potentials(weights.transitions)
        self._spans = SpanReader(weights.labels, weights.confidence)

    def tag(self, text: str) -> list[Finding]:
        """Names in a text, in order, not overlapping."""
        return self._in_blocks(text, doubts=False).findings

    def examined(self, text: str) -> Examined:
        """Names in a text, and in which of its sentences there may be some."""
        return self._in_blocks(text, doubts=True)

    def _in_blocks(self, text: str, *, doubts: bool) -> Examined:
        pieces = pieces_of(text)
        if len(pieces) <= _BLOCK:
            return self._examined(pieces, 0, doubts=doubts)
        parts: list[Examined] = []
        place = 0
        for begin in range(0, len(pieces), _BLOCK):
            block = pieces[begin : begin + _BLOCK]
            parts.append(self._examined(block, place, doubts=doubts))
            place += sum(map(len, block))
        return Examined(
            [finding for part in parts for finding in part.findings],
            np.concatenate([part.promising for part in parts]),
        )

    def _examined(self, pieces: Sequence[str], place: int, *, doubts: bool) -> Examined:
        """What is in a run of pieces that begins at `place`."""
        found = self._looked_up(pieces)
        facts = self._rows.facts.take(found, axis=0)
        after = facts[:, _LENGTH].cumsum()
        words = (facts[:, _ROLE] != _SPACE).nonzero()[0]
        facts = facts.take(words, axis=0)
        ends = after.take(words)
        starts = ends - facts[:, _LENGTH]
        last = ends_of_sentences(facts[:, _ROLE], starts, ends)
        scores = self._scores(found.take(words), facts, last)
        margin = max(self._weights.settled, _DOUBTED) if doubts else self._weights.settled
        undecided = self._candidates.gains(scores) > -margin
        best, marginals = self._potentials.solve(scores, undecided, silent=doubts)
        named = self._spans.read(best, marginals, pieces, words)
        findings = [
            Finding(place + int(starts[begin]), place + int(ends[end - 1]), label, sure, self._rule)
            for begin, end, label, sure in named
        ]
        return Examined(findings, self._promising(marginals, last) if doubts else undecided)

    def _promising(self, marginals: Floats, last: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Words of sentences in which one may be a name; all words of a short text."""
        if len(last) <= _SHORT:
            return np.ones(len(last), dtype=bool)
        sentence = last.cumsum() - last
        hopes = np.bincount(sentence, weights=marginals[:, 0] < 1 - _POSSIBLE)
        result: NDArray[np.bool_] = hopes[sentence] > 0
        return result

    def scores(self, text: str) -> Floats:
        """What words and word classes say, shape (words, labels); without transitions."""
        found = self._looked_up(pieces_of(text))
        facts = self._rows.facts[found]
        after = facts[:, _LENGTH].cumsum()
        words = facts[:, _ROLE] != _SPACE
        facts, ends = facts[words], after[words]
        last = ends_of_sentences(facts[:, _ROLE], ends - facts[:, _LENGTH], ends)
        return self._scores(found[words], facts, last)

    def _scores(self, rows: Ints, facts: Ints, last: NDArray[np.bool_]) -> Floats:
        kept, count, labels = self._rows, len(rows), len(self._weights.labels)
        edge = kept.of["\n"]
        around = np.full(count + 4, edge, dtype=np.int64)
        around[2:-2] = rows
        kinds = sentence_kinds(facts[:, _CASE], last)
        total: Floats = kept.pairs.take(facts[:, _PAIR] * KINDS + kinds, axis=0)
        said = kept.scores.take(around, axis=0)
        # What the word `offset` away says arrives here: five shifted views of the same rows.
        for k in range(len(OFFSETS)):
            total += said[k : k + count, k * labels : (k + 1) * labels]
        padded = np.empty((2, count + 4), dtype=np.int64)
        padded[0], padded[1] = kept.facts[edge, _CLASS], kept.facts[edge, _NAME]
        padded[0, 2:-2], padded[1, 2:-2] = facts[:, _CLASS], facts[:, _NAME]
        self._weights.around.add(total, padded[0], padded[1])
        return total

    def _looked_up(self, pieces: Sequence[str]) -> Ints:
        if len(self._rows.of) > _CACHE:
            self._rows = self._empty()
        of = self._rows.of
        found = list(map(of.get, pieces))
        if None in found:
            self._learn([piece for piece in dict.fromkeys(pieces) if piece not in of])
            found = [of[piece] for piece in pieces]
        return np.array(found, dtype=np.int64)

    def _learn(self, pieces: Sequence[str]) -> None:
        """Compute the rows of pieces that were not seen before."""
        kept = self._rows
        needed = len(kept.of) + len(pieces)
        kept.scores, kept.facts = _with_room(kept.scores, needed), _with_room(kept.facts, needed)
        known = self._weights.attributes
        begin = len(kept.of)
        said: list[int] = []
        depths: list[int] = []
        first: list[int] = []
        for piece in pieces:
            place = kept.of[piece] = len(kept.of)
            # Attribute 0 says nothing: it keeps the words apart that say nothing at all.
            first.append(len(said))
            said.append(0)
            depths.append(0)
            if piece.isspace() and piece[0] != "\n":
                kept.facts[place] = len(piece), _SPACE, 0, 0, 0, 0
                continue
            word = "\n" if piece[0] == "\n" else piece[:_LONGEST_WORD]
            entry = self._lexicon.entry(word.lower())
            for depth, name in enumerate(word_attributes(word, entry)):
                attribute = known.get(name)
                if attribute is not None:
                    said.append(attribute + 1)
                    depths.append(depth)
            kept.facts[place] = self._facts(word, len(piece), entry)
        hits = self._weights.padded_places[said] * self._reach[depths]  # (attributes, offsets)
        votes = np.add.reduceat(self._weights.rows[hits], first, axis=0)
        kept.scores[begin : len(kept.of)] = votes.reshape(len(pieces), -1)

    def _facts(self, word: str, length: int, entry: tuple[int, int, int]) -> tuple[int, ...]:
        kept, case = self._rows, case_of(word)
        group, name = word_class(word, entry[0]), entry[1] * 8 + min(case, 7)
        pair = kept.pair_of.get((group, name))
        if pair is None:
            pair = kept.pair_of[group, name] = len(kept.pair_of)
            kept.pairs = _with_room(kept.pairs, KINDS * (pair + 1))
            said = self._weights.around.by_kind(group, name)
            kept.pairs[KINDS * pair : KINDS * (pair + 1)] = said
        return length, sentence_role(word), group, case, name, pair

    def _empty(self) -> _Rows:
        count = len(self._weights.labels)
        rows = _Rows(
            {},
            np.zeros((1024, len(OFFSETS) * count), dtype=np.float32),
            np.zeros((1024, 6), dtype=np.int64),
            {},
            np.zeros((1024, count), dtype=np.float32),
        )
        self._rows = rows
        self._learn(["\n"])
        return rows


def _with_room(array: NDArray[Any], needed: int) -> NDArray[Any]:
    """The array, or a copy that has at least as many rows."""
    if needed <= len(array):
        return array
    grown = np.zeros((max(needed, 2 * len(array)), *array.shape[1:]), dtype=array.dtype)
    grown[: len(array)] = array
    return grown


class SpanReader:
    """From the best labels of words and their probabilities to names and how sure they are.

    Args:
        labels: labels of words; the first is `O`.
        confidence: raw confidences in order and the probability that belongs to each, by label.
    """

    def __init__(self, labels: Sequence[str], confidence: Confidence) -> None:
        self._labels = labels
        self._confidence = {
            name: (tuple(map(float, known)), tuple(map(float, values)))
            for name, (known, values) in confidence.items()
        }
        self._names = list(dict.fromkeys(label[2:] for label in labels if label != "O"))
        member = [[label[2:] == name for name in self._names] for label in labels]
        self.member = np.array(member, dtype=np.float32)  # (labels, names)

    def read(
        self, best: Ints, marginals: Floats, pieces: Sequence[str], words: Ints
    ) -> list[tuple[int, int, str, float]]:
        """Names: first word, after the last, label, probability.

        Args:
            best: labels of the words.
            marginals: probability of each label at each word.
            pieces: pieces of the text.
            words: which pieces are words.
        """
        named = best.nonzero()[0]
        if not len(named):
            return []
        places, labels = named.tolist(), best[named].tolist()
        said = {k: _as_word(pieces[p]) for k, p in zip(places, words[named].tolist(), strict=True)}
        sure = dict(zip(places, (marginals[named] @ self.member).tolist(), strict=True))
        result = []
        for begin, end in _together(places):
            shift = places[begin]
            run = decode([self._labels[k] for k in labels[begin:end]])
            here = [said[k] for k in places[begin:end]]
            for first, last, label in tidied(run, here):
                column = self._names.index(label)
                raw = min(sure[k][column] for k in range(shift + first, shift + last))
                result.append((shift + first, shift + last, label, self.probability(label, raw)))
        return result

    def probability(self, label: str, raw: float) -> float:
        """The calibrated probability that belongs to a raw confidence: linear between knots."""
        known, values = self._confidence.get(label, ((0.0, 1.0), (0.0, 1.0)))
        after = bisect_right(known, raw)
        if after == 0 or after == len(known):
            value = values[0] if after == 0 else values[-1]
        else:
            low, high = known[after - 1], known[after]
            share = (raw - low) / (high - low)
            value = values[after - 1] + share * (values[after] - values[after - 1])
        return min(1.0, max(0.0, value))


def _as_word(piece: str) -> str:
    return "\n" if piece[0] == "\n" else piece


def _together(places: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of places that follow each other, as ranges of their order."""
    cuts = [k for k in range(1, len(places)) if places[k] != places[k - 1] + 1]
    return list(zip([0, *cuts], [*cuts, len(places)], strict=True))
