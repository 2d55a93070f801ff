"""Recorders of the layers that take and give one tensor: products, convolutions, affine maps.

A recorder gets what went into a layer and the gradient of what came out, B examples first, and
hands both to the rules of the layer's parameters.

Shapes: B examples, T positions, D input features, P output features, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from privacy_finetuner.training.engine.rules import Instantiated, Matrix
from privacy_finetuner.training.engine.tap import Record

Quiet = Callable[[], AbstractContextManager[None]]


def dense(weight: Matrix | None, bias: Instantiated | None) -> Record:
    """Record a linear layer: the input times a matrix, plus a vector."""

    def record(inputs: Tensor, gradients: Tensor) -> None:
        if weight is not None:
            weight.add_dense(*_in_one_type(inputs, gradients))
        if bias is not None:
            bias.add(_summed_over_positions(gradients))

    return record


def look_up(table: Matrix, padding_row: int | None) -> Record:
    """Record an `nn.Embedding`; the padding row gets no gradient, as torch has it."""

    def record(rows: Tensor, gradients: Tensor) -> None:
        table.add_look_up(rows, gradients, ignored_row=padding_row)

    return record


class Kernel:
    """The weight [P, C, *sizes] of a convolution: a matrix [P, D] on every window it sees."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self.parameter = parameter
        self.matrix = Matrix(nn.Parameter(parameter.detach().flatten(1), requires_grad=False))

    def norms_squared(self) -> Tensor | None:
        """Squared L2 norm of each example's gradient, or `None` when the parameter was not used."""
        return self.matrix.norms_squared()

    def add_weighted_sum(self, factors_B: Tensor, target: Tensor) -> None:
        """Add `sum_b factors[b] * gradient[b]` to `target`, then forget what was recorded."""
        self.matrix.add_weighted_sum(factors_B, target.view(len(target), -1))

    def clear(self) -> None:
        """Forget what was recorded."""
        self.matrix.clear()


def is_plain_convolution(module: nn.Module) -> bool:
    """Whether a convolution is one matrix on windows that `unfold` gives."""
    return (
        isinstance(module, nn.Conv1d | nn.Conv2d)
        and module.groups == 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


def convolution(
    module: nn.Conv1d | nn.Conv2d, kernel: Kernel | None, bias: Instantiated | None
) -> Record:
    """Record a convolution as a linear layer on its windows."""
    is_flat = isinstance(module, nn.Conv1d)

    def two(sizes: tuple[int, ...], other: int) -> tuple[int, ...]:
        return (other, *sizes) if is_flat else sizes

    def windows(inputs: Tensor) -> Tensor:
        return functional.unfold(
            inputs.unsqueeze(2) if is_flat else inputs,
            kernel_size=two(module.kernel_size, 1),
            dilation=two(module.dilation, 1),
            padding=two(tuple(int(size) for size in module.padding), 0),
            stride=two(module.stride, 1),
        ).transpose(1, 2)

    def record(inputs: Tensor, gradients: Tensor) -> None:
        gradients_BTP = gradients.flatten(2).transpose(1, 2)
        if kernel is not None:
            kernel.matrix.add_dense(*_in_one_type(windows(inputs), gradients_BTP))
        if bias is not None:
            bias.add(_summed_over_positions(gradients_BTP))

    return record


def affine(
    module: nn.Module, weight: Instantiated | None, bias: Instantiated | None, quiet: Quiet
) -> Record:
    """Record f(x; w, b) = f(x; 0, 0) + w * slope(x) + b; the module is one that `is_affine`."""
    has_base = bool(_call(module, 0.0, _probe(module), quiet).any())
    slope = _slope(module, quiet, has_base=has_base)

    def record(inputs: Tensor, gradients: Tensor) -> None:
        if weight is not None:
            weight.add(_summed_over_positions(slope(inputs) * gradients))
        if bias is not None:
            bias.add(_summed_over_positions(gradients))

    return record


def is_affine(module: nn.Module, own: dict[str, nn.Parameter], quiet: Quiet) -> bool:
    """Whether f(x; w, b) = f(x; 0, 0) + w * slope(x) + b on a fixed probe, for a vector w."""
    every = dict(module.named_parameters(recurse=False))
    width = next(iter(own.values())).shape
    if not set(every) <= {"weight", "bias"} or any(p.shape != width for p in every.values()):
        return False
    if len(width) != 1 or any(True for _ in module.children()):
        return False
    probe = _probe(module)
    values = {
        n: torch.cos(probe.new_tensor(range(len(p))) * (2.3 + i)).to(p.dtype)
        for i, (n, p) in enumerate(sorted(every.items()))
    }
    try:
        with quiet(), torch.no_grad():
            found = functional_call(module, values, (probe,))
        base = _call(module, 0.0, probe, quiet)
        slope = _slope(module, quiet, has_base=True)
        expected = base + slope(probe) * values.get("weight", 0.0) + values.get("bias", 0.0)
    except (TypeError, RuntimeError, ValueError, AttributeError):
        return False  # it wants another kind of input: not an affine layer
    return (
        isinstance(found, Tensor)
        and found.shape == probe.shape
        and torch.allclose(found.float(), expected.float(), rtol=1e-3, atol=1e-3)
    )


def _probe(module: nn.Module) -> Tensor:
    """Fixed inputs [2, 3, D] for a module whose parameters are vectors of D numbers."""
    parameter = next(module.parameters(recurse=False))
    size = len(parameter)
    ramp = torch.arange(6 * size, dtype=torch.float32, device=parameter.device)
    return torch.sin(ramp * 1.7 + 0.3).reshape(2, 3, size).to(parameter.dtype)


def _slope(module: nn.Module, quiet: Quiet, *, has_base: bool) -> Callable[[Tensor], Tensor]:
    """What the weight of an affine layer is multiplied with: f(x; 1) - f(x; 0).

    Most layers give zeros without weight and bias, which the same probe shows that shows them to be
    affine at all: for those, one call is enough.
    """

    def slope(inputs: Tensor) -> Tensor:
        high = _call(module, 1.0, inputs, quiet)
        return high - _call(module, 0.0, inputs, quiet) if has_base else high

    return slope


def _call(module: nn.Module, weight: float, inputs: Tensor, quiet: Quiet) -> Tensor:
    """f(x; w, 0), every number of the weight the same."""
    values = {
        n: torch.full_like(p, weight if n == "weight" else 0.0)
        for n, p in module.named_parameters(recurse=False)
    }
    with quiet(), torch.no_grad():
        found: Tensor = functional_call(module, values, (inputs,))
    return found


def _in_one_type(inputs: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Autocast runs a float32 input in bfloat16; norms are taken in the wider type."""
    wider = torch.promote_types(inputs.dtype, gradients.dtype)
    return inputs.to(wider), gradients.to(wider)


def _summed_over_positions(values: Tensor) -> Tensor:
    """[B, ..., D] to [B, D], in float32."""
    return values.reshape(values.shape[0], -1, values.shape[-1]).sum(dim=1, dtype=torch.float32)
