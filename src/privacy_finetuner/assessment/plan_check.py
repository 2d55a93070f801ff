"""Is a plan one that a run could have had? What its numbers say of each other.

`DPTrainingPlan.from_json` refuses a plan whose event is not the one its numbers produce. This looks
at the numbers that do not enter the event, and prices the event by more than one accountant. Pure;
shared by certificates and by `PrivacyValidator`.
"""

from __future__ import annotations

import math
from typing import Final

from privacy_core.accounting import epsilon_of
from privacy_core.dp_events import DpEvent
from privacy_core.errors import UnsupportedEvent
from privacy_core.guarantee import NeighbouringRelation
from privacy_core.mechanisms.matrix_factorization import BufferedToeplitz
from privacy_finetuner.training.plan import DPTrainingPlan

ACCOUNTANTS: Final = ("pld", "rdp")
"""Two methods that share no step of their arithmetic: a numerical composition of privacy losses,
and Renyi divergences in closed form."""

SAME: Final = 1e-6
"""Relative difference up to which two machines have computed the same figure."""

# pld is tight to 1e-3: no sound upper bound lies below it by more.
_TIGHT: Final = 1e-3
_SAMPLERS: Final = {"poisson", "full_batch", "cyclic_poisson"}
_CLIP_RULES: Final = {"bound", "normalise", "bound_layers"}


def price(
    event: DpEvent, delta: float, accountant: str, relation: NeighbouringRelation
) -> float | None:
    """What an event costs; `None` where this accountant has no sound price for it."""
    try:
        return epsilon_of(event, delta, accountant, relation=relation)
    except UnsupportedEvent:
        return None


def prices(event: DpEvent, plan: DPTrainingPlan) -> dict[str, float | None]:
    """What an event costs by each of `ACCOUNTANTS`, at the plan's delta and relation."""
    return {name: price(event, plan.delta, name, plan.relation) for name in ACCOUNTANTS}


def faults_of_prices(found: dict[str, float | None]) -> list[str]:
    """Why the accountants cannot all be right, if they cannot."""
    tight = found.get("pld")
    if tight is None:
        return []
    return [
        f"pld says epsilon {tight:.6g} and {name} says {other:.6g}: no upper bound lies that far "
        "below a tight one"
        for name, other in found.items()
        if other is not None and other < tight * (1 - _TIGHT)
    ]


def is_same(first: float, second: float) -> bool:
    """Whether two figures are one, computed on two machines."""
    return math.isclose(first, second, rel_tol=SAME, abs_tol=0.0)


def faults_of_plan(plan: DPTrainingPlan) -> list[str]:
    """What in a plan contradicts the rest of it: sampler, clipping, noise, steps. Sentences."""
    return [*_sampling_faults(plan), *_clipping_faults(plan), *_noise_faults(plan)]


def _sampling_faults(plan: DPTrainingPlan) -> list[str]:
    faults = []
    if plan.sampler not in _SAMPLERS:
        faults.append(f"the sampler {plan.sampler!r} is none that this program has")
    if not 1 <= plan.expected_batch_size <= plan.examples:
        faults.append(
            f"the expected batch of {plan.expected_batch_size} is not between 1 and the "
            f"{plan.examples} examples"
        )
    is_full = plan.expected_batch_size == plan.examples
    if plan.sampler != "cyclic_poisson" and is_full != (plan.sampler == "full_batch"):
        faults.append(
            f"the sampler is {plan.sampler!r} at sampling probability {plan.sampling_probability:g}"
        )
    if not 1 <= plan.steps <= plan.steps_asked:
        faults.append(f"{plan.steps} steps, {plan.steps_asked} were asked for")
    if plan.delta * plan.examples >= 1:
        faults.append(
            f"delta is {plan.delta:g} for {plan.examples} examples: publishing one of them whole "
            "would keep that promise"
        )
    if plan.max_examples_per_user < 1 or plan.groups < 1:
        faults.append("a cap or a number of groups is below 1")
    return faults


def _clipping_faults(plan: DPTrainingPlan) -> list[str]:
    faults = []
    if plan.clip_rule not in _CLIP_RULES:
        faults.append(f"the clip rule {plan.clip_rule!r} is none that this program has")
    if not 0 < plan.clip_norm < math.inf:
        faults.append(f"the clip norm is {plan.clip_norm!r}: nothing bounds one example")
    return faults


def _noise_faults(plan: DPTrainingPlan) -> list[str]:
    """The parts of a step are one Gaussian: 1 / noise^2 is the sum of their 1 / multiplier^2."""
    parts = [
        multiplier
        for multiplier in (plan.count_noise_multiplier, plan.statistics_noise_multiplier)
        if multiplier is not None
    ]
    multipliers = [plan.noise_multiplier, plan.gradient_noise_multiplier, *parts]
    if any(not 0 < multiplier < math.inf for multiplier in multipliers):
        return ["a noise multiplier is not a finite number above 0: no noise, or no mechanism"]
    rounds = -(-plan.steps // plan.groups) if isinstance(plan.correlation, BufferedToeplitz) else 1
    whole = plan.gradient_noise_multiplier**-2 + rounds * math.fsum(part**-2 for part in parts)
    if not is_same(plan.noise_multiplier**-2, whole):
        return [
            f"the noise of a step's parts adds up to a multiplier of {whole**-0.5:.6g}, the plan "
            f"was priced for {plan.noise_multiplier:.6g}"
        ]
    return []
