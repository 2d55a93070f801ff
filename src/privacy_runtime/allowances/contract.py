"""What a store of allowances promises.

An account has a cap, and a total of what was spent and what is reserved; the total never exceeds
the cap. A reservation is on disk before `reserve` returns. Whoever dies leaves it behind: at its
deadline it counts as spent, and is never given back. Amounts are whole numbers; what they count
(nano-rho, micro-epsilon, tokens, cents) is the accounts' own business, and is part of their names.

Many callers' debits go into one transaction (group commit), so that one account that everybody
uses is no queue of disk writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

AMOUNT_MAX = (1 << 62) - 1


@dataclass(frozen=True, slots=True)
class Balance:
    """One account, as it stands.

    Attributes:
        cap: what may ever be spent.
        spent: what was.
        reserved: what is held for answers under way.
    """

    cap: int
    spent: int
    reserved: int

    @property
    def remaining(self) -> int:
        """What may still be reserved."""
        return self.cap - self.spent - self.reserved


@dataclass(frozen=True, slots=True)
class Reserved:
    """One reservation, as it stands.

    Attributes:
        key: its name.
        held: by account.
        spent: by account; None: it is open.
    """

    key: str
    held: Mapping[str, int]
    spent: Mapping[str, int] | None


class Allowances(Protocol):
    """A store of allowances. Every method may be called from any thread.

    Errors of every method: `AllowancesUnavailable` (the database is gone; nothing was changed
    unless the error says that this is not known), `InvalidAmount` (not a whole number from 0 to
    `AMOUNT_MAX`, or an empty name).
    """

    def open_accounts(self, caps: Mapping[str, int]) -> None:
        """Open the accounts that are not open yet; one that is open keeps its cap."""
        ...

    def raise_caps(self, key: str, more: Mapping[str, int], *, signed_by: str, reason: str) -> None:
        """Add to caps, once for a key; who and why is kept.

        Raises:
            UnknownAccount: nothing was changed.
        """
        ...

    def balances(self, accounts: Sequence[str]) -> dict[str, Balance]:
        """The accounts that are open, of those asked for."""
        ...

    def reservations(self, prefix: str) -> list[Reserved]:
        """The reservations whose key begins so, in the order of their keys, as last committed.

        One that ended is remembered for as long as its key is; one that is open may end at once.
        """
        ...

    def reserve(self, key: str, debits: Mapping[str, int], *, ttl_s: float) -> None:
        """Hold all amounts or none, durably. The same key with the same debits holds once.

        Raises:
            AllowanceExhausted: at least one account has no room; names them; nothing was held.
            UnknownAccount: nothing was held.
            KeyReused: the key held other debits before, or its reservation has ended: a second
                answer under it would be unpaid. Nothing was held.
        """
        ...

    def reserve_each(self, key: str, debits: Mapping[str, int], *, ttl_s: float) -> frozenset[str]:
        """Hold the amounts of those accounts that have room; return these accounts.

        An account that is not open has no room. The same key returns the same accounts.

        Raises:
            KeyReused: as `reserve`.
        """
        ...

    def settle(self, key: str, spent: Mapping[str, int] | None = None) -> None:
        """End a reservation: what was spent stays spent, the rest is free again.

        Args:
            key: of the reservation.
            spent: by account, at most what was held; accounts that are not named spent all they
                held. None: everything was spent. Settling twice with the same amounts is one.

        Raises:
            UnknownReservation: there is none, or it ended at its deadline with all of it spent.
            KeyReused: it was settled with other amounts.
            InvalidAmount: more than was held; nothing was changed.
        """
        ...

    def spend(self, key: str, debits: Mapping[str, int]) -> None:
        """`reserve` and `settle` in one: the amounts are known to be spent."""
        ...

    def expire(self) -> int:
        """Count reservations past their deadline as spent; return how many."""
        ...

    def close(self) -> None:
        """End; what was acknowledged is on disk."""
        ...
