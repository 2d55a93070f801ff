"""Runs that come back after a failure, without losing what was trained or forgetting what it cost.

`system.FailureRecoverySystem` is what programs use; `strategies` says what is done about what,
`prices` what it costs, `points` what is returned to. `docs/recovery.md` is the manual.
"""

from __future__ import annotations

from privacy_finetuner.recovery.errors import (
    FailureRecoveryError,
    NoVerifiedPoint,
    RecoveryGivenUp,
    RecoveryRefused,
    RehearsalFailed,
    UnknownPoint,
)
from privacy_finetuner.recovery.failures import FailureType
from privacy_finetuner.recovery.history import (
    FaultTrial,
    Outcome,
    RecoveredState,
    Recovery,
    RecoveryStatistics,
    TestResults,
)
from privacy_finetuner.recovery.points import RecoveryPoint, Sealing
from privacy_finetuner.recovery.prices import Outlook, Replay
from privacy_finetuner.recovery.runs import Changes
from privacy_finetuner.recovery.system import FailureRecoverySystem

__all__ = [
    "Changes",
    "FailureRecoveryError",
    "FailureRecoverySystem",
    "FailureType",
    "FaultTrial",
    "NoVerifiedPoint",
    "Outcome",
    "Outlook",
    "RecoveredState",
    "Recovery",
    "RecoveryGivenUp",
    "RecoveryPoint",
    "RecoveryRefused",
    "RecoveryStatistics",
    "RehearsalFailed",
    "Replay",
    "Sealing",
    "TestResults",
    "UnknownPoint",
]
