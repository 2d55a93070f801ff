"""The compiled plans say what phonenumbers says."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import phonenumbers
import pytest
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata, PhoneNumber

from privacy_core.redaction.numbering_plans import calling_codes, is_assigned

Rng = np.random.Generator  # noqa: TID251 -- tests generate from a fixed seed
KINDS = (
    *("general_desc", "fixed_line", "mobile", "toll_free", "premium_rate", "shared_cost"),
    *("voip", "personal_number", "pager", "uan", "voicemail"),
)


def library(code: int, number: str) -> bool:
    zeros = len(number) - len(number.lstrip("0"))
    return phonenumbers.is_valid_number(
        PhoneNumber(
            country_code=code,
            national_number=int(number or "0"),
            italian_leading_zero=zeros > 0,
            number_of_leading_zeros=zeros,
        )
    )


def numbers(code: int, rng: Rng) -> Iterator[str]:
    """Examples of every kind of number, the same with errors, and digits by chance."""
    for name in COUNTRY_CODE_TO_REGION_CODE[code]:
        region = PhoneMetadata.metadata_for_region_or_calling_code(code, name)
        for kind in KINDS:
            described = getattr(region, kind)
            if described is None or not described.example_number:
                continue
            yield described.example_number
            yield described.example_number + "1"
            yield described.example_number[:-1]
            for _ in range(3):
                digits = list(described.example_number)
                digits[int(rng.integers(len(digits)))] = str(rng.integers(10))
                yield "".join(digits)
    for size in range(17):
        yield "".join(map(str, rng.integers(10, size=size)))
    yield "0000"


def test_every_plan_says_what_the_library_says() -> None:
    rng = np.random.default_rng(5)  # noqa: TID251 -- a fixed seed
    asked = [(code, number) for code in sorted(calling_codes()) for number in numbers(code, rng)]
    assigned = [pair for pair in asked if is_assigned(*pair)]

    assert assigned == [pair for pair in asked if library(*pair)]
    assert len(assigned) > 2_000


@pytest.mark.parametrize(
    ("code", "number"),
    [(44, "2079460958"), (1, "2125550123"), (39, "0612345678"), (800, "12345678")],
)
def test_a_number_of_a_plan_is_assigned(code: int, number: str) -> None:
    assert is_assigned(code, number)


def test_nobody_has_a_number_of_an_unknown_calling_code() -> None:
    assert not is_assigned(999, "2079460958")
