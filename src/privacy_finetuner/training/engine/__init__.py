"""Per-example clipping in one forward and one backward pass.

`make_gradient` is the door: give it a model, a per-example loss and a public probe. Behind it:
`tap` catches what a layer saw and what came back, `rules` turns the two into norms and sums,
`coverage` finds a rule for every trainable parameter, `clipped_gradient` runs them,
`verification` compares the result with a plain loop over examples on the very model at hand, and
`example_loop` is that loop, for models without rules.

What a step holds in memory. At its peak at most what the same step without privacy holds at its
own, plus

==================================================  ===============================================
of each linear layer and look-up                    its input [B, T, D] and the gradient of its
                                                    output [B, T, P], or the gradients of the
                                                    examples [B, D, P] where they are smaller
of each bias and scale of N numbers                 [B, N] in float32
of the layer whose norm is being taken              three pieces of at most `rules.PIECE_NUMBERS`
                                                    numbers, and [B, T, D] and [B, T, P] in float32
                                                    where they are narrower
of each weight, from the second micro-batch on      8 bytes: sums are added in float64
==================================================  ===============================================

There is never a [B, V, D] of an embedding, nor a [B, D, P] larger than a layer's own activations.
Modules without a rule of their own (`own_forward`) hold a copy of their weights for each example;
`example_loop` holds one gradient. `max_memory_gb` measures instead of trusting any of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from privacy_finetuner.errors import UnsupportedLayer
from privacy_finetuner.training.engine.clipped_gradient import (
    Batch,
    BatchRecord,
    ClippedGradient,
    PerExampleLoss,
)
from privacy_finetuner.training.engine.clipping import Clip, ClipRule
from privacy_finetuner.training.engine.coverage import refuse_mixing
from privacy_finetuner.training.engine.example_loop import ExampleLoop
from privacy_finetuner.training.engine.padding import refuse_company, refuse_padding_readers
from privacy_finetuner.training.engine.running_sum import BoundedSum
from privacy_finetuner.training.engine.verification import TOLERANCE, verify_against_loop

__all__ = [
    "BatchRecord",
    "BoundedSum",
    "Clip",
    "ClipRule",
    "ClippedGradient",
    "ExampleLoop",
    "GradientSource",
    "make_gradient",
    "verify_against_loop",
]


class GradientSource(Protocol):
    """What the private step asks of an engine."""

    parameters: list[nn.Parameter]

    def add(self, batch: Batch, clip: Clip) -> BatchRecord:
        """Add the clipped gradients of one micro-batch."""
        ...

    def take(self, clip: Clip) -> BoundedSum:
        """Hand over the sum and start a new one."""
        ...

    def close(self) -> None:
        """Leave the model as it was."""
        ...


def make_gradient(
    model: nn.Module, loss: PerExampleLoss, probe: Batch, *, bfloat16_width: int | None = None
) -> tuple[GradientSource, str]:
    """Choose the fastest engine that is exact on this model, and say which and why.

    Guarantee: the engine returned was compared with a loop over examples on `probe`, or is that
    loop. Falling back costs time, never the bound.

    Args:
        model: what is trained; what it marks `requires_grad`.
        loss: per-example loss.
        probe: public inputs of at least two examples.
        bfloat16_width: the loss takes activations in bfloat16, in batches of this public width.

    Raises:
        UnsupportedLayer: a layer mixes the examples of a batch, reads their padding, or keeps what
            it saw in a buffer; no engine can bound it.
    """
    refuse_mixing(model)
    tolerance = None
    if bfloat16_width is None:
        refuse_padding_readers(model, loss, probe)
    else:
        refuse_company(model, loss, probe, bfloat16_width)
        tolerance = TOLERANCE[torch.bfloat16]
    gradient: ClippedGradient | None = None
    try:
        gradient = ClippedGradient(model, loss)
        error = verify_against_loop(gradient, loss, probe, tolerance=tolerance)
        before = _rehearse(gradient, model, probe)
    except UnsupportedLayer as reason:
        if gradient is not None:
            gradient.close()
        slow = ExampleLoop(model, loss)
        _refuse_memory(model, _rehearse(slow, model, probe))
        return slow, f"example loop (slow): {reason}"
    try:
        _refuse_memory(model, before)
    except UnsupportedLayer:
        gradient.close()
        raise
    return gradient, f"one backward pass, verified to {error:.1g} against a loop over examples"


def _rehearse(gradient: GradientSource, model: nn.Module, probe: Batch) -> dict[str, Tensor]:
    """Run one pass as training will, dropout on; returns the buffers as they were before it."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    was_training, clip = model.training, Clip(1.0)
    model.train()
    try:
        gradient.add(probe, clip)
    finally:
        gradient.take(clip)
        model.train(was_training)
    return before


def _refuse_memory(model: nn.Module, before: Mapping[str, Tensor]) -> None:
    """Refuse a model that writes what it saw into a buffer: it would be saved without noise."""
    for name, buffer in model.named_buffers():
        if name in before and not torch.equal(buffer, before[name]):
            raise UnsupportedLayer(
                name, "buffer", "it changes with the data it sees, and would leave without noise"
            )
