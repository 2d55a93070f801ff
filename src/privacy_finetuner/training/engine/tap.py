"""Taps: what went into a layer, and what came back to its output.

A tap is the identity on a layer's output. In the backward pass it hands the layer's input and the
gradient of its output to the layer's rule. The private weights themselves are frozen while the
model runs, so autograd never forms a batch gradient of a weight: that saves a third of the
backward pass, and no unclipped gradient ever exists.

Saved inputs go through `save_for_backward`, so activation checkpointing sees and recomputes them.

Shapes: B examples, T positions (all dimensions between the first and the last), D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from privacy_finetuner.errors import UnsupportedLayer

Record = Callable[[Tensor, Tensor], None]
"""Takes a layer's input and the gradient of its output, both with B examples first."""


class _Tap(torch.autograd.Function):
    """The identity forwards; backwards it hands (input, gradient) to the recorder."""

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, _spark: Tensor, layer_input: Tensor, record: Record
    ) -> Tensor:
        ctx.save_for_backward(layer_input)
        ctx.record = record
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (layer_input,) = ctx.saved_tensors
        (gradient,) = gradients
        with torch.no_grad():
            ctx.record(layer_input, gradient)
        return gradient, None, None, None


class TappedLayer:
    """One module whose parameters are private, with the hooks that feed its recorder."""

    def __init__(
        self, name: str, module: nn.Module, record: Record, is_quiet: Callable[[], bool]
    ) -> None:
        self.name = name
        self.module = module
        self._record = record
        self._is_quiet = is_quiet
        self._batch_size: int | None = None
        self._spark = torch.zeros((), requires_grad=True)
        self._handles = [
            module.register_forward_pre_hook(self._before, with_kwargs=True),
            module.register_forward_hook(self._after, with_kwargs=True),
        ]

    @contextmanager
    def listening(self, batch_size: int) -> Iterator[None]:
        """Tap every call of the module while the context is open."""
        self._batch_size = batch_size
        try:
            yield
        finally:
            self._batch_size = None

    def remove(self) -> None:
        """Take the hooks off the module."""
        for handle in self._handles:
            handle.remove()

    def _before(
        self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if self._batch_size is None or self._is_quiet():
            return None
        if len(args) != 1 or not isinstance(args[0], Tensor) or kwargs:
            raise UnsupportedLayer(
                self.name,
                type(self.module).__name__,
                f"it is called with {len(args)} positional and {len(kwargs)} named arguments; "
                "a rule needs exactly one tensor",
            )
        rows = args[0].shape[0] if args[0].ndim else 0
        if rows == self._batch_size:
            return None
        if rows == 1:
            # Hugging Face broadcasts position ids as [1, T]. Left so, autograd would add the
            # gradients of all examples before we could clip them.
            return (args[0].expand(self._batch_size, *args[0].shape[1:]),), kwargs
        raise UnsupportedLayer(
            self.name,
            type(self.module).__name__,
            f"its input has {rows} rows for {self._batch_size} examples, "
            "so its gradient cannot be told apart by example",
        )

    def _after(
        self, _module: nn.Module, args: tuple[Any, ...], _kwargs: dict[str, Any], output: Any
    ) -> Tensor | None:
        if self._batch_size is None or self._is_quiet():
            return None
        if not isinstance(output, Tensor) or output.shape[0] != self._batch_size:
            raise UnsupportedLayer(
                self.name,
                type(self.module).__name__,
                "its output is not one tensor with a row for each example",
            )
        if not torch.is_grad_enabled():
            return None
        tapped: Tensor = _Tap.apply(  # type: ignore[no-untyped-call]  # torch leaves it untyped
            output, self._spark, args[0].detach(), self._record
        )
        return tapped
