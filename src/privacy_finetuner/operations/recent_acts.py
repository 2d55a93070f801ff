"""What accounts were charged for within the last hour: from the ledger's entries, followed once."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from datetime import datetime, timedelta
from typing import Final

from privacy_runtime.budget_store import BudgetStore, Charge, Reserved, Scope, ScopeState

HOUR: Final = timedelta(hours=1)


class RecentActs:
    """Acts of the last hour by account. For any number of threads.

    Args:
        ledger: whose entries. They are public: they say what acts were charged, not what they saw.

    Raises, in every method: MalformedEntry, JournalError: the ledger cannot be read.
    """

    def __init__(self, ledger: BudgetStore) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._seq = 0
        self._acts: defaultdict[Scope, deque[tuple[datetime, Charge]]] = defaultdict(deque)

    def of(self, state: ScopeState, now: datetime) -> tuple[int, float]:
        """How many acts set budget aside, and which share of the cap all of them take.

        At the order that has most room, where they weigh least. What was refunded since counts too.
        """
        with self._lock:
            self._follow(now)
            held = self._acts[state.scope]
            while held and now - held[0][0] > HOUR:
                held.popleft()
            charges = [charge.in_currency(state.currency) for _, charge in held]
        shares = [
            sum(amounts[slot] for amounts in charges) / cap
            for slot, cap in enumerate(state.caps)
            if cap > 0
        ]
        return len(charges), min(shares, default=0.0)

    def _follow(self, now: datetime) -> None:
        for fact in self._ledger.history(after=self._seq):
            self._seq = fact.seq
            at = datetime.fromisoformat(fact.at)
            if not isinstance(fact.entry, Reserved) or now - at > HOUR:
                continue
            for scope in fact.entry.command.scopes:
                self._acts[scope].append((at, fact.entry.command.charge))
