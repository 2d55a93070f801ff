from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest

from privacy_core.redaction.entities import ENTITIES, UnknownEntity, resolve
from privacy_core.redaction.policies import LEVELS, POLICIES
from privacy_core.redaction.recognizers.national_ids import SCHEMES

PAGE = Path(__file__).resolve().parents[3] / "docs" / "redaction_entities.md"

# 45 CFR 164.514(b)(2)(i): the eighteen identifiers of the Safe Harbor method
HIPAA = {
    "A": {"PERSON"},
    "B": {"LOCATION", "ADDRESS", "POSTAL_CODE", "COORDINATES"},
    "C": {"DATE", "DATE_OF_BIRTH", "AGE"},
    "D": {"PHONE"},
    "E": {"PHONE"},
    "F": {"EMAIL"},
    "G": {"US_SSN"},
    "H": {"MEDICAL_RECORD"},
    "I": {"HEALTH_PLAN"},
    "J": {"BANK_ACCOUNT", "IBAN", "PAYMENT_CARD", "ID_NUMBER"},
    "K": {"DRIVER_LICENSE", "ID_NUMBER"},
    "L": {"LICENSE_PLATE", "VEHICLE_ID"},
    "M": {"DEVICE_ID", "MAC_ADDRESS"},
    "N": {"URL"},
    "O": {"IP_ADDRESS"},
    "P": {"BIOMETRIC_ID"},
    "Q": {"IMAGE_ID"},
    "R": {
        "NATIONAL_ID", "TAX_ID", "PASSPORT", "SECRET", "USERNAME", "CRYPTO_ADDRESS", "ID_NUMBER",
    },
}  # fmt: skip


@pytest.mark.parametrize("letter", sorted(HIPAA))
def test_every_safe_harbor_identifier_has_its_labels(letter: str) -> None:
    assert {name for name, e in ENTITIES.items() if letter in e.hipaa} == HIPAA[letter]


def test_high_redacts_every_label_of_safe_harbor() -> None:
    named = {name for name, entity in ENTITIES.items() if entity.hipaa}
    assert named <= POLICIES["high"].labels


def test_no_name_means_two_types() -> None:
    names = Counter(n for e in ENTITIES.values() for n in (e.name, *e.aliases))
    assert max(names.values()) == 1


def test_the_documented_placeholders() -> None:
    assert ENTITIES["PERSON"].placeholder == "[PERSON]"
    assert ENTITIES["PAYMENT_CARD"].placeholder == "[PAYMENT_CARD]"


@pytest.mark.parametrize("written", ["credit card", "Credit-Card", "CREDIT_CARD", " credit_card "])
def test_aliases_are_read_in_any_case_and_spelling(written: str) -> None:
    assert resolve(written).name == "PAYMENT_CARD"


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownEntity, match="EMAIL") as caught:
        resolve("EMIAL")
    assert "EMAIL" in caught.value.nearest


def test_a_level_holds_the_one_before_it() -> None:
    for lower, higher in itertools.pairwise(LEVELS):
        assert POLICIES[lower].labels < POLICIES[higher].labels
        assert POLICIES[lower].threshold > POLICIES[higher].threshold


def entity_table() -> str:
    """The table of docs/redaction_entities.md."""
    rows = ["| Type | Placeholder | From level | HIPAA | What it is |", "|---|---|---|---|---|"]
    rows += [
        f"| {e.name} | `{e.placeholder}` | {e.level} | {', '.join(e.hipaa)} | {e.description} |"
        for e in ENTITIES.values()
    ]
    return "\n".join(rows)


def scheme_table() -> str:
    """Which national schemes are checked, by country."""
    countries: dict[str, list[str]] = {}
    for scheme in SCHEMES.values():
        name = scheme.name[3:].rstrip("_") if scheme.name != "in_.pan" else "pan"
        countries.setdefault(scheme.country.upper(), []).append(name.lstrip("."))
    rows = ["| Country | Schemes |", "|---|---|"]
    rows += [f"| {country} | {', '.join(names)} |" for country, names in sorted(countries.items())]
    return "\n".join(rows)


@pytest.mark.parametrize("table", [entity_table, scheme_table])
def test_the_page_shows_the_tables_of_the_code(table) -> None:  # type: ignore[no-untyped-def]
    assert table() in PAGE.read_text(encoding="utf-8")
