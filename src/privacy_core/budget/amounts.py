"""Money: whole numbers of a tiny unit, so that no machine and no replay disagrees.

===========  =======  ==================================================
amount       unit     reason
===========  =======  ==================================================
epsilon      2^-40    also Renyi divergences and mu^2; 1e-12
delta        2^-100   every double above 1e-14 is a whole number of them
===========  =======  ==================================================

What is spent rounds up, what is granted rounds down: rounding can refuse, never overspend.

Infinity is the number `INFINITE`. It adds and subtracts like any other, so an infinite reservation
can be given back exactly, and it is above every cap, so it never fits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, TypeAlias

from privacy_core.errors import InvalidParameter, MalformedEntry

EPSILON_BITS: Final = 40
DELTA_BITS: Final = 100
INFINITE: Final = 1 << 120
"""Above every finite amount. Sums of it are exact; whatever is at least this is infinite."""

_FINITE_MOST: Final = 1 << 104
_DIGITS_MOST: Final = 60

Amounts: TypeAlias = tuple[int, ...]
"""One amount per slot of a currency."""


def rounded_up(value: float, bits: int) -> int:
    """The smallest amount in units of 2^-bits that is not below `value`; inf is `INFINITE`.

    Raises:
        InvalidParameter: `value` is negative or not a number.
    """
    if not value >= 0:
        raise InvalidParameter("amount", found=value, expected="a number >= 0 or inf")
    if value == math.inf:
        return INFINITE
    numerator, denominator = value.as_integer_ratio()
    units = -((-numerator << bits) // denominator)
    return units if units <= _FINITE_MOST else INFINITE


def rounded_down(value: float, bits: int) -> int:
    """The largest amount in units of 2^-bits that is not above `value`, which may be negative.

    A cap is finite: above 2^104 units it stays there, and -inf, where nothing fits, is -`INFINITE`.

    Raises:
        InvalidParameter: `value` is not a number.
    """
    if math.isnan(value):
        raise InvalidParameter("cap", found=value, expected="a number")
    if math.isinf(value):
        return _FINITE_MOST if value > 0 else -INFINITE
    numerator, denominator = value.as_integer_ratio()
    return max(-INFINITE, min(_FINITE_MOST, (numerator << bits) // denominator))


def as_float(units: int, bits: int) -> float:
    """The amount as a number for people; exact decisions are made in units."""
    if abs(units) >= INFINITE:
        return math.copysign(math.inf, units)
    return units / (1 << bits)


def plus(left: Amounts, right: Amounts) -> Amounts:
    """Slot by slot."""
    return tuple(a + b for a, b in zip(left, right, strict=True))


def minus(left: Amounts, right: Amounts) -> Amounts:
    """Slot by slot."""
    return tuple(a - b for a, b in zip(left, right, strict=True))


def to_digits(amounts: Iterable[int]) -> list[str]:
    """Decimal strings of units, for JSON and databases, whose numbers are too short."""
    return [str(units) for units in amounts]


def from_digits(value: object, *, path: str) -> Amounts:
    """Read what `to_digits` wrote.

    Raises:
        MalformedEntry: it is not a list of decimal strings; the message names the place.
    """
    if not isinstance(value, list):
        raise MalformedEntry(f"{path} is a list of amounts, found {type(value).__name__}")
    return tuple(_units(digits, path=f"{path}[{i}]") for i, digits in enumerate(value))


def _units(digits: object, *, path: str) -> int:
    if (
        not isinstance(digits, str)
        or len(digits) > _DIGITS_MOST
        or not digits.isascii()
        or not digits.removeprefix("-").isdigit()
    ):
        raise MalformedEntry(f"{path} is not an amount in decimal digits")
    return int(digits)
