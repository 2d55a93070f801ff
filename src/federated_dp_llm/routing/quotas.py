"""What users and departments may ask for: durable accounts in nano-rho, debited before the answer.

They bound what one querier learns, and carry no guarantee: colluding users are bounded by the
patients' ledgers at the nodes alone.

A request that is tried again under its id is paid once: no record has a part in two attempts, for
a node opens one session of a request, ever. So what its attempts tell about a record is what the
dearest of them does, and that is what its accounts pay in all (docs/decisions/0014).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from federated_dp_llm.errors import PrivacyBudgetExceeded
from federated_dp_llm.federation.amounts import rho_of_nano
from privacy_core.decoding.prices import epsilon_of
from privacy_runtime.allowances import (
    AllowanceExhausted,
    AllowancesError,
    AsyncAllowances,
    KeyReused,
    Reserved,
    UnknownAccount,
    UnknownReservation,
)
from privacy_runtime.allowances.contract import Balance
from privacy_runtime.world import Entropy

_NONCE_BYTES: Final = 8
_log: Final = logging.getLogger(__name__)


def user_account(user_id: str) -> str:
    """Name of the account of one user."""
    return f"user/{user_id}/nano-rho"


def department_account(department: str) -> str:
    """Name of the account of one department."""
    return f"department/{department}/nano-rho"


def epsilon_left(balance: Balance, delta: float) -> float:
    """How far the epsilon of everything that the account paid for may still rise."""
    used = _epsilon(balance.spent + balance.reserved, delta)
    return max(0.0, _epsilon(balance.cap, delta) - used)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What is reserved for one attempt at an answer.

    Attributes:
        key: of the reservation.
        request: of which this is an attempt: the beginning of the keys of all of them.
        user: the account of who asks.
        amount: nano-rho that the attempt can cost at most.
        paid: by account, what earlier attempts paid: so much of this one is paid.
    """

    key: str
    request: str
    user: str
    amount: int
    paid: Mapping[str, int]

    def owed(self, amount: int) -> dict[str, int]:
        """By account, what is still to be paid if the attempt costs so many nano-rho."""
        return {account: max(0, amount - paid) for account, paid in self.paid.items()}

    def returned(self, amount: int) -> int:
        """Nano-rho that the user gets back if the attempt costs so many."""
        return self.owed(self.amount)[self.user] - self.owed(amount)[self.user]


class Quotas:
    """The accounts of users and departments.

    Guarantee: whatever is released under a request id, in one attempt or several, by this process
    or another, the accounts have paid at least the price of the dearest attempt, and no more than
    what is held for it.

    Args:
        store: keeps them; the store stays its owner's.
        delta: at which epsilon is shown.
        entropy: tells attempts apart.
    """

    def __init__(self, store: AsyncAllowances, *, delta: float, entropy: Entropy) -> None:
        self._store, self._entropy = store, entropy
        self._delta = delta
        self._ending: dict[asyncio.Task[None], str] = {}  # the request that each one settles

    async def reserve(
        self, request_id: str, user_id: str, department: str, amount: int, *, ttl_s: float
    ) -> Held:
        """Hold so many nano-rho of both accounts, durably, or nothing; less what is paid already.

        An attempt that was never settled, of a process that is gone, is ended here with all that
        it held, and counts. Who is cancelled while the disk is awaited gets everything back.

        Raises:
            PrivacyBudgetExceeded: one has no room; nothing was spent.
            UnknownAccount, AllowancesUnavailable: of the store; nothing may be released.
        """
        user, accounts = (
            user_account(user_id),
            (user_account(user_id), department_account(department)),
        )
        request = f"answer/{user_id}/{request_id}/"
        held = Held(
            key=request + self._entropy.token_bytes(_NONCE_BYTES).hex(),
            request=request,
            user=user,
            amount=amount,
            paid=await self._paid(request, user, accounts),
        )
        debits = held.owed(amount)
        doing = asyncio.ensure_future(self._store.reserve(held.key, debits, ttl_s=ttl_s))
        try:
            await asyncio.shield(doing)
        except asyncio.CancelledError:
            self._begin(self._undo(doing, held), request)
            raise
        except AllowanceExhausted as error:
            account = min(error.shortages.items(), key=lambda short: short[1][1])[0]
            raise await self._refusal(account, debits[account]) from error
        return held

    async def settle(self, held: Held, amount: int) -> None:
        """Spend so many nano-rho of what is held, less what was paid before; give back the rest."""
        await self._store.settle(held.key, held.owed(amount))

    def settle_soon(self, held: Held, amount: int) -> None:
        """`settle` beside the caller; the next attempt at the same request waits for it.

        A store that is gone leaves all of it spent at the deadline: never too little.
        """

        async def settle() -> None:
            try:
                await self.settle(held, amount)
            except AllowancesError as error:
                _log.warning("an answer was not settled: %s", error.code)

        self._begin(settle(), held.request)

    async def remaining(self, user_id: str, *, returned: int = 0) -> float:
        """Epsilon that the user may still ask for.

        Args:
            user_id: whose.
            returned: nano-rho of a reservation that will be given back.

        Raises:
            UnknownAccount: nobody opened an account.
        """
        account = user_account(user_id)
        found = await self._store.balances([account])
        if account not in found:
            raise UnknownAccount([account])
        balance = found[account]
        free = Balance(balance.cap, balance.spent, max(0, balance.reserved - returned))
        return epsilon_left(free, self._delta)

    async def aclose(self) -> None:
        """Wait for what is being settled or given back."""
        while self._ending:
            await asyncio.gather(*self._ending, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, None], request: str) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._ending[task] = request
        task.add_done_callback(lambda done: self._ending.pop(done, None))

    async def _paid(self, request: str, user: str, accounts: Sequence[str]) -> dict[str, int]:
        """By account, what earlier attempts at this request paid; they have ended afterwards."""
        while ending := [task for task, whose in self._ending.items() if whose == request]:
            await asyncio.wait(ending)
        earlier = await self._attempts(request, user)
        if left := [one.key for one in earlier if one.spent is None]:
            for key in left:
                with suppress(UnknownReservation, KeyReused):  # it has just ended by itself
                    await self._store.settle(key)
            earlier = await self._attempts(request, user)
        return {
            account: sum((one.spent or {}).get(account, 0) for one in earlier)
            for account in accounts
        }

    async def _attempts(self, request: str, user: str) -> list[Reserved]:
        """Reservations of a request: a name with a slash in it does not make two of them one."""
        found = await self._store.reservations(request)
        return [one for one in found if user in one.held and "/" not in one.key[len(request) :]]

    async def _undo(self, doing: asyncio.Future[None], held: Held) -> None:
        """Give back what was held for somebody who had left; if not, its deadline spends it."""
        with suppress(AllowancesError):
            await doing
            await self.settle(held, 0)

    async def _refusal(self, account: str, amount: int) -> PrivacyBudgetExceeded:
        found = await self._store.balances([account])
        name = account.split("/")[1]
        if account not in found:
            return PrivacyBudgetExceeded(name, _epsilon(amount, self._delta), 0.0)
        balance = found[account]
        used = balance.spent + balance.reserved
        rise = _epsilon(used + amount, self._delta) - _epsilon(used, self._delta)
        return PrivacyBudgetExceeded(name, rise, epsilon_left(balance, self._delta))


def _epsilon(nano: int, delta: float) -> float:
    return epsilon_of(rho_of_nano(nano), delta) if nano > 0 else 0.0
