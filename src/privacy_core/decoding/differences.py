"""What a node computes from its records: the sum of their clipped differences, in whole steps.

Source: Vinod, Pillutla and Thakurta 2025 (arXiv:2507.02974), "DClip"; the steps are ours.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from privacy_core.decoding.terms import GRID, SLOTS_MAX
from privacy_core.errors import InvalidParameter

Logits: TypeAlias = npt.NDArray[np.float32]
Sums: TypeAlias = npt.NDArray[np.int32]

# Arrays: a Python number is converted anew in each call, which takes as long as the comparison.
_TOP: Final = np.array(GRID, dtype=np.float32)
_BOTTOM: Final = np.array(-GRID, dtype=np.float32)


def clipped_sum(
    private: Logits,  # [slots, K]
    public: Logits,  # [K]
    clip: float,
) -> Sums:  # [K]
    """The sum over slots of clip(private - public, -C, C), in steps of C / GRID.

    Guarantee: each slot adds whole numbers within [-GRID, GRID], which depend on its own row alone.
    So the sum moves by at most 2 GRID at each candidate when a row is exchanged and by at most GRID
    when it becomes an empty slot, *exactly*: neither float rounding nor the order of the sum adds
    to it. Rounding to steps moves a slot's difference by at most C / (2 GRID).

    =====================  ==============================================
    private logit          adds
    =====================  ==============================================
    NaN                    0: a broken row is an empty slot at this token
    +inf, -inf             GRID, -GRID
    no row at all          0: an empty slot needs no row
    =====================  ==============================================

    Args:
        private: logits with each record in the context, at the candidates.
        public: the public logits at the same candidates, as the router sent them.
        clip: C in nats, > 0.

    Raises:
        InvalidParameter: shapes do not fit, a public logit is not finite, or `clip` is not a
            finite number > 0. Of private logits no value is refused: that would tell.
    """
    if private.ndim != 2 or public.shape != private.shape[1:] or len(private) > SLOTS_MAX:
        raise InvalidParameter(
            "private",
            found=f"shapes {private.shape} and {public.shape}",
            expected=f"[slots, K] and [K], at most {SLOTS_MAX} slots",
        )
    if not 0 < clip < np.inf:
        raise InvalidParameter("clip", found=clip, expected="a finite number > 0")
    if not np.logical_and.reduce(np.isfinite(public)):
        raise InvalidParameter("public", found="one that is not finite", expected="finite logits")
    # Warnings would tell of the records: an overflow becomes an infinity, which is clipped.
    with np.errstate(over="ignore", invalid="ignore"):
        steps: npt.NDArray[Any] = np.subtract(private, public)
        steps *= GRID / clip
    np.minimum(steps, _TOP, out=steps)
    np.maximum(steps, _BOTTOM, out=steps)
    np.rint(steps, out=steps)
    steps[np.isnan(steps)] = 0
    total: Sums = np.add.reduce(steps.astype(np.int32), axis=0, dtype=np.int32)
    return total
