"""What a request costs, from the hold before it is forwarded to the settling after its answer.

The hold is on disk before a backend hears of the request: a gateway that dies leaves it behind,
and at its deadline it counts as spent. What is settled is what the backend counted; where nobody
knows what it generated, all that was held is spent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from privacy_runtime.allowances.errors import AllowanceExhausted, AllowancesError


class Unit(StrEnum):
    """What the accounts count."""

    TOKENS = "tokens"
    REQUESTS = "requests"


Told = Callable[[object], None]
"""Is called on the event loop, with None or with the error."""


class Debits(Protocol):
    """The part of a store of allowances that is used on an event loop: `AsyncAllowances`."""

    def reserve(self, key: str, debits: Mapping[str, int], *, ttl_s: float) -> Awaitable[None]:
        """Hold all amounts or none, durably."""
        ...

    def settle(
        self, key: str, spent: Mapping[str, int] | None = None, *, is_patient: bool = False
    ) -> Awaitable[None]:
        """End a reservation, soon if it is patient."""
        ...

    def spend(self, key: str, debits: Mapping[str, int]) -> Awaitable[None]:
        """Debit amounts that are known to be spent."""
        ...

    def reserve_then(
        self, key: str, debits: Mapping[str, int], done: Told, *, ttl_s: float
    ) -> None:
        """`reserve`, and call `done` with None or the error."""
        ...

    def settle_then(self, key: str, spent: Mapping[str, int] | None, done: Told) -> None:
        """A patient `settle`, and call `done` with None or the error."""
        ...


@dataclass(slots=True)
class Hold:
    """What is held for one request.

    Attributes:
        key: of the reservation: the request's id.
        accounts: that pay, each the whole amount.
        amount: of each.
    """

    key: str
    accounts: Sequence[str]
    amount: int


class Charges:
    """Holds and settles.

    Attributes:
        unsettled: reservations that could not be settled; they count as spent at their deadline.
        beyond: tokens that backends counted beyond what was held, debited afterwards.
        unpaid: of these, those that no allowance had room for.

    Args:
        debits: the store.
        unit: what the accounts count.
        ttl_s: from the hold to its deadline; longer than any answer takes.
    """

    def __init__(self, debits: Debits, *, unit: Unit = Unit.TOKENS, ttl_s: float) -> None:
        self._debits, self.unit, self._ttl_s = debits, unit, ttl_s
        self.unsettled = self.beyond = self.unpaid = 0

    async def hold(self, key: str, accounts: Sequence[str], tokens_most: int) -> Hold:
        """Hold what a request can cost at most; it is on disk when this returns.

        Raises:
            AllowanceExhausted, UnknownAccount, AllowancesUnavailable: nothing is held, or, if the
                last one says that it is not known, something that counts as spent at its deadline.
        """
        amount = tokens_most if self.unit is Unit.TOKENS else 1
        await self._debits.reserve(key, dict.fromkeys(accounts, amount), ttl_s=self._ttl_s)
        return Hold(key, accounts, amount)

    async def settle(self, hold: Hold, tokens: int | None) -> int:
        """Settle, and return what was charged to each account.

        Args:
            hold: of the request.
            tokens: that were used; None: not known, and all that is held is spent.
        """
        spent = self._spent(hold, tokens)
        try:
            await self._debits.settle(hold.key, _given(hold, spent), is_patient=True)
        except AllowancesError:
            self.unsettled += 1
            return hold.amount
        if spent > hold.amount:
            await self._charge_more(hold, spent - hold.amount)
        return spent

    def hold_then(
        self, key: str, accounts: Sequence[str], tokens_most: int, done: Callable[[object], None]
    ) -> None:
        """`hold`, and call `done` with the `Hold` or the error.

        Raises:
            AllowancesError: it could not even be asked; nothing is held, `done` is not called.
        """
        amount = tokens_most if self.unit is Unit.TOKENS else 1
        hold = Hold(key, accounts, amount)
        debits = dict.fromkeys(accounts, amount)
        self._debits.reserve_then(key, debits, lambda error: done(error or hold), ttl_s=self._ttl_s)

    def settle_then(self, hold: Hold, tokens: int | None, done: Callable[[int], None]) -> None:
        """`settle`, and call `done` with what was charged; not for more than was held."""
        spent = self._spent(hold, tokens)

        def told(error: object) -> None:
            self.unsettled += error is not None
            done(hold.amount if error is not None else spent)

        try:
            self._debits.settle_then(hold.key, _given(hold, spent), told)
        except AllowancesError as error:
            told(error)

    def covers(self, hold: Hold, tokens: int | None) -> bool:
        """Whether so many tokens are paid by what is held."""
        return self._spent(hold, tokens) <= hold.amount

    def _spent(self, hold: Hold, tokens: int | None) -> int:
        if tokens is None:
            return hold.amount
        if self.unit is Unit.TOKENS:
            return tokens
        return 1 if tokens else 0

    async def _charge_more(self, hold: Hold, more: int) -> None:
        """A backend used more than it was told: what is known is debited, account by account."""
        self.beyond += more
        for number, account in enumerate(hold.accounts):
            try:
                await self._debits.spend(f"{hold.key}/beyond/{number}", {account: more})
            except AllowanceExhausted:
                self.unpaid += more
            except AllowancesError:
                self.unsettled += 1


def _given(hold: Hold, spent: int) -> dict[str, int] | None:
    """What a reservation is settled with; None: all of it."""
    return None if spent >= hold.amount else dict.fromkeys(hold.accounts, spent)
