"""What replaces a value hides it, agrees inside a scope, and is a fixed point of itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_core.redaction.findings import Finding
from privacy_core.redaction.marks import find_marks
from privacy_core.redaction.operators import Drop, Generalise, Mask, Operator, Placeholder, Scope


def found(label: str, length: int = 5) -> Finding:
    return Finding(0, length, label, 1.0, "test.rule")


def test_the_first_value_of_a_type_has_no_number_and_later_ones_count() -> None:
    scope, operator = Scope(), Placeholder()
    people = ["Ann Lee", "Bob", "ann  LEE", "Bob", "Cy"]

    stands = [operator.replace(name, found("PERSON"), scope) for name in people]

    assert stands == ["[PERSON]", "[PERSON_2]", "[PERSON]", "[PERSON_2]", "[PERSON_3]"]
    assert operator.replace("x@y.z", found("EMAIL"), scope) == "[EMAIL]"


def test_numbers_that_stand_in_the_text_are_not_given_again() -> None:
    scope = Scope()
    for mark in find_marks("[PERSON_4] and [EMAIL]"):
        scope.observe(mark)

    assert Placeholder().replace("Ann", found("PERSON"), scope) == "[PERSON_5]"
    assert Placeholder().replace("a@b.c", found("EMAIL"), scope) == "[EMAIL_2]"


def test_without_numbers_nothing_tells_values_apart() -> None:
    scope, operator = Scope(), Placeholder(numbered=False)

    assert {operator.replace(name, found("PERSON"), scope) for name in "abc"} == {"[PERSON]"}


def test_a_full_scope_forgets_the_oldest_and_never_merges_two() -> None:
    scope, operator = Scope(capacity=2), Placeholder()
    stands = [operator.replace(name, found("PERSON"), scope) for name in "abcabc"]

    assert len(set(stands)) == 6  # each had been forgotten when it returned
    with pytest.raises(InvalidParameter):
        Scope(capacity=0)


def test_a_scope_shows_nothing() -> None:
    scope = Scope(subject="patient 4711")
    Placeholder().replace("Wilhelmina", found("PERSON"), scope)

    assert "Wilhelmina" not in repr(scope) + str(scope)
    assert "4711" not in repr(scope)


@pytest.mark.parametrize(
    ("value", "keep", "masked"),
    [
        ("4111-1111-1111-1234", 4, "****-****-****-1234"),
        ("4111-1111-1111-1234", 0, "****-****-****-****"),
        ("Jo Li", 4, "** *i"),  # a third of four
        ("ab", 4, "**"),
        ("e\u0301\U0001f600 x", 0, "*** *"),
    ],
)
def test_a_mask_keeps_layout_and_at_most_a_third(value: str, keep: int, masked: str) -> None:
    assert Mask(keep_last=keep).replace(value, found("PAYMENT_CARD"), Scope()) == masked


@given(st.text(max_size=30), st.integers(0, 6))
def test_a_mask_is_a_fixed_point_and_keeps_the_length(value: str, keep: int) -> None:
    mask, scope = Mask(keep_last=keep), Scope()
    once = mask.replace(value, found("SECRET"), scope)

    assert len(once) == len(value)
    assert mask.replace(once, found("SECRET"), scope) == once


def test_a_mask_that_formats_escape_is_refused() -> None:
    for character in ('"', "<", "x", "**", "\\"):
        with pytest.raises(InvalidParameter):
            Mask(character=character)
    with pytest.raises(InvalidParameter):
        Mask(keep_last=-1)


def test_drop_leaves_nothing() -> None:
    assert Drop().replace("anything", found("PERSON"), Scope()) == ""


@pytest.mark.parametrize(
    ("label", "value", "coarse"),
    [
        ("AGE", "34 years", "30-39"),
        ("AGE", "aged 0", "0-9"),
        ("AGE", "89", "80-89"),
        ("AGE", "90", "90+"),
        ("AGE", "104-year-old", "90+"),
        ("AGE", "ninety", "[AGE]"),
        ("AGE", "2 to 3", "[AGE]"),
        ("DATE", "12 March 2019", "2019"),
        ("DATE", "March 12", "[DATE]"),
        ("DATE", "2019-2020", "[DATE]"),
        ("DATE_OF_BIRTH", "1937-01-01", "1937"),
        ("DATE_OF_BIRTH", "1936-12-31", "1936 or earlier"),
        ("DATE_OF_BIRTH", "1901-12-31", "1936 or earlier"),
        ("POSTAL_CODE", "02139", "021**"),
        ("POSTAL_CODE", "02139-4307", "021**"),
        ("POSTAL_CODE", "03601", "000**"),
        ("POSTAL_CODE", "SW1A 1AA", "[POSTAL_CODE]"),
        ("PERSON", "Ann", "[PERSON]"),
    ],
)
def test_coarse_values_are_those_of_safe_harbor(label: str, value: str, coarse: str) -> None:
    operator = Generalise(this_year=2026)

    assert operator.replace(value, found(label), Scope()) == coarse
    assert operator.knows(found(label)) == (label != "PERSON")


def test_without_this_year_no_year_of_birth_is_shown() -> None:
    assert Generalise().replace("1950-01-01", found("DATE_OF_BIRTH"), Scope()) == "[DATE_OF_BIRTH]"


@pytest.mark.parametrize("width", [1, 2, 3, 5, 9, 10, 15, 18, 30, 45, 90])
def test_ages_over_89_are_together_for_every_width(width: int) -> None:
    operator, scope = Generalise(band_years=width), Scope()
    bands = {age: operator.replace(str(age), found("AGE"), scope) for age in range(130)}

    assert {band for age, band in bands.items() if age >= 90} == {"90+"}
    assert all(band != "90+" for age, band in bands.items() if age < 90)
    for band in bands.values():
        assert operator.replace(band, found("AGE"), scope) == band


def test_bands_that_would_split_the_oldest_are_refused() -> None:
    with pytest.raises(InvalidParameter):
        Generalise(band_years=20)


@pytest.mark.parametrize(
    "operator", [Placeholder(), Mask(), Drop(), Generalise()], ids=lambda operator: operator.name
)
def test_pure_operators_do_not_lead_back(operator: Operator) -> None:
    assert not operator.reversible
