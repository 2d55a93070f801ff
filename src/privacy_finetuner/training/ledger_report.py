"""What a report says of an account in a ledger, and how a plan's budget spreads over the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from privacy_finetuner.results import PrivacySpent
from privacy_finetuner.training.ledger_account import TRAINING, LedgerAccount
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_runtime.budget_store import BudgetStore, Reservation, ScopeState

# Others may write between two reads; a report is of one head, if one can be had.
_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An account as a report shows it.

    Args:
        spent: committed, by any process, since the account was opened: a bound at any time, also
            one chosen after seeing releases.
        remaining: how far epsilon may still rise. Delta is one for everything: it is not used up.
        document: the rest, JSON-ready.
    """

    spent: PrivacySpent
    remaining: PrivacySpent
    document: Mapping[str, Any]


def standing_of(account: LedgerAccount) -> Standing:
    """Read an account with its reservations, its quotas and the ledger's head."""
    with account.store() as store:
        for _ in range(_ATTEMPTS):
            head = store.head()
            standing = _read(account, store)
            if store.head() == head:
                break
    return standing


def distribution_of(plan: DPTrainingPlan) -> Mapping[str, Any]:
    """How the plan's budget spreads over epochs and steps.

    An epoch's `epsilon` is what a run planned to end there would cost; it grows ever slower. At
    every Renyi order, which is what a ledger adds up, each step costs the same.
    """
    per_epoch = max(1, round(1 / plan.sampling_probability))
    ends = [*range(per_epoch, plan.steps, per_epoch), plan.steps]
    return {
        "epsilon": plan.epsilon(),
        "delta": plan.delta,
        "steps": plan.steps,
        "part_of_a_step": 1 / plan.steps,
        "epochs": [
            {"epoch": number, "last_step": last, "epsilon": plan.epsilon(last)}
            for number, last in enumerate(ends, start=1)
        ],
    }


def _read(account: LedgerAccount, store: BudgetStore) -> Standing:
    state = store.balance(account.scope)
    _, quotas = account.scopes(store, TRAINING)
    limits = [store.balance(above) for leaf in quotas for above in leaf.with_ancestors]
    waiting = [held for held in store.open_reservations() if account.scope in held.scopes]
    delta = state.guarantee.delta
    return Standing(
        spent=PrivacySpent(
            epsilon=state.epsilon_committed, delta=delta if any(state.committed) else 0.0
        ),
        remaining=PrivacySpent(epsilon=state.epsilon_remaining, delta=delta),
        document={
            "guarantee": _figures(state),
            "quotas": [_figures(limit) for limit in limits],
            "open_reservations": [_reservation(held) for held in waiting],
            "head": asdict(store.head()),
        },
    )


def _figures(state: ScopeState) -> dict[str, Any]:
    return {
        "account": str(state.scope),
        "epsilon": state.guarantee.epsilon,
        "delta": state.guarantee.delta,
        "relation": state.guarantee.relation.value,
        "unit": state.guarantee.unit.value,
        "currency": state.currency.value,
        "epsilon_spent": state.epsilon_committed,
        "epsilon_if_all_commit": state.epsilon_if_all_commit,
        "epsilon_remaining": state.epsilon_remaining,
    }


def _reservation(held: Reservation) -> dict[str, Any]:
    return {
        "key": held.key,
        "has_released": held.watermark is not None,
        "expires_at_us": held.expires_at_us,
    }
