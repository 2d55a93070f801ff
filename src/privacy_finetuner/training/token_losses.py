"""Cross-entropy of every token, with one tensor of the size of the logits instead of three.

`functional.cross_entropy` keeps the logarithms of all probabilities for the backward pass, and
there makes a tensor of zeros and a gradient of the same size. With a large vocabulary these are the
largest tensors of a step. Here the logits are kept, a few rows at a time go through the cache, and
the backward pass makes the gradient alone.

Shapes: N tokens, V classes, R rows of one block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Numbers of one block: 4 MiB in float32, what a cache holds.
_BLOCK_NUMBERS: Final = 2**20


def token_scores(logits_NV: Tensor, targets_N: Tensor, *, ignored: int) -> tuple[Tensor, Tensor]:
    """Return each token's cross-entropy in float32 and whether its likeliest class is the target.

    ==================  =======================================
    a token             gets
    ==================  =======================================
    whose target is     loss 0, no hit, and a gradient of zero,
    `ignored`           whatever its logits
    ==================  =======================================

    Args:
        logits_NV: floating-point logits; bfloat16 and float16 are computed in float32.
        targets_N: class numbers in [0, V), or `ignored`.
        ignored: the target that means none.

    Source: as `torch.nn.functional.cross_entropy` with `reduction="none"`.
    """
    scores: tuple[Tensor, Tensor] = _TokenScores.apply(  # type: ignore[no-untyped-call]
        logits_NV, targets_N, ignored
    )
    return scores


class _TokenScores(torch.autograd.Function):
    """The computation of `token_scores`, and its gradient."""

    @staticmethod
    def forward(
        ctx: Any, logits_NV: Tensor, targets_N: Tensor, ignored: int
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(logits_NV, targets_N)
        ctx.ignored = ignored
        losses_N = logits_NV.new_zeros(len(logits_NV), dtype=torch.float32)
        hits_N = torch.zeros_like(targets_N, dtype=torch.bool)
        for rows in _blocks(logits_NV):
            counted_R = targets_N[rows] != ignored
            column_R1 = targets_N[rows].where(counted_R, 0).unsqueeze(1)
            block_RV = logits_NV[rows].float()
            hits_N[rows] = (block_RV.argmax(dim=1) == targets_N[rows]) & counted_R
            found_R = torch.log_softmax(block_RV, dim=1).gather(1, column_R1).squeeze(1)
            losses_N[rows] = torch.where(counted_R, -found_R, 0.0)
        ctx.mark_non_differentiable(hits_N)
        return losses_N, hits_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        logits_NV, targets_N = ctx.saved_tensors
        gradient_NV = torch.empty_like(logits_NV)
        for rows in _blocks(logits_NV):
            counted_R1 = (targets_N[rows] != ctx.ignored).unsqueeze(1)
            weights_R1 = gradients[0][rows].float().unsqueeze(1)
            column_R1 = targets_N[rows].unsqueeze(1).where(counted_R1, 0)
            block_RV = gradient_NV[rows].float()  # the place itself, where the types are equal
            torch.softmax(logits_NV[rows].float(), dim=1, out=block_RV)
            block_RV.mul_(weights_R1).scatter_add_(1, column_R1, -weights_R1)
            if not bool(counted_R1.all()):
                block_RV.masked_fill_(~counted_R1, 0.0)
            if block_RV.dtype != gradient_NV.dtype:
                gradient_NV[rows] = block_RV
        return gradient_NV, None, None


def _blocks(logits_NV: Tensor) -> Iterator[slice]:
    count, classes = logits_NV.shape
    rows = max(1, _BLOCK_NUMBERS // classes)
    return (slice(start, start + rows) for start in range(0, count, rows))
