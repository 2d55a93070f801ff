"""The clipped sum of per-example gradients, in one forward and one backward pass.

Shapes: B examples of a micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from privacy_finetuner.errors import UnsupportedLayer
from privacy_finetuner.training.engine.clipping import Clip, ClipRule
from privacy_finetuner.training.engine.coverage import cover
from privacy_finetuner.training.engine.rules import Matrix, joint_norms_squared
from privacy_finetuner.training.engine.running_sum import BoundedSum, RunningSum

Batch = Mapping[str, Tensor]
PerExampleLoss = Callable[[nn.Module, Batch], tuple[Tensor, Tensor]]
"""Returns (loss_B, accuracy_B): each entry depends on its own example only."""


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """Private facts about a micro-batch: never shown, only released through a mechanism."""

    losses_B: Tensor
    accuracies_B: Tensor
    norms_B: Tensor

    def __repr__(self) -> str:
        return f"BatchRecord({len(self.losses_B)} examples)"


class ClippedGradient:
    """Collects the clipped per-example gradients of a logical batch.

    Guarantee: after any calls of `add`, the tensors of `take()` change by at most `clip_norm` in L2
    when one example is added or removed, for every input, up to the rounding that
    `noise.ROUNDING_MARGIN` covers. The trained weights are frozen while the model runs, so no
    unclipped gradient of them ever exists.

    =========================================  ==================================================
    an example whose                           contributes
    =========================================  ==================================================
    gradient is zero                           zero
    gradient is not finite, or overflows       zero; it is not counted, the count would be private
    loss is not finite                         as its gradient: in practice, zero
    =========================================  ==================================================

    Args:
        model: any module made of layers that `coverage` knows.
        loss: per-example loss; entry b must depend on example b alone (mean over that example's
            tokens, not over the batch: see docs/sharp_edges.md).

    Raises:
        UnsupportedLayer: a layer mixes examples or has no rule; the model is left as it was.

    Source: Abadi et al. 2016 (arXiv:1607.00133), Algorithm 1, lines 6-7; Bu et al. 2023
    (arXiv:2210.00038), book-keeping, for the single backward pass.
    """

    def __init__(self, model: nn.Module, loss: PerExampleLoss) -> None:
        self.model = model
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self._loss = loss
        self._coverage = cover(model)
        self._layers = layers_of(model)
        self._sum = RunningSum(self.parameters)
        uncovered = len(self.parameters) - len(self._coverage.rules)
        if uncovered:
            self.close()
            raise UnsupportedLayer(
                "model",
                type(model).__name__,
                f"{uncovered} trainable parameters belong to no layer",
            )

    @property
    def kinds(self) -> Mapping[str, str]:
        """The rule of each tapped layer, by the layer's name."""
        return self._coverage.kinds

    def add(self, batch: Batch, clip: Clip) -> BatchRecord:
        """Add the clipped gradients of one micro-batch to the sum.

        Raises:
            UnsupportedLayer: a layer was called in a way that hides which example is which.
            InvalidParameter: an earlier micro-batch of this sum was clipped otherwise.
        """
        batch_size = next(iter(batch.values())).shape[0]
        rules = self._coverage.rules
        try:
            with self._frozen(), ExitStack() as taps:
                for layer in self._coverage.layers:
                    taps.enter_context(layer.listening(batch_size))
                losses_B, accuracies_B = self._loss(self.model, batch)
                if losses_B.requires_grad:
                    losses_B.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            with torch.no_grad():
                squares_KB = self._squares(losses_B, by_layer=clip.rule is ClipRule.BOUND_LAYERS)
                factors_KB = clip.layer_factors(squares_KB)
                self._sum.add_made(clip, lambda: self._weighted_sums(factors_KB))
                norms_B = squares_KB.sum(dim=0).sqrt()
        finally:
            for rule in rules.values():
                rule.clear()
        return BatchRecord(losses_B.detach(), accuracies_B.detach(), norms_B)

    def take(self, clip: Clip) -> BoundedSum:
        """Hand over the sum of everything added since the last call; zeros when nothing was."""
        return self._sum.take(clip)

    def close(self) -> None:
        """Take the taps off the model."""
        for layer in self._coverage.layers:
            layer.remove()

    def _squares(self, losses_B: Tensor, *, by_layer: bool) -> Tensor:
        """Squared norm [K, B] of each layer's gradients; K is 1 where they count as a whole."""
        count = max(self._layers.values(), default=0) + 1 if by_layer else 1
        squares_KB = torch.zeros(count, len(losses_B), dtype=torch.float32, device=losses_B.device)
        readers: dict[tuple[int, Hashable], list[tuple[Tensor, Tensor]]] = {}
        for parameter, rule in self._coverage.rules.items():
            layer = self._layers[parameter] if by_layer else 0
            product = rule.lone_product() if isinstance(rule, Matrix) else None
            if product is not None:
                readers.setdefault((layer, _place_of(product[0])), []).append(product)
                continue
            part_B = rule.norms_squared()
            if part_B is not None:
                squares_KB[layer] += part_B
        for (layer, _), products in readers.items():
            squares_KB[layer] += joint_norms_squared(products)
        return squares_KB

    def _weighted_sums(self, factors_KB: Tensor) -> list[Tensor]:
        """The smallest first: what each sum was made of is gone before the next takes its room."""
        sums: dict[nn.Parameter, Tensor] = {}
        for parameter in sorted(self.parameters, key=nn.Parameter.numel):
            rule = self._coverage.rules[parameter]
            factors_B = factors_KB[self._layers[parameter] if len(factors_KB) > 1 else 0]
            target = sums[parameter] = torch.empty_like(parameter, requires_grad=False)
            if isinstance(rule, Matrix):
                rule.write_weighted_sum(factors_B, target)
            else:
                rule.add_weighted_sum(factors_B, target.zero_())
        return [sums[parameter] for parameter in self.parameters]

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        for parameter in self.parameters:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in self.parameters:
                parameter.requires_grad_(True)


def layers_of(model: nn.Module) -> dict[nn.Parameter, int]:
    """The number of the layer of each trained parameter: of the module that holds it first."""
    modules: dict[str, int] = {}
    layers = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            holder = name.rpartition(".")[0]
            layers[parameter] = modules.setdefault(holder, len(modules))
    return layers


def _place_of(values: Tensor) -> Hashable:
    """Where and how a tensor lies in memory: while two are alive, the same for equal ones only."""
    layout = (values.shape, values.stride(), values.dtype, values.device)
    return (values.data_ptr(), *layout)
