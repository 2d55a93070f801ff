"""Adding micro-batches so that rounding stays inside the margin that the noise covers.

The sum of one micro-batch is formed in the parameters' type. From the second on, sums are added in
float64: in float32, a hundred micro-batches of gradients that all point one way would lose more
than `noise.ROUNDING_MARGIN` holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from privacy_core.errors import InvalidParameter
from privacy_finetuner.training.engine.clipping import Clip


@dataclass(frozen=True, slots=True)
class BoundedSum:
    """A sum that carries its bound: one example changes it by at most `sensitivity` in L2."""

    tensors: list[Tensor]
    sensitivity: float


class RunningSum:
    """The clipped sum of a logical batch, one micro-batch after the other."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters
        self._sums: list[Tensor] | None = None
        self._clip: Clip | None = None

    def add(self, clip: Clip, contribute: Callable[[list[Tensor]], None]) -> None:
        """Let `contribute` add its part, clipped by `clip`, to zeros of the parameters' shapes.

        Raises:
            InvalidParameter: an earlier part of this sum was clipped otherwise; nothing was added.
        """

        def made() -> list[Tensor]:
            part = self._zeros()
            contribute(part)
            return part

        self.add_made(clip, made)

    def add_made(self, clip: Clip, make: Callable[[], list[Tensor]]) -> None:
        """Add the part that `make` returns, clipped by `clip`: one new tensor for each parameter.

        Raises:
            InvalidParameter: an earlier part of this sum was clipped otherwise; nothing was added.
        """
        self._require_same(clip)
        part = make()
        self._clip = clip
        if self._sums is None:
            self._sums = part
            return
        if self._sums[0].dtype != torch.float64 and part[0].device.type != "mps":
            self._sums = [total.double() for total in self._sums]
        torch._foreach_add_(self._sums, part)

    def take(self, clip: Clip) -> BoundedSum:
        """Hand over the sum and start a new one; zeros when nothing was added.

        Raises:
            InvalidParameter: `clip` is not what the parts were clipped by.
        """
        self._require_same(clip)
        sums = self._zeros() if self._sums is None else self._sums
        self.drop()
        return BoundedSum(sums, clip.clip_norm)

    def drop(self) -> None:
        """Forget everything added."""
        self._sums, self._clip = None, None

    def _zeros(self) -> list[Tensor]:
        return [torch.zeros_like(p, requires_grad=False) for p in self._parameters]

    def _require_same(self, clip: Clip) -> None:
        if self._clip is not None and clip != self._clip:
            raise InvalidParameter(
                "clip", found=clip, expected=f"{self._clip}, as for the earlier parts of this sum"
            )
