from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from privacy_core.redaction.findings import Finding
from privacy_core.redaction.unions import united


def finding(start: int, end: int, label: str = "PERSON", score: float = 0.5) -> Finding:
    return Finding(start, end, label, score, "test.rule")


def test_what_either_found_stays_in_order() -> None:
    assert united([finding(5, 9)], [finding(0, 3), finding(12, 14)]) == [
        finding(0, 3),
        finding(5, 9),
        finding(12, 14),
    ]


def test_the_first_wins_an_overlap_and_the_higher_score_is_kept_where_both_agree() -> None:
    assert united([finding(0, 8)], [finding(0, 4, score=0.9)]) == [finding(0, 8)]
    assert united([finding(0, 8)], [finding(0, 8, "LOCATION", 0.9)]) == [finding(0, 8)]
    assert united([finding(0, 8)], [finding(0, 8, score=0.9)]) == [finding(0, 8, score=0.9)]


def test_what_only_the_second_found_needs_the_score_that_is_asked_for() -> None:
    second = [finding(0, 3, score=0.7), finding(10, 12, score=0.9)]

    assert united([finding(5, 9)], second, alone=0.8) == [finding(5, 9), second[1]]


def test_findings_that_only_touch_do_not_overlap() -> None:
    assert united([finding(4, 8)], [finding(0, 4)]) == [finding(0, 4), finding(4, 8)]


@st.composite
def disjoint(draw: st.DrawFn) -> list[Finding]:
    cuts = sorted(draw(st.sets(st.integers(0, 30), max_size=12)))
    return [finding(a, b) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]


@given(disjoint(), disjoint())
def test_the_union_is_in_order_does_not_overlap_and_holds_the_first(
    first: list[Finding], second: list[Finding]
) -> None:
    both = united(first, second)

    assert all(a.end <= b.start for a, b in pairwise(both))
    assert set(first) <= set(both)
    for other in second:
        assert any(f.start < other.end and other.start < f.end for f in both)
