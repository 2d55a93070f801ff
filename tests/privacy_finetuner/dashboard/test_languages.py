"""Numbers, instants and languages as readers get them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from privacy_finetuner.dashboard.languages import NAMES, chosen, language, offered

AT = datetime(2026, 3, 4, 15, 6, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "english", "german"),
    [
        (None, "\N{EN DASH}", "\N{EN DASH}"),
        (0, "0", "0"),
        (1234567, "1,234,567", "1.234.567"),
        (3.14159, "3.142", "3,142"),
        (0.0625, "0.0625", "0,0625"),
        (1e-5, "1e-5", "1e-5"),
        (9.994e-7, "9.994e-7", "9,994e-7"),
        (12345.6, "12,346", "12.346"),
        (float("inf"), "∞", "∞"),
        (float("nan"), "\N{EN DASH}", "\N{EN DASH}"),
    ],
)
def test_figures(value: float | None, english: str, german: str) -> None:
    assert language("en").figure(value) == english
    assert language("de").figure(value) == german


@pytest.mark.parametrize(
    ("seconds", "english"),
    [
        (None, "\N{EN DASH}"),
        (3, "3 seconds"),
        (75, "1 min 15 sec"),
        (3600, "1 hr"),
        (180_000, "2 days 2 hr"),
    ],
)
def test_durations(seconds: float | None, english: str) -> None:
    assert language("en").duration(seconds) == english


def test_instants_are_in_utc_and_say_so() -> None:
    assert language("en").instant(AT) == "Mar 4, 2026, 15:06 UTC"
    assert language("de").instant(AT) == "04.03.2026, 15:06 UTC"


@pytest.mark.parametrize(
    ("choice", "accepted", "expected"),
    [
        (None, "de-AT,de;q=0.9,en;q=0.1", "de"),
        (None, "en;q=0.5,de;q=0.9", "de"),
        ("en", "de", "en"),
        ("zz", "fr", "en"),
        (None, "xx;q=foo,,;;=,de;q=0", "en"),
        (None, None, "en"),
        (None, "d" * 100_000, "en"),
    ],
)
def test_a_language_is_chosen(choice: str | None, accepted: str | None, expected: str) -> None:
    found = chosen(choice=choice, accepted=accepted, defaults=("en_US",), offer=list(NAMES))
    assert found.code == expected


def test_only_supported_languages_are_offered() -> None:
    assert offered(["en_US", "fr_FR"]) == ["en"]
    assert offered(["de_DE"]) == ["de"]
    assert offered(["ja_JP"]) == ["en"], "the pages speak no Japanese"
    found = chosen(choice="en", accepted="en", defaults=("ja_JP",), offer=["de"])
    assert found.code == "de"
