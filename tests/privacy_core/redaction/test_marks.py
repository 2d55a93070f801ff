"""What stands in place of a value is recognised, and prose is not."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.redaction.marks import (
    ALPHABET,
    LABELS,
    MarkKind,
    blanked,
    find_marks,
    is_short_code,
)

SEALED = "9X4T7QW2M8" * 3


@pytest.mark.parametrize(
    ("text", "kind", "label", "code"),
    [
        ("[PERSON]", MarkKind.PLACEHOLDER, "PERSON", "1"),
        ("[PERSON_2]", MarkKind.PLACEHOLDER, "PERSON", "2"),
        ("[DATE_OF_BIRTH]", MarkKind.PLACEHOLDER, "DATE_OF_BIRTH", "1"),
        ("[DATE_OF_BIRTH_14]", MarkKind.PLACEHOLDER, "DATE_OF_BIRTH", "14"),
        ("[PERSON_7KQ2]", MarkKind.SESSION, "PERSON", "7KQ2"),
        (f"[EMAIL:7KQ2:{SEALED}]", MarkKind.SEALED, "EMAIL", SEALED),
        (f"[ANYTHING:7KQ2:{SEALED}]", MarkKind.SEALED, "ANYTHING", SEALED),
        ("[PERSON#4T9WQ2M8X1C7JZ5K]", MarkKind.HASH, "PERSON", "4T9WQ2M8X1C7JZ5K"),
    ],
)
def test_a_mark_is_read_as_what_it_is(text: str, kind: MarkKind, label: str, code: str) -> None:
    (mark,) = find_marks(f"see {text}!")

    assert (mark.kind, mark.label, mark.code) == (kind, label, code)
    assert (mark.start, mark.end) == (4, 4 + len(text))


@pytest.mark.parametrize(
    "text",
    [
        "[PERSON_0]",
        "[PERSON_02]",
        "[JOHN_SMITH]",
        "[person]",
        "[EMAIL:7KQ2:4111111111111111]",
        "[PERSON#4111111111111]",
        "[PERSON_HELLO]",
        "[]",
        "[[",
        "PERSON",
    ],
)
def test_what_is_no_mark_is_not_protected(text: str) -> None:
    assert list(find_marks(text)) == []


@given(st.text(alphabet="[]_:#PERSON12KQab \n", max_size=60))
def test_marks_are_in_order_and_do_not_overlap(text: str) -> None:
    ends = 0
    for mark in find_marks(text):
        assert ends <= mark.start < mark.end <= len(text)
        assert (text[mark.start], text[mark.end - 1]) == ("[", "]")
        assert mark.label in LABELS or mark.kind in {MarkKind.SEALED, MarkKind.HASH}
        ends = mark.end


def test_blanked_marks_leave_every_other_character_in_its_place() -> None:
    text = "born [DATE_OF_BIRTH_2], see [PERSON] [x]"

    assert blanked(text, find_marks(text)) == f"born {'_' * 17}, see {'_' * 8} [x]"
    assert blanked(text, []) == text
    assert blanked("", find_marks("")) == ""


def test_a_short_code_is_never_a_number() -> None:
    assert is_short_code("7KQ2")
    assert not is_short_code("7002")
    assert not is_short_code("7KQ2M3T4X")
    assert not is_short_code("7KI2")


@pytest.mark.parametrize(
    "value",
    [
        *("[US_SSN_536221234]", "[PAYMENT_CARD#4111111111111111]", "[PASSPORT_X1234567]"),
        *("[PASSPORT_AB123456]", "[LICENSE_PLATE_AB12CDE]", "[LICENSE_PLATE_7ABC123]"),
        *("[PERSON_BAKER]", "[SECRET_HUNTER22]"),
    ],
)
def test_values_in_brackets_are_no_marks(value: str) -> None:
    assert not list(find_marks(value))


def test_the_codes_that_are_left_are_as_many_as_the_vault_says() -> None:
    for length, bits in ((4, 18), (6, 28)):
        patterns = (
            "".join("A" if letter else "1" for letter in which)
            for which in product((0, 1), repeat=length)
        )
        left = sum(
            22 ** word.count("A") * 10 ** word.count("1")
            for word in patterns
            if is_short_code(word)
        )
        assert 2**bits <= left < 2 ** (bits + 1)


def test_the_alphabet_has_thirty_two_signs() -> None:
    assert len(ALPHABET) == 32
