"""Fused experts of a mixture: one three-dimensional weight, and tokens that are routed through it.

transformers keeps the experts of a layer in `gate_up_proj` (or `up_proj`) and `down_proj`, of shape
[E, ...], and gives the layer all tokens of the batch in one flat tensor with the numbers of each
token's experts. An expert sees tokens of several examples, so while a batch runs the layer's
forward is ours: the same sums in the same order, with each token's example remembered.

Routing is by token: which experts a token gets depends on that token alone, so the layer mixes
nothing. What would mix is an auxiliary loss that balances the load over the batch, or a capacity
that drops the tokens which come too late. The objectives here have no auxiliary loss; a loss that
brings one differs from the loop over examples and is refused by `verification`.

Shapes: B examples, N = B x T tokens, K experts for each, E experts, D features, P outputs,
R rows (tokens) of one expert.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from privacy_finetuner.errors import UnsupportedLayer
from privacy_finetuner.training.engine.own_forward import Forward, ReplacedForward
from privacy_finetuner.training.engine.tap import Examples

_NAMES = ("gate_up_proj", "up_proj", "down_proj")


def is_fused_experts(module: nn.Module) -> bool:
    """Whether a module keeps its experts as transformers 5 does, and says how."""
    weights = [p for n, p in module.named_parameters(recurse=False) if n in _NAMES]
    return (
        len(weights) == 2
        and all(p.ndim == 3 for p in weights)
        and all(hasattr(module, mark) for mark in ("num_experts", "has_gate", "is_transposed"))
        and not getattr(module, "has_post_expert_norm", False)
    )


class ExpertMatrix:
    """The rule of a weight with a matrix for each expert: per-example norms and weighted sums.

    The norm of an example is that over all experts, for they are one parameter. Per expert and
    example the gradient is a product A^T G over the example's tokens there; they are few, so the
    Gram matrices of the tokens are the cheaper way to its norm.
    """

    def __init__(self, parameter: nn.Parameter, *, transposed: bool) -> None:
        self.parameter = parameter
        self._transposed = transposed
        self._batch_size = 0
        self._uses: list[tuple[int, Tensor, Tensor, Tensor]] = []

    def add(
        self, expert: int, owners_R: Tensor, product: tuple[Tensor, Tensor], batch: int
    ) -> None:
        """Record what an expert saw [R, D], and what came back [R, P], with each row's example."""
        self._batch_size = batch
        self._uses.append((expert, owners_R, *product))

    def norms_squared(self) -> Tensor | None:
        """Squared L2 norm of each example's gradient, or `None` when no token came by."""
        if not self._uses:
            return None
        total_B = self.parameter.new_zeros(self._batch_size, dtype=torch.float32)
        for expert in {use[0] for use in self._uses}:
            owners_R, inputs_RD, gradients_RP = self._of(expert)
            # Rows are sorted by example, so a Gram matrix is one block for each of them.
            for rows in _runs(owners_R):
                a, g = inputs_RD[rows].float(), gradients_RP[rows].float()
                if len(a) * (a.shape[1] + g.shape[1]) <= a.shape[1] * g.shape[1]:
                    square = ((a @ a.T) * (g @ g.T)).sum()
                    # Products that cancel could hide a gradient: see `rules`.
                    size = (
                        torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(g, dim=1)
                    ).sum()
                    square = torch.maximum(square, (size * 2.0**-6).square())
                else:
                    square = torch.linalg.vector_norm(a.T @ g).square()
                total_B[owners_R[rows.start]] += square
        return total_B

    def add_weighted_sum(self, factors_B: Tensor, target: Tensor) -> None:
        """Add `sum_b factors[b] * gradient[b]` to `target`, then forget everything recorded."""
        for expert, owners_R, inputs_RD, gradients_RP in self._uses:
            factors_R = factors_B[owners_R]
            keep = (factors_R != 0).unsqueeze(1)  # zero times infinity would be NaN
            scaled = torch.where(keep, gradients_RP.float() * factors_R.unsqueeze(1), 0.0)
            inputs = torch.where(keep, inputs_RD.float(), 0.0)
            product = inputs.T @ scaled if self._transposed else scaled.T @ inputs
            target[expert].add_(product.to(target.dtype))
        self.clear()

    def clear(self) -> None:
        """Forget everything recorded."""
        self._uses.clear()

    def _of(self, expert: int) -> tuple[Tensor, Tensor, Tensor]:
        """All that one expert did, sorted by example."""
        uses = [use[1:] for use in self._uses if use[0] == expert]
        owners_R, inputs_RD, gradients_RP = (torch.cat(parts) for parts in zip(*uses, strict=True))
        order = torch.argsort(owners_R, stable=True)
        return owners_R[order], inputs_RD[order], gradients_RP[order]


