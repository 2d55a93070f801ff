"""How good a detector is, against people who marked the same texts.

Four questions, four answers:

===================  ===========================================================================
question             answer
===================  ===========================================================================
what was found?      `typed`: precision, recall and F1 of spans, for each label and together
how much?            `characters`: the share of the marked characters, by any label
what leaks?          `leaks`: for each label, spans and characters that nothing covers
what means a score?  `reliability`: of findings with score near 0.9, are nine in ten right?
===================  ===========================================================================

Spans are half-open and in code points. No text comes in, so none can go out: a report of what leaks
holds counts.

Sources: Nakayama 2018 (seqeval) and Segura-Bedmar et al. 2013 (SemEval-2013 task 9) for typed spans
with a partial match; Pilán et al. 2022 (arXiv:2202.00443), section 6, for recall of characters
whatever the label; Naeini et al. 2015 (AAAI) for the expected calibration error.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from privacy_core.errors import InvalidParameter


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one text with a label.

    Attributes:
        start: first character.
        end: after the last character; `start < end`.
        label: what it is.
        score: for findings, the claimed probability that it is that; 1 for marks of people.
    """

    start: int
    end: int
    label: str
    score: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise InvalidParameter(
                "span", found=(self.start, self.end), expected="0 <= start < end, in code points"
            )
        if not 0 <= self.score <= 1:
            raise InvalidParameter("score", found=self.score, expected="a probability")


@dataclass(frozen=True, slots=True)
class Marked:
    """One text: what people marked in it, and what a detector found."""

    gold: Sequence[Span]
    found: Sequence[Span]


@dataclass(frozen=True, slots=True)
class Score:
    """Counts of one label, or of all together, and the rates that follow from them.

    Attributes:
        matched: marks that a finding matches, each with its own finding.
        found: findings.
        n: marks.
    """

    matched: int
    found: int
    n: int

    @property
    def precision(self) -> float:
        """Share of the findings that are right; NaN where nothing was found."""
        return self.matched / self.found if self.found else math.nan

    @property
    def recall(self) -> float:
        """Share of the marks that were found; NaN where nothing is marked."""
        return self.matched / self.n if self.n else math.nan

    @property
    def f1(self) -> float:
        """Harmonic mean of both, 2 matched / (found + n); NaN where there is neither."""
        return 2 * self.matched / (self.found + self.n) if self.found + self.n else math.nan


@dataclass(frozen=True, slots=True)
class TypedScores:
    """Scores of spans with the right label.

    Attributes:
        micro: all labels together, counted as one.
        entities: each label that was marked or found, by name.
    """

    micro: Score
    entities: Mapping[str, Score]


@dataclass(frozen=True, slots=True)
class CharacterScore:
    """Characters, whatever the label.

    Attributes:
        covered: marked characters that some finding covers.
        marked: characters that lie in a mark.
        found: characters that lie in a finding.
    """

    covered: int
    marked: int
    found: int

    @property
    def recall(self) -> float:
        """Share of the marked characters that are covered; NaN where nothing is marked."""
        return self.covered / self.marked if self.marked else math.nan

    @property
    def precision(self) -> float:
        """Share of the covered characters that are marked; NaN where nothing is covered."""
        return self.covered / self.found if self.found else math.nan


@dataclass(frozen=True, slots=True)
class Leak:
    """What of one label nothing covers.

    Attributes:
        spans: marks of the label.
        spans_whole: marks of which no character is covered.
        spans_part: marks of which some characters are covered and others are not.
        characters: characters of the marks that are not covered.
        characters_marked: characters of the marks.
    """

    spans: int
    spans_whole: int
    spans_part: int
    characters: int
    characters_marked: int


@dataclass(frozen=True, slots=True)
class Bin:
    """Findings whose scores lie in [low, high), the last bin with its upper end.

    Attributes:
        low: lower end.
        high: upper end.
        n: findings.
        score: their mean score; NaN for none.
        precision: the share of them that is right; NaN for none.
    """

    low: float
    high: float
    n: int
    score: float
    precision: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """Whether scores are probabilities.

    Attributes:
        bins: findings by score.
        error: expected calibration error: the mean of |score - precision| over bins, weighted by
            their findings; NaN where nothing was found.
    """

    bins: tuple[Bin, ...]
    error: float


def overlap(a: Span, b: Span) -> float:
    """Intersection over union of two spans, in [0, 1]."""
    shared = min(a.end, b.end) - max(a.start, b.start)
    if shared <= 0:
        return 0.0
    return shared / (max(a.end, b.end) - min(a.start, b.start))


