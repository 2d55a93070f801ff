"""What a store of allowances refuses, as a tree.

AllowancesError
+-- AllowancesUnavailable   the database is gone, full, locked or refuses; says what is known
+-- AllowanceExhausted      an account has no room; carries asked and remaining of each
+-- UnknownAccount          no account of that name is open
+-- KeyReused               the key stands for another request
|   +-- ReservationEnded    the key's reservation is over: a second use would be unpaid
+-- UnknownReservation      there is none, or it ended at its deadline with all of it spent
+-- InvalidAmount           not a whole number in range, or not a name

Messages name accounts and nothing else; those of `reserve_each` and of its settling name nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from privacy_core.errors import PrivacyError

NOTHING_CHANGED: Final = "nothing was changed"
NOT_KNOWN: Final = "whether it was done is not known; the same key may be repeated"
_NAMES_SHOWN: Final = 8


class AllowancesError(PrivacyError):
    """A store of allowances refused, or could not."""

    code: ClassVar[str] = "allowances_error"


class AllowancesUnavailable(AllowancesError):
    """The database could not do it. `state` says what is known about the request."""

    code: ClassVar[str] = "allowances_unavailable"

    def __init__(self, store: str, *, reason: str, state: str = NOTHING_CHANGED) -> None:
        super().__init__(store, reason, state)
        self.store = store
        self.reason = reason
        self.state = state

    def __str__(self) -> str:
        return f"{self.store}: {self.reason}; {self.state}"


class AllowanceExhausted(AllowancesError):
    """At least one account has no room. Nothing was held.

    Attributes:
        shortages: by account without room, what was asked and what remains.
    """

    code: ClassVar[str] = "allowance_exhausted"

    def __init__(self, shortages: Mapping[str, tuple[int, int]]) -> None:
        super().__init__(dict(shortages))
        self.shortages = dict(shortages)

    def __str__(self) -> str:
        shown = [
            f"{account} has {remaining} left, {asked} was asked for"
            for account, (asked, remaining) in list(self.shortages.items())[:_NAMES_SHOWN]
        ]
        return f"{_listed(shown, len(self.shortages))}; nothing was held"


class UnknownAccount(AllowancesError, KeyError):
    """No account is open under a name: what has no cap cannot be spent. Nothing was changed."""

    code: ClassVar[str] = "unknown_account"

    def __init__(self, accounts: Sequence[str]) -> None:
        super().__init__(tuple(accounts))
        self.accounts = tuple(accounts)

    def __str__(self) -> str:
        named = _listed(self.accounts[:_NAMES_SHOWN], len(self.accounts))
        return f"no account is open for {named}; {NOTHING_CHANGED}"


class KeyReused(AllowancesError):
    """The key stands for another request. Nothing was changed.

    Attributes:
        key: as given; not part of the message.
    """

    code: ClassVar[str] = "key_reused"
    _text: ClassVar[str] = "the key stands for another request"

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key

    def __str__(self) -> str:
        return f"{self._text}; {NOTHING_CHANGED}"


class ReservationEnded(KeyReused):
    """The key's reservation is over. Nothing is held for a second use, so there must be none."""

    code: ClassVar[str] = "reservation_ended"
    _text: ClassVar[str] = "the key's reservation has ended: take another key for another use"


class UnknownReservation(AllowancesError, KeyError):
    """There is no such reservation, or it ended at its deadline with all of it spent.

    Attributes:
        key: as given; not part of the message.
        expired: whether it is known to have ended at its deadline.
    """

    code: ClassVar[str] = "unknown_reservation"

    def __init__(self, key: str, *, expired: bool = False) -> None:
        super().__init__()
        self.key = key
        self.expired = expired

    def __str__(self) -> str:
        if self.expired:
            return f"the reservation ended at its deadline, all of it spent; {NOTHING_CHANGED}"
        return f"there is no reservation of this key; {NOTHING_CHANGED}"


class InvalidAmount(AllowancesError, ValueError):
    """Not a whole number in range, or not a name. Nothing was changed."""

    code: ClassVar[str] = "invalid_amount"

    def __init__(self, what: str, *, expected: str) -> None:
        super().__init__(what, expected)
        self.what = what
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.what}, expected {self.expected}; {NOTHING_CHANGED}"


def _listed(shown: Sequence[str], count: int) -> str:
    more = f" and {count - len(shown)} more" if count > len(shown) else ""
    return ", ".join(shown) + more
