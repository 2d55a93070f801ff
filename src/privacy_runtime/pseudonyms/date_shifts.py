"""Dates moved by one offset for each person: intervals stay, days do not.

The offset is 1 to 364 days, forwards or backwards, computed from the tenant's key and the subject.
All dates of a person move together, so that an admission is still nine days before the discharge.
Weekday and season are lost; the year may stay the same. Whoever knows one true date of a person
knows all. Safe Harbor does not admit shifted dates (45 CFR 164.514(b)(2)(i)(C)); an expert's
determination may.

The layout of the original is kept. Dates that do not name day, month and four digits of a year are
not shifted. `03/04/2020` is read as the locale says: the month first in `en_US`, else the day;
where only one reading is a date, that one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta
from typing import Final

_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)
_NUMBERS: Final = {
    spelled: number
    for number, name in enumerate(_MONTHS, start=1)
    for spelled in (name.lower(), name[:3].lower(), name[:4].lower())
}
_MOST_DAYS: Final = 364

_YEAR_FIRST: Final = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})")
_YEAR_LAST: Final = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})")
_DAY_MONTH: Final = re.compile(r"(\d{1,2})(\s+)([A-Za-z]{3,9})(\.?,?\s+)(\d{4})")
_MONTH_DAY: Final = re.compile(r"([A-Za-z]{3,9})(\.?\s+)(\d{1,2})(,?\s+)(\d{4})")


def offset_days(number: int) -> int:
    """Turn a large number into an offset: 1 to 364 days, either way."""
    days = number % (2 * _MOST_DAYS)
    return days + 1 if days < _MOST_DAYS else _MOST_DAYS - days - 1


def shifted(value: str, days: int, *, month_first: bool) -> str | None:
    """Return a date moved by `days` in its own layout, or None if it is not one that is known."""
    for layout in (_read_year_first, _read_year_last, _read_day_month, _read_month_day):
        known = layout(value.strip(), month_first)
        if known is None:
            continue
        day, write = known
        try:
            return write(day + timedelta(days=days))
        except OverflowError:
            return None
    return None


def _day(year: str, month: int, day: str) -> date | None:
    try:
        return date(int(year), month, int(day))
    except ValueError:
        return None


_Read = tuple[date, Callable[[date], str]] | None


def _read_year_first(value: str, month_first: bool) -> _Read:
    del month_first
    match = _YEAR_FIRST.fullmatch(value)
    known = match and _day(match[1], int(match[3]), match[4])
    if not match or not known:
        return None
    sign, width = match[2], _width(match[3], match[4])
    return known, lambda d: f"{d.year:04}{sign}{d.month:0{width}}{sign}{d.day:0{width}}"


def _read_year_last(value: str, month_first: bool) -> _Read:
    match = _YEAR_LAST.fullmatch(value)
    if not match:
        return None
    sign, width = match[2], _width(match[1], match[3])
    month_first = month_first and sign != "."
    for first_is_month in (month_first, not month_first):
        month, day = (match[1], match[3]) if first_is_month else (match[3], match[1])
        known = _day(match[4], int(month), day)
        if known and first_is_month:
            return known, lambda d: f"{d.month:0{width}}{sign}{d.day:0{width}}{sign}{d.year:04}"
        if known:
            return known, lambda d: f"{d.day:0{width}}{sign}{d.month:0{width}}{sign}{d.year:04}"
    return None


def _read_day_month(value: str, month_first: bool) -> _Read:
    del month_first
    match = _DAY_MONTH.fullmatch(value)
    if not match or match[3].lower() not in _NUMBERS:
        return None
    known = _day(match[5], _NUMBERS[match[3].lower()], match[1])
    blank, name, rest, width = match[2], match[3], match[4], _width(match[1])
    if known is None:
        return None
    return known, lambda d: f"{d.day:0{width}}{blank}{_month(d, name)}{rest}{d.year:04}"


def _read_month_day(value: str, month_first: bool) -> _Read:
    del month_first
    match = _MONTH_DAY.fullmatch(value)
    if not match or match[1].lower() not in _NUMBERS:
        return None
    known = _day(match[5], _NUMBERS[match[1].lower()], match[3])
    name, blank, rest, width = match[1], match[2], match[4], _width(match[3])
    if known is None:
        return None
    return known, lambda d: f"{_month(d, name)}{blank}{d.day:0{width}}{rest}{d.year:04}"


def _width(*numbers: str) -> int:
    """Return how many places numbers take: one where one of them does, or is a word's neighbour."""
    if any(number.startswith("0") for number in numbers):
        return 2
    return 2 if len(numbers) > 1 and min(map(len, numbers)) == 2 else 1


def _month(day: date, spelled: str) -> str:
    """A month's name, as long and in the case of the original."""
    name = _MONTHS[day.month - 1]
    if len(spelled) <= 4 and spelled.lower() not in {"may", "june", "july"}:
        name = name[:3]
    if spelled.isupper():
        return name.upper()
    return name.lower() if spelled.islower() else name