class ExpertBias:
    """The rule of a vector for each expert: the per-example gradients are kept."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self.parameter = parameter
        self._gradients_BEP: Tensor | None = None

    def add(self, expert: int, owners_R: Tensor, gradients_RP: Tensor, batch: int) -> None:
        """Record what came back to an expert's outputs."""
        if self._gradients_BEP is None:
            shape = (batch, *self.parameter.shape)
            self._gradients_BEP = gradients_RP.new_zeros(shape, dtype=torch.float32)
        self._gradients_BEP[:, expert].index_add_(0, owners_R, gradients_RP.float())

    def norms_squared(self) -> Tensor | None:
        """Squared L2 norm of each example's gradient, or `None` when no token came by."""
        if self._gradients_BEP is None:
            return None
        norms_B: Tensor = torch.linalg.vector_norm(self._gradients_BEP.flatten(1), dim=1)
        return norms_B.square()

    def add_weighted_sum(self, factors_B: Tensor, target: Tensor) -> None:
        """Add `sum_b factors[b] * gradient[b]` to `target`, then forget everything recorded."""
        if self._gradients_BEP is not None:
            kept = factors_B != 0
            total = factors_B[kept] @ self._gradients_BEP[kept].flatten(1)
            target.add_(total.view_as(target).to(target.dtype))
        self.clear()

    def clear(self) -> None:
        """Forget everything recorded."""
        self._gradients_BEP = None


class FusedExperts(ReplacedForward):
    """A layer of fused experts, run expert by expert with each token's example remembered."""

    def __init__(
        self,
        name: str,
        module: nn.Module,
        own: Mapping[str, nn.Parameter],
        rules: Mapping[nn.Parameter, ExpertMatrix | ExpertBias],
        examples: Examples,
    ) -> None:
        super().__init__(name, module, "experts", examples)
        self._rules = {n: rules[p] for n, p in own.items()}

    def _run(self, own: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tokens_ND, experts_NK, weights_NK = self._inputs(args, kwargs)
        batch = self._examples.batch_size or 0
        if tokens_ND.ndim != 2 or not self._examples.is_flat(len(tokens_ND)):
            reason = f"its input has {len(tokens_ND)} rows, which are not all tokens of the batch"
            output = own(*args, **kwargs)
            return self._examples.tripwire(output, self.name, self._module, reason)
        module = cast("Any", self._module)
        length = len(tokens_ND) // batch
        up = "gate_up_proj" if module.has_gate else "up_proj"
        output_ND: Tensor = torch.zeros_like(tokens_ND)
        for expert in sorted(set(experts_NK.flatten().tolist())):
            if not 0 <= expert < module.num_experts:
                continue
            tokens_R, ranks_R = torch.where(experts_NK == expert)
            owners_R = tokens_R // length
            hidden = self._linear(up, expert, owners_R, tokens_ND[tokens_R])
            hidden = module._apply_gate(hidden) if module.has_gate else module.act_fn(hidden)
            hidden = self._linear("down_proj", expert, owners_R, hidden)
            weighted = hidden * weights_NK[tokens_R, ranks_R, None]
            output_ND = output_ND.index_add(0, tokens_R, weighted.to(output_ND.dtype))
        return output_ND

    def _linear(self, name: str, expert: int, owners_R: Tensor, x_RD: Tensor) -> Tensor:
        weight = getattr(self._module, name)[expert]
        output: Tensor = (
            x_RD @ weight if getattr(self._module, "is_transposed", False) else x_RD @ weight.T
        )
        bias = getattr(self._module, f"{name}_bias", None)
        if bias is not None:
            output = output + bias[expert]
        matrix, shift = self._rules.get(name), self._rules.get(f"{name}_bias")
        if matrix is None and shift is None:
            return output
        batch = self._examples.batch_size or 0

        def record(inputs_RD: Tensor, gradients_RP: Tensor) -> None:
            if isinstance(matrix, ExpertMatrix):
                matrix.add(expert, owners_R, (inputs_RD, gradients_RP), batch)
            if isinstance(shift, ExpertBias):
                shift.add(expert, owners_R, gradients_RP, batch)

        return self._examples.raw_tap(output, x_RD.detach(), record)

    def _inputs(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        values = [*args, *kwargs.values()]
        if len(values) != 3 or not all(isinstance(value, Tensor) for value in values):
            raise UnsupportedLayer(
                self.name,
                type(self._module).__name__,
                "it is not called with tokens, numbers of experts and their weights",
            )
        tokens_ND, experts_NK, weights_NK = values
        return tokens_ND, experts_NK, weights_NK


def _runs(owners_R: Tensor) -> list[slice]:
    """Stretches of equal numbers in a sorted vector."""
    ends = torch.unique_consecutive(owners_R, return_counts=True)[1].cumsum(0).tolist()
    return [slice(start, stop) for start, stop in zip([0, *ends[:-1]], ends, strict=True)]
