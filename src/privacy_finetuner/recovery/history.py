"""What happened to a run, and what was done about it: values, and figures over them."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Self

from privacy_finetuner.recovery.failures import FailureType
from privacy_finetuner.recovery.prices import Outlook
from privacy_finetuner.recovery.runs import Changes
from privacy_finetuner.recovery.strategies import Action


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredState:
    """What a recovery point holds, read back.

    Attributes:
        model_state, optimizer_state: tensors on the CPU.
        privacy_state, system_state: as they were given.
        released_metrics: figures that were named as released.
        outside_guarantee: the others; exact figures of private data, for who may see the records.
    """

    epoch: int
    step: int
    model_state: Mapping[str, Any]
    optimizer_state: Mapping[str, Any]
    privacy_state: Mapping[str, Any]
    system_state: Mapping[str, Any]
    released_metrics: Mapping[str, float]
    outside_guarantee: Mapping[str, float]


class Outcome(Enum):
    """How the handling of a failure ended."""

    RECOVERED = "recovered"
    """A verified state lies ready, and the run may go on from it."""
    REFUSED = "refused"
    """The budget does not reach."""
    GIVEN_UP = "given_up"
    """Attempts without progress are used up, or no step is left."""
    FAILED = "failed"
    """A step of the strategy could not be done."""
    OFF = "off"
    """Automatic recovery is switched off; nothing was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """How one failure was handled.

    Attributes:
        failure, components: what happened, and to what. Its description is not kept.
        at: RFC 3339 in UTC.
        outcome, reason: how it ended, and in one line why.
        attempt: at this failure since the run last made progress.
        done: what was done, in order.
        point: the recovery point that was verified or put back; empty: the folder had the state.
        step: of the state that the run goes on from.
        changes: what the next attempt does otherwise.
        outlook: the price of finishing; `None`: it did not come to that.
        duration_s: from the call to its end, waits included.
    """

    failure: FailureType
    components: tuple[str, ...]
    at: str
    outcome: Outcome
    reason: str = ""
    attempt: int = 1
    done: tuple[Action, ...] = ()
    point: str = ""
    step: int = 0
    changes: Changes = field(default_factory=Changes)
    outlook: Outlook | None = None
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryStatistics:
    """Figures over all failures that one system has handled.

    Attributes:
        total_failures: handled.
        failures_by_type: how many of each.
        successful_recoveries: a verified state lay ready.
        refused_by_budget: finishing would have cost more than there was.
        success_rate: of those above; `None` without a failure.
        lost_steps: charged and behind no saved state, together.
        mean_recovery_s: of the successful ones, waits included; `None` without one.
        recovery_points: kept now.
        points_are_sealed: encrypted and signed; `False`: plain files, for want of a key.
        auto_recovery_enabled: whether failures are acted on.
        privacy_threshold: share of the budget that recovery may go to.
    """

    total_failures: int
    failures_by_type: Mapping[FailureType, int]
    successful_recoveries: int
    refused_by_budget: int
    success_rate: float | None
    lost_steps: int
    mean_recovery_s: float | None
    recovery_points: int
    points_are_sealed: bool
    auto_recovery_enabled: bool
    privacy_threshold: float

    @classmethod
    def of(cls, handled: Sequence[Recovery], **settings: Any) -> Self:
        """Add up."""
        good = [each for each in handled if each.outcome is Outcome.RECOVERED]
        lost = [each.outlook.steps_lost for each in good if each.outlook is not None]
        return cls(
            total_failures=len(handled),
            failures_by_type=dict(Counter(each.failure for each in handled)),
            successful_recoveries=len(good),
            refused_by_budget=sum(each.outcome is Outcome.REFUSED for each in handled),
            success_rate=len(good) / len(handled) if handled else None,
            lost_steps=sum(lost),
            mean_recovery_s=statistics.fmean(e.duration_s for e in good) if good else None,
            **settings,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultTrial:
    """One fault that was injected in the sandbox, and what came of it.

    Attributes:
        fault: what was injected.
        healed: the run finished, and the ledger says exactly its plan.
        detected_s: from the fault to its detection.
        recovered_s: from the detection to the next step of the run.
        lost_steps: charged and not in the model.
        epsilon_difference: what the ledger's account says more than one undisturbed run of the
            same plan.
        note: why it was not healed.
    """

    fault: FailureType
    healed: bool
    detected_s: float | None = None
    recovered_s: float | None = None
    lost_steps: int = 0
    epsilon_difference: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResults:
    """What a rehearsal measured.

    Attributes:
        trials: one for each fault.
        duration_s: of all.
    """

    __test__: ClassVar[bool] = False  # pytest: it is no test

    trials: tuple[FaultTrial, ...]
    duration_s: float

    @property
    def passed(self) -> bool:
        """Whether every fault was healed."""
        return bool(self.trials) and all(trial.healed for trial in self.trials)
