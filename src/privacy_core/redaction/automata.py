"""Automata over Latin-1 bytes: for one pattern, for a set of patterns, for words.

RE2 makes the states of an automaton when a text first asks for them. So a pattern that follows many
words at once is dear to a process that has read little, and a set, which remembers what occurred,
has states for every combination: patterns that are asked of every text should be short, count
nothing and seldom occur.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import re2  # type: ignore[import-untyped]  # the binding has no types
from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind

from privacy_core.redaction.surroundings import words_of

LOWER: Final = bytes(range(256)).decode("latin-1").lower().encode("latin-1")
ANYWHERE: Final = re2._re2.RE2.Anchor.UNANCHORED
_MEMORY_BYTES: Final = 1 << 24  # for the states of an automaton

Search = Callable[[Any, bytes, int, int], Sequence[tuple[int, int]]]
"""Leftmost match in a part of a text, as the first pair; (-1, -1): none."""


def compiled(pattern: bytes) -> Search:
    """The search for an RE2 pattern over Latin-1 bytes.

    It is the binding's innermost call: `re2.finditer` around it costs a match object and a
    generator for each match, three times what the search of a kilobyte does.
    """
    search: Search = re2.compile(pattern, _options())._regexp.Match
    return search


def _options() -> re2.Options:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = _MEMORY_BYTES
    options.never_capture = True
    options.log_errors = False
    return options


def in_any_case(word: str) -> str:
    """A lower-case word as a pattern that (?i) makes blind to case.

    RE2 knows no case of accented letters in Latin-1 text.
    """
    return "".join(
        f"[{chr(ord(char) - 32)}{char}]" if "\xe0" <= char <= "\xfe" else char
        for char in re2.escape(word.encode("latin-1")).decode("latin-1")
    )


@lru_cache(maxsize=64)
def any_word(kind: str) -> str:
    """A pattern for any word of a kind, whole and in any case."""
    words = sorted(words_of(kind))
    letters = "|".join([in_any_case(word) for word in words if word.isalpha()])
    others = [in_any_case(word) for word in words if not word.isalpha()]
    end = r"[^A-Za-z\xc0-\xd6\xd8-\xff]"
    return "(?i)" + "|".join([rf"(?:^|{end})(?:{letters})(?:{end}|$)", *others])


@lru_cache(maxsize=64)
def word_search(kind: str) -> Search:
    """The search for any word of a kind."""
    return compiled(any_word(kind).encode("latin-1"))


def automaton(words: Sequence[str]) -> BytesAhoCorasick:
    """An automaton of all words, the longest at each place; made at once, unlike RE2's."""
    return BytesAhoCorasick(
        [word.encode("latin-1") for word in words],
        matchkind=MatchKind.LeftmostLongest,
        implementation=Implementation.DFA,
    )


class Triggers:
    """Which of several patterns occur, in one pass.

    A set of patterns remembers which of them occurred, so its automaton has up to 2^k copies of
    itself for k patterns; few of these combinations occur in texts.

    Args:
        members: (pattern, index) pairs; one index may have several patterns and the reverse.
    """

    __slots__ = ("_every", "_last", "_match", "_members")

    def __init__(self, members: Iterable[tuple[str, int]]) -> None:
        by_pattern: dict[str, list[int]] = {}
        for trigger, index in members:
            by_pattern.setdefault(trigger, []).append(index)
        self._members = (*(tuple(indices) for indices in by_pattern.values()), ())
        self._every = tuple(index for indices in self._members for index in indices)
        self._last = len(by_pattern)
        triggers = re2._re2.Set(ANYWHERE, _options())
        for trigger in by_pattern:
            triggers.Add(trigger.encode("latin-1"))
        triggers.Add(b"")  # occurs in every text: its absence is a pass that gave up
        triggers.Compile()
        self._match = triggers.Match

    def occurring(self, plain: bytes) -> Iterable[int]:
        """Indices of the patterns that occur; all of them if the pass gave up."""
        if not self._last:
            return ()
        found = self._match(plain)  # in no order
        if len(found) == 1:
            return () if found[0] == self._last else self._every
        if self._last not in found:
            return self._every
        members = self._members
        return [index for k in found for index in members[k]]
