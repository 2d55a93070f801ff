"""Modules whose parameters no rule for layers fits: their own forward is watched, or run by vmap.

While a batch runs, the module's `forward` is replaced by one that lets `FunctionTaps` see every
torch function it calls. When it uses a parameter in a way that those do not know, `torch.func.vmap`
computes the per-example gradients instead: exact for any inputs and outputs, at the price of a
second run of the module and of B copies of its gradients.

Which of the two it is shows at the first call, which is that on the public probe, and stays.

Shapes: B examples.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils import _pytree as pytree

from privacy_finetuner.errors import UnsupportedLayer
from privacy_finetuner.training.engine.functional import AnotherUse, FunctionTaps, Undecided
from privacy_finetuner.training.engine.rules import Matrix
from privacy_finetuner.training.engine.tap import Examples

Forward = Callable[..., Any]
Quiet = Callable[[], AbstractContextManager[None]]


class ReplacedForward:
    """A module whose forward is another one while a batch runs, and its own otherwise."""

    def __init__(self, name: str, module: nn.Module, kind: str, examples: Examples) -> None:
        self.name = name
        self.kind = kind
        self._module = module
        self._examples = examples

    @contextmanager
    def listening(self, batch_size: int) -> Iterator[None]:
        """Replace the module's forward while the context is open."""
        own = self._module.forward
        before = self._module.__dict__.get("forward")

        def forward(*args: Any, **kwargs: Any) -> Any:
            return self._run(own, args, kwargs) if self._is_heard() else own(*args, **kwargs)

        with self._examples.counted(batch_size):
            self._module.__dict__["forward"] = forward
            try:
                yield
            finally:
                if before is None:
                    del self._module.__dict__["forward"]
                else:
                    self._module.__dict__["forward"] = before

    def remove(self) -> None:
        """Nothing to do: outside `listening` the module has its own forward."""

    def _is_heard(self) -> bool:
        return self._examples.are_running

    def _run(self, own: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        raise NotImplementedError


class OwnForward(ReplacedForward):
    """Per-example gradients of the parameters that a module's own forward uses."""

    def __init__(
        self,
        name: str,
        module: nn.Module,
        own: Mapping[str, nn.Parameter],
        rules: Mapping[nn.Parameter, Undecided | Matrix],
        examples: Examples,
        *,
        quiet: Quiet,
        is_quiet: Callable[[], bool],
    ) -> None:
        super().__init__(name, module, "functions", examples)
        self.why = ""  # what vmap had to take over for
        self._own = own
        self._rules = rules
        self._quiet = quiet
        self._is_quiet = is_quiet

    def _is_heard(self) -> bool:
        return super()._is_heard() and not self._is_quiet()

    def _run(self, own: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.kind == "functions":
            try:
                with FunctionTaps(self._rules, self._examples):
                    return own(*args, **kwargs)
            except AnotherUse as use:
                self.kind, self.why = "vmap", str(use)
        return self._tapped_whole(own(*args, **kwargs), args, kwargs)

    def _tapped_whole(self, output: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        leaves, inputs_spec = pytree.tree_flatten((args, kwargs))
        parts, output_spec = pytree.tree_flatten(output)
        places = [i for i, leaf in enumerate(leaves) if self._is_of_examples(leaf)]
        tapped = [i for i, part in enumerate(parts) if _carries_gradient(part)]
        if not places or any(self._examples.rows_of(parts[i]) is None for i in tapped):
            reason = "vmap cannot tell which of its inputs or outputs belong to which example"
            return self._examples.tripwire(output, self.name, self._module, reason)
        names = list(self._own)

        def loss_of_one(values: list[Tensor], inputs: list[Tensor], back: list[Tensor]) -> Tensor:
            mine = list(leaves)
            for place, one in zip(places, inputs, strict=True):
                mine[place] = one
            arguments, named = pytree.tree_unflatten(mine, inputs_spec)
            found = functional_call(
                self._module, dict(zip(names, values, strict=True)), arguments, named
            )
            outputs = pytree.tree_flatten(found)[0]
            terms = [(outputs[i] * g).sum() for i, g in zip(tapped, back, strict=True)]
            return torch.stack(terms).sum()

        per_example = vmap(grad(loss_of_one), in_dims=(None, 0, 0), randomness="error")

        def record(inputs: tuple[Tensor, ...], gradients: tuple[Tensor, ...]) -> None:
            values = [parameter.detach() for parameter in self._own.values()]
            with self._quiet(), torch.enable_grad(), warnings.catch_warnings():
                # Where vmap has no batched kernel it loops: slower, and as exact.
                warnings.filterwarnings("ignore", message="There is a performance drop")
                try:
                    found = per_example(
                        values,
                        [self._single(x) for x in inputs],
                        [self._single(g) for g in gradients],
                    )
                except RuntimeError as error:
                    raise UnsupportedLayer(
                        self.name,
                        type(self._module).__name__,
                        "vmap cannot run it (dropout inside, or in place)",
                    ) from error
            for parameter, gradients_B in zip(self._own.values(), found, strict=True):
                self._add(parameter, gradients_B)

        seen = [leaves[i].detach() for i in places]
        replaced = _CallTap.apply(  # type: ignore[no-untyped-call]  # torch leaves it untyped
            record, len(seen), self._examples.spark, *seen, *[parts[i] for i in tapped]
        )
        for place, part in zip(tapped, replaced, strict=True):
            parts[place] = part
        return pytree.tree_unflatten(parts, output_spec)

    def _is_of_examples(self, leaf: Any) -> bool:
        return isinstance(leaf, Tensor) and self._examples.rows_of(leaf) is not None

    def _single(self, values: Tensor) -> Tensor:
        """B first, then what a call with one example gets: a lead of 1, or its T flat rows."""
        rows_B = self._examples.rows_of(values)
        if rows_B is None:
            raise RuntimeError("the batch changed between forward and backward pass")
        return rows_B.unsqueeze(1) if rows_B is values else rows_B

    def _add(self, parameter: nn.Parameter, gradients_B: Tensor) -> None:
        rule = self._rules[parameter]
        if isinstance(rule, Matrix):
            raise UnsupportedLayer(
                self.name,
                type(self._module).__name__,
                f"its weight is shared, or used in a way that has no rule: {self.why}",
            )
        rule.add(gradients_B)


def _carries_gradient(part: Any) -> bool:
    return isinstance(part, Tensor) and part.is_floating_point()


class _CallTap(torch.autograd.Function):
    """The identity on all outputs of a call; backwards it hands over all inputs and gradients."""

    @staticmethod
    def forward(
        ctx: Any, record: Callable[..., None], count: int, _spark: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*tensors[:count])
        ctx.record = record
        return tuple(part.detach() for part in tensors[count:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        with torch.no_grad():
            ctx.record(inputs, gradients)
        return (None, None, None, *[None] * len(inputs), *gradients)
