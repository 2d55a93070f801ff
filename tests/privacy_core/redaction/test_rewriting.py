"""What was found is gone, what was not is where it was, and positions lead both ways."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_core.redaction.findings import Finding
from privacy_core.redaction.operators import Drop, Placeholder, Scope
from privacy_core.redaction.rewriting import Rewritten, rewrite

PLACEHOLDER = Placeholder()


def found(start: int, end: int, label: str = "PERSON") -> Finding:
    return Finding(start, end, label, 1.0, "test.rule")


def redact(text: str, *findings: Finding) -> Rewritten:
    return rewrite(text, findings, lambda _: PLACEHOLDER, Scope())


def test_the_documented_example() -> None:
    text = "Process payment for John Doe, card 4111-1111-1111-1111"
    done = redact(text, found(20, 28), found(35, 54, "PAYMENT_CARD"))

    assert done.text == "Process payment for [PERSON], card [PAYMENT_CARD]"


def test_overlapping_findings_are_replaced_over_their_union() -> None:
    done = redact("abcdefghij", found(2, 6), found(4, 8, "EMAIL"), found(3, 5))

    assert done.text == "ab[PERSON][EMAIL]ij"
    assert [(r.start, r.end) for r in done.replacements] == [(2, 6), (6, 8)]


def test_marks_are_left_as_they_are() -> None:
    text = "ask [PERSON_3] and Bob <[EMAIL]>"

    assert redact(text, found(4, 14)).text == text
    assert redact(text, found(0, len(text))).text == "[PERSON][PERSON_3][PERSON_4][EMAIL]>"


def test_a_token_that_is_not_genuine_can_be_treated_as_text() -> None:
    text = f"[PERSON:7KQ2:{'1' * 30}]"

    assert redact(text, found(0, len(text))).text == text
    scope = Scope(is_authentic=lambda token: False)
    assert rewrite(text, [found(0, len(text))], lambda _: PLACEHOLDER, scope).text == "[PERSON]"


def test_a_finding_without_operator_stays() -> None:
    done = rewrite(
        "Ann and Bob", [found(0, 3), found(8, 11)], lambda f: None if f.start else Drop()
    )

    assert done.text == " and Bob"
    assert len(done.replacements) == 1


@pytest.mark.parametrize("span", [(0, 0), (3, 2), (-1, 2), (0, 99)])
def test_a_finding_outside_the_text_is_refused_without_showing_the_text(
    span: tuple[int, int],
) -> None:
    with pytest.raises(InvalidParameter) as caught:
        redact("Wilhelmina", found(*span))

    assert "Wilhelmina" not in str(caught.value)


spans = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 9), st.sampled_from(["PERSON", "EMAIL"])),
    max_size=8,
)


@given(st.text(min_size=50, max_size=60), spans)
def test_what_is_outside_stays_and_what_is_inside_goes(
    text: str, drawn: list[tuple[int, int, str]]
) -> None:
    findings = [found(start, start + length, label) for start, length, label in drawn]
    done = rewrite(text, findings, lambda _: Drop(), Scope())
    inside = {place for f in findings for place in range(f.start, f.end)}
    marks = "[" in text

    assert marks or done.text == "".join(c for k, c in enumerate(text) if k not in inside)


@given(st.text(alphabet="abc [", min_size=50, max_size=60), spans)
def test_positions_lead_there_and_back(text: str, drawn: list[tuple[int, int, str]]) -> None:
    done = redact(text, *(found(start, start + length, label) for start, length, label in drawn))
    replaced = {place for r in done.replacements for place in range(r.start, r.end)}

    for place in range(len(text)):
        now = done.position_in_rewritten(place)
        if place not in replaced:
            assert done.text[now] == text[place]
            assert done.position_in_original(now) == place
    assert done.position_in_rewritten(len(text)) == len(done.text)
    for r in done.replacements:
        assert done.text[r.new_start : r.new_end] == r.replaced_by
        assert done.position_in_original(r.new_start) == r.start


@given(st.text(min_size=50, max_size=60), spans)
def test_a_json_string_stays_one(text: str, drawn: list[tuple[int, int, str]]) -> None:
    done = redact(text, *(found(start, start + length, label) for start, length, label in drawn))
    marks = [r.replaced_by for r in done.replacements]

    assert all(json.dumps(mark) == f'"{mark}"' for mark in marks)
    assert json.loads(json.dumps({"text": done.text}))["text"] == done.text


@pytest.mark.slow
def test_ten_thousand_findings_take_linear_time() -> None:
    import time

    def seconds(count: int) -> float:
        text = "Ann [PERSON] " * count
        findings = [found(13 * k, 13 * k + 3) for k in range(count)]
        start = time.process_time()
        redact(text, *findings)
        return time.process_time() - start

    seconds(1_000)
    small, large = min(seconds(2_500) for _ in range(3)), min(seconds(10_000) for _ in range(3))
    assert large < 10 * small  # four times the work; quadratic would be sixteen times
