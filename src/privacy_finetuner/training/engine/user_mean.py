"""User-level sampling: the mean gradient of a user's examples is clipped as a whole.

Where examples are sampled and a user owns up to k of them (ELS), the noise has to cover k clipped
gradients. Where users are sampled (ULS), a user contributes one clipped vector, whatever k is, and
the price is that of DP-SGD with users in the place of examples.

A user's mean needs no per-example gradient at all: it is one ordinary backward pass per user.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from privacy_finetuner.training.engine.clipped_gradient import (
    Batch,
    BatchRecord,
    PerExampleLoss,
)
from privacy_finetuner.training.engine.clipping import Clip
from privacy_finetuner.training.engine.coverage import refuse_mixing
from privacy_finetuner.training.engine.running_sum import BoundedSum, RunningSum

USER: str = "user"
"""Key of a batch: the number of the user who owns each row, shape [B]."""


class UserMean:
    """Collects clipped means of users' gradients. Contract of `GradientSource`, with users as rows.

    Guarantee: the tensors of `take()` change by at most `clip_norm` in L2 when one user with all
    examples is added or removed, provided that all rows of a user come in one call of `add`.

    ==============================  ============================================================
    a user whose                    contributes
    ==============================  ============================================================
    mean gradient is zero           zero
    mean gradient is not finite     zero; it is not counted, the count would be private
    gradient is not finite          zero: one bad row takes its whole user out
    ==============================  ============================================================

    Args:
        model: any module whose layers do not mix the rows of a batch.
        loss: per-example loss.
        piece_tokens: padded tokens of one physical pass; a user above it takes several.

    Raises:
        UnsupportedLayer: a layer mixes examples.

    Source: Charles et al. 2024 (arXiv:2407.07737), Algorithm 2 (DP-SGD-ULS).
    """

    def __init__(self, model: nn.Module, loss: PerExampleLoss, *, piece_tokens: int = 4096) -> None:
        refuse_mixing(model)
        self.model = model
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self._loss = loss
        self._piece_tokens = piece_tokens
        self._sum = RunningSum(self.parameters)

    def add(self, batch: Batch, clip: Clip) -> BatchRecord:
        """Add the clipped mean gradients of the users in a batch, one record row a user.

        Without the key `user` every row is a user.
        """
        rows = next(iter(batch.values())).shape[0]
        owners_B = batch[USER] if USER in batch else torch.arange(rows)
        inputs = {name: values for name, values in batch.items() if name != USER}
        losses, accuracies, norms = [], [], []
        for owner in sorted(set(owners_B.tolist())):
            chosen = (owners_B == owner).nonzero().flatten()
            loss, accuracy, gradients = self._mean({n: v[chosen] for n, v in inputs.items()})
            losses.append(loss)
            accuracies.append(accuracy)
            norms.append(self._add_one(gradients, clip))
        if not norms:
            nothing = torch.zeros(0)
            return BatchRecord(nothing, nothing, nothing)
        return BatchRecord(torch.stack(losses), torch.stack(accuracies), torch.cat(norms))

    def take(self, clip: Clip) -> BoundedSum:
        """Hand over the sum of everything added since the last call; zeros when nothing was."""
        return self._sum.take(clip)

    def close(self) -> None:
        """Nothing to take off the model."""

    def _mean(self, owned: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Mean loss, accuracy and gradient of one user's rows."""
        count = next(iter(owned.values())).shape[0]
        total = [torch.zeros_like(p, dtype=torch.float32) for p in self.parameters]
        loss, accuracy = total[0].new_zeros(()), total[0].new_zeros(())
        for piece in self._pieces(owned, count):
            losses_B, accuracies_B = self._loss(self.model, piece)
            found = torch.autograd.grad(losses_B.sum(), self.parameters, allow_unused=True)
            for target, gradient in zip(total, found, strict=True):
                if gradient is not None:
                    target.add_(gradient, alpha=1 / count)
            loss += losses_B.detach().sum() / count
            accuracy += accuracies_B.detach().sum() / count
        return loss, accuracy, total

    def _pieces(self, owned: Mapping[str, Tensor], count: int) -> Iterator[dict[str, Tensor]]:
        width = max(values.shape[1] if values.ndim > 1 else 1 for values in owned.values())
        rows = max(1, self._piece_tokens // max(1, width))
        for start in range(0, count, rows):
            yield {name: values[start : start + rows] for name, values in owned.items()}

    def _add_one(self, gradients: list[Tensor], clip: Clip) -> Tensor:
        norm_1 = torch.stack([g.square().sum() for g in gradients]).sum().sqrt().view(1)
        factor = clip.factors(norm_1).item()

        def contribute(targets: list[Tensor]) -> None:
            for target, gradient in zip(targets, gradients, strict=True):
                target.add_(gradient, alpha=factor)

        if factor:
            self._sum.add(clip, contribute)
        return norm_1