def matches(text: Marked, *, iou: float = 0.5) -> list[tuple[int, int]]:
    """Pair marks with findings of the same label that overlap enough, best overlap first.

    Guarantee: no mark and no finding is in two pairs. Where neither marks nor findings of a label
    overlap among themselves and `iou >= 0.5`, the number of pairs is the largest possible: a mark
    that meets two findings is then covered by them half and half, and neither meets another mark.

    Args:
        text: the spans of one text.
        iou: least intersection over union, in (0, 1]; 1 asks for the exact span.

    Returns:
        Pairs of places in `text.gold` and `text.found`.

    Raises:
        InvalidParameter: `iou` is outside (0, 1].
    """
    if not 0 < iou <= 1:
        raise InvalidParameter("iou", found=iou, expected="in (0, 1]")
    candidates = sorted(
        (
            (-share, i, j)
            for i, mark in enumerate(text.gold)
            for j, finding in enumerate(text.found)
            if mark.label == finding.label and (share := overlap(mark, finding)) >= iou
        )
    )
    pairs: list[tuple[int, int]] = []
    taken_gold: set[int] = set()
    taken_found: set[int] = set()
    for _, i, j in candidates:
        if i not in taken_gold and j not in taken_found:
            pairs.append((i, j))
            taken_gold.add(i)
            taken_found.add(j)
    return pairs


def typed(texts: Iterable[Marked], *, iou: float = 0.5) -> TypedScores:
    """Precision, recall and F1 of spans with the right label.

    A finding is right when a mark of the same label overlaps it by at least `iou`; each mark
    justifies one finding. `iou=1` asks for exact spans.

    =============================  =====================================================
    a label that is                has
    =============================  =====================================================
    marked and never found         recall 0, precision NaN, F1 0
    found and never marked         precision 0, recall NaN, F1 0; it counts in `micro`
    in no text at all              no row
    =============================  =====================================================

    Raises:
        InvalidParameter: `iou` is outside (0, 1].
    """
    matched: Counter[str] = Counter()
    found: Counter[str] = Counter()
    gold: Counter[str] = Counter()
    for text in texts:
        found.update(span.label for span in text.found)
        gold.update(span.label for span in text.gold)
        matched.update(text.gold[i].label for i, _ in matches(text, iou=iou))
    names = sorted(found.keys() | gold.keys())
    return TypedScores(
        micro=Score(matched.total(), found.total(), gold.total()),
        entities={name: Score(matched[name], found[name], gold[name]) for name in names},
    )


def characters(texts: Iterable[Marked]) -> CharacterScore:
    """How many marked characters some finding covers, whatever the labels.

    A character in two marks counts once, as does one in two findings.
    """
    covered = marked = found = 0
    for text in texts:
        gold = _places(text.gold)
        hits = _places(text.found)
        covered += len(gold & hits)
        marked += len(gold)
        found += len(hits)
    return CharacterScore(covered, marked, found)


def leaks(texts: Iterable[Marked]) -> dict[str, Leak]:
    """What is marked and not covered, for each label of a mark; most characters first."""
    counts: dict[str, list[int]] = {}
    for text in texts:
        hits = _places(text.found)
        for mark in text.gold:
            length = mark.end - mark.start
            open_ = length - len(hits.intersection(range(mark.start, mark.end)))
            row = counts.setdefault(mark.label, [0, 0, 0, 0, 0])
            for k, value in enumerate((1, open_ == length, 0 < open_ < length, open_, length)):
                row[k] += value
    ordered = sorted(counts.items(), key=lambda item: (-item[1][3], item[0]))
    return {label: Leak(*row) for label, row in ordered}


def reliability(texts: Iterable[Marked], *, bins: int = 10, iou: float = 0.5) -> Reliability:
    """Compare the scores of findings with how often findings of that score are right.

    Args:
        texts: marks and findings; a finding is right as in `typed`.
        bins: bins of equal width over [0, 1], at least 1.
        iou: as in `typed`.

    Raises:
        InvalidParameter: `bins` is below 1 or `iou` outside (0, 1].
    """
    if bins < 1:
        raise InvalidParameter("bins", found=bins, expected="at least 1")
    sums = [[0, 0.0, 0] for _ in range(bins)]
    for text in texts:
        right = {j for _, j in matches(text, iou=iou)}
        for j, finding in enumerate(text.found):
            row = sums[min(bins - 1, int(finding.score * bins))]
            row[0] += 1
            row[1] += finding.score
            row[2] += j in right
    table = tuple(
        Bin(
            k / bins,
            (k + 1) / bins,
            int(n),
            total / n if n else math.nan,
            right / n if n else math.nan,
        )
        for k, (n, total, right) in enumerate(sums)
    )
    count = sum(row.n for row in table)
    gap = sum(row.n * abs(row.score - row.precision) for row in table if row.n)
    return Reliability(table, gap / count if count else math.nan)


def _places(spans: Iterable[Span]) -> set[int]:
    places: set[int] = set()
    for span in spans:
        places.update(range(span.start, span.end))
    return places
