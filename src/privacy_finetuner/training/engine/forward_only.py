"""Zeroth-order private training: two forward passes a direction, no backward pass.

A random direction z is drawn without looking at the data. Each example tells by how much its loss
differs between the weights moved along +z and along -z; these numbers are clipped, added, noised,
and the weights move along z by the noisy mean. What private data touches is a handful of numbers a
step, not a gradient: no activations are kept, and the noise is on those numbers alone.

Directions are public. They come from a key of their own, never from the stream of the noise.

Shapes: B examples, K directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from privacy_core.errors import InvalidParameter
from privacy_finetuner.training.engine.clipped_gradient import (
    Batch,
    BatchRecord,
    PerExampleLoss,
)
from privacy_finetuner.training.engine.clipping import Clip
from privacy_finetuner.training.engine.coverage import refuse_mixing
from privacy_finetuner.training.engine.running_sum import BoundedSum, RunningSum
from privacy_runtime.world import Entropy

_SEED_BYTES: Final = 7  # a torch generator takes 63 bits; the direction is public, so no secret


class ForwardOnly:
    """Collects clipped slopes along public directions. Contract of `GradientSource`.

    `parameters` is one vector of K numbers: the step along each direction. Its "gradient" is the
    mean slope; `DirectionalStep` turns that into a move of the weights.

    Guarantee: the tensor of `take()` changes by at most `clip_norm` in L2 when one example is added
    or removed. It is priced as what it is: one Gaussian release of K numbers, of any K.

    The model runs in evaluation mode: with dropout, both ends of a slope would see other masks.
    After every micro-batch the weights are put back from a copy, bit for bit: moved to and fro in
    float32 they would not return, and what is left behind would tell how many micro-batches there
    were. The copy is of the trained weights, and lives while a micro-batch does.

    Args:
        model: any module whose layers do not mix examples.
        loss: per-example loss.
        entropy: where the directions come from.
        directions: K >= 1, drawn anew for every step.
        perturbation: how far the weights move to either side, > 0; relative to z with unit
            variance in every coordinate.

    Raises:
        InvalidParameter: a number is outside its domain.
        UnsupportedLayer: a layer mixes examples.

    Source: Zhang et al. 2024, "DPZero" (arXiv:2310.09639), Algorithm 2; Tang et al. 2024, "Private
    Fine-tuning with Zeroth-order Optimization" (arXiv:2401.04343), Algorithm 1; Malladi et al. 2023
    (arXiv:2305.17333) for drawing a direction again from its seed instead of keeping it.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: PerExampleLoss,
        entropy: Entropy,
        *,
        directions: int = 1,
        perturbation: float = 1e-3,
    ) -> None:
        if directions < 1:
            raise InvalidParameter("directions", found=directions, expected="a whole number >= 1")
        if not perturbation > 0:
            raise InvalidParameter("perturbation", found=perturbation, expected="a number > 0")
        refuse_mixing(model)
        self.model = model
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self.parameters = [nn.Parameter(torch.zeros(directions, device=self.weights[0].device))]
        self._loss = loss
        self._entropy = entropy
        self._perturbation = perturbation
        self._sum = RunningSum(self.parameters)
        self._seeds = self._fresh_seeds(directions)

    def add(self, batch: Batch, clip: Clip) -> BatchRecord:
        """Add the clipped slopes of one micro-batch, along the directions of this step.

        An example with a slope that is not finite contributes zero.
        """
        was_training = self.model.training
        self.model.eval()
        held = [weight.detach().clone() for weight in self.weights]
        try:
            with torch.no_grad():
                slopes_BK, losses_B, accuracies_B = self._slopes(batch, held)
                norms_B = torch.linalg.vector_norm(slopes_BK, dim=1)
                factors_B = clip.factors(norms_B)
                bounded_BK = torch.nan_to_num(slopes_BK, nan=0.0, posinf=0.0, neginf=0.0)

                def contribute(targets: list[Tensor]) -> None:
                    targets[0].add_(factors_B @ bounded_BK)

                self._sum.add(clip, contribute)
        finally:
            self._put_back(held)
            self.model.train(was_training)
        return BatchRecord(losses_B, accuracies_B, norms_B)

    def take(self, clip: Clip) -> BoundedSum:
        """Hand over the sum of slopes; zeros when nothing was added."""
        return self._sum.take(clip)

    def close(self) -> None:
        """Nothing to take off the model."""

    @torch.no_grad()
    def move(self, along: Sequence[float]) -> None:
        """Move the weights by `along[k]` times direction k, for every k."""
        for seed, distance in zip(self._seeds, along, strict=True):
            generator = torch.Generator().manual_seed(seed)
            for weight in self.weights:
                direction = torch.empty(weight.shape, dtype=torch.float32)
                direction.normal_(generator=generator)
                weight.add_(direction.to(weight.device, weight.dtype), alpha=distance)

    def turn(self) -> None:
        """Draw the directions of the next step."""
        self._seeds = self._fresh_seeds(len(self._seeds))

    @torch.no_grad()
    def _put_back(self, held: Sequence[Tensor]) -> None:
        for weight, kept in zip(self.weights, held, strict=True):
            weight.copy_(kept)

    def _slopes(self, batch: Batch, held: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        count = len(self._seeds)
        columns: list[Tensor] = []
        losses_B = accuracies_B = torch.zeros(0)
        for k in range(count):
            there = [self._perturbation if i == k else 0.0 for i in range(count)]
            self.move(there)
            above_B, accuracies_B = self._loss(self.model, batch)
            self.move([-2 * distance for distance in there])
            below_B, _ = self._loss(self.model, batch)
            self._put_back(held)
            losses_B = (above_B + below_B) / 2
            columns.append((above_B - below_B) / (2 * self._perturbation))
        return torch.stack(columns, dim=1).float(), losses_B, accuracies_B

    def _fresh_seeds(self, count: int) -> list[int]:
        return [int.from_bytes(self._entropy.token_bytes(_SEED_BYTES)) for _ in range(count)]


class DirectionalStep(torch.optim.Optimizer):
    """Moves the weights of a `ForwardOnly` against its noisy slopes, then turns.

    Each move is `-lr / K` times the noisy mean slope along each of the K directions. It keeps no
    state: moments along directions that are drawn anew would mean nothing.
    """

    def __init__(self, source: ForwardOnly, lr: float) -> None:
        super().__init__(source.parameters, {"lr": lr})
        self._source = source

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # returns no loss
        """Move and turn."""
        if closure is not None:
            raise InvalidParameter("closure", found="a function", expected="none: it is not priced")
        (group,) = self.param_groups
        (slopes,) = group["params"]
        if slopes.grad is not None:
            rate = group["lr"] / len(slopes)
            self._source.move([-rate * slope for slope in slopes.grad.tolist()])
            self._source.turn()
