"""Pieces of words for a transformer that scores words: vocabulary ids, and how words are written.

The tokenizer is passed in: this module arranges what it says. An uncased vocabulary does not see
capitals, so each piece also carries the case of its word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

CASES: Final = (
    "mark", "lower", "title", "upper", "initial", "mixed", "digits", "break", "other", "unused",
)  # fmt: skip
# Ids of a BERT vocabulary: [CLS], [SEP], and the first unused one, which is a break of lines here.
_FIRST, _LAST, _BREAK, _UNKNOWN = 101, 102, 1, 100
_LONGEST_WORD: Final = 8


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pieces of each word of a text."""

    ids: Sequence[Sequence[int]]
    cases: Sequence[int]


@dataclass(frozen=True, slots=True)
class Window:
    """What the model sees at once.

    Attributes:
        ids: pieces, between the first and the last mark of a sequence.
        cases: the case of each piece's word.
        words: the word that a piece begins, or -1.
        first: first word whose scores count (the ones before it are there for their context).
    """

    ids: list[int]
    cases: list[int]
    words: list[int]
    first: int

    def moved(self, by: int) -> Window:
        """The same window of a text that begins `by` words earlier."""
        words = [word + by if word >= 0 else word for word in self.words]
        return Window(self.ids, self.cases, words, self.first + by)


def plain(tokenizer: Any) -> Any:
    """The tokenizer without padding and truncation."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def case_of(word: str) -> int:
    """Place in `CASES` of how a word is written."""
    if word == "\n":
        return 7
    if word.isdigit():
        return 6
    if not word[0].isalnum():
        return 0
    if word.islower():
        return 1
    if word.isupper():
        return 4 if len(word) == 1 else 3
    if word.istitle():
        return 2
    return 5 if word.lower() != word else 8


def pieces(words: Sequence[str], tokenizer: Any) -> Pieces:
    """Pieces of words; a word of more than eight pieces is cut, a break of lines is one piece."""
    encoding = tokenizer.encode(list(words), is_pretokenized=True, add_special_tokens=False)
    ids: list[list[int]] = [[] for _ in words]
    for piece, word in zip(encoding.ids, encoding.word_ids, strict=True):
        if len(ids[word]) < _LONGEST_WORD:
            ids[word].append(piece)
    for k, word in enumerate(words):
        if not ids[k]:
            ids[k] = [_BREAK if word == "\n" else _UNKNOWN]
    return Pieces(ids, [case_of(word) for word in words])


def windows(of: Pieces, length: int, context: int = 0, first: int = 0) -> Iterator[Window]:
    """Cut a text into windows of at most `length` pieces, after a break of lines where one is near.

    Args:
        of: pieces of the words of a text.
        length: pieces of a window with its two marks.
        context: words that a window repeats from the one before.
        first: the first word that is asked about; those before it are context.
    """
    start = 0
    count = len(of.ids)
    while first < count:
        end, size, cut = start, 2, 0
        while end < count and size + len(of.ids[end]) <= length:
            size += len(of.ids[end])
            end += 1
            if of.cases[end - 1] == 7 and end > first and 2 * size > length:
                cut = end
        end = cut if cut and end < count else max(end, first + 1)
        yield _window(of, start, end, first)
        first = end
        start = max(start + 1, end - context) if context else end


def _window(of: Pieces, start: int, end: int, first: int) -> Window:
    ids, cases, words = [_FIRST], [0], [-1]
    for k in range(start, end):
        ids += of.ids[k]
        cases += [of.cases[k]] * len(of.ids[k])
        words += [k] + [-1] * (len(of.ids[k]) - 1)
    return Window([*ids, _LAST], [*cases, 0], [*words, -1], first)
