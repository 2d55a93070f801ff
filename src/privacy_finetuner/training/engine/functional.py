"""Parameters that a module's own forward uses: caught at the function, not at the module.

A router multiplies with a bare weight, a positional table is called by keyword, an adapter scales
by a vector it keeps in a dictionary. The module's inputs and outputs then tell nothing, but the
functions do. So while such a module runs, every torch function passes through here:

==============================================  ================================================
a function that gets a private parameter `p`    is tapped as
==============================================  ================================================
`linear(x, p)`, `x @ p`                         a product: `add_dense`
`embedding(i, p)`                               a look-up: `add_look_up`
`x * p`, `p / x`, `x + p`, `x - p`, by          elementwise: the per-example gradient, summed to
broadcasting                                    the shape of `p`
`p.expand(B, ...)`, `p.repeat(B, 1, ...)`       the same for a copy for each example
views of `p`, casts, products with constants    `p` again, with a factor
anything else                                   not by this module: `vmap` takes over, for good
==============================================  ================================================

Shapes: B examples, T positions, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from privacy_finetuner.errors import UnsupportedLayer
from privacy_finetuner.training.engine.rules import Instantiated, Matrix
from privacy_finetuner.training.engine.tap import Examples

_QUESTIONS = frozenset(
    {"size", "dim", "numel", "stride", "is_contiguous", "is_floating_point", "is_complex"}
    | {"element_size", "data_ptr", "get_device", "__len__", "__hash__", "detach", "__repr__"}
)
_QUESTIONS_OF_PROPERTIES = frozenset(
    {"dtype", "device", "shape", "ndim", "requires_grad", "layout", "is_meta", "is_leaf", "data"}
    | {"is_cuda", "is_cpu", "is_sparse", "is_quantized", "is_nested", "grad_fn", "grad"}
)
_SAME_ORDER = frozenset(
    {"view", "reshape", "flatten", "unsqueeze", "squeeze", "contiguous", "view_as"}
    | {"to", "float", "double", "type_as"}
)
_ELEMENTWISE = {
    "mul": "mul", "multiply": "mul", "__mul__": "mul", "__rmul__": "mul",
    "add": "add", "__add__": "add", "__radd__": "add", "__iadd__": "add", "add_": "add",
    "sub": "sub", "__sub__": "sub", "div": "div", "__truediv__": "div", "true_divide": "div",
}  # fmt: skip


class Undecided:
    """The rule of a parameter whose use only shows when its module runs.

    Per-example gradients and products of the same parameter in one pass would need their cross
    term; that combination is refused.
    """

    def __init__(self, parameter: nn.Parameter) -> None:
        self.parameter = parameter
        self._instantiated = Instantiated(parameter)
        self._matrix: Matrix | None = None
        self._is_transposed = False

    def products(self, *, transposed: bool = False) -> Matrix:
        """The rule for products and look-ups.

        Raises:
            AnotherUse: the parameter is multiplied both ways round.
        """
        if self._matrix is None:
            self._matrix = Matrix(self.parameter, transposed=transposed)
            self._matrix.is_shared = True  # it may turn out to be used several times
            self._is_transposed = transposed
        if transposed != self._is_transposed:
            raise AnotherUse("matmul, both ways round")
        return self._matrix

    def add(self, gradients: Tensor) -> None:
        """Add the per-example gradients of one use: B first, then the parameter's numbers."""
        self._instantiated.add(gradients)

    def norms_squared(self) -> Tensor | None:
        """Squared L2 norm of each example's gradient, or `None` when the parameter was not used.

        Raises:
            UnsupportedLayer: it was used in a product and elementwise in one pass.
        """
        products_B = None if self._matrix is None else self._matrix.norms_squared()
        alone_B = self._instantiated.norms_squared()
        if products_B is not None and alone_B is not None:
            raise UnsupportedLayer(
                "weight", "parameter", "it is used in a product and elementwise in one pass"
            )
        return alone_B if products_B is None else products_B

    def add_weighted_sum(self, factors_B: Tensor, target: Tensor) -> None:
        """Add `sum_b factors[b] * gradient[b]` to `target`, then forget what was recorded."""
        self._instantiated.add_weighted_sum(factors_B, target)
        if self._matrix is not None:
            self._matrix.add_weighted_sum(factors_B, target)

    def clear(self) -> None:
        """Forget what was recorded."""
        self._instantiated.clear()
        if self._matrix is not None:
            self._matrix.clear()


class AnotherUse(Exception):
    """The module uses its parameter in a function that is not in the table above."""


