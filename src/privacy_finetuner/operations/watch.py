"""What a monitor watches, what it watches for, and what is done about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from privacy_finetuner.operations.alerts import (
    AccountFact,
    Alert,
    ChainFact,
    FailureFact,
    ThreatType,
)
from privacy_finetuner.operations.responses import Responses
from privacy_finetuner.operations.run_rules import RunFacts

Write = Callable[[str, dict[str, Any]], None]
"""Appends an entry of a type to the audit stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What is watched for, and what happens before and after.

    Attributes:
        least_confidence: an alert that is less sure is not raised.
        threat_types: alerts of others are not raised.
        before: what is done before each scan: notes are written to the audit stream, restraints of
            other processes taken in.
        responses: answers each new alert; None: nothing is done.
    """

    least_confidence: float = 0.0
    threat_types: frozenset[ThreatType] = frozenset(ThreatType)
    before: Sequence[Callable[[Write], object]] = ()
    responses: Responses | None = None

    def wants(self, alert: Alert) -> bool:
        """Whether the alert should be raised."""
        is_sure = alert.confidence >= self.least_confidence
        return is_sure and alert.threat_type in self.threat_types


class Watched(Protocol):
    """What of the service the loop looks at besides the trail; see `service.desks`."""

    def accounts(self, tenant: str, now: datetime) -> Sequence[AccountFact]:
        """The organisation's accounts."""
        ...

    def failures(self, tenant: str, since: datetime) -> Sequence[FailureFact]:
        """Its jobs that failed since then."""
        ...

    def released_runs(self, tenant: str) -> Sequence[RunFacts]:
        """What its jobs have released."""
        ...

    def ledger_chain(self, now: datetime) -> ChainFact:
        """What is known of the ledger's chain, without walking it."""
        ...
