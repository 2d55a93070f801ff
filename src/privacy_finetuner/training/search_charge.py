"""Charging a search to a ledger: whole, for good, before its first trial."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from privacy_core.dp_events import DpEvent
from privacy_core.guarantee import NeighbouringRelation, PrivacyUnit
from privacy_finetuner.training.ledger_account import TRAINING, LedgerAccount
from privacy_runtime.budget_store import charge_of

# Between the two entries of a charge; were it to pass, the ledger commits by itself.
_TTL_S: Final = 86400


def search_charge(
    account: LedgerAccount,
    key: str,
    *,
    delta: float,
    relation: NeighbouringRelation,
    unit: PrivacyUnit,
) -> Callable[[DpEvent], None]:
    """A function that reserves an event in an account and commits it at once.

    Nothing is given back later, however the search ends: how many trials ran is itself part of
    what the price hides. The model that a search leaves is a training's, so it is charged to the
    share of trainings where a quota has shares.

    The function raises `PrivacyBudgetExhaustedException` where there is no room; nothing was spent.
    """

    def charge(event: DpEvent) -> None:
        price = charge_of(event, delta=delta, relation=relation, unit=unit)
        with account.store() as store:
            protection, quotas = account.scopes(store, TRAINING)
            with account.refusals():
                store.reserve(key, protection=protection, quota=quotas, charge=price, ttl_s=_TTL_S)
            store.commit(f"{key}:commit", key)

    return charge
