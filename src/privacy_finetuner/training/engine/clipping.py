"""How much of each example's gradient enters the sum.

Shapes: B examples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from privacy_core.errors import InvalidParameter


class ClipRule(StrEnum):
    """What happens to a gradient before it is added."""

    BOUND = "bound"
    """Scaled down to norm `clip_norm` when it is longer (Abadi et al. 2016, Algorithm 1)."""

    NORMALISE = "normalise"
    """Scaled to just below norm `clip_norm`, long or short (Bu et al. 2023, AUTO-S)."""

    BOUND_LAYERS = "bound_layers"
    """Each of K layers scaled down to `clip_norm / sqrt(K)` by itself: together at most
    `clip_norm`, the root of the sum of their squares (McMahan et al. 2018, arXiv:1710.06963)."""


# Bu et al. 2023 (arXiv:2206.07136), section 3.3: the stabiliser keeps the direction of short
# gradients from being blown up. It is relative to the clip norm here.
_STABILISER = 0.01


CLIP_NORM_LEAST = 1e-12
"""Squares of much smaller norms are zero in float32, and a norm of zero is never clipped."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A clipping rule with its bound: every example contributes at most `clip_norm` in L2."""

    clip_norm: float
    rule: ClipRule = ClipRule.BOUND

    def __post_init__(self) -> None:
        if not CLIP_NORM_LEAST <= self.clip_norm < math.inf:
            raise InvalidParameter(
                "clip_norm",
                found=self.clip_norm,
                expected=f"a finite number >= {CLIP_NORM_LEAST:g}",
            )

    def layer_factors(self, squares_KB: Tensor) -> Tensor:
        """Return the factor [K, B] of each layer of each example's gradient.

        Guarantee: the root of `sum_k (factors[k] * norms[k])^2` is at most `clip_norm` for every
        example. For rules that take a gradient as a whole all K factors of an example are alike. An
        example with a layer that is not finite gets zeros for all.

        Args:
            squares_KB: squared norm of each layer's part of each example's gradient.
        """
        if self.rule is not ClipRule.BOUND_LAYERS:
            return self.factors(squares_KB.sum(dim=0).sqrt()).expand_as(squares_KB)
        of_one = Clip(self.clip_norm / math.sqrt(len(squares_KB)))
        is_usable_B = torch.isfinite(squares_KB).all(dim=0)
        factors_KB = of_one.factors(squares_KB.sqrt())
        return torch.where(is_usable_B, factors_KB, torch.zeros_like(factors_KB))

    def factors(self, norms_B: Tensor) -> Tensor:
        """Return the factor of each example's gradient.

        Guarantee: `factors(norms) * norms <= clip_norm` for every example.

        ========================  ======
        a norm that is            factor
        ========================  ======
        zero                      finite
        infinite or NaN           zero
        so large that the factor  zero: such a number has too few digits to keep the bound
        is subnormal
        ========================  ======

        Raises:
            InvalidParameter: the rule is `BOUND_LAYERS`, which takes the norm of every layer.
        """
        if self.rule is ClipRule.BOUND_LAYERS:
            raise InvalidParameter("rule", found=self.rule.value, expected="one of whole gradients")
        tiny = torch.finfo(norms_B.dtype).tiny
        if self.rule is ClipRule.NORMALISE:
            factors_B = self.clip_norm / (norms_B + _STABILISER * self.clip_norm)
        else:
            factors_B = (self.clip_norm / norms_B.clamp(min=tiny)).clamp(max=1.0)
        is_usable_B = torch.isfinite(norms_B) & (factors_B >= tiny)
        return torch.where(is_usable_B, factors_B, torch.zeros_like(norms_B))
