"""Two spellings of one value are equal, two values are not."""

from __future__ import annotations

import pytest

from privacy_core.redaction.canonical_forms import canonical


@pytest.mark.parametrize(
    ("label", "one", "other"),
    [
        ("PERSON", "Ann  Lee", "ann lee"),
        ("PERSON", "ＡＮＮ ＬＥＥ", "ann lee"),  # noqa: RUF001  full width
        ("PERSON", "STRASSE", "straße"),
        ("EMAIL", "Ann@Example.COM", "ann@example.com"),
        ("PHONE", "+1 (212) 664-7665", "+12126647665"),
        ("PAYMENT_CARD", "4111-1111-1111-1111", "4111111111111111"),
        ("IBAN", "gb82 west 1234", "GB82WEST1234"),
        ("IP_ADDRESS", "2001:DB8:0:0::1", "2001:db8::1"),
    ],
)
def test_spellings_of_one_value_agree(label: str, one: str, other: str) -> None:
    assert canonical(label, one) == canonical(label, other)


@pytest.mark.parametrize(
    ("label", "one", "other"),
    [
        ("SECRET", "hunter2", "Hunter2"),
        ("URL", "https://x.example/a", "https://x.example/A"),
        ("PERSON", "Ann Lee", "Ann Leo"),
        ("PHONE", "+1 212 664 7665", "+1 212 664 7666"),
        ("IP_ADDRESS", "10.0.0.1", "10.0.0.11"),
    ],
)
def test_different_values_differ(label: str, one: str, other: str) -> None:
    assert canonical(label, one) != canonical(label, other)


def test_a_region_makes_a_national_number_international() -> None:
    assert canonical("PHONE", "(212) 664-7665", region="US") == "+12126647665"
    assert canonical("PHONE", "(212) 664-7665") == "2126647665"
