"""What is asked of a store, checked when it is made; and what a repeated key is compared by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Final, TypeAlias

import msgspec

from privacy_core.errors import InvalidParameter
from privacy_runtime.allowances.contract import AMOUNT_MAX
from privacy_runtime.allowances.errors import InvalidAmount

NAME_MOST: Final = 512
"""Most characters of a key or of an account's name."""
TTL_MOST_S: Final = 366 * 86_400.0
"""Longest life of a reservation, in seconds."""
_GOOD_MOST: Final = 10_000
_good: Final[set[str]] = set()
"""Names that were found good lately; accounts are few and named again and again."""
_NAME_EXPECTED: Final = f"1 to {NAME_MOST} printable characters"


class Kind(IntEnum):
    """How a reservation came to be; stored."""

    ALL = 0
    EACH = 1
    SPENT = 2


class Hold(msgspec.Struct, frozen=True):
    """Hold amounts under a key.

    Attributes:
        key: of the reservation.
        kind: all or none, each that has room, or all or none and spent at once.
        debits: by account.
        ttl_us: from the transaction to the deadline, in microseconds.
    """

    key: str
    kind: Kind
    debits: dict[str, int]
    ttl_us: int

    @property
    def size(self) -> int:
        """How much of a group it fills."""
        return 1 + len(self.debits)


class Settle(msgspec.Struct, frozen=True):
    """End a reservation; `spent` by account, `None`: everything that was held."""

    key: str
    spent: dict[str, int] | None

    @property
    def size(self) -> int:
        """How much of a group it fills."""
        return 1 + len(self.spent or ())


class Expire(msgspec.Struct, frozen=True):
    """Count up to `most` reservations past their deadline as spent."""

    most: int

    @property
    def size(self) -> int:
        """How much of a group it fills."""
        return self.most


class Look(msgspec.Struct, frozen=True):
    """Read the balances of accounts."""

    names: tuple[str, ...]

    @property
    def size(self) -> int:
        """How much of a group it fills."""
        return 1 + len(self.names)


Request: TypeAlias = Hold | Settle | Expire | Look


def hold(key: str, kind: Kind, debits: Mapping[str, int], ttl_s: float) -> Hold:
    """Check what is to be held.

    Raises:
        InvalidAmount: a name or an amount.
        InvalidParameter: `ttl_s` is not in (0, `TTL_MOST_S`].
    """
    if not 0 < ttl_s <= TTL_MOST_S:
        expected = f"more than 0 s and at most {TTL_MOST_S:.0f} s"
        raise InvalidParameter("ttl_s", found=ttl_s, expected=expected)
    require_name(key)
    return Hold(key, kind, checked(debits), math.ceil(ttl_s * 1e6))


def settle(key: str, spent: Mapping[str, int] | None) -> Settle:
    """Check what is said to have been spent.

    Raises:
        InvalidAmount: a name or an amount.
    """
    require_name(key)
    return Settle(key, None if spent is None else checked(spent))


def look(names: Sequence[str]) -> Look:
    """Check names.

    Raises:
        InvalidAmount: not a name.
    """
    for name in names:
        require_name(name)
    return Look(tuple(names))


def checked(amounts: Mapping[str, int]) -> dict[str, int]:
    """Return a copy in the order of the names.

    Raises:
        InvalidAmount: a name or an amount.
    """
    for name, amount in amounts.items():
        if type(amount) is not int or not 0 <= amount <= AMOUNT_MAX:
            found = amount if type(amount) is int else f"a {type(amount).__name__}"
            raise InvalidAmount(
                f"an amount is {found}", expected=f"a whole number from 0 to {AMOUNT_MAX}"
            )
        if name not in _good:
            require_name(name)
            if len(_good) >= _GOOD_MOST:
                _good.clear()
            _good.add(name)
    return dict(sorted(amounts.items())) if len(amounts) > 1 else dict(amounts)


def require_name(name: str) -> None:
    """Refuse what cannot be a key or a name in every home.

    Raises:
        InvalidAmount: empty, too long, with control characters, or no text.
    """
    if not isinstance(name, str):
        raise InvalidAmount(f"a name is a {type(name).__name__}", expected=_NAME_EXPECTED)
    if not (0 < len(name) <= NAME_MOST and name.isprintable()):
        found = f"has {len(name)} characters" if len(name) != 0 else "is empty"
        raise InvalidAmount(
            f"a name {found}, or one that is not printable", expected=_NAME_EXPECTED
        )
