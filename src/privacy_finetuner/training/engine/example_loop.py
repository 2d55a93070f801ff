"""The plain way: one example at a time, ordinary autograd, clip, add. Exact for every model.

Used where no rule covers a model (an unusual layer, parameters outside any layer). It is slower by
about the micro-batch size, and the run says so. Layers that mix examples are still refused: alone,
an example would get another gradient than the one its neighbours' presence leaves it with.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from privacy_finetuner.training.engine.clipped_gradient import (
    Batch,
    BatchRecord,
    PerExampleLoss,
    layers_of,
)
from privacy_finetuner.training.engine.clipping import Clip
from privacy_finetuner.training.engine.coverage import refuse_mixing
from privacy_finetuner.training.engine.running_sum import BoundedSum, RunningSum


class ExampleLoop:
    """Same contract as `ClippedGradient`, for any model whose layers do not mix examples.

    Guarantee and edge cases: as `ClippedGradient`.

    Raises:
        UnsupportedLayer: a layer mixes the examples of a batch.
    """

    def __init__(self, model: nn.Module, loss: PerExampleLoss) -> None:
        refuse_mixing(model)
        self.model = model
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self._loss = loss
        self._layers = layers_of(model)
        self._sum = RunningSum(self.parameters)

    @property
    def kinds(self) -> Mapping[str, str]:
        """One rule for the whole model."""
        return {"model": "example loop"}

    def add(self, batch: Batch, clip: Clip) -> BatchRecord:
        """Add the clipped gradients of one micro-batch to the sum."""
        losses, accuracies, norms = [], [], []
        for i in range(next(iter(batch.values())).shape[0]):
            single = {name: values[i : i + 1] for name, values in batch.items()}
            losses_B, accuracies_B = self._loss(self.model, single)
            norms.append(self._add_one(losses_B, clip))
            losses.append(losses_B.detach())
            accuracies.append(accuracies_B.detach())
        return BatchRecord(torch.cat(losses), torch.cat(accuracies), torch.cat(norms))

    def take(self, clip: Clip) -> BoundedSum:
        """Hand over the sum of everything added since the last call; zeros when nothing was."""
        return self._sum.take(clip)

    def close(self) -> None:
        """Nothing to take off the model."""

    def _add_one(self, loss: Tensor, clip: Clip) -> Tensor:
        gradients = torch.autograd.grad(loss.sum(), self.parameters, allow_unused=True)
        found = [(i, g) for i, g in enumerate(gradients) if g is not None]
        squares_K1 = loss.new_zeros(len(set(self._layers.values())) or 1, 1, dtype=torch.float32)
        for index, gradient in found:
            squares_K1[self._layer_of(index)] += gradient.float().square().sum()
        factors = clip.layer_factors(squares_K1).flatten().tolist()

        def contribute(targets: list[Tensor]) -> None:
            for index, gradient in found:
                # Zero times infinity would be NaN.
                if factor := factors[self._layer_of(index)]:
                    targets[index].add_(gradient, alpha=factor)

        if any(factors):
            self._sum.add(clip, contribute)
        return squares_K1.sum(dim=0).sqrt()

    def _layer_of(self, index: int) -> int:
        return self._layers[self.parameters[index]]
