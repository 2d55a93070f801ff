"""A gateway with everything real: journal, detector, names, vault."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from privacy_finetuner.context.gateway.gateway import Gateway
from privacy_finetuner.context.gateway.policy import Policy
from privacy_finetuner.context.gateway.policy_file import JOURNAL_NAME
from privacy_finetuner.context.gateway.protectors import protectors
from privacy_finetuner.context.gateway.upstream import Targets
from privacy_runtime.journal import Journal
from privacy_runtime.journal.sqlite import SqliteHome
from privacy_runtime.world import SystemClock, SystemEntropy


@contextmanager
def opened(policy: Policy, *, targets: Targets | None = None) -> Iterator[Gateway]:
    """Make the gateway of a policy; tokens and connections end with the context.

    Args:
        policy: what may pass. Without a journal of its own, one in the working folder is used.
        targets: how servers are reached; for tests.
    """
    clock, entropy = SystemClock(), SystemEntropy()
    with (
        journal_of(policy) as journal,
        protectors(policy, clock=clock, entropy=entropy) as protector_for,
    ):
        yield Gateway(policy, protector_for, journal, targets=targets)


@contextmanager
def journal_of(policy: Policy) -> Iterator[Journal]:
    """Open the journal with the pins and the audit trail of a policy."""
    journal = Journal(SqliteHome(policy.journal or JOURNAL_NAME), clock=SystemClock())
    try:
        yield journal
    finally:
        journal.close()
