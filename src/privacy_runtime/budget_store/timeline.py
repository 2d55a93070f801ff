"""How one account came to stand where it stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from privacy_core.budget import LedgerState, Scope
from privacy_runtime.budget_store.projection import Fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One account after one entry that changed it.

    Args:
        seq: the entry's number.
        at: the ledger's time of the entry.
        kind: what the entry is, such as `Reserved`.
        key: its idempotency key.
        by: who answers for it; empty where a program acted.
        reason: why; empty likewise.
        epsilon_cap: the lifetime cap.
        epsilon_committed: what was spent, at the account's delta.
        epsilon_if_all_commit: the same, with all that is set aside.
        hash: of the entry, in the chain.
    """

    seq: int
    at: datetime
    kind: str
    key: str
    by: str
    reason: str
    epsilon_cap: float
    epsilon_committed: float
    epsilon_if_all_commit: float
    hash: str


def timeline(facts: Iterable[Fact], scope: Scope) -> list[Standing]:
    """The account after each entry that changed it, in order; folded anew from the entries."""
    state = LedgerState()
    standings: list[Standing] = []
    version = 0
    for fact in facts:
        state = state.after(fact.entry)
        account = state.scopes.get(scope)
        if account is None or account.version == version:
            continue
        version = account.version
        signature = getattr(fact.entry.command, "signature", None)
        standings.append(
            Standing(
                seq=fact.seq,
                at=datetime.fromtimestamp(fact.entry.at_us / 1e6, UTC),
                kind=type(fact.entry).__name__,
                key=fact.entry.key,
                by=signature.person if signature else "",
                reason=signature.reason if signature else "",
                epsilon_cap=account.guarantee.epsilon,
                epsilon_committed=account.epsilon_committed,
                epsilon_if_all_commit=account.epsilon_if_all_commit,
                hash=fact.hash,
            )
        )
    return standings
