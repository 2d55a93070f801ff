"""`Allowances` over any home, for threads; and the same for event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from privacy_core.errors import InvalidParameter
from privacy_runtime.allowances import requests
from privacy_runtime.allowances.contract import Balance, Reserved
from privacy_runtime.allowances.group import Answer
from privacy_runtime.allowances.requests import Expire, Kind, Request
from privacy_runtime.allowances.rows import CapRaise, Home
from privacy_runtime.allowances.writer import Told, Writer
from privacy_runtime.world import Clock

KEEP_S: Final = 86_400.0
"""How long a key is remembered after its reservation ended, in seconds."""
RETRY_S: Final = 5.0
"""How long a group is repeated that the database asks to repeat, in seconds."""
PATIENCE_S: Final = 0.02
"""How long a patient settling waits at most for others to share a wait for the disk with."""
_LOOK_MOST: Final = 1_000
_EXPIRE_MOST: Final = 500


class Store:
    """A store of allowances; see `privacy_runtime.allowances.contract.Allowances`.

    Args:
        home: where the rows live; the store owns it.
        clock: gives deadlines. It may jump: nothing is ever freed because of it.
        keep_s: how long a key is remembered after its reservation ended.
        retry_s: how long a group is repeated that the database asks to repeat.

    Raises:
        InvalidParameter: a time is negative or not finite.
    """

    def __init__(
        self, home: Home, *, clock: Clock, keep_s: float = KEEP_S, retry_s: float = RETRY_S
    ) -> None:
        for what, seconds in (("keep_s", keep_s), ("retry_s", retry_s)):
            if not 0 <= seconds < float("inf"):
                raise InvalidParameter(what, found=seconds, expected="a finite number >= 0")
        self.home = home
        self._clock = clock
        self.writer = Writer(home, clock=clock, keep_s=keep_s, retry_s=retry_s)

    def open_accounts(self, caps: Mapping[str, int]) -> None:
        """Open the accounts that are not open yet; one that is open keeps its cap."""
        self.home.open_accounts(requests.checked(caps))

    def raise_caps(self, key: str, more: Mapping[str, int], *, signed_by: str, reason: str) -> None:
        """Add to caps, once for a key; who and why is kept for good.

        Raises:
            UnknownAccount: nothing was changed.
            KeyReused: the key raised by other amounts, was signed by another or says another why.
            InvalidAmount: a cap would be larger than `AMOUNT_MAX`.
            InvalidParameter: `signed_by` or `reason` is empty.
        """
        requests.require_name(key)
        for what, text in (("signed_by", signed_by), ("reason", reason)):
            if not text.strip():
                raise InvalidParameter(what, found=text, expected="words")
        self.home.raise_caps(
            CapRaise(
                key=key,
                at=self._clock.now(),
                more=requests.checked(more),
                signed_by=signed_by,
                reason=reason,
            )
        )

    def raises(self) -> list[CapRaise]:
        """Every raise of caps, the oldest first."""
        return self.home.raises()

    def balances(self, accounts: Sequence[str]) -> dict[str, Balance]:
        """The accounts that are open, of those asked for."""
        found: dict[str, Balance] = {}
        for start in range(0, len(accounts), _LOOK_MOST):
            found |= _balances(self._ask(requests.look(accounts[start : start + _LOOK_MOST])))
        return found

    def reservations(self, prefix: str) -> list[Reserved]:
        """The reservations whose key begins so, as last committed.

        Raises:
            InvalidAmount: the prefix is empty or cannot begin a key.
        """
        requests.require_name(prefix)
        return [row.seen() for row in self.home.reservations(prefix)]

    def reserve(self, key: str, debits: Mapping[str, int], *, ttl_s: float) -> None:
        """Hold all amounts or none, durably."""
        self._ask(requests.hold(key, Kind.ALL, debits, ttl_s))

    def reserve_each(self, key: str, debits: Mapping[str, int], *, ttl_s: float) -> frozenset[str]:
        """Hold the amounts of those accounts that have room; return these accounts."""
        return cast("frozenset[str]", self._ask(requests.hold(key, Kind.EACH, debits, ttl_s)))

    def settle(self, key: str, spent: Mapping[str, int] | None = None) -> None:
        """End a reservation: what was spent stays spent, the rest is free again."""
        self._ask(requests.settle(key, spent))

    def spend(self, key: str, debits: Mapping[str, int]) -> None:
        """`reserve` and `settle` in one: the amounts are known to be spent."""
        self._ask(requests.hold(key, Kind.SPENT, debits, 1.0))

    def expire(self) -> int:
        """Count reservations past their deadline as spent; return how many."""
        total = 0
        while ended := cast("int", self._ask(Expire(_EXPIRE_MOST))):
            total += ended
        return total

    def close(self) -> None:
        """Answer what waits, and end; what was acknowledged is on disk. Idempotent."""
        self.writer.close()

    def _ask(self, request: Request) -> Answer:
        return self.writer.ask(request)


def _balances(answer: Answer) -> dict[str, Balance]:
    return cast("dict[str, Balance]", answer)


class AsyncAllowances:
    """The same store for event loops: nothing here blocks one, and no debit takes a thread.

    `reserve`, `reserve_each`, `settle` and `spend` return a future of the running loop, to be
    awaited or given a callback; all futures of a group are resolved in one callback of their loop.
    What cannot be asked (`InvalidAmount`, a closed store) is raised at the call itself.
    Whoever is cancelled while waiting does not know whether it was done: the same key may be
    repeated, and what is held and never settled counts as spent at its deadline.

    Args:
        store: what `open_allowances` returned. Any number of loops and threads may share it.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._submit, self._nudge = store.writer.submit, store.writer.nudge
        self._nudges: set[asyncio.AbstractEventLoop] = set()  # where a nudge is under way

    async def open_accounts(self, caps: Mapping[str, int]) -> None:
        """As `Store.open_accounts`, in a thread: it is seldom called."""
        await asyncio.to_thread(self.store.open_accounts, caps)

    async def raise_caps(
        self, key: str, more: Mapping[str, int], *, signed_by: str, reason: str
    ) -> None:
        """As `Store.raise_caps`, in a thread: it is seldom called."""
        await asyncio.to_thread(
            self.store.raise_caps, key, more, signed_by=signed_by, reason=reason
        )

    async def raises(self) -> list[CapRaise]:
        """As `Store.raises`, in a thread: it is seldom called."""
        return await asyncio.to_thread(self.store.raises)

    async def balances(self, accounts: Sequence[str]) -> dict[str, Balance]:
        """The accounts that are open, of those asked for."""
        found: dict[str, Balance] = {}
        for start in range(0, len(accounts), _LOOK_MOST):
            some = requests.look(accounts[start : start + _LOOK_MOST])
            found |= _balances(await self._ask(some))
        return found

    async def reservations(self, prefix: str) -> list[Reserved]:
        """As `Store.reservations`, in a thread."""
        return await asyncio.to_thread(self.store.reservations, prefix)

    def reserve(self, key: str, debits: Mapping[str, int], *, ttl_s: float) -> asyncio.Future[None]:
        """Hold all amounts or none, durably."""
        return cast("asyncio.Future[None]", self._ask(requests.hold(key, Kind.ALL, debits, ttl_s)))

    def reserve_each(
        self, key: str, debits: Mapping[str, int], *, ttl_s: float
    ) -> asyncio.Future[frozenset[str]]:
        """Hold the amounts of those accounts that have room; return these accounts."""
        held = self._ask(requests.hold(key, Kind.EACH, debits, ttl_s))
        return cast("asyncio.Future[frozenset[str]]", held)

    def settle(
        self, key: str, spent: Mapping[str, int] | None = None, *, is_patient: bool = False
    ) -> asyncio.Future[None]:
        """End a reservation: what was spent stays spent, the rest is free again.

        Args:
            key: of the reservation.
            spent: by account; None: all that is held.
            is_patient: nobody waits for it: it goes to the disk with the next request that somebody
                waits for, and before it; or by itself after `PATIENCE_S`.
        """
        asked = requests.settle(key, spent)
        return cast("asyncio.Future[None]", self._soon(asked) if is_patient else self._ask(asked))

    def spend(self, key: str, debits: Mapping[str, int]) -> asyncio.Future[None]:
        """`reserve` and `settle` in one: the amounts are known to be spent."""
        return cast("asyncio.Future[None]", self._ask(requests.hold(key, Kind.SPENT, debits, 1.0)))

    def reserve_then(
        self, key: str, debits: Mapping[str, int], done: Callable[[object], None], *, ttl_s: float
    ) -> None:
        """`reserve`, told to a function on this loop: `done(None)`, or `done(error)`."""
        asked = requests.hold(key, Kind.ALL, debits, ttl_s)
        self._submit(asked, Told(asyncio.get_running_loop(), done))

    def settle_then(
        self, key: str, spent: Mapping[str, int] | None, done: Callable[[object], None]
    ) -> None:
        """A patient `settle`, told to a function on this loop: `done(None)`, or `done(error)`."""
        loop = asyncio.get_running_loop()
        self._submit(requests.settle(key, spent), Told(loop, done), is_patient=True)
        self._nudged(loop)

    async def expire(self) -> int:
        """Count reservations past their deadline as spent; return how many."""
        total = 0
        while ended := cast("int", await self._ask(Expire(_EXPIRE_MOST))):
            total += ended
        return total

    async def aclose(self) -> None:
        """Close the store, without blocking the loop."""
        await asyncio.to_thread(self.store.close)

    def _ask(self, request: Request) -> asyncio.Future[Answer]:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._submit(request, future)
        return future

    def _soon(self, request: Request) -> asyncio.Future[Answer]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._submit(request, future, is_patient=True)
        self._nudged(loop)
        return future

    def _nudged(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that the patient do not wait for longer than `PATIENCE_S`."""
        if loop not in self._nudges:
            self._nudges.add(loop)
            loop.call_later(PATIENCE_S, self._in_time, loop)

    def _in_time(self, loop: asyncio.AbstractEventLoop) -> None:
        self._nudges.discard(loop)
        self._nudge()
