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
        """
        tiny = torch.finfo(norms_B.dtype).tiny
        if self.rule is ClipRule.NORMALISE:
            factors_B = self.clip_norm / (norms_B + _STABILISER * self.clip_norm)
        else:
            factors_B = (self.clip_norm / norms_B.clamp(min=tiny)).clamp(max=1.0)
        is_usable_B = torch.isfinite(norms_B) & (factors_B >= tiny)
        return torch.where(is_usable_B, factors_B, torch.zeros_like(norms_B))