@dataclass(frozen=True, slots=True)
class _Alias:
    """A tensor that is a private parameter times a factor, up to its shape and a constant."""

    rule: Undecided | Matrix
    tensor: Tensor
    factor: Tensor | float = 1.0
    is_whole: bool = True
    """Whether it is the parameter itself, as products need it."""

    def add(self, gradients: Tensor) -> None:
        if isinstance(self.rule, Matrix):
            raise AnotherUse("a weight shared with another layer, elementwise")
        scaled = gradients if isinstance(self.factor, Tensor) else gradients * self.factor
        if isinstance(self.factor, Tensor):
            scaled = gradients.reshape(len(gradients), *self.factor.shape) * self.factor
        self.rule.add(scaled)

    def products(self, *, transposed: bool = False) -> Matrix:
        if not self.is_whole or self.tensor.ndim != 2:
            raise AnotherUse("a product with a part or a multiple of it")
        if isinstance(self.rule, Undecided):
            return self.rule.products(transposed=transposed)
        if transposed:
            raise AnotherUse("matmul with a weight shared with another layer")
        return self.rule


class FunctionTaps(TorchFunctionMode):
    """Taps the functions that get one of the parameters, while it is entered."""

    def __init__(
        self, rules: Mapping[nn.Parameter, Undecided | Matrix], examples: Examples
    ) -> None:
        super().__init__()
        self._examples = examples
        # The tensors are kept: an id must not be given to another one while we know it.
        self._aliases = {id(p): _Alias(rule, p) for p, rule in rules.items()}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the function, tapped when it gets a private parameter."""
        named = kwargs or {}
        if not any(self._is_known(value) for value in (*args, *named.values())):
            return func(*args, **named)
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = getattr(getattr(func, "__self__", None), "__name__", "")
            is_question = name in _QUESTIONS_OF_PROPERTIES
        else:
            is_question = name in _QUESTIONS
        return func(*args, **named) if is_question else self._tapped(func, name, args, named)

    def _tapped(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], named: dict[str, Any]
    ) -> Tensor:
        if name == "linear":
            return self._linear(*args, **named)
        if name == "embedding":
            return self._embedding(*args, **named)
        if name in ("matmul", "__matmul__") and not named:
            return self._matmul(*args)
        if name in _ELEMENTWISE and len(args) == 2 and not named:
            return self._elementwise(func, _ELEMENTWISE[name], *args)
        if self._alias(args[0]) and _keeps_order(name, args, named):
            return self._reshaped(func, args, named)
        if self._alias(args[0]) and name in ("expand", "expand_as", "repeat"):
            return self._spread(func(*args, **named), args[0])
        raise AnotherUse(name)

    def _is_known(self, value: Any) -> bool:
        if isinstance(value, list | tuple):
            return any(id(part) in self._aliases for part in value)
        return id(value) in self._aliases

    def _alias(self, value: Any) -> _Alias | None:
        return self._aliases.get(id(value))

    def _know(self, alias: _Alias) -> Tensor:
        self._aliases[id(alias.tensor)] = alias
        return alias.tensor

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        x = self._rows(x)
        output = nn.functional.linear(x, weight, bias)
        matrix = self._products(weight)
        shift = self._alias(bias)

        def record(inputs: Tensor, gradients: Tensor) -> None:
            if matrix is not None:
                matrix.add_dense(inputs, gradients)
            if shift is not None:
                shift.add(_summed_to(gradients, shift.tensor.shape))

        return self._examples.tap(output, x, record)

    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        x = self._rows(x)
        alias = self._alias(weight)
        if alias is None:
            raise AnotherUse("matmul")
        return self._examples.tap(x @ weight, x, alias.products(transposed=True).add_dense)

    def _embedding(
        self,
        rows: Tensor,
        weight: Tensor,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Tensor:
        if max_norm is not None or scale_grad_by_freq or sparse:
            raise AnotherUse("embedding with max_norm, scale_grad_by_freq or sparse")
        rows = self._rows(rows)
        matrix = self._products(weight)
        if matrix is None:
            raise AnotherUse("embedding")
        if padding_idx is not None and padding_idx < 0:
            padding_idx += weight.shape[0]

        def record(seen: Tensor, gradients: Tensor) -> None:
            matrix.add_look_up(seen, gradients, ignored_row=padding_idx)

        found = nn.functional.embedding(rows, weight, padding_idx)
        return self._examples.tap(found, rows, record)

    def _elementwise(self, func: Callable[..., Any], kind: str, left: Any, right: Any) -> Tensor:
        first, second = self._alias(left), self._alias(right)
        if first is not None and second is not None:
            raise AnotherUse("two of its parameters in one function")
        alias, other = (first, right) if first is not None else (second, left)
        if alias is None or (kind == "div" and alias is second):
            raise AnotherUse("as a divisor")
        result: Tensor = func(left, right)
        sign = -1.0 if kind == "sub" and alias is second else 1.0
        is_of_examples = (
            isinstance(other, Tensor)
            and other.ndim > 1
            and self._examples.rows_of(other) is not None
        )
        if not is_of_examples:
            return self._scaled(alias, kind, sign, other, result)
        if result.shape[:1] != other.shape[:1]:
            raise AnotherUse("broadcast over examples")

        def record(seen: Tensor, gradients: Tensor) -> None:
            if kind == "mul":
                gradients = gradients * seen
            elif kind == "div":
                gradients = gradients / seen
            gradients_B = self._examples.rows_of(gradients)
            if gradients_B is None:
                raise RuntimeError("the batch changed between forward and backward pass")
            alias.add(sign * _summed_to(gradients_B, alias.tensor.shape))

        saved = other.detach() if kind in ("mul", "div") else result.new_zeros(())
        return self._examples.raw_tap(result, saved, record)

    def _scaled(self, alias: _Alias, kind: str, sign: float, other: Any, result: Tensor) -> Tensor:
        """The parameter times a constant, or plus one: an alias with another factor."""
        if result.shape != alias.tensor.shape or result is alias.tensor:
            raise AnotherUse("with a tensor whose rows belong to no example")
        factor = alias.factor * sign
        if kind in ("mul", "div"):
            constant = other.detach() if isinstance(other, Tensor) else other
            factor = factor * constant if kind == "mul" else factor / constant
        if isinstance(factor, Tensor):
            factor = factor.expand(result.shape)
        return self._know(_Alias(alias.rule, result, factor, is_whole=False))

    def _reshaped(
        self, func: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]
    ) -> Tensor:
        alias = self._aliases[id(args[0])]
        result: Tensor = func(*args, **named)
        factor = alias.factor
        if isinstance(factor, Tensor):
            factor = factor.reshape(result.shape)
        whole = alias.is_whole and result.shape == alias.tensor.shape
        return self._know(_Alias(alias.rule, result, factor, is_whole=whole))

    def _spread(self, result: Tensor, source: Tensor) -> Tensor:
        """One copy for each example."""
        alias = self._aliases[id(source)]
        lead = [1] * (result.ndim - source.ndim) + list(source.shape)
        is_copies = lead[0] == 1 and all(
            s in (1, r) for s, r in zip(lead, result.shape, strict=True)
        )
        if not is_copies or result.shape[0] != self._examples.batch_size:
            raise AnotherUse("a copy that is not one for each example")

        def record(_seen: Tensor, gradients: Tensor) -> None:
            alias.add(_summed_to(gradients, alias.tensor.shape))

        return self._examples.raw_tap(result, result.new_zeros(()), record)

    def _products(self, weight: Tensor) -> Matrix | None:
        alias = self._alias(weight)
        return None if alias is None else alias.products()

    def _rows(self, x: Tensor) -> Tensor:
        """The input with rows that belong to examples."""
        if self._alias(x) is not None:
            raise AnotherUse("a product of its parameters")
        if x.ndim > 1 and x.shape[0] == 1 != self._examples.batch_size:
            x = x.expand(self._examples.batch_size, *x.shape[1:])
        if self._examples.rows_of(x) is None:
            raise AnotherUse("with a tensor whose rows belong to no example")
        return x


def _keeps_order(name: str, args: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """Whether a function only reshapes: the parameter's numbers stay in their order."""
    if name in _SAME_ORDER:
        return True
    if name == "__getitem__":
        places = args[1] if isinstance(args[1], tuple) else (args[1],)
        return all(place is None or place is Ellipsis or place == slice(None) for place in places)
    if name in ("permute", "transpose"):
        numbers = torch.arange(args[0].numel()).view(args[0].shape)
        moved = getattr(numbers, name)(*args[1:], **named)
        return torch.equal(moved.flatten(), numbers.flatten())
    return False


def _summed_to(gradients_B: Tensor, shape: torch.Size) -> Tensor:
    """Sum what broadcasting repeated within an example.

    `shape` is that of a parameter that was broadcast against [B, ...] or, flattened, [B x T, ...]:
    it has no dimension for the examples, or one of size 1. Returns [B, numbers of the parameter].
    """
    inner = list(shape)
    while len(inner) >= gradients_B.ndim:
        if inner[0] != 1:
            raise AnotherUse("broadcast over examples")
        inner = inner[1:]
    lead = [1] * (gradients_B.ndim - 1 - len(inner))
    summed = [i + 1 for i, size in enumerate([*lead, *inner]) if size == 1]
    if summed:
        gradients_B = gradients_B.sum(dim=summed, keepdim=True, dtype=torch.float32)
    return gradients_B.reshape(gradients_B.shape[0], -1)
