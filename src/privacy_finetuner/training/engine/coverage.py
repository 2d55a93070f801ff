"""Which rule prices which parameter: every trainable parameter has one, or training is refused.

========================================  ====================================================
a module that                             gets
========================================  ====================================================
is an `nn.Linear` or a GPT-2 `Conv1D`     `Matrix` for the weight, `Instantiated` for the bias
is an `nn.Embedding`, scaled or plain     `Matrix`, exact also when tied to a linear layer
is a convolution without groups           the same as a linear layer, on its unfolded input
is affine in a vector (LayerNorm,         `Instantiated`; the affinity is checked on a probe,
RMSNorm in all its spellings)             never assumed from the name of the class
holds fused experts (Mixtral and kin)     `ExpertMatrix`: products by expert and example
broadcasts a table of relative positions  `Instantiated`, from a copy for each example
(T5, DeBERTa)
uses its parameters by itself (routers,   the functions it calls are tapped; where they are
positions by keyword, DoRA, IA3, scales)  unknown, `torch.func.vmap` over examples
mixes examples (BatchNorm)                a refusal
========================================  ====================================================

No rule asks for an exact class: subclasses are covered, and `verification` compares the outcome
with a plain loop over examples on the model at hand before the first private step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from privacy_finetuner.errors import UnsupportedLayer
from privacy_finetuner.training.engine import layers
from privacy_finetuner.training.engine.experts import (
    ExpertBias,
    ExpertMatrix,
    FusedExperts,
    is_fused_experts,
)
from privacy_finetuner.training.engine.functional import Undecided
from privacy_finetuner.training.engine.own_forward import OwnForward
from privacy_finetuner.training.engine.rules import Instantiated, Matrix
from privacy_finetuner.training.engine.tables import BiasTable, PromptTable, SharedTable
from privacy_finetuner.training.engine.tap import (
    Examples,
    InputWidths,
    Listener,
    Record,
    TappedLayer,
)

Rule = TypeVar("Rule", bound="ParameterRule")


class ParameterRule(Protocol):
    """Per-example gradients of one parameter."""

    def norms_squared(self) -> Tensor | None:
        """Squared L2 norm of each example's gradient, or `None` when the parameter was not used."""
        ...

    def add_weighted_sum(self, factors_B: Tensor, target: Tensor) -> None:
        """Add `sum_b factors[b] * gradient[b]` to `target`, then forget what was recorded."""
        ...

    def clear(self) -> None:
        """Forget what was recorded."""
        ...


# They hold parameters for the module around them and are never called.
_CONTAINERS = (nn.ParameterDict, nn.ParameterList, nn.ModuleList, nn.ModuleDict)


@dataclass(slots=True)
class Coverage:
    """The taps on a model, and the rule of each trainable parameter."""

    layers: list[Listener] = field(default_factory=list)
    rules: dict[nn.Parameter, ParameterRule] = field(default_factory=dict)

    @property
    def kinds(self) -> dict[str, str]:
        """The rule of each layer with trainable parameters, by the layer's name."""
        return {layer.name: layer.kind for layer in self.layers if layer.kind}


def cover(model: nn.Module) -> Coverage:
    """Find a rule for every trainable parameter of `model` and tap its layers.

    Raises:
        UnsupportedLayer: a layer mixes examples, or options of it have no rule. No hook is left.
    """
    refuse_mixing(model)
    plan = _Plan(model)
    try:
        for name, module in model.named_modules():
            plan.add_tables(name, module)
        for name, module, own in _owners(model):
            plan.users.update({p: plan.users.get(p, 0) + 1 for p in own.values()})
            plan.add(name, module, own)
    except UnsupportedLayer:
        for layer in plan.coverage.layers:
            layer.remove()
        raise
    for parameter, count in plan.users.items():
        rule = plan.coverage.rules[parameter]
        if isinstance(rule, Matrix):
            rule.is_shared = count > 1
    return plan.coverage


def refuse_mixing(model: nn.Module) -> None:
    """Refuse a model in which one example's output depends on another example.

    Refused as well: hooks on trainable weights (`wandb.watch`), which would be shown gradients
    before they are clipped and noised.

    Raises:
        UnsupportedLayer: names the first such layer.
    """
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter._backward_hooks:
            raise UnsupportedLayer(
                name,
                "parameter",
                "a hook watches its gradient, which is private before the noise; take the hook off",
            )
    for name, module in model.named_modules():
        mixes = isinstance(module, nn.modules.batchnorm._BatchNorm) or (
            isinstance(module, nn.modules.instancenorm._InstanceNorm) and module.track_running_stats
        )
        if mixes:
            raise UnsupportedLayer(
                name,
                type(module).__name__,
                "it mixes the examples of a batch, so clipping single examples cannot bound the "
                "influence of one; use LayerNorm or GroupNorm",
            )


def _owners(model: nn.Module) -> Iterator[tuple[str, nn.Module, dict[str, nn.Parameter]]]:
    """Every module with trainable parameters that its own forward uses, containers' included."""
    for name, module in model.named_modules():
        if isinstance(module, _CONTAINERS):
            continue
        own = {n: p for n, p in module.named_parameters(recurse=False) if p.requires_grad}
        for child_name, child in module.named_children():
            if isinstance(child, nn.ParameterDict | nn.ParameterList):
                own |= {
                    f"{child_name}.{n}": p for n, p in child.named_parameters() if p.requires_grad
                }
        if own:
            yield name, module, own


class _Quiet:
    """Silences the taps while a rule itself calls the module."""

    def __init__(self) -> None:
        self._depth = 0

    def is_on(self) -> bool:
        return self._depth > 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1


