"""Lifetime allowances of users and departments, shown in epsilon and kept in zCDP.

An account counts nano-rho, which adds up exactly; its epsilon at the configured delta does not add
up, so `consumed` and `remaining` are what the whole history costs, never a sum of parts. These are
limits of use. What protects the people in the records are the ledgers at the nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from federated_dp_llm.config import RouterConfig
from federated_dp_llm.federation.amounts import nano_cap, rho_of_nano
from federated_dp_llm.routing.quotas import department_account, user_account
from privacy_core.decoding.prices import epsilon_of, rho_of
from privacy_core.errors import InvalidParameter
from privacy_runtime.allowances import Store
from privacy_runtime.allowances.contract import Balance


@dataclass(frozen=True, slots=True)
class Standing:
    """An account in epsilon, at the deployment's delta. `held`: for answers under way."""

    total: float
    consumed: float
    held: float
    remaining: float


class Standings:
    """The accounts of users and departments.

    Args:
        allowances: where they are.
        config: caps and delta.
    """

    def __init__(self, allowances: Store, config: RouterConfig) -> None:
        self.allowances, self.config = allowances, config
        self._open: set[str] = set()

    def ensure(self, user_id: str, department: str) -> None:
        """Open the accounts of a user and their department, where they are not open."""
        privacy = self.config.privacy
        caps = {
            user_account(user_id): privacy.max_budget_per_user,
            department_account(department): self.config.department_cap(department),
        }
        missing = {name: self._amount(cap) for name, cap in caps.items() if name not in self._open}
        if missing:
            self.allowances.open_accounts(missing)
            self._open.update(missing)

    def of_users(self, users: Iterable[str]) -> dict[str, Standing]:
        """How users stand; one who never asked has everything left."""
        names = {user_account(user): user for user in users}
        found = self.allowances.balances(list(names))
        fresh = Balance(self._amount(self.config.privacy.max_budget_per_user), 0, 0)
        return {user: self.standing(found.get(name, fresh)) for name, user in names.items()}

    def of_department(self, department: str) -> Standing:
        """How a department stands."""
        name = department_account(department)
        fresh = Balance(self._amount(self.config.department_cap(department)), 0, 0)
        return self.standing(self.allowances.balances([name]).get(name, fresh))

    def raise_user(self, user_id: str, epsilon: float, *, key: str, by: str, reason: str) -> None:
        """Raise a user's lifetime cap by what takes it from its epsilon to that plus `epsilon`.

        Raises:
            InvalidParameter: the epsilon is no finite number above 0.
        """
        if not 0 < epsilon <= 100:
            raise InvalidParameter("epsilon", found=epsilon, expected="above 0 and at most 100")
        name = user_account(user_id)
        self.allowances.open_accounts({name: self._amount(self.config.privacy.max_budget_per_user)})
        cap = self.allowances.balances([name])[name].cap
        more = self._amount(self._epsilon(cap) + epsilon) - cap
        self.allowances.raise_caps(key, {name: max(more, 0)}, signed_by=by, reason=reason)

    def raise_all(
        self, users: Iterable[str], epsilon: float, *, key: str, by: str, reason: str
    ) -> int:
        """Raise the caps of users below `epsilon` to it; returns how many there were."""
        wanted = self._amount(epsilon)
        found = self.allowances.balances([user_account(user) for user in users])
        more: Mapping[str, int] = {
            name: wanted - balance.cap for name, balance in found.items() if balance.cap < wanted
        }
        if more:
            self.allowances.raise_caps(key, more, signed_by=by, reason=reason)
        return len(more)

    def standing(self, balance: Balance) -> Standing:
        """A balance in epsilon."""
        total, spent = self._epsilon(balance.cap), self._epsilon(balance.spent)
        used = self._epsilon(balance.spent + balance.reserved)
        return Standing(total, spent, used - spent, max(0.0, total - used))

    def _amount(self, epsilon: float) -> int:
        return nano_cap(rho_of(epsilon, self.config.privacy.delta))

    def _epsilon(self, amount: int) -> float:
        return epsilon_of(rho_of_nano(amount), self.config.privacy.delta) if amount else 0.0
