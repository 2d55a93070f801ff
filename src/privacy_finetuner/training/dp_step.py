"""One private step: clip, add, noise, divide, update. The whole of DP-SGD on one page.

Shapes: B examples of a micro-batch. Everything that leaves this function went through
`noise.privatize` with a multiplier that the plan priced.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from privacy_finetuner.training.correlated_noise import CorrelatedNoise
from privacy_finetuner.training.engine import Clip, GradientSource
from privacy_finetuner.training.engine.clipped_gradient import Batch, BatchRecord
from privacy_finetuner.training.noise import GaussianNoise
from privacy_finetuner.training.plan import COUNT_SENSITIVITY, DPTrainingPlan

# A mean of three numbers in [0, 1] each: the vector (loss, accuracy, norm) / sqrt(3) has L2 norm at
# most 1, whatever the example.
_STATISTICS = 3


@dataclass(frozen=True, slots=True)
class StepRelease:
    """What one step made public, noise included. Sums over the batch, not yet divided.

    `below_bound` is the number of gradients within the clip norm, minus half the batch (`None`
    without adaptive clipping). The three statistics are sums of numbers in [0, 1]: loss over the
    loss of a uniform guess, accuracy, and gradient norm over clip norm.
    """

    below_bound: float | None
    loss: float
    accuracy: float
    norm: float


def dp_step(  # noqa: PLR0913 -- the parts of a step, keyword-only but for the first two
    gradient: GradientSource,
    micro_batches: Iterable[Batch],
    *,
    clip: Clip,
    plan: DPTrainingPlan,
    noise: GaussianNoise,
    optimizer: torch.optim.Optimizer,
    loss_cap: float,
    correlated: CorrelatedNoise | None = None,
    witness: Callable[[Sequence[Tensor]], None] | None = None,
) -> StepRelease:
    """Run one private step on one Poisson batch and return what it released.

    Guarantee: the update and the returned figures together are one `plan.mechanism` on the batch.
    An empty batch is a step like any other: noise alone. So is a batch in which no loss is finite:
    nothing about one example, not even that its loss overflowed, can stop a step. A `witness` is
    shown the noisy mean gradient and nothing else: what it makes of it is post-processing.

    Source: Abadi et al. 2016 (arXiv:1607.00133), Algorithm 1; the divisor is the public expected
    batch size, never the size of the batch that was drawn.
    """
    records = []
    try:
        for batch in micro_batches:
            records.append(gradient.add(batch, clip))
    finally:
        bounded = gradient.take(clip)
    if correlated is not None:
        updates = correlated.privatize(noise, bounded.tensors, sensitivity=bounded.sensitivity)
        torch._foreach_div_(updates, plan.expected_batch_size)
    else:
        updates = bounded.tensors
        noise.privatize_(
            updates,
            sensitivity=bounded.sensitivity,
            noise_multiplier=plan.gradient_noise_multiplier,
            divisor=plan.expected_batch_size,
        )
    del bounded
    for parameter, update in zip(gradient.parameters, updates, strict=True):
        parameter.grad = update.to(parameter.dtype)
    if witness is not None:
        # Not the sums themselves: their type tells how many micro-batches they were made in.
        witness(
            [update.to(p.dtype) for p, update in zip(gradient.parameters, updates, strict=True)]
        )
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return _release(records, clip=clip, plan=plan, noise=noise, loss_cap=loss_cap)


def _release(
    records: list[BatchRecord],
    *,
    clip: Clip,
    plan: DPTrainingPlan,
    noise: GaussianNoise,
    loss_cap: float,
) -> StepRelease:
    below_bound = None
    if plan.count_noise_multiplier is not None:
        halves = [torch.where(r.norms_B <= clip.clip_norm, 0.5, -0.5).sum() for r in records]
        (count_1,) = noise.privatize(
            [_total(halves)],
            sensitivity=COUNT_SENSITIVITY,
            noise_multiplier=plan.count_noise_multiplier,
        )
        below_bound = float(count_1)
    loss = accuracy = norm = math.nan
    if plan.statistics_noise_multiplier is not None:
        scale = math.sqrt(_STATISTICS)
        rows = [_statistics(r, clip, loss_cap).sum(dim=0) / scale for r in records]
        (sums_3,) = noise.privatize(
            [_total(rows, _STATISTICS)],
            sensitivity=1.0,
            noise_multiplier=plan.statistics_noise_multiplier,
        )
        loss, accuracy, norm = (float(value) * scale for value in sums_3)
    return StepRelease(below_bound, loss, accuracy, norm)


def _statistics(record: BatchRecord, clip: Clip, loss_cap: float) -> Tensor:
    """[B, 3], every entry in [0, 1] whatever the example."""
    return torch.stack(
        [
            torch.nan_to_num(record.losses_B / loss_cap, nan=1.0).clamp(0.0, 1.0),
            torch.nan_to_num(record.accuracies_B).clamp(0.0, 1.0),
            torch.nan_to_num(record.norms_B / clip.clip_norm, nan=1.0).clamp(0.0, 1.0),
        ],
        dim=1,
    ).double()


def _total(parts: list[Tensor], size: int = 1) -> Tensor:
    if not parts:
        return torch.zeros(size, dtype=torch.float64)
    return torch.stack([part.double().reshape(size).cpu() for part in parts]).sum(dim=0)
