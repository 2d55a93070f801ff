"""What the service's metrics read when somebody asks for them, and what they count meanwhile.

Everything here is about the deployment as a whole, so it is the operator's: figures of accounts
come out on the operator's port only (`metrics.Audience`). Accounts of single data subjects come out
nowhere: which of them exist depends on the data.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, Self
from weakref import WeakSet

import sqlalchemy as sa

from privacy_finetuner.governance.accounts import is_of_one_subject
from privacy_finetuner.jobs import Jobs, JobState
from privacy_finetuner.jobs.schema import JOBS
from privacy_finetuner.service.service import Service
from privacy_runtime.budget_store import LEDGER, BudgetStore, ScopeState
from privacy_runtime.metrics import Metrics, table
from privacy_runtime.notify import Notifier
from privacy_runtime.world import Clock

_SECOND_US: Final = 1_000_000


def read_figures(metrics: Metrics, service: Service, *, notices: Notifier) -> None:
    """Let `metrics` read everything that the service knows, at every scrape."""
    jobs, ledger, clock = service.jobs, service.ledger, service.clock
    metrics.reads(table.JOBS, lambda: {(s.value,): float(n) for s, n in jobs.counts().items()})
    metrics.reads(table.QUEUE_AGE, lambda: queue_age_s(jobs, clock))
    metrics.reads(table.WORKERS, lambda: workers_by_state(jobs))
    metrics.reads(table.LEDGER_ACCOUNTS, lambda: float(len(ledger.accounts())))
    metrics.reads(table.LEDGER_WRITABLE, lambda: float(not service.journal.status(LEDGER).halt))
    metrics.reads(table.EPSILON_GRANTED, _of(ledger, lambda state: state.guarantee.epsilon))
    metrics.reads(table.EPSILON_SPENT, _of(ledger, lambda state: state.epsilon_committed))
    metrics.reads(table.EPSILON_REMAINING, _of(ledger, lambda state: state.epsilon_remaining))
    metrics.reads(table.DISK_FREE, lambda: float(shutil.disk_usage(service.home).free))
    metrics.reads(table.DATABASE_CONNECTIONS, Pools.watched().counts)
    metrics.reads(table.OUTBOX_WAITING, lambda: _waiting(notices))
    metrics.reads(table.OUTBOX_AGE, lambda: notices.standing().oldest_s)
    metrics.reads(table.OUTBOX_DEAD, lambda: float(notices.standing().dead))


class Pools:
    """The connection pools of this process: whichever engine connects is known from then on."""

    def __init__(self) -> None:
        self._pools: WeakSet[sa.Pool] = WeakSet()

    @classmethod
    @cache
    def watched(cls) -> Self:
        """The pools, watched from the first call on; one for the process."""
        pools = cls()
        sa.event.listen(sa.Engine, "engine_connect", pools.saw)
        return pools

    def saw(self, connection: sa.Connection) -> None:
        """A connection was asked for."""
        self._pools.add(connection.engine.pool)

    def counts(self) -> Mapping[Any, float]:
        """How many connections are in use, and how many wait to be."""
        queues = [pool for pool in list(self._pools) if isinstance(pool, sa.QueuePool)]
        return {
            "in_use": float(sum(pool.checkedout() for pool in queues)),
            "idle": float(sum(pool.checkedin() for pool in queues)),
        }


def queue_age_s(jobs: Jobs, clock: Clock) -> float:
    """How long the longest waiting job has waited, in seconds; 0.0 when none waits."""
    query = sa.select(sa.func.min(JOBS.c.created_us)).where(
        JOBS.c.state == JobState.QUEUED.value, JOBS.c.attempts == 0
    )
    oldest_us = jobs.store.read(lambda connection: connection.execute(query).scalar())
    if oldest_us is None:
        return 0.0
    return max(0.0, clock.now().timestamp() - float(oldest_us) / _SECOND_US)


def workers_by_state(jobs: Jobs) -> Mapping[Any, float]:
    """How many workers are idle, busy, and not heard of any more."""
    found = {"idle": 0.0, "busy": 0.0, "lost": 0.0}
    for worker in jobs.workers():
        state = "lost" if not worker.is_alive else "busy" if worker.job else "idle"
        found[state] += 1
    return found


def by_need(states: list[ScopeState]) -> list[ScopeState]:
    """Accounts of blocks and quotas, those nearest to their end first."""
    shown = [state for state in states if not is_of_one_subject(state.scope)]
    return sorted(shown, key=lambda s: (_share_left(s), str(s.scope)))


def _of(ledger: BudgetStore, figure: Callable[[ScopeState], float]) -> Callable[[], Any]:
    return lambda: {str(s.scope): figure(s) for s in by_need(ledger.accounts())}


def _share_left(state: ScopeState) -> float:
    cap = state.guarantee.epsilon
    return state.epsilon_remaining / cap if cap > 0 else 0.0


def _waiting(notices: Notifier) -> Mapping[Any, float]:
    found = notices.standing().waiting
    return {kind: float(found.get(kind, 0)) for kind in ("webhook", "slack", "email")}
