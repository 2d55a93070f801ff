"""Values made coarse: ages to bands, dates to years, ZIP codes to three digits.

==============  ==========================  =======================================================
type            becomes                     rule of Safe Harbor, 45 CFR 164.514(b)(2)(i)
==============  ==========================  =======================================================
AGE             `30-39`; `90+`              (C): ages over 89 in one category. Whole years below 90
                                            could stay; bands hide more
DATE            `2019`                      (C): all elements of a date except the year
DATE_OF_BIRTH   `1984`; `1936 or earlier`   (C): the year may not show an age over 89
POSTAL_CODE     `021**`; `000**`            (B): three digits, if over 20,000 people live there
others          (nothing coarse)            these identifiers must go altogether
==============  ==========================  =======================================================

The seventeen ZIP areas of at most 20,000 people are those of the 2000 census, which the Office for
Civil Rights lists (Guidance Regarding Methods for De-identification, 2012, section 3.4); the two
that the 2010 census adds are treated alike. A value that cannot be read has no
coarse form (None).
"""

from __future__ import annotations

import re
from typing import Final

_CENSUS_2000: Final = (
    *("036", "059", "063", "102", "203", "556", "692", "790", "821", "823", "830", "831"),
    *("878", "879", "884", "890", "893"),
)
_CENSUS_2010: Final = ("205", "369")  # those that are not listed for 2000
RESTRICTED_ZIP3: Final = frozenset((*_CENSUS_2000, *_CENSUS_2010))
OLDEST_AGE: Final = 89

_NUMBER: Final = re.compile(r"(?<!\d)\d{1,3}(?!\d)")
_YEAR: Final = re.compile(r"(?<!\d)(?:1[6-9]|20)\d\d(?!\d)")
_EARLIER: Final = re.compile(r"\d{4} or earlier")
_ZIP: Final = re.compile(r"(\d{3})(?:\d\d(?:[-\s]?\d{4})?|\*\*)")


def age_band(value: str, *, width: int = 10) -> str | None:
    """Return the band of an age, `90+` above 89. A band is its own.

    Args:
        value: holds one number of at most three digits, in years.
        width: of a band, in years; a divisor of 90.
    """
    if _is_band(value, width):
        return value
    numbers = {int(number) for number in _NUMBER.findall(value)}
    if len(numbers) != 1:
        return None  # "two years and nine months": which is the age?
    age = numbers.pop()
    if age > OLDEST_AGE:
        return "90+"
    lowest = age - age % width
    return f"{lowest}-{lowest + width - 1}"


def year(value: str) -> str | None:
    """Return the year of a date, if it names one in four digits."""
    years = set(_YEAR.findall(value))
    return years.pop() if len(years) == 1 else None


def birth_year(value: str, *, this_year: int) -> str | None:
    """Return the year of a birth, or `Y or earlier` for all who may be over 89.

    Args:
        value: a date of birth, or what this function returned.
        this_year: in which ages are counted.
    """
    if _EARLIER.fullmatch(value):
        return value
    born = year(value)
    latest = this_year - OLDEST_AGE - 1  # who was born then may have turned 90 this year
    return f"{latest} or earlier" if born is not None and int(born) <= latest else born


def zip3(value: str) -> str | None:
    """Return the first three digits of a ZIP code, `000` where few people live."""
    match = _ZIP.fullmatch(value.strip())
    if match is None:
        return None
    return "000**" if match[1] in RESTRICTED_ZIP3 else f"{match[1]}**"


def _is_band(value: str, width: int) -> bool:
    if value == "90+":
        return True
    low, _, high = value.partition("-")
    if not (low.isdecimal() and high.isdecimal()):
        return False
    return int(low) % width == 0 and int(high) == int(low) + width - 1
