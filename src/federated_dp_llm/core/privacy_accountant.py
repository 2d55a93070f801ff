"""`PrivacyAccountant`: what users may still ask, and noisy numbers at a price.

The documented face of the ledger. Two accounts are charged in one transaction: the *cohort* (the
people in the records: this carries their guarantee) and the *user* (a limit of use). A budget a
user alone would protect nobody: users choose questions by earlier answers, and share them.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Final

from federated_dp_llm.config import DPConfig
from federated_dp_llm.errors import PrivacyBudgetExceeded
from privacy_core.dp_events import DpEvent, PureDp
from privacy_core.errors import AccountExists, BudgetExhausted, InvalidParameter, UnknownScope
from privacy_core.guarantee import Guarantee
from privacy_core.mechanisms.answers import add_noise, noise_mechanism
from privacy_core.mechanisms.mechanism import event_under
from privacy_runtime.budget_store import (
    BudgetStore,
    Scope,
    ScopeState,
    Signature,
    charge_of,
    protection,
    quota,
)
from privacy_runtime.world import Entropy, SystemEntropy

_TTL_S: Final = 3600
_ROUNDING: Final = 1e-9
"""Prices are rounded up by less than this, so that 5 and 5 fit 10."""
_OPENED_BY: Final = Signature("router configuration", "first use of the account")


class PrivacyAccountant:
    """Budgets of one cohort and its users.

    Guarantee: everything that was released after `spend_budget` or by `add_noise` is
    (`config.promise`, `config.delta`)-private for the cohort, up to a billionth of the epsilon,
    whatever was asked in what order.

    Args:
        config: the budgets. Accounts are opened with them at first use; an account that is open
            already keeps its own.
        ledger: file or database that keeps the accounts. None: they live as long as this object.
        cohort: whose records, as COHORT/SLICE.
        entropy: the outside world's chance; only tests replace it.

    Raises:
        InvalidParameter: `cohort` is not such a name.
        JournalError: the ledger cannot be opened.
    """

    def __init__(
        self,
        config: DPConfig,
        *,
        ledger: str | Path | None = None,
        cohort: str = "records/all",
        entropy: Entropy | None = None,
    ) -> None:
        self.config = config
        self._entropy = entropy or SystemEntropy()
        self._cohort = protection(*_two(cohort))
        if ledger is None:
            folder = tempfile.mkdtemp()
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            ledger = Path(folder) / "ledger.db"
        self._store = BudgetStore.open(ledger)

    def check_budget(self, user_id: str, epsilon: float) -> bool:
        """Whether an act of this pure epsilon would be admitted now. Advisory: `spend_budget` acts.

        Raises:
            InvalidParameter: not a name, or not a finite number above 0.
        """
        charge = charge_of(PureDp(epsilon))
        return all(self._account(scope).has_room_for(charge) for scope in self._scopes(user_id))

    def spend_budget(self, user_id: str, epsilon: float, *, key: str | None = None) -> bool:
        """Charge an act of this pure epsilon to the cohort and the user, durably, before it runs.

        Args:
            user_id: who asks.
            epsilon: of the act, finite and > 0.
            key: the same key charges once; None: a new one.

        Returns:
            True; what cannot be charged raises.

        Raises:
            PrivacyBudgetExceeded: nothing was spent.
            InvalidParameter: as in `check_budget`.
        """
        self._spend(user_id, PureDp(epsilon), key)
        return True

    def remaining_budget(self, user_id: str) -> float:
        """How far the user's epsilon, and that of the cohort, may still rise: the smaller one."""
        return min(self._account(scope).epsilon_remaining for scope in self._scopes(user_id))

    def add_noise(
        self, query_result: float, sensitivity: float, *, user_id: str = "anonymous"
    ) -> float:
        """Release a number with the least noise that costs `epsilon_per_query`, and charge it.

        Gaussian noise is calibrated analytically for every epsilon (Balle and Wang 2018): the
        documents' sqrt(2 ln(1.25 / delta)) / epsilon holds below epsilon 1 only.

        Args:
            query_result: the exact answer, from private records.
            sensitivity: how far it moves when one record is added or removed.
            user_id: who asks.

        Raises:
            PrivacyBudgetExceeded: nothing was spent or released.
            InvalidParameter: a number is outside its domain; nothing was spent or released. That
                an answer is not finite is itself a fact about the records: bound it beforehand.
        """
        if not math.isfinite(query_result):
            raise InvalidParameter("query_result", found="not finite", expected="a finite number")
        config = self.config
        noise = noise_mechanism(
            config.mechanism.value,
            epsilon=config.epsilon_per_query,
            delta=config.delta,
            sensitivity=sensitivity,
        )
        self._spend(user_id, event_under(noise, noise.relation), None)
        answer = add_noise(
            query_result,
            sensitivity,
            epsilon=config.epsilon_per_query,
            delta=config.delta,
            mechanism=config.mechanism.value,
            entropy=self._entropy,
        )
        return float(answer.value)

    def close(self) -> None:
        """Let go of the ledger."""
        self._store.close()

    def _spend(self, user_id: str, event: DpEvent, key: str | None) -> None:
        user, cohort = self._scopes(user_id)
        for scope in (user, cohort):
            self._account(scope)
        name = key or self._entropy.token_bytes(16).hex()
        try:
            self._store.reserve(
                name, protection=(cohort,), quota=(user,), charge=charge_of(event), ttl_s=_TTL_S
            )
        except BudgetExhausted as error:
            short = error.shortages[0]
            who = user_id if short.scope == str(user) else str(self._cohort)
            raise PrivacyBudgetExceeded(
                who, short.epsilon_requested, short.epsilon_remaining
            ) from error
        self._store.commit(f"{name}:commit", name)

    def _scopes(self, user_id: str) -> tuple[Scope, Scope]:
        return quota(user_id), self._cohort

    def _account(self, scope: Scope) -> ScopeState:
        try:
            return self._store.balance(scope)
        except UnknownScope:
            cap = self.config.promise if scope == self._cohort else self.config.max_budget
            guarantee = Guarantee(epsilon=cap * (1 + _ROUNDING), delta=self.config.delta)
            with suppress(AccountExists):  # another process was first
                self._store.open_account(f"open:{scope}", scope, guarantee, signature=_OPENED_BY)
            return self._store.balance(scope)


def _two(cohort: str) -> tuple[str, str]:
    parts = cohort.split("/")
    if len(parts) != 2:
        raise InvalidParameter("cohort", found=cohort, expected="COHORT/SLICE")
    return parts[0], parts[1]
