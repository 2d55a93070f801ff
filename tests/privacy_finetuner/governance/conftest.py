"""A journal and a ledger in memory, with a clock that waits to be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from privacy_core.dp_events import Gaussian
from privacy_core.guarantee import Guarantee
from privacy_finetuner.governance.accounts import scope_of
from privacy_runtime.budget_store import BudgetStore, Scope, Signature, charge_of
from privacy_runtime.journal import Journal
from privacy_runtime.pseudonyms import RedactionKeys
from privacy_runtime.testing import ManualClock, MemoryHome, MemoryRows, SeededEntropy

TENANT = "o_1"
ACCOUNT = "notes/2026"


@dataclass
class Office:
    """What an officer works with."""

    clock: ManualClock = field(default_factory=ManualClock)
    rows: MemoryRows = field(default_factory=MemoryRows)
    entropy: SeededEntropy = field(default_factory=lambda: SeededEntropy(7))

    def __post_init__(self) -> None:
        self.journal = self.another_journal()
        self.ledger = BudgetStore(Journal(MemoryHome(), clock=self.clock), clock=self.clock)
        self.keys = RedactionKeys.generate(self.entropy)

    def another_journal(self) -> Journal:
        """What another process would open."""
        return Journal(MemoryHome(self.rows), clock=self.clock)

    def opened(self, epsilon: float = 8.0, account: str = ACCOUNT) -> Scope:
        """An account with a cap."""
        scope = scope_of(TENANT, account)
        self.ledger.open_account(
            f"open:{scope}",
            scope,
            Guarantee(epsilon=epsilon, delta=1e-6),
            signature=Signature("u_officer", "vote 17"),
        )
        return scope

    def spend(self, scope: Scope, key: str, sigma: float = 20.0, *, ends: str = "commit") -> None:
        """One act, committed, refunded, or left open."""
        self.ledger.reserve(
            key, protection=(scope,), charge=charge_of(Gaussian(sigma)), ttl_s=30 * 86_400
        )
        end: dict[str, Callable[[str, str], object]] = {
            "commit": self.ledger.commit,
            "refund": self.ledger.refund,
        }
        if ends in end:
            end[ends](f"{key}:{ends}", key)


@pytest.fixture
def office() -> Office:
    return Office()
