"""The service as one value: what an application needs to answer, opened once and passed on.

Nothing here is global. `Service.open` is the composition root of `privacy-finetuner serve`; tests
open one in a folder of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from privacy_finetuner.environment import EnvironmentConfig
from privacy_runtime.budget_store import BudgetStore
from privacy_runtime.identity import Identity
from privacy_runtime.journal import Journal
from privacy_runtime.world import Clock, Entropy


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the API, the pages and the tools stand on.

    Attributes:
        home: the folder of this deployment: keys, runs, and with SQLite the databases.
        config: what the environment says.
        identity: who asks, and what they may.
        journal: the append-only streams `audit`, `jobs`, `compliance`.
        ledger: the privacy budgets.
        clock, entropy: the outside world.
    """

    home: Path
    config: EnvironmentConfig
    identity: Identity
    journal: Journal
    ledger: BudgetStore
    clock: Clock
    entropy: Entropy
