"""Taps: what went into a layer, and what came back to its output.

A tap is the identity on a layer's output. In the backward pass it hands the layer's input and the
gradient of its output to the layer's rule. The private weights themselves are frozen while the
model runs, so autograd never forms a batch gradient of a weight: that saves a third of the
backward pass, and no unclipped gradient ever exists.

Saved inputs go through `save_for_backward`, so activation checkpointing sees and recomputes them.

A rule must know which rows of a tensor belong to which example. `Examples` decides it, and a call
it cannot decide gets a tripwire instead of a tap: training is refused if, and only if, a gradient
comes back there.

Shapes: B examples, T positions (all dimensions between the first and the last), D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor, nn

from privacy_finetuner.errors import UnsupportedLayer

Record = Callable[[Tensor, Tensor], None]
"""Takes a layer's input and the gradient of its output, both with B examples first."""


class Listener(Protocol):
    """Something that taps a part of the model while a batch runs through it."""

    name: str

    @property
    def kind(self) -> str:
        """The rule in one word; empty for what only observes."""
        ...

    def listening(self, batch_size: int) -> AbstractContextManager[None]:
        """Tap every call while the context is open."""
        ...

    def remove(self) -> None:
        """Leave the model as it was."""
        ...


class _Tap(torch.autograd.Function):
    """The identity forwards; backwards it hands (input, gradient) to the recorder."""

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, _spark: Tensor, layer_input: Tensor, record: Record
    ) -> Tensor:
        ctx.save_for_backward(layer_input)
        ctx.record = record
        # Not a view: some models go on to change a layer's output in place.
        return output.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (layer_input,) = ctx.saved_tensors
        (gradient,) = gradients
        with torch.no_grad():
            ctx.record(layer_input, gradient)
        return gradient, None, None, None


class Examples:
    """Which rows of a tensor belong to which example, while a micro-batch runs.

    =====================================  =====================================================
    a tensor whose first dimension is      is read as
    =====================================  =====================================================
    B                                      a row for each example
    B x T, T the width of a model input    [B, T] flattened, as mixture-of-experts layers do
    1                                      the same for all examples: expanded to B rows
    anything else                          unknown: no rule may use it
    =====================================  =====================================================

    The second line asks for exactly the width of what the model was called with, so rows from
    which padding was taken out are never mistaken for it.
    """

    def __init__(self) -> None:
        self.batch_size = 0  # none is running
        self._widths: set[int] = set()
        self._depth = 0
        self.spark = torch.zeros((), requires_grad=True)

    @property
    def are_running(self) -> bool:
        """Whether a micro-batch is in the model and gradients are wanted."""
        return self.batch_size > 0 and torch.is_grad_enabled()

    @contextmanager
    def counted(self, batch_size: int) -> Iterator[None]:
        """Open for one micro-batch; may be entered once by every listener."""
        if self._depth == 0:
            self.batch_size, self._widths = batch_size, set()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self.batch_size = 0

    def see(self, values: Any) -> None:
        """Note the width of an input of the model."""
        if isinstance(values, Tensor) and values.ndim > 1 and values.shape[0] == self.batch_size:
            self._widths.add(values.shape[1])

    def rows_of(self, values: Tensor) -> Tensor | None:
        """View a tensor as one with B rows; `None` when it is unknown whose rows they are."""
        rows = values.shape[0] if values.ndim else 0
        if rows == self.batch_size:
            return values
        if self.is_flat(rows):
            return values.reshape(self.batch_size, -1, *values.shape[1:])
        return None

    def is_flat(self, rows: int) -> bool:
        """Whether so many rows are all positions of all examples, one after the other."""
        if not self.batch_size or rows % self.batch_size:
            return False
        return rows // self.batch_size in self._widths

    def tap(self, output: Tensor, layer_input: Tensor, record: Record) -> Tensor:
        """Return the output, tapped: `record` gets input and gradient, each with B rows first."""

        def split(seen: Tensor, gradient: Tensor) -> None:
            seen_B, gradient_B = self.rows_of(seen), self.rows_of(gradient)
            if seen_B is None or gradient_B is None:  # a tap is only set where both are known
                raise RuntimeError("the batch changed between forward and backward pass")
            record(seen_B, gradient_B)

        return self.raw_tap(output, layer_input.detach(), split)

    def raw_tap(self, output: Tensor, layer_input: Tensor, record: Record) -> Tensor:
        """Return the output, tapped: `record` gets input and gradient as they are."""
        tapped: Tensor = _Tap.apply(  # type: ignore[no-untyped-call]  # torch leaves it untyped
            output, self.spark, layer_input, record
        )
        return tapped

    def tripwire(self, output: Any, name: str, module: nn.Module, reason: str) -> Any:
        """Return the output; training is refused when a gradient comes back to it."""

        def refuse(_input: Tensor, _gradient: Tensor) -> NoReturn:
            raise UnsupportedLayer(name, type(module).__name__, reason)

        def armed(part: Any) -> Any:
            if not isinstance(part, Tensor) or not part.is_floating_point():
                return part
            return self.raw_tap(part, part.new_zeros(()), refuse)

        return torch.utils._pytree.tree_map(armed, output)


