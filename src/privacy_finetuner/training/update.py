"""How noisy gradients become weights: the rate of each step, the optimizer, the average.

Everything here reads released figures and public numbers, so it is post-processing: it may be as
clever as it likes and costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import torch

from privacy_finetuner.config import TrainingConfig
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.training.engine import GradientSource
from privacy_finetuner.training.engine.forward_only import DirectionalStep, ForwardOnly
from privacy_finetuner.training.noise import ROUNDING_MARGIN
from privacy_finetuner.training.optimizers import NOISE_STD, make_optimizer
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_finetuner.training.public_rules import public_learning_rate, public_momentum
from privacy_finetuner.training.weight_average import WeightAverage

_UNIT: Final = "clip_norm"
_FIRST_MOMENTS: Final = ("exp_avg", "exp_inf", "mean")
_SECOND_MOMENTS: Final = ("exp_avg_sq", "max_exp_avg_sq", "square", "noise_variance")


@dataclass(slots=True)
class Update:
    """The update rule of a run. `training` holds numbers only: what was "auto" is settled."""

    training: TrainingConfig
    plan: DPTrainingPlan
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None = None

    def prepare(self, step: int, clip_norm: float) -> float:
        """Get ready for the step after `step` steps, whose gradients are clipped at `clip_norm`.

        Sets the rate, tells who asks what noise the step will have, and keeps Adam's moments in
        units of the clip norm: when an adaptive bound doubles, so do clipped gradients, and moments
        of the old size would make every step until they have caught up too long.

        Returns:
            the rate.
        """
        rate = learning_rate(self.training, step=step, steps=self.plan.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
            ratio = clip_norm / group.get(_UNIT, clip_norm)
            group[_UNIT] = clip_norm  # kept with the optimizer, so that a resumed run knows it
            if ratio != 1:
                for parameter in group["params"]:
                    _rescale(self.optimizer.state[parameter], ratio)
            if NOISE_STD in group:
                group[NOISE_STD] = noise_std(self.plan, clip_norm)
        return rate

    def follow(self, step: int) -> None:
        """Let the weights after `step` steps join the average."""
        if self.average is not None:
            self.average.follow(step)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model as it would be handed over now: its average, where one is kept."""
        if self.average is None:
            yield
            return
        with self.average.in_place():
            yield

    def settle(self) -> None:
        """Leave the model as it is handed over: its average, where one is kept."""
        if self.average is not None:
            self.average.settle()


def make_update(training: TrainingConfig, plan: DPTrainingPlan, gradient: GradientSource) -> Update:
    """Settle what a configuration leaves open, and build the optimizer with its average.

    Raises:
        ConfigurationError: the optimizer is unknown, refuses its options, or does not go with
            correlated noise; nothing was started.
    """
    if plan.correlation is not None and (
        training.optimizer == "adambc" or isinstance(gradient, ForwardOnly)
    ):
        raise ConfigurationError(
            "correlated noise takes back noise of earlier steps in the same coordinates: it goes "
            "neither with adambc, which counts on independent noise, nor with gradient 'forward', "
            "whose directions change; nothing was started"
        )
    if isinstance(gradient, ForwardOnly):
        return Update(training, plan, DirectionalStep(gradient, lr=1.0))
    training = settled(training, [p.shape for p in gradient.parameters], steps=plan.steps)
    optimizer = make_optimizer(training, gradient.parameters)
    average = None
    if training.weight_average != "none":
        average = WeightAverage(optimizer, training.weight_average, decay=training.average_decay)
    return Update(training, plan, optimizer, average)


def settled(
    training: TrainingConfig, shapes: Sequence[Sequence[int]], *, steps: int
) -> TrainingConfig:
    """The configuration with numbers where it said "auto"; see `public_rules`.

    With a rate of the user's own, nothing else is settled either: momentum is the optimizer's
    default, and the last weights are handed over.

    Raises:
        ConfigurationError: there is no rule for the optimizer; nothing was started.
    """
    if training.learning_rate != "auto":
        average = "none" if training.weight_average == "auto" else training.weight_average
        return replace(training, weight_average=average)
    options = {"betas": (public_momentum(steps), 0.999)}
    return replace(
        training,
        learning_rate=public_learning_rate(training.optimizer, shapes),
        optimizer_options={**options, **(training.optimizer_options or {})},
        weight_average="polynomial"
        if training.weight_average == "auto"
        else training.weight_average,
    )


def _rescale(state: Mapping[str, Any], ratio: float) -> None:
    for power, names in ((1, _FIRST_MOMENTS), (2, _SECOND_MOMENTS)):
        for name in names:
            if isinstance(state.get(name), torch.Tensor):
                state[name].mul_(ratio**power)


def noise_std(plan: DPTrainingPlan, clip_norm: float) -> float:
    """Standard deviation of the noise in each coordinate of a step's mean gradient. Public."""
    scale = plan.step_noise_multiplier * (1 + ROUNDING_MARGIN)
    return scale * clip_norm / plan.expected_batch_size


def learning_rate(training: TrainingConfig, *, step: int, steps: int) -> float:
    """The learning rate of the step after `step` steps: linear warm-up, then the schedule.

    Raises:
        ConfigurationError: the peak is "auto", and no plan has settled it.
    """
    peak = training.learning_rate
    if isinstance(peak, str):
        raise ConfigurationError(
            f"learning_rate is {peak!r}: it takes a plan to settle it, and this run has none; "
            "give a number"
        )
    if step < training.warmup_steps:
        return peak * (step + 1) / training.warmup_steps
    progress = (step - training.warmup_steps) / max(1, steps - training.warmup_steps)
    match training.lr_schedule:
        case "linear":
            return peak * (1 - progress)
        case "cosine":
            return peak * 0.5 * (1 + math.cos(math.pi * progress))
        case "constant":
            return peak
