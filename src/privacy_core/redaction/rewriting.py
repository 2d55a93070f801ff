"""From a text and its findings to a text without them, and the way between their positions.

The rewriting is in the order of the text, and looks at nothing behind the place where it is: what a
stream sends on is what a batch returns.

=======================================  =======================================================
in the text                              is
=======================================  =======================================================
findings that overlap                    replaced over their union: the second begins where the
                                         first ends
a finding that touches a mark            replaced outside the mark
a finding whose operator is None         left as it is
a mark (`marks`)                         left as it is, and its number is not given again
=======================================  =======================================================
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from privacy_core.errors import InvalidParameter
from privacy_core.redaction.findings import Finding
from privacy_core.redaction.marks import Mark
from privacy_core.redaction.operators import Operator, Scope

ChooseOperator: TypeAlias = Callable[[Finding], Operator | None]


@dataclass(frozen=True, slots=True)
class Replacement:
    """One place where a value stood. It does not hold the value.

    Attributes:
        start: index of the value's first character in the text that was given.
        end: index after its last.
        new_start: index of what stands there now, in the rewritten text.
        new_end: index after it.
        finding: what was found; where findings overlapped, wider than `start` and `end`.
        operator: name of the operator.
        reversible: whether a key leads back.
        replaced_by: what stands there now.
    """

    start: int
    end: int
    new_start: int
    new_end: int
    finding: Finding
    operator: str
    reversible: bool
    replaced_by: str = field(repr=False)  # a surrogate must not be mistaken for a leak, nor leak

    @property
    def label(self) -> str:
        """Entity type."""
        return self.finding.label


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A rewritten text with its replacements, in order.

    Attributes:
        text: the rewritten text.
        replacements: what was replaced, in order of the text.
    """

    text: str
    replacements: tuple[Replacement, ...]

    def position_in_original(self, position: int) -> int:
        """Where a position of the rewritten text was. Inside a replacement: the value's start."""
        return _moved(
            position, [(r.new_start, r.new_end, r.start, r.end) for r in self.replacements]
        )

    def position_in_rewritten(self, position: int) -> int:
        """Where a position of the given text is now. Inside a value: its replacement's start."""
        return _moved(
            position, [(r.start, r.end, r.new_start, r.new_end) for r in self.replacements]
        )


def rewrite(
    text: str,
    findings: Iterable[Finding],
    choose_operator: ChooseOperator,
    scope: Scope | None = None,
    *,
    around: str | None = None,
) -> Rewritten:
    """Replace every finding by what its operator says.

    **Guarantee**: no character of a finding with an operator is in the result, except where the
    operator put it or where it belongs to a mark. Time is linear in text and findings.

    Args:
        text: any string.
        findings: spans of `text`, in any order; may overlap.
        choose_operator: says which operator replaces a finding; None leaves it.
        scope: the document or conversation; a fresh one if left out.
        around: more of the text that `text` is a part of, which stand-ins must not occur in.

    Raises:
        InvalidParameter: a finding is not inside the text. Nothing was rewritten.
    """
    scope = Scope() if scope is None else scope
    scope.text = text if around is None else around
    pieces: list[str] = []
    done: list[Replacement] = []
    at = length = 0
    for start, end, what in _in_order(text, findings, scope):
        if isinstance(what, Mark):
            scope.observe(what)
            continue
        operator = choose_operator(what)
        if operator is None:
            continue
        stands = operator.replace(text[start:end], moved(what, start, end), scope)
        length += start - at
        pieces += (text[at:start], stands)
        done.append(
            Replacement(
                start=start,
                end=end,
                new_start=length,
                new_end=length + len(stands),
                finding=what,
                operator=operator.name,
                reversible=operator.reversible,
                replaced_by=stands,
            )
        )
        length += len(stands)
        at = end
    scope.text = ""
    pieces.append(text[at:])
    return Rewritten("".join(pieces), tuple(done))


def moved(finding: Finding, start: int, end: int) -> Finding:
    """Return a finding with another span."""
    if (finding.start, finding.end) == (start, end):
        return finding
    return Finding(start, end, finding.label, finding.score, finding.rule, finding.evidence)


Span: TypeAlias = tuple[int, int, Finding | Mark]


def _in_order(text: str, findings: Iterable[Finding], scope: Scope) -> Iterator[Span]:
    """Yield marks and the parts of findings outside them, in order and without overlap."""
    marks = scope.marks(text)
    spans: list[Span] = [(mark.start, mark.end, mark) for mark in marks]
    starts = [mark.start for mark in marks]
    done = 0
    for finding in sorted(findings, key=lambda found: (found.start, -found.end)):
        if not 0 <= finding.start < finding.end <= len(text):
            raise InvalidParameter(
                "finding",
                found=f"characters {finding.start} to {finding.end}",
                expected=f"a span of the text's {len(text)} characters",
            )
        start = max(finding.start, done)
        if start >= finding.end:
            continue
        done = finding.end
        for first, last in _outside(start, finding.end, marks, starts):
            if (first, last) == (start, finding.end) or _holds_a_value(text, first, last):
                spans.append((first, last, finding))
    yield from sorted(spans, key=lambda span: span[:2])


def _outside(
    start: int, end: int, marks: Sequence[Mark], starts: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Yield the parts of a span that are in no mark."""
    index = max(bisect_right(starts, start) - 1, 0)
    while index < len(marks) and marks[index].start < end:
        mark = marks[index]
        if mark.end > start:
            if mark.start > start:
                yield start, mark.start
            start = mark.end
        index += 1
    if start < end:
        yield start, end


def _holds_a_value(text: str, start: int, end: int) -> bool:
    """Whether what is left of a finding beside a mark is more than punctuation."""
    return any(letter.isalnum() for letter in text[start:end])


def _moved(position: int, spans: Sequence[tuple[int, int, int, int]]) -> int:
    """Carry a position over to the other text; spans are (start, end, new start, new end)."""
    index = bisect_right(spans, position, key=lambda span: span[0]) - 1
    if index < 0:
        return position
    _, end, new_start, new_end = spans[index]
    return new_start if position < end else new_end + position - end
