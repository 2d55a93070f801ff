"""A number stays a number of its kind, and leads back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import luhn

from privacy_core.redaction.findings import Finding
from privacy_core.redaction.operators import Scope
from privacy_runtime.pseudonyms import FormatPreserving, RedactionKeys
from privacy_runtime.pseudonyms.errors import DomainTooSmall
from privacy_runtime.testing import SeededEntropy

KEYS = RedactionKeys.generate(SeededEntropy(1), tenants=("other",))
CIPHER = FormatPreserving(KEYS)


def layout(value: str) -> str:
    return "".join("9" if letter.isdigit() else letter for letter in value)


@given(st.text("0123456789- ", min_size=8, max_size=30), st.sampled_from(["ID_NUMBER", "PHONE"]))
def test_the_layout_stays_and_the_value_returns(value: str, label: str) -> None:
    if not CIPHER.supports(value, label):
        return
    sealed = CIPHER.encrypt(value, label)

    assert layout(sealed) == layout(value)
    assert CIPHER.decrypt(sealed, label) == value


@given(st.text("0123456789", min_size=12, max_size=19))
def test_a_card_is_valid_if_it_was(digits: str) -> None:
    sealed = CIPHER.encrypt(digits, "PAYMENT_CARD")

    assert luhn.is_valid(sealed) == luhn.is_valid(digits)
    assert CIPHER.decrypt(sealed, "PAYMENT_CARD") == digits


def test_a_valid_card_stays_valid_and_keeps_its_hyphens() -> None:
    sealed = CIPHER.encrypt("4111-1111-1111-1111", "PAYMENT_CARD")

    assert luhn.is_valid(sealed.replace("-", ""))
    assert layout(sealed) == "9999-9999-9999-9999"
    assert sealed != "4111-1111-1111-1111"


@given(st.text("0123456789", min_size=9, max_size=9))
def test_a_social_security_number_is_possible_if_it_was(digits: str) -> None:
    sealed = CIPHER.encrypt(digits, "US_SSN")

    def is_possible(number: str) -> bool:
        return (
            number[:3] not in {"000", "666"}
            and number[0] != "9"
            and number[3:5] != "00"
            and number[5:] != "0000"
        )

    assert is_possible(sealed) == is_possible(digits)
    assert CIPHER.decrypt(sealed, "US_SSN") == digits


@pytest.mark.parametrize(
    ("phone", "kept"),
    [("+1 212 664 7665", "+1 "), ("+49 30 123456", "+49 "), ("+372 5555 4444", "+372 ")],
)
def test_a_telephone_number_keeps_its_country(phone: str, kept: str) -> None:
    sealed = CIPHER.encrypt(phone, "PHONE")

    assert sealed.startswith(kept)
    assert sealed != phone
    assert CIPHER.decrypt(sealed, "PHONE") == phone


def test_what_can_be_tried_one_by_one_is_refused() -> None:
    for value, label in (("12345", "ID_NUMBER"), ("123456", "PAYMENT_CARD"), ("", "PHONE")):
        with pytest.raises(DomainTooSmall) as caught:
            CIPHER.encrypt(value, label)
        assert not value or value not in str(caught.value)


def test_in_a_text_it_becomes_a_placeholder() -> None:
    found = Finding(0, 8, "ID_NUMBER", 1.0, "test.rule")

    assert CIPHER.replace("A-12345", found, Scope()) == "[ID_NUMBER]"
    assert CIPHER.replace("A-123456", found, Scope()) == CIPHER.encrypt("A-123456", "ID_NUMBER")


def test_tenants_and_types_have_permutations_of_their_own() -> None:
    other = FormatPreserving(KEYS, "other")
    sealed = {
        cipher.encrypt("123456789012", label)
        for cipher in (CIPHER, other)
        for label in ("ID_NUMBER", "MEDICAL_RECORD")
    }

    assert len(sealed) == 4


def test_after_a_rotation_the_old_key_is_named() -> None:
    keys = RedactionKeys.generate(SeededEntropy(2))
    cipher, old = FormatPreserving(keys), keys.key_id
    sealed = cipher.encrypt("123456789012", "ID_NUMBER")
    keys.rotate(SeededEntropy(3))

    assert cipher.decrypt(sealed, "ID_NUMBER", key_id=old) == "123456789012"
    assert cipher.decrypt(sealed, "ID_NUMBER") != "123456789012"


def test_digits_that_are_not_ascii_stay() -> None:
    value = "٣٤ 123456"

    assert CIPHER.encrypt(value, "ID_NUMBER").startswith("٣٤ ")
    assert CIPHER.decrypt(CIPHER.encrypt(value, "ID_NUMBER"), "ID_NUMBER") == value


@pytest.mark.parametrize("value", ["536221234.0", "536221234.", "536221234.00"])
def test_a_number_of_a_column_of_fractions_is_its_number(value: str) -> None:
    preserving = FormatPreserving(KEYS)
    whole, _, rest = value.partition(".")
    finding = Finding(0, len(value), "US_SSN", 1.0, "test")

    shown = preserving.replace(value, finding, Scope())

    assert shown == f"{preserving.encrypt(whole, 'US_SSN')}.{rest}"
    scientific = preserving.replace("4.111111111111111e+15", finding, Scope())
    assert scientific == "[US_SSN]"
