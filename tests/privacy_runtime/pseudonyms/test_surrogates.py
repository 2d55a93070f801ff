"""A surrogate is of its kind, is nobody's, is the same for the same, and leads back."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import iban, luhn

from privacy_core.errors import InvalidParameter
from privacy_core.redaction.findings import Finding
from privacy_core.redaction.operators import Scope
from privacy_runtime.pseudonyms import (
    RedactionKeys,
    SessionVault,
    SurrogateMaker,
    TokenCipher,
    VaultStore,
    date_shifts,
)
from privacy_runtime.testing import ManualClock, SeededEntropy
from privacy_runtime.world import SystemEntropy

KEYS = RedactionKeys.generate(SeededEntropy(1), tenants=("other",))


def found(label: str) -> Finding:
    return Finding(0, 1, label, 1.0, "test.rule")


def surrogate(value: str, label: str, scope: Scope | None = None) -> str:
    return SurrogateMaker(KEYS).replace(value, found(label), scope or Scope())


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[SessionVault]:
    with VaultStore(tmp_path / "vault.db", ManualClock()) as store:
        yield SessionVault(store, KEYS)


def test_the_same_person_has_the_same_surrogate_and_other_people_others() -> None:
    names = ["John Smith", "john smith", "JOHN SMITH", "John  Smith"]
    stands = [surrogate(name, "PERSON") for name in names]

    assert len({each.casefold() for each in stands}) == 1
    assert stands[2].isupper()
    assert stands[1].islower()
    assert surrogate("Ann Lee", "PERSON").casefold() != stands[0].casefold()
    other = SurrogateMaker(KEYS, "other").replace("John Smith", found("PERSON"), Scope())
    assert other.casefold() != stands[0].casefold()


def test_a_part_of_a_name_stays_a_part_of_it() -> None:
    first, last = surrogate("John Smith", "PERSON").split()

    assert surrogate("Smith", "PERSON") == last
    assert surrogate("John", "PERSON") == first
    assert surrogate("Dr. Smith", "PERSON") == f"Dr. {last}"


@pytest.mark.parametrize("value", ["4539 1488 0343 6467", "378282246310005", "4539-1488-0343-6467"])
def test_a_card_is_valid_and_of_the_test_range(value: str) -> None:
    stands = surrogate(value, "PAYMENT_CARD")

    assert luhn.is_valid(re.sub(r"\D", "", stands))
    assert re.sub(r"\D", "", stands).startswith("400000")
    assert re.sub(r"\d", "9", stands) == re.sub(r"\d", "9", value)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("(212) 664-7665", r"\(\d{3}\) 555-01\d\d"),
        ("212.664.7665", r"\d{3}\.555\.01\d\d"),
        ("664-7665", r"555-01\d\d"),
        ("1-212-664-7665", r"1-\d{3}-555-01\d\d"),
        ("+44 20 1234 5678", r"\+44 20 7946 0\d{3}"),
        ("+49 30 123456", r"\+1 \d{3}-555-01\d\d"),
    ],
)
def test_a_telephone_number_is_kept_for_fiction(value: str, form: str) -> None:
    assert re.fullmatch(form, surrogate(value, "PHONE"))


@given(st.integers(0, 10**9 - 1))
def test_identifiers_are_nobodys(number: int) -> None:
    ssn = surrogate(f"{number:09}", "US_SSN")
    address = ipaddress.ip_address(surrogate(str(ipaddress.ip_address(number)), "IP_ADDRESS"))

    assert ssn[0] == "9"
    assert 1 <= int(ssn[3:5]) <= 49  # ITINs have 50 and above
    assert any(
        address in ipaddress.ip_network(network)
        for network in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")
    )
    assert surrogate(f"m{number}@mail.example.net", "EMAIL").endswith("@example.com")
    assert not iban.is_valid(surrogate("GB82WEST12345698765432", "IBAN"))
    assert surrogate("2a00:1450::1", "IP_ADDRESS").startswith("2001:db8:")
    assert surrogate("0a:1b:2c:3d:4e:5f", "MAC_ADDRESS").startswith("00:00:5E:00:53:")


@given(st.dates(date(1901, 1, 1), date(2090, 1, 1)), st.integers(0, 20_000), st.text(max_size=9))
def test_dates_of_a_person_move_together(start: date, days: int, subject: str) -> None:
    end = min(start + timedelta(days=days), date(2098, 1, 1))
    scope = Scope(subject=subject)
    moved = [date.fromisoformat(surrogate(day.isoformat(), "DATE", scope)) for day in (start, end)]

    assert moved[1] - moved[0] == end - start
    assert 1 <= abs((moved[0] - start).days) <= 364


@pytest.mark.parametrize(
    ("value", "shifted"),
    [
        ("2020-02-10", "2020-02-20"),
        ("02/10/2020", "02/20/2020"),
        ("2/10/2020", "2/20/2020"),
        ("25/12/2020", "04/01/2021"),
        ("2020-1-25", "2020-2-4"),
        ("10.02.2020", "20.02.2020"),
        ("10 February 2020", "20 February 2020"),
        ("25 Feb. 2020", "6 Mar. 2020"),
        ("FEBRUARY 25, 2020", "MARCH 6, 2020"),
        ("May 25, 2020", "June 4, 2020"),
        ("2020-02-30", None),
        ("10 Brumaire 2020", None),
        ("February 2020", None),
        ("9999-12-31", None),
        ("10/02/20", None),
    ],
)
def test_a_shifted_date_keeps_its_layout(value: str, shifted: str | None) -> None:
    assert date_shifts.shifted(value, 10, month_first=True) == shifted


def test_the_day_is_first_outside_the_united_states() -> None:
    assert date_shifts.shifted("05/04/2020", 10, month_first=False) == "15/04/2020"
    assert date_shifts.shifted("05/04/2020", 10, month_first=True) == "05/14/2020"


def test_offsets_are_never_zero_and_reach_a_year_either_way() -> None:
    offsets = [date_shifts.offset_days(number) for number in range(728)]

    assert sorted(offsets) == [*range(-364, 0), *range(1, 365)]


def test_what_has_no_surrogate_gets_the_other_operator() -> None:
    maker = SurrogateMaker(KEYS, otherwise=TokenCipher(KEYS))

    assert surrogate("hunter2", "SECRET") == "[SECRET]"
    assert surrogate("last spring", "DATE") == "[DATE]"
    assert maker.replace("hunter2", found("SECRET"), Scope()).startswith("[SECRET:")


def test_a_surrogate_is_not_a_value_of_the_text() -> None:
    stands = surrogate("John Smith", "PERSON")
    scope = Scope()
    scope.text = f"John Smith met {stands.upper()} yesterday"

    assert surrogate("John Smith", "PERSON", scope).casefold() != stands.casefold()


def test_two_values_of_a_scope_never_share_a_surrogate() -> None:
    maker, scope = SurrogateMaker(KEYS), Scope()
    values = [f"(212) 55{k // 1_000}-{k:04}" for k in range(2_000)]
    stands = {maker.replace(value, found("PHONE"), scope) for value in values}

    assert len(stands) == 2_000  # of 80,000 possible: about 25 collisions were drawn again


def test_surrogates_lead_back_exactly(vault: SessionVault) -> None:
    maker = SurrogateMaker(KEYS, rows=vault.rows, otherwise=vault)
    values = [
        *(("John Smith", "PERSON"), ("JOHN SMITH", "PERSON"), ("john smith", "PERSON")),
        *(("Smith", "PERSON"), ("a@b.de", "EMAIL"), ("A@b.de", "EMAIL"), ("hunter2", "SECRET")),
        *(("2020-02-10", "DATE"), ("(212) 664-7665", "PHONE"), ("212-664-7665", "PHONE")),
        *(("4539 1488 0343 6467", "PAYMENT_CARD"), ("12 Main St", "ADDRESS"), ("94", "AGE")),
        *(("Springfield", "LOCATION"), ("Acme", "ORGANIZATION"), ("MRN 12345", "MEDICAL_RECORD")),
    ]
    scope = Scope(subject="patient 1")
    stands = [maker.replace(value, found(label), scope) for value, label in values]
    text = "; ".join(stands)

    assert maker.reversible
    assert len(set(stands)) == len(stands)
    assert all(value not in text for value, _ in values[:5])
    there = maker.reveal(text)
    assert vault.reveal(there.text).text == "; ".join(value for value, _ in values)
    assert set(maker.reveal(text, labels={"PHONE"}).counts) == {"PHONE"}


def test_a_surrogate_of_the_session_is_left_as_it_is(vault: SessionVault) -> None:
    maker = SurrogateMaker(KEYS, rows=vault.rows)
    stands = maker.replace("John Smith", found("PERSON"), Scope())
    assert maker.replace(stands, found("PERSON"), Scope()) == stands


def test_without_a_vault_a_document_does_not_depend_on_the_documents_before() -> None:
    used = SurrogateMaker(KEYS)
    stands = used.replace("John Smith", found("PERSON"), Scope())

    real = used.replace(stands, found("PERSON"), Scope())  # somebody is called that

    assert real != stands
    assert real == SurrogateMaker(KEYS).replace(stands, found("PERSON"), Scope())


def test_a_real_name_that_equals_a_surrogate_of_its_own_document_is_replaced() -> None:
    maker, scope = SurrogateMaker(KEYS), Scope()
    stands = maker.replace("John Smith", found("PERSON"), scope)

    assert maker.replace(stands, found("PERSON"), scope) != stands


def test_a_surrogate_in_the_text_of_its_own_session_is_kept(vault: SessionVault) -> None:
    maker, scope = SurrogateMaker(KEYS, rows=vault.rows), Scope()
    stands = maker.replace("John Smith", found("PERSON"), scope)
    scope.text = f"{stands} said: John Smith"

    assert maker.replace("John Smith", found("PERSON"), scope) == stands


def test_parts_of_words_are_not_surrogates(vault: SessionVault) -> None:
    maker = SurrogateMaker(KEYS, rows=vault.rows)
    stands = maker.replace("Berlin", found("LOCATION"), Scope())

    assert maker.reveal(f"{stands}ville {stands}'s x{stands}").counts == {"LOCATION": 1}


def test_a_rotation_keeps_the_way_back(tmp_path: Path) -> None:
    keys = RedactionKeys.generate(SystemEntropy())
    with VaultStore(tmp_path / "vault.db", ManualClock()) as store:
        maker = SurrogateMaker(keys, rows=SessionVault(store, keys).rows)
        old = maker.replace("John Smith", found("PERSON"), Scope())
        keys.rotate(SystemEntropy())

        assert maker.replace(old, found("PERSON"), Scope()) == old
        assert maker.reveal(old).text == "John Smith"


def test_without_a_vault_there_is_no_way_back(vault: SessionVault) -> None:
    maker = SurrogateMaker(KEYS)

    assert not maker.reversible
    with pytest.raises(InvalidParameter):
        maker.reveal("x")
    with pytest.raises(InvalidParameter):
        SurrogateMaker(KEYS, "other", rows=vault.rows)


def test_nothing_shows_a_value() -> None:
    maker = SurrogateMaker(KEYS)
    maker.replace("Wilhelmina", found("PERSON"), Scope())

    assert "Wilhelmina" not in repr(maker)
