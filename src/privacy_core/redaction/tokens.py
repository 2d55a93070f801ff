"""Words with their places, and labels of words from labels of spans: what name models work on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, compress
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

# A run of letters and digits, a possessive ending, a break of lines with the spaces around it, one
# mark, or spaces: every character is in exactly one piece, so places are sums of lengths. Every
# repetition is of one class of characters, so the scan is linear.
_PIECE: Final = re.compile(r"[^\W_]+|[^\S\n]+|['\u2019][sS]\b|\n[^\S\n]*(?:\n[^\S\n]*)*|[^\w\s]|_")
OUTSIDE: Final = "O"
_ROLES: Final = {
    **dict.fromkeys(".!?\u2026", 1),
    **dict.fromkeys("\"')]}\u00bb\u201d\u2019", 2),
    **dict.fromkeys("\n\u3002\uff01\uff1f", 3),
}
_NOT_FIRST: Final = frozenset(".,;:)-/\n")
_NOT_LAST: Final = frozenset(",;:(-/\n")
_ABBREVIATION: Final = 4


@dataclass(frozen=True, slots=True)
class Tokens:
    """The words of a text and where they stand.

    Attributes:
        words: as written; a break of lines is one word, a line feed.
        starts: first character of each.
        ends: after the last character of each.
    """

    words: Sequence[str]
    starts: Sequence[int]
    ends: Sequence[int]


def pieces_of(text: str) -> list[str]:
    """Words, marks, breaks of lines and spaces of a text; one after the other they are the text."""
    pieces: list[str] = _PIECE.findall(text)
    return pieces


def tokenize(text: str) -> Tokens:
    """Split a text into words, marks and breaks of lines; linear in its length."""
    pieces = pieces_of(text)
    ends = list(accumulate(map(len, pieces)))
    kept = [not piece.isspace() or piece[0] == "\n" for piece in pieces]
    words = ["\n" if piece[0] == "\n" else piece for piece in compress(pieces, kept)]
    return Tokens(words, list(compress([0, *ends], kept)), list(compress(ends, kept)))


def sentence_role(word: str) -> int:
    """What a word does to a sentence: 0 nothing, 1 ends it, 2 may follow its end, 3 cuts the text.

    An end counts where a space follows (`ends_of_sentences`). The marks are those at which a
    stream is cut (`streaming`), so that a name model that looks at sentences says the same there.
    """
    return _ROLES.get(word, 0)


def ends_of_sentences(roles: Ints, starts: Ints, ends: Ints) -> NDArray[np.bool_]:
    """Whether a sentence ends with each word.

    It does at a full stop, `!` or `?` before a space, with closing marks between them or not, and
    at a break of lines. "Dr." ends one too: what uses this wants short pieces that depend on
    nothing far away, not grammar.

    Args:
        roles: `sentence_role` of each word.
        starts: first character of each.
        ends: after the last character of each.
    """
    result: NDArray[np.bool_] = roles == 1
    free = np.ones(len(roles), dtype=bool)
    free[:-1] = (starts[1:] > ends[:-1]) | (roles[1:] == 3)
    closers = roles == 2
    if closers.any():
        for k in np.flatnonzero(closers[1:]).tolist():
            if result[k] and not free[k]:
                result[k + 1] = True
    result &= free
    result |= roles == 3
    return result


def sentence_ends(tokens: Tokens) -> NDArray[np.bool_]:
    """`ends_of_sentences` of a text's words."""
    roles = np.array([_ROLES.get(word, 0) for word in tokens.words], dtype=np.int64)
    return ends_of_sentences(
        roles, np.array(tokens.starts, dtype=np.int64), np.array(tokens.ends, dtype=np.int64)
    )


def encode(tokens: Tokens, spans: Sequence[tuple[int, int, str]]) -> list[str]:
    """Labels of words: `O`, or `B-`, `I-`, `E-`, `S-` (first, inner, last, only word) and a label.

    A word that a span cuts belongs to it when most of the word lies inside.

    Args:
        tokens: words of a text.
        spans: (start, end, label), in order, not overlapping.
    """
    labels = [OUTSIDE] * len(tokens.words)
    place = 0
    for start, end, label in spans:
        while place < len(labels) and tokens.ends[place] <= start:
            place += 1
        inside = []
        k = place
        while k < len(labels) and tokens.starts[k] < end:
            length = tokens.ends[k] - tokens.starts[k]
            shared = min(end, tokens.ends[k]) - max(start, tokens.starts[k])
            if 2 * shared > length and labels[k] == OUTSIDE:
                inside.append(k)
            k += 1
        while inside and tokens.words[inside[-1]] == "\n":
            inside.pop()
        for k in inside:
            labels[k] = f"I-{label}"
        if inside:
            labels[inside[-1]] = f"E-{label}"
            labels[inside[0]] = f"B-{label}" if len(inside) > 1 else f"S-{label}"
    return labels


def decode(labels: Sequence[str]) -> list[tuple[int, int, str]]:
    """Runs of words (first, after the last, label) from labels of words.

    Labels that contradict each other are read with good will: a run ends where its label changes,
    at `E-` and `S-`, and before `B-` and `S-`.
    """
    runs: list[tuple[int, int, str]] = []
    start, open_ = 0, ""
    for k, label in enumerate(labels):
        kind, _, name = label.partition("-")
        if open_ and (name != open_ or kind in {"B", "S"}):
            runs.append((start, k, open_))
            open_ = ""
        if name and not open_:
            start, open_ = k, name
        if open_ and kind in {"E", "S"}:
            runs.append((start, k + 1, open_))
            open_ = ""
    if open_:
        runs.append((start, len(labels), open_))
    return runs


def possible_transitions(labels: Sequence[str], forbidden: float = -30.0) -> NDArray[np.float32]:
    """Scores of a label (row) before another (column): 0 where it may stand, else `forbidden`."""
    table = np.full((len(labels), len(labels)), forbidden, dtype=np.float32)
    for i, before in enumerate(labels):
        for j, after in enumerate(labels):
            goes_on = before[0] in "BI" and after[0] in "IE" and before[2:] == after[2:]
            begins = before[0] in "OES" and after[0] in "OBS"
            if goes_on or begins:
                table[i, j] = 0.0
    return table


def tidied(
    runs: Sequence[tuple[int, int, str]], words: Sequence[str]
) -> list[tuple[int, int, str]]:
    """Runs of words as a reader would draw them.

    Two persons with nothing but a space between them are one ("Apellidos: Llorente Bernal"); a run
    does not begin or end with a mark that belongs to the sentence.

    Args:
        runs: (first, after the last, label), in order, not overlapping.
        words: the words of the text.
    """
    tidy: list[tuple[int, int, str]] = []
    for start, end, label in runs:
        if label == "PERSON" and tidy and tidy[-1][1:] == (start, label):
            tidy[-1] = (tidy[-1][0], end, label)
        else:
            tidy.append((start, end, label))
    trimmed = (_trimmed(start, end, label, words) for start, end, label in tidy)
    return [run for run in trimmed if run[0] < run[1]]


def _trimmed(start: int, end: int, label: str, words: Sequence[str]) -> tuple[int, int, str]:
    while start < end and words[start] in _NOT_FIRST:
        start += 1
    while start < end and (
        words[end - 1] in _NOT_LAST
        # The full stop of `Garamendi.` ends the sentence, that of `Jr.` or `S.` the name.
        or (words[end - 1] == "." and end - start > 1 and len(words[end - 2]) > _ABBREVIATION)
    ):
        end -= 1
    return start, end, label
