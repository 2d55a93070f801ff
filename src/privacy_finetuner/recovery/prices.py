"""What a recovery costs: pure arithmetic over the plan and its accountant.

A run that returns to step r after step c was charged has lost c - r steps. They stay charged: what
they released is out, and the ledger does not go back.

============================  ====================================================================
the lost steps are            and the whole run then costs
============================  ====================================================================
passed over, as our trainer   the plan: it was reserved, so the recovery asks for nothing new; the
does                          model has fewer steps
taken again                   the plan and the lost steps once more
replayed, bit by bit          the plan: the same random variable is not released twice. Only with
                              equal digests of sample, noise state and weights (`Replay`)
============================  ====================================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from privacy_core.errors import InvalidParameter
from privacy_finetuner.recovery.errors import RecoveryRefused
from privacy_finetuner.training.plan import DPTrainingPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Digests of what a step depends on, taken before it: SHA-256 in hexadecimal.

    Attributes:
        sample: of the records drawn, or of the sampler's key and counter.
        noise: of the noise generator's key and counter.
        weights: of the weights and the optimizer's state.
    """

    sample: str
    noise: str
    weights: str

    def __post_init__(self) -> None:
        for name in ("sample", "noise", "weights"):
            text = getattr(self, name)
            if len(text) != 64 or set(text) - set("0123456789abcdef"):
                raise InvalidParameter(name, found=f"{len(text)} letters", expected="a SHA-256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a run has spent, and will have spent at its end. All of it public.

    Attributes:
        epsilon_total: of the budget.
        epsilon_spent: by now, lost steps included.
        epsilon_needed: at the end, if it is recovered; infinite where it has no price.
        epsilon_planned: what was set aside for the run before it failed.
        epsilon_lost: what taking the lost steps again would add.
        steps_lost: charged, and behind no saved state.
        steps_left: to be taken.
        is_priced: whether the accountant has priced the end; if not, `epsilon_needed` is only what
            was spent, and the caller's own ledger decides about every further step.
    """

    epsilon_total: float
    epsilon_spent: float
    epsilon_needed: float
    epsilon_planned: float = 0.0
    epsilon_lost: float = 0.0
    steps_lost: int = 0
    steps_left: int = 0
    is_priced: bool = True

    def require(self, threshold: float) -> None:
        """Refuse a recovery that cannot finish inside the budget.

        What was set aside for the run before it failed may be used up. What goes beyond it may
        bring the run to `threshold` of the budget, and no further.

        Raises:
            RecoveryRefused: says what it would cost, and of what.
        """
        share = 1.0 if self.epsilon_needed <= self.epsilon_planned else threshold
        if not self.epsilon_needed <= share * self.epsilon_total * (1 + 1e-12):
            raise RecoveryRefused(
                epsilon_needed=self.epsilon_needed, epsilon_total=self.epsilon_total, share=share
            )


def outlook_of_plan(
    plan: DPTrainingPlan,
    *,
    reached: int,
    charged: int,
    epsilon_total: float,
    is_repeated: bool = False,
    recorded: Replay | None = None,
    replayed: Replay | None = None,
    is_reserved: bool = True,
) -> Outlook:
    """The outlook of a planned run that returns to step `reached` with `charged` steps charged.

    Args:
        plan: of the run.
        reached: the step of the state that it returns to.
        charged: steps that count as spent.
        epsilon_total: the budget.
        is_repeated: whether lost steps are taken again.
        recorded: digests that were taken before the first lost step.
        replayed: the same, of the state that it returns to.
        is_reserved: whether the plan is still set aside in the ledger.
    """
    if not 0 <= reached <= charged <= plan.steps:
        raise InvalidParameter(
            "reached",
            found=(reached, charged, plan.steps),
            expected="0 <= reached <= charged <= steps of the plan",
        )
    lost = charged - reached
    whole = plan.epsilon()
    more = _with_more(plan, lost)
    is_free = recorded is not None and recorded == replayed
    return Outlook(
        epsilon_total=epsilon_total,
        epsilon_spent=plan.epsilon(plan.priced_steps(charged)),
        epsilon_needed=more if is_repeated and lost and not is_free else whole,
        epsilon_planned=whole if is_reserved else 0.0,
        epsilon_lost=more - whole if lost else 0.0,
        steps_lost=lost,
        steps_left=plan.steps - (reached if is_repeated else charged),
    )


def _with_more(plan: DPTrainingPlan, steps: int) -> float:
    """What plan and further steps cost; correlated noise beyond its plan has no price."""
    if plan.correlation is not None and steps:
        return math.inf
    return plan.epsilon(plan.steps + steps)
