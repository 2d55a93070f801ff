import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_core.redaction.scoring import (
    Marked,
    Span,
    characters,
    leaks,
    matches,
    overlap,
    reliability,
    typed,
)


def test_scores_of_a_case_counted_by_hand() -> None:
    # PERSON: one of two found, and one invented. EMAIL: found, one character short (IoU 9/10).
    text = Marked(
        gold=[Span(0, 4, "PERSON"), Span(10, 20, "EMAIL"), Span(30, 35, "PERSON")],
        found=[Span(0, 4, "PERSON"), Span(10, 19, "EMAIL"), Span(40, 44, "PERSON")],
    )

    scores = typed([text])

    assert (scores.micro.matched, scores.micro.found, scores.micro.n) == (2, 3, 3)
    assert scores.micro.f1 == pytest.approx(2 / 3)
    assert scores.entities["PERSON"].precision == 0.5
    assert scores.entities["PERSON"].recall == 0.5
    assert scores.entities["EMAIL"].f1 == 1
    exact = typed([text], iou=1)
    assert exact.entities["EMAIL"].f1 == 0
    assert exact.micro.matched == 1


def test_the_label_has_to_be_right() -> None:
    scores = typed([Marked([Span(0, 4, "PERSON")], [Span(0, 4, "LOCATION")])])

    assert scores.micro.f1 == 0
    assert math.isnan(scores.entities["PERSON"].precision)
    assert math.isnan(scores.entities["LOCATION"].recall)


def test_one_mark_justifies_one_finding() -> None:
    halves = Marked([Span(0, 4, "X")], [Span(0, 2, "X"), Span(2, 4, "X")])

    score = typed([halves]).micro

    assert (score.matched, score.found, score.n) == (1, 2, 1)


def test_nothing_marked_and_nothing_found_is_not_a_number() -> None:
    empty = Marked([], [])

    assert math.isnan(typed([empty]).micro.f1)
    assert math.isnan(characters([empty]).recall)
    assert math.isnan(reliability([empty]).error)
    assert leaks([empty]) == {}


def test_characters_count_once_whatever_the_labels() -> None:
    text = Marked(
        gold=[Span(0, 10, "PERSON"), Span(5, 10, "LOCATION")],
        found=[Span(2, 8, "EMAIL"), Span(4, 12, "PHONE")],
    )

    score = characters([text, text])

    assert (score.covered, score.marked, score.found) == (16, 20, 20)
    assert score.recall == score.precision == 0.8


def test_leaks_are_counted_and_the_worst_label_comes_first() -> None:
    text = Marked(
        gold=[Span(0, 4, "PERSON"), Span(10, 20, "EMAIL"), Span(30, 33, "PERSON")],
        found=[Span(0, 4, "LOCATION"), Span(12, 20, "EMAIL")],
    )

    report = leaks([text])

    assert list(report) == ["PERSON", "EMAIL"]
    person, email = report["PERSON"], report["EMAIL"]
    assert (person.spans, person.spans_whole, person.spans_part) == (2, 1, 0)
    assert (person.characters, person.characters_marked) == (3, 7)
    assert (email.spans_whole, email.spans_part, email.characters) == (0, 1, 2)


def test_reliability_of_a_case_counted_by_hand() -> None:
    # Score 0.95 twice, one right; score 0.2 once, wrong: |0.95 - 0.5| * 2/3 + |0.2 - 0| * 1/3.
    text = Marked(
        gold=[Span(0, 2, "X")],
        found=[Span(0, 2, "X", 0.95), Span(4, 6, "X", 0.95), Span(8, 9, "X", 0.2)],
    )

    table = reliability([text])

    assert table.error == pytest.approx(0.45 * 2 / 3 + 0.2 / 3)
    assert table.bins[9].n == 2
    assert table.bins[9].precision == 0.5
    assert table.bins[2].score == pytest.approx(0.2)


def test_a_score_of_one_is_in_the_last_bin() -> None:
    table = reliability([Marked([], [Span(0, 1, "X", 1.0)])], bins=4)

    assert [row.n for row in table.bins] == [0, 0, 0, 1]


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 3), (4, 2)])
def test_an_impossible_span_is_refused(start: int, end: int) -> None:
    with pytest.raises(InvalidParameter):
        Span(start, end, "X")


def test_impossible_parameters_are_refused() -> None:
    with pytest.raises(InvalidParameter):
        typed([Marked([], [])], iou=0)
    with pytest.raises(InvalidParameter):
        reliability([], bins=0)
    with pytest.raises(InvalidParameter):
        Span(0, 1, "X", 1.5)


def disjoint(draw: st.DrawFn) -> list[Span]:
    """Spans that do not overlap."""
    cuts = sorted(draw(st.sets(st.integers(0, 14), max_size=8)))
    return [
        Span(a, b, draw(st.sampled_from("XY"))) for a, b in pairwise(cuts) if draw(st.booleans())
    ]


@given(st.composite(disjoint)(), st.composite(disjoint)(), st.sampled_from([0.5, 0.75, 1.0]))
def test_greedy_pairs_are_as_many_as_brute_force_finds(
    gold: list[Span], found: list[Span], iou: float
) -> None:
    def most(i: int, used: frozenset[int]) -> int:
        if i == len(gold):
            return 0
        best = most(i + 1, used)
        for j, finding in enumerate(found):
            fits = finding.label == gold[i].label and overlap(gold[i], finding) >= iou
            if j not in used and fits:
                best = max(best, 1 + most(i + 1, used | {j}))
        return best

    assert len(matches(Marked(gold, found), iou=iou)) == most(0, frozenset())


@given(st.composite(disjoint)())
def test_a_perfect_detector_scores_one_and_leaks_nothing(gold: list[Span]) -> None:
    text = Marked(gold, gold)

    if gold:
        assert typed([text], iou=1).micro.f1 == 1
        assert characters([text]).recall == characters([text]).precision == 1
        assert reliability([text]).error == 0
    assert all(leak.characters == 0 for leak in leaks([text]).values())
