"""Which patterns occur, told by their triggers; then a linear scan for each that may.

Every pattern is RE2's: no backtracking, so time is linear in the text whatever the text is. They
have no capture groups (a pure automaton finds the span) and no unbounded repetition except at their
end, so that a search that fails has read little beyond where it started. What a pattern finds is
only a candidate: the recognizer's `decide` looks at its surroundings, checks, and may refuse.

Most of what is looked for holds a digit, and most prose holds few. So triggers of such patterns are
looked for near digits only, in a copy of the text that leaves out the rest; and so are the patterns
themselves where they need no more. What only a word can help (a date, where only dates of birth are
redacted) is looked for where such a word stands.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import re2  # type: ignore[import-untyped]  # the binding has no types
from ahocorasick_rs import BytesAhoCorasick

from privacy_core.redaction.automata import (
    ANYWHERE,
    LOWER,
    Search,
    Triggers,
    any_word,
    automaton,
    compiled,
    word_search,
)
from privacy_core.redaction.normalization import Folded
from privacy_core.redaction.surroundings import (
    Heard,
    Surroundings,
    heard_before,
    hint_words,
    words_of,
)


class Mark(NamedTuple):
    """What a recognizer decided about a span of the folded text."""

    start: int
    end: int
    label: str
    rule: str
    evidence: tuple[str, ...] = ()


class Page:
    """A folded text while it is read: its bytes, and what recognizers ask of them.

    Attributes:
        plain: the bytes, one a character.
        text: the same as text, one Latin-1 character a byte.
        hints: words that stand beside the text.
    """

    __slots__ = ("_around", "_before", "_lower", "_mentioned", "hints", "plain", "text")

    def __init__(self, folded: Folded, hints: Sequence[str] = ()) -> None:
        self.plain = folded.plain
        self.text = folded.plain.decode("latin-1")
        self.hints = hint_words(hints) if hints else ()
        self._lower: str | None = None
        self._mentioned: dict[str, bool] = {}
        self._before: dict[int, Heard] = {}
        self._around: dict[tuple[int, int], Surroundings] = {}

    def __repr__(self) -> str:
        return f"Page({len(self.plain)} characters)"

    @property
    def lower(self) -> str:
        """The folded text in lower case; positions are the same."""
        if self._lower is None:
            self._lower = self.plain.translate(LOWER).decode("latin-1")
        return self._lower

    def mentions(self, kind: str) -> bool:
        """Whether a word of `kind` may stand on the page: no is certain, yes nearly so."""
        known = self._mentioned.get(kind)
        if known is None:
            found = word_search(kind)(ANYWHERE, self.plain, 0, len(self.plain))[0][0] >= 0
            known = self._mentioned[kind] = found or self.hinted(kind)
        return known

    def hinted(self, kind: str) -> bool:
        """Whether a word of `kind` is among the hints."""
        return bool(self.hints) and not words_of(kind).isdisjoint(self.hints)

    def around(self, start: int, end: int) -> Surroundings:
        """The words around a span; several recognizers ask about the same one."""
        known = self._around.get((start, end))
        if known is None:
            before = self._before.get(start)
            if before is None:
                before = self._before[start] = heard_before(self.lower, start)
            known = self._around[start, end] = Surroundings(before, self.lower, end, self.hints)
        return known


Decide = Callable[[Page, int, int], Iterable[Mark]]


@dataclass(frozen=True, slots=True)
class Recognizer:
    """One pattern, what must occur for it to occur, and what decides about its candidates.

    Attributes:
        name: unique, a noun.
        trigger: what no text with a match is without: a tuple of byte strings of which one occurs,
            or an RE2 pattern; an empty tuple: always look. Keep it simple, every text is asked.
            With `near` too, one of the two occurs.
        pattern: RE2 pattern of candidates, without capture groups; or a tuple of words in lower
            case, found in any case where a word may begin (`decide` looks where it ends).
        decide: from a candidate to its marks; an empty answer refuses it.
        again: after a refusal go on one character after the candidate's start, not at its end.
        digits: a match holds a digit (or `s/n`, no number): texts without one are not asked.
        finds: the labels its marks may have; empty: any. Levels that redact none skip it.
        near: an RE2 pattern like `trigger`, of which an occurrence has no character farther than
            `REACH` from a digit.
        close: no character of a match is farther than that from a digit either.
        alone: the trigger has an automaton of its own: one of a thousand words would be copied for
            every combination of the others.
        told: (label, kind) pairs: without a word of the kind (see `surroundings`) on the page it
            finds none of the label. Where it is asked for such labels only, the words come first.
    """

    name: str
    trigger: str | tuple[bytes, ...]
    pattern: str | tuple[str, ...]
    decide: Decide
    again: bool = False
    digits: bool = False
    finds: tuple[str, ...] = ()
    near: str = ""
    close: bool = False
    alone: bool = False
    told: tuple[tuple[str, str], ...] = ()


REACH: Final = 48

# A number that is written in any grouping we know has five digits in a row, or two and two beside
# a sign, or digits around letters; see the tests.
LONG_NUMBER: Final = (
    r"[0-9]{5}|[0-9]{2}[ .()/-]{1,3}[0-9]{2}|[0-9] [0-9] [0-9]|[0-9]{2}[A-Za-z]{1,2}[0-9]{2}"
    r"|[0-9]{4}[A-Za-z]|[0-9][A-Za-z]{2}[0-9]|[0-9]{2} ?\([0-9]|[0-9]-[0-9]{2}-[0-9]"
    r"|[0-9]-[A-Za-z]{1,2}[0-9]"
)


_AS_ZERO: Final = bytes.maketrans(b"123456789", b"000000000")


class Near(NamedTuple):
    """What of a text is at most `REACH` from a digit.

    Attributes:
        plain: those parts, a NUL between two; the text itself where they are most of it.
        starts: where each part begins in `plain`.
        shifts: how much farther each part begins in the text.
    """

    plain: bytes
    starts: Sequence[int] = (0,)
    shifts: Sequence[int] = (0,)


def near_digits(plain: bytes) -> Near:
    """The parts of a text near digits."""
    zeros = plain.translate(_AS_ZERO)
    first = zeros.find(b"0")
    if first < 0:
        return Near(b"")
    pieces: list[bytes] = []
    starts: list[int] = []
    shifts: list[int] = []
    filled, room = 0, len(plain) * 2 // 3
    while first >= 0:
        last = first
        while (later := zeros.rfind(b"0", last + 1, last + 2 * REACH)) >= 0:
            last = later
        begin = first - REACH if first > REACH else 0
        piece = plain[begin : last + REACH + 1]
        pieces.append(piece)
        starts.append(filled)
        shifts.append(begin - filled)
        filled += len(piece) + 1
        if filled > room:
            return Near(plain)
        first = zeros.find(b"0", last + 1)
    return Near(b"\0".join(pieces), starts, shifts)


class _Asked(NamedTuple):
    """What a level asks: of the parts of a scanner those that can find one of its labels."""

    always: tuple[int, ...]
    alone: tuple[tuple[int, Search], ...]
    anywhere: Triggers
    near: Triggers
    told: tuple[tuple[int, str], ...]  # parts that only a word of a kind, their trigger, can help


class Scanner:
    """Compiled recognizers. Immutable but for what it has compiled; safe to share."""

    __slots__ = ("_asked", "_compiled", "_digits", "_recognizers")

    def __init__(self, recognizers: Sequence[Recognizer]) -> None:
        self._recognizers = tuple(recognizers)
        self._compiled = tuple(
            (
                automaton(r.pattern)
                if isinstance(r.pattern, tuple)
                else compiled(r.pattern.encode("latin-1")),
                r.decide,
                r.again,
                r.close,
            )
            for r in recognizers
        )
        self._digits = tuple(r.digits for r in recognizers)
        self._asked: dict[frozenset[str] | None, _Asked] = {}

    def scan(self, page: Page, labels: frozenset[str] | None = None) -> list[Mark]:
        """Every mark of every recognizer, overlapping ones too, in no order.

        Args:
            page: the text.
            labels: recognizers that find none of these are left out; None: all take part.
        """
        marks: list[Mark] = []
        asked = self._asked.get(labels) or self._ask(labels)
        plain = page.plain
        size = len(plain)
        every, near = Near(plain), near_digits(plain)
        chosen = [*asked.always]
        chosen += [k for k, search in asked.alone if search(ANYWHERE, plain, 0, size)[0][0] >= 0]
        chosen += self._triggered(plain, near.plain, asked)
        if page.hints:
            hinted = [k for k, kind in asked.told if k not in chosen and page.hinted(kind)]
            chosen += hinted
        for index in chosen:
            search, decide, again, close = self._compiled[index]
            if isinstance(search, BytesAhoCorasick):
                _scan_words(search, decide, page, marks)
            else:
                _scan(search, decide, page, near if close else every, again, marks)
        return marks

    def _triggered(self, plain: bytes, near: bytes, asked: _Asked) -> Iterable[int]:
        """Recognizers of which a trigger occurs."""
        found = asked.anywhere.occurring(plain)
        if near:
            return {*found, *asked.near.occurring(near)}
        if b"/" in plain and b"s/n" in plain.lower():
            return found
        return [k for k in found if not self._digits[k]]

    def _ask(self, labels: frozenset[str] | None) -> _Asked:
        """What texts are asked for these labels, compiled."""
        wanted = [
            (index, r)
            for index, r in enumerate(self._recognizers)
            if labels is None or not r.finds or not labels.isdisjoint(r.finds)
        ]
        told = tuple((k, kind) for k, r in wanted if (kind := _kind_told(r, labels)) is not None)
        words = [(any_word(kind), k) for k, kind in told]
        rest = [(k, r) for k, r in wanted if k not in dict(told) and not r.alone]
        anywhere = [*words, *((_trigger(r), k) for k, r in rest if r.trigger)]
        near = [(r.near, k) for k, r in rest if r.near]
        asked = _Asked(
            always=tuple(k for k, r in rest if not r.trigger and not r.near),
            alone=tuple((k, compiled(_trigger(r).encode("latin-1"))) for k, r in wanted if r.alone),
            anywhere=Triggers(anywhere),
            near=Triggers(near),
            told=told,
        )
        if len(self._asked) < _POLICIES_KEPT:
            self._asked[labels] = asked
        return asked


def _scan(
    search: Search, decide: Decide, page: Page, part: Near, again: bool, marks: list[Mark]
) -> None:
    """Ask about every match; where `again`, a refused one hides nothing that begins inside it."""
    plain, starts, shifts = part
    size = len(plain)
    at = 0
    while at < size:
        start, end = search(ANYWHERE, plain, at, size)[0]
        if start < 0:
            return
        shift = shifts[bisect_right(starts, start) - 1]
        before = len(marks)
        marks.extend(decide(page, start + shift, end + shift))
        at = start + 1 if end == start or (again and len(marks) == before) else end


def _trigger(recognizer: Recognizer) -> str:
    """What occurs anywhere, as one pattern."""
    if isinstance(recognizer.trigger, str):
        return recognizer.trigger
    return "|".join(re2.escape(word).decode("latin-1") for word in recognizer.trigger)


def _kind_told(recognizer: Recognizer, labels: frozenset[str] | None) -> str | None:
    """The kind of words without which a recognizer finds none of `labels`."""
    if labels is None or not recognizer.finds:
        return None
    told = dict(recognizer.told)
    kinds = {told.get(label) for label in labels.intersection(recognizer.finds)}
    return kinds.pop() if len(kinds) == 1 else None


_POLICIES_KEPT: Final = 16


def _scan_words(words: BytesAhoCorasick, decide: Decide, page: Page, marks: list[Mark]) -> None:
    """Ask about every word where a word may begin."""
    text = page.text
    for _, start, end in words.find_matches_as_indexes(page.plain.translate(LOWER)):
        if not start or not text[start - 1].isalnum():
            marks.extend(decide(page, start, end))
