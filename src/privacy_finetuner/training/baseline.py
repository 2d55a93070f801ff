"""Ordinary fine-tuning, for comparison only: no clipping, no noise, no guarantee of any kind.

The demo and the benchmarks show with it what privacy costs and what its absence leaks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from privacy_finetuner.config import TrainingConfig, steps_of
from privacy_finetuner.training.datasets import TokenizedDataset
from privacy_finetuner.training.evaluation import objective_of
from privacy_finetuner.training.models import LoadedModel
from privacy_finetuner.training.optimizers import make_optimizer
from privacy_finetuner.training.sampling import PoissonSampler
from privacy_finetuner.training.update import learning_rate
from privacy_runtime.keystream import KeyStream
from privacy_runtime.world import Entropy


def fine_tune_without_privacy(
    loaded: LoadedModel,
    dataset: TokenizedDataset,
    training: TrainingConfig,
    *,
    entropy: Entropy,
    micro_batch_tokens: int = 4096,
    on_step: Callable[[int, int], None] | None = None,
) -> None:
    """Fine-tune in place on the mean loss of Poisson batches, as `loop.steps` would without DP.

    Args:
        loaded: the model; changed in place.
        dataset: the records.
        training: epochs, batch size, learning rate, optimizer, schedule.
        entropy: where the batches are drawn from.
        micro_batch_tokens: padded tokens of one physical pass.
        on_step: called with (step, steps) after every step.
    """
    rate = min(1.0, training.batch_size / len(dataset))
    sampler = PoissonSampler(len(dataset), rate, KeyStream.fresh(entropy))
    objective = objective_of(loaded, dataset)
    parameters = [p for p in loaded.model.parameters() if p.requires_grad]
    optimizer = make_optimizer(training, parameters)
    steps = steps_of(training.epochs, rate)
    loaded.model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(training, step=step, steps=steps)
        drawn = sampler.draw()
        for piece in dataset.micro_batches(drawn, max_tokens=micro_batch_tokens):
            batch = {name: t.to(loaded.device) for name, t in dataset.batch(piece).items()}
            losses_B, _ = objective(loaded.model, batch)
            (losses_B.sum() / max(1, len(drawn))).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if on_step is not None:
            on_step(step + 1, steps)
