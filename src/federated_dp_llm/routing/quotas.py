"""What users and departments may ask for: durable accounts in nano-rho, debited before the answer.

They bound what one querier learns, and carry no guarantee: colluding users are bounded by the
patients' ledgers at the nodes alone.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from federated_dp_llm.errors import PrivacyBudgetExceeded
from federated_dp_llm.federation.amounts import rho_of_nano
from privacy_core.decoding.prices import epsilon_of
from privacy_runtime.allowances import (
    AllowanceExhausted,
    AllowancesError,
    AsyncAllowances,
    UnknownAccount,
)
from privacy_runtime.allowances.contract import Balance


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
    """What is reserved for one answer."""

    key: str
    user: str
    department: str
    amount: int


class Quotas:
    """The accounts of users and departments.

    Args:
        store: keeps them; the store stays its owner's.
        delta: at which epsilon is shown.
    """

    def __init__(self, store: AsyncAllowances, *, delta: float) -> None:
        self._store = store
        self._delta = delta
        self._undoing: set[asyncio.Task[None]] = set()

    async def reserve(
        self, key: str, user_id: str, department: str, amount: int, *, ttl_s: float
    ) -> Held:
        """Hold so many nano-rho of both accounts, durably, or nothing.

        Who is cancelled while the disk is awaited gets everything back.

        Raises:
            PrivacyBudgetExceeded: one has no room; nothing was spent.
            UnknownAccount, AllowancesUnavailable: of the store; nothing may be released.
        """
        user, department = user_account(user_id), department_account(department)
        held = Held(key=key, user=user, department=department, amount=amount)
        debits = {user: amount, department: amount}
        doing = asyncio.ensure_future(self._store.reserve(key, debits, ttl_s=ttl_s))
        try:
            await asyncio.shield(doing)
        except asyncio.CancelledError:
            task = asyncio.get_running_loop().create_task(self._undo(doing, held))
            self._undoing.add(task)
            task.add_done_callback(self._undoing.discard)
            raise
        except AllowanceExhausted as error:
            account = min(error.shortages.items(), key=lambda short: short[1][1])[0]
            raise await self._refusal(account, amount) from error
        return held

    async def settle(self, held: Held, amount: int) -> None:
        """Spend so many nano-rho of what is held, and give back the rest."""
        await self._store.settle(held.key, {held.user: amount, held.department: amount})

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
        """Wait for what is being given back."""
        await asyncio.gather(*self._undoing, return_exceptions=True)

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
