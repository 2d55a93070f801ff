"""Which of several findings over the same characters stays.

The order, first difference decides, so that the same text always gives the same answer:

1. strength: validated (a checksum or a numbering plan agreed, or an issuer's prefix) before
   labelled or in context, before form alone;
2. longer before shorter;
3. higher score before lower;
4. earlier start; then the name of the label.

A finding that loses is dropped whole, with two exceptions: of what a loser covers beyond the
winners, the longest part of four characters or more that holds a digit is redacted under the
loser's label, and of a secret every part is. A detector that forgets the rest of a number or of a
password because a part of it was something else has let it through.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Final

from privacy_core.redaction.findings import Finding

_SECRET: Final = "SECRET"  # noqa: S105  the name of a type
_REST_OF: Final = "rest of an overlap"
_REST: Final = 4  # characters of a remainder that are worth a finding of their own


def resolve_overlaps(
    findings: Iterable[Finding], strength: Callable[[Finding], int], text: str = ""
) -> tuple[Finding, ...]:
    """The findings that stay, in the order of the text, none touching another's characters.

    Args:
        findings: any number, in any order, all of one text.
        strength: 3 validated, 2 labelled or in context, 1 form alone, 0 weaker still.
        text: where given, remainders of losers that hold a digit are kept.
    """
    ordered = sorted(findings, key=attrgetter("start"))
    end = 0
    for finding in ordered:
        if finding.start < end:
            break
        end = finding.end
    else:
        return tuple(ordered)  # none touches another: so in most texts
    settled: list[Finding] = []
    group: list[Finding] = []
    end = 0
    for finding in ordered:  # what touches nothing stays; the rest is decided group by group
        if finding.start >= end and group:
            settled.extend(group if len(group) == 1 else _resolved(group, strength, text))
            group.clear()
        group.append(finding)
        end = max(end, finding.end)
    settled.extend(group if len(group) == 1 else _resolved(group, strength, text))
    return tuple(settled)


def _resolved(
    findings: Iterable[Finding], strength: Callable[[Finding], int], text: str
) -> list[Finding]:
    """The same for findings of which each touches another."""
    ranked = sorted(
        findings,
        key=lambda f: (-strength(f), f.start - f.end, -f.score, f.start, f.label),
    )
    starts: list[int] = []
    kept: list[Finding] = []
    for finding in ranked:
        at = bisect_left(starts, finding.start)
        before = kept[at - 1].end if at else 0
        after = starts[at] if at < len(kept) else finding.end
        if before <= finding.start and finding.end <= after:
            starts.insert(at, finding.start)
            kept.insert(at, finding)
            continue
        for rest in _remainders(finding, kept, at, text) if text else ():
            place = bisect_left(starts, rest.start)
            starts.insert(place, rest.start)
            kept.insert(place, rest)
    return kept


def _remainders(finding: Finding, kept: Sequence[Finding], at: int, text: str) -> Iterator[Finding]:
    """The parts of a loser that no winner covers and that are worth keeping."""
    edges: list[tuple[int, int]] = []
    start = finding.start
    index = at - 1 if at and kept[at - 1].end > start else at
    for k in range(index, len(kept)):
        other = kept[k]
        if other.start >= finding.end:
            break
        edges.append((start, other.start))
        start = max(start, other.end)
    edges.append((start, finding.end))
    is_secret = finding.label == _SECRET
    for first, last in edges if is_secret else [max(edges, key=lambda edge: edge[1] - edge[0])]:
        a, b = (first, last) if is_secret else _trimmed(text, first, last)
        letters = text[a:b]
        has_digit = any(map(str.isdigit, letters)) and len(letters) >= _REST
        if has_digit or (is_secret and any(map(str.isalnum, letters))):
            yield replace(finding, start=a, end=b, evidence=(*finding.evidence, _REST_OF))


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """A span without the punctuation at its ends."""
    while start < end and not text[start].isalnum():
        start += 1
    while end > start and not text[end - 1].isalnum():
        end -= 1
    return start, end
