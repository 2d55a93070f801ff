"""What is done about each failure, as values: ordered steps, each with its precondition.

==================  ==============================================================================
failure             steps
==================  ==============================================================================
process crash       set broken states aside, return to the newest verified one
memory              return, halve the physical micro-batch; at one example, recompute activations
not finite          return, lower the learning rate; the second time, stop
corrupt checkpoint  set it aside, return to the newest verified state
disk full           remove what the retention list lets go, return
store away          wait until it answers, or its deadline is over; return
==================  ==============================================================================

No step changes the logical batch, the sampling rate, the clip norm or the noise: the plan that was
reserved is the plan that goes on. No step looks at a record or at a figure of one: what it decides
by is the kind of the failure, the weights (released), and the run's own books.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from privacy_finetuner.recovery.failures import FailureType
from privacy_runtime.resilience.schedules import uniform
from privacy_runtime.world import Entropy

WAITS_S: Final = (1.0, 5.0, 25.0)
"""Before the first, the second and every later attempt at the same failure without progress."""


class Action(Enum):
    """What a step does."""

    SET_ASIDE = "set_aside"
    RETURN = "return"
    SHRINK = "shrink"
    LOWER_RATE = "lower_rate"
    FREE = "free"
    WAIT = "wait"


class Condition(Enum):
    """What must hold for a step; where it does not, the strategy is at its end."""

    ALWAYS = "always"
    CAN_SHRINK = "can_shrink"
    """The micro-batch has more than one example, or activations are still kept."""
    RATE_IS_UNTOUCHED = "rate_is_untouched"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a strategy."""

    action: Action
    needs: Condition = Condition.ALWAYS


@dataclass(frozen=True, slots=True)
class Strategy:
    """The steps against one failure, in their order."""

    steps: tuple[Step, ...]

    @property
    def actions(self) -> tuple[Action, ...]:
        """What it does."""
        return tuple(step.action for step in self.steps)


_RETURN: Final = Step(Action.RETURN)
STRATEGIES: Final[Mapping[FailureType, Strategy]] = MappingProxyType(
    {
        FailureType.PROCESS_CRASH: Strategy((Step(Action.SET_ASIDE), _RETURN)),
        FailureType.GPU_MEMORY_ERROR: Strategy(
            (Step(Action.SHRINK, Condition.CAN_SHRINK), _RETURN)
        ),
        FailureType.NON_FINITE: Strategy(
            (Step(Action.LOWER_RATE, Condition.RATE_IS_UNTOUCHED), _RETURN)
        ),
        FailureType.CORRUPT_CHECKPOINT: Strategy((Step(Action.SET_ASIDE), _RETURN)),
        FailureType.DISK_FULL: Strategy((Step(Action.FREE), _RETURN)),
        FailureType.STORE_AWAY: Strategy((Step(Action.WAIT), _RETURN)),
    }
)


def wait_s(attempt: int, entropy: Entropy) -> float:
    """How long to wait before attempt 1, 2, ...: 1, 5, 25 s, each between half and all of it."""
    steady_s = WAITS_S[min(attempt, len(WAITS_S)) - 1]
    return steady_s * (0.5 + 0.5 * uniform(entropy))
