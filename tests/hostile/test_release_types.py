"""What is released must not tell how the sum was made: one micro-batch, several, or none.

A sum is float32 after one micro-batch and float64 after two. The same lattice point must become the
same number, or the last bits of a noisy gradient say which it was: that is private, and has no
noise.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from privacy_core.mechanisms.matrix_factorization import BandedToeplitz, BufferedToeplitz
from privacy_finetuner.training.correlated_noise import CorrelatedNoise
from privacy_finetuner.training.dp_step import dp_step
from privacy_finetuner.training.engine import Clip
from privacy_finetuner.training.engine.clipped_gradient import Batch, BatchRecord
from privacy_finetuner.training.engine.running_sum import BoundedSum, RunningSum
from privacy_finetuner.training.noise import GaussianNoise
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_runtime.testing import SeededEntropy

COORDINATES = 3000


class Nothing:
    """A gradient source whose examples have no gradient: only how often it is called differs."""

    def __init__(self) -> None:
        self.parameters = [torch.nn.Parameter(torch.zeros(COORDINATES))]
        self._sum = RunningSum(self.parameters)

    def add(self, batch: Batch, clip: Clip) -> BatchRecord:
        self._sum.add(clip, lambda _: None)
        return BatchRecord(*(torch.zeros(0) for _ in range(3)))

    def take(self, clip: Clip) -> BoundedSum:
        return self._sum.take(clip)

    def close(self) -> None:
        """Nothing to do."""


def plan_with(correlation: BandedToeplitz | BufferedToeplitz | None) -> DPTrainingPlan:
    return DPTrainingPlan(
        examples=240,
        expected_batch_size=24,
        steps=6,
        steps_asked=6,
        noise_multiplier=1.0,
        gradient_noise_multiplier=1.1,
        count_noise_multiplier=None,
        statistics_noise_multiplier=None,
        clip_norm=0.3,
        clip_rule="bound",
        delta=1e-5,
        accountant="pld",
        sampler="poisson" if correlation is None else "cyclic_poisson",
        groups=1 if correlation is None else 2,
        correlation=correlation,
    )


def update_after(pieces: int, plan: DPTrainingPlan) -> Tensor:
    """The weights after two steps of so many micro-batches each, all of them empty-handed."""
    source, noise = Nothing(), GaussianNoise.secure(SeededEntropy(3))
    correlated = (
        CorrelatedNoise(plan.correlation, plan.fresh_noise_multiplier) if plan.correlation else None
    )
    for _ in range(2):
        dp_step(
            source,
            [{"input_ids": torch.zeros(1, 1)}] * pieces,
            clip=Clip(plan.clip_norm),
            plan=plan,
            noise=noise,
            optimizer=torch.optim.SGD(source.parameters, lr=1.0),
            loss_cap=1.0,
            correlated=correlated,
        )
    return source.parameters[0].detach()


@pytest.mark.parametrize(
    "correlation",
    [None, BandedToeplitz((1.0, 0.5)), BufferedToeplitz((0.9,), (0.5,))],
    ids=["independent", "banded", "buffered"],
)
def test_the_number_of_micro_batches_does_not_show_in_the_last_bits(
    correlation: BandedToeplitz | BufferedToeplitz | None,
) -> None:
    plan = plan_with(correlation)
    none, *others = (update_after(pieces, plan) for pieces in (0, 1, 2, 3))

    assert bool((none != 0).all())
    assert all(torch.equal(none, other) for other in others)