class InputWidths:
    """Tells `Examples` how wide the inputs of the model are."""

    def __init__(self, model: nn.Module, examples: Examples) -> None:
        self.name = ""
        self._examples = examples
        # A prompt lengthens what the model inside gets.
        inside = getattr(model, "get_base_model", None)
        self._handles = [
            module.register_forward_pre_hook(self._before, with_kwargs=True)
            for module in {model, inside() if callable(inside) else model}
        ]

    @property
    def kind(self) -> str:
        """Empty: it has no rule."""
        return ""

    def listening(self, batch_size: int) -> AbstractContextManager[None]:
        """Observe every call of the model while the context is open."""
        return self._examples.counted(batch_size)

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()

    def _before(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._examples.are_running:
            for value in (*args, *kwargs.values()):
                self._examples.see(value)


class TappedLayer:
    """One module that takes and gives one tensor, with the hooks that feed its recorder."""

    def __init__(
        self,
        name: str,
        module: nn.Module,
        record: Record,
        examples: Examples,
        *,
        kind: str,
        is_quiet: Callable[[], bool],
    ) -> None:
        self.name = name
        self.kind = kind
        self._record = record
        self._is_quiet = is_quiet
        self._examples = examples
        self._handles = [
            module.register_forward_pre_hook(self._before, with_kwargs=True),
            module.register_forward_hook(self._after, with_kwargs=True),
        ]

    def listening(self, batch_size: int) -> AbstractContextManager[None]:
        """Tap every call of the module while the context is open."""
        return self._examples.counted(batch_size)

    def remove(self) -> None:
        """Take the hooks off the module."""
        for handle in self._handles:
            handle.remove()

    def _before(
        self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if not self._is_heard() or len(args) != 1 or kwargs or not isinstance(args[0], Tensor):
            return None
        if args[0].ndim and args[0].shape[0] == 1 != self._examples.batch_size:
            # Hugging Face broadcasts position ids as [1, T]. Left so, autograd would add the
            # gradients of all examples before we could clip them.
            return (args[0].expand(self._examples.batch_size, *args[0].shape[1:]),), kwargs
        return None

    def _after(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        if not self._is_heard():
            return None
        if len(args) != 1 or not isinstance(args[0], Tensor) or kwargs:
            reason = (
                f"it is called with {len(args)} positional and {len(kwargs)} named arguments; "
                "a rule needs exactly one tensor"
            )
        elif self._examples.rows_of(args[0]) is None:
            reason = (
                f"its input has {args[0].shape[0] if args[0].ndim else 0} rows for "
                f"{self._examples.batch_size} examples, so its gradient cannot be told apart by "
                "example"
            )
        elif not isinstance(output, Tensor) or output.shape[:1] != args[0].shape[:1]:
            reason = "its output is not one tensor with a row for each example"
        else:
            return self._examples.tap(output, args[0], self._record)
        return self._examples.tripwire(output, self.name, module, reason)

    def _is_heard(self) -> bool:
        return self._examples.are_running and not self._is_quiet()