class _Plan:
    """Chooses rules, one module after the other."""

    def __init__(self, model: nn.Module) -> None:
        self.coverage = Coverage()
        self.users: dict[nn.Parameter, int] = {}
        self._examples = Examples()
        self._quiet = _Quiet()
        self._claimed: set[nn.Module] = set()
        self.coverage.layers.append(InputWidths(model, self._examples))

    def add_tables(self, name: str, module: nn.Module) -> None:
        """Tap a table of relative positions where its module broadcasts it."""
        if not any(p.requires_grad for p in module.parameters()):
            return
        if PromptTable.fits(module):
            self.coverage.layers.append(PromptTable(module, self._examples))
        for kind, attribute in (
            (BiasTable, "relative_attention_bias"),
            (SharedTable, "rel_embeddings"),
        ):
            if kind.fits(module):
                embedding = getattr(module, attribute)
                self._claimed.add(embedding)
                weight = embedding.weight if embedding.weight.requires_grad else None
                table = self._instantiated(weight)
                self.coverage.layers.append(
                    kind(f"{name}.{attribute}", module, table, self._examples)
                )

    def add(self, name: str, module: nn.Module, own: dict[str, nn.Parameter]) -> None:
        """Choose the rules of one module's own parameters, and tap it."""
        if module in self._claimed:
            return
        weight, bias = own.get("weight"), own.get("bias")
        if isinstance(module, nn.Linear | Conv1D) and set(own) <= {"weight", "bias"}:
            matrix = self._matrix(weight, transposed=isinstance(module, Conv1D))
            self._tap(name, module, "matrix", layers.dense(matrix, self._instantiated(bias)))
        elif isinstance(module, nn.Embedding):
            self._add_look_up(name, module, own["weight"])
        elif isinstance(module, nn.Conv1d | nn.Conv2d) and layers.is_plain_convolution(module):
            kernel = None if weight is None else self._rule(weight, layers.Kernel(weight))
            record = layers.convolution(module, kernel, self._instantiated(bias))
            self._tap(name, module, "convolution", record)
        elif is_fused_experts(module):
            self._add_experts(name, module, own)
        elif layers.is_affine(module, own, self._quiet):
            parts = self._instantiated(weight), self._instantiated(bias)
            self._tap(name, module, "affine", layers.affine(module, *parts, self._quiet))
        else:
            self._add_own_forward(name, module, own)

    def _tap(self, name: str, module: nn.Module, kind: str, record: Record) -> None:
        self.coverage.layers.append(
            TappedLayer(name, module, record, self._examples, kind=kind, is_quiet=self._quiet.is_on)
        )

    def _add_look_up(self, name: str, module: nn.Embedding, weight: nn.Parameter) -> None:
        if module.max_norm is not None or module.scale_grad_by_freq or module.sparse:
            raise UnsupportedLayer(
                name,
                type(module).__name__,
                "max_norm, scale_grad_by_freq and sparse change the "
                "table or its gradient from the whole batch",
            )
        table = self._rule(weight, Matrix(weight))
        if type(module).forward is nn.Embedding.forward:
            self._tap(name, module, "look-up", layers.look_up(table, module.padding_idx))
        else:  # positions by keyword (OPT), rows with a factor (Gemma)
            self._listen_inside(name, module, {"weight": weight}, {weight: table})

    def _add_experts(self, name: str, module: nn.Module, own: dict[str, nn.Parameter]) -> None:
        is_transposed = bool(getattr(module, "is_transposed", False))
        rules: dict[nn.Parameter, ExpertMatrix | ExpertBias] = {}
        for parameter in own.values():
            rules[parameter] = (
                self._rule(parameter, ExpertMatrix(parameter, transposed=is_transposed))
                if parameter.ndim == 3
                else self._rule(parameter, ExpertBias(parameter))
            )
        self.coverage.layers.append(FusedExperts(name, module, own, rules, self._examples))

    def _add_own_forward(self, name: str, module: nn.Module, own: dict[str, nn.Parameter]) -> None:
        rules: dict[nn.Parameter, Undecided | Matrix] = {}
        for parameter in own.values():
            found = self.coverage.rules.get(parameter)
            if isinstance(found, Matrix):  # tied to a layer
                rules[parameter] = found
            else:
                rules[parameter] = self._rule(parameter, Undecided(parameter))
        self._listen_inside(name, module, own, rules)

    def _listen_inside(
        self,
        name: str,
        module: nn.Module,
        own: dict[str, nn.Parameter],
        rules: dict[nn.Parameter, Undecided | Matrix],
    ) -> None:
        self.coverage.layers.append(
            OwnForward(
                name,
                module,
                own,
                rules,
                self._examples,
                quiet=self._quiet,
                is_quiet=self._quiet.is_on,
            )
        )

    def _matrix(self, weight: nn.Parameter | None, *, transposed: bool) -> Matrix | None:
        return None if weight is None else self._rule(weight, Matrix(weight, transposed=transposed))

    def _instantiated(self, parameter: nn.Parameter | None) -> Instantiated | None:
        return None if parameter is None else self._rule(parameter, Instantiated(parameter))

    def _rule(self, parameter: nn.Parameter, new: Rule) -> Rule:
        """The rule of a parameter; uses of one parameter by several layers share it."""
        found = self.coverage.rules.setdefault(parameter, new)
        if not isinstance(found, type(new)):
            raise UnsupportedLayer(
                "weight", "shared parameter", "it is shared between layers of unlike kinds"
            )
        return found
