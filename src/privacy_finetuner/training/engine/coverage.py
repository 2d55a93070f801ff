"""Which rule prices which layer: every trainable parameter has one, or training is refused.

========================================  ====================================================
a module that                             gets
========================================  ====================================================
is an `nn.Linear` or a GPT-2 `Conv1D`     `Matrix` for the weight, `Instantiated` for the bias
is an `nn.Embedding`, scaled or plain     `Matrix`, exact also when tied to a linear layer
is affine in a vector (LayerNorm,         `Instantiated`; the affinity is checked on a probe,
RMSNorm in all its spellings)             never assumed from the name of the class
holds other parameters, and takes and     `Instantiated`, by `torch.func.vmap` over examples
gives one tensor
mixes examples (BatchNorm)                a refusal
========================================  ====================================================

No rule asks for an exact class: subclasses are covered, and `verification` compares the outcome
with a plain loop over examples on the model at hand before the first private step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from transformers.pytorch_utils import Conv1D

from privacy_finetuner.errors import UnsupportedLayer
from privacy_finetuner.training.engine.rules import Instantiated, Matrix
from privacy_finetuner.training.engine.tap import Record, TappedLayer

ParameterRule = Instantiated | Matrix


@dataclass(slots=True)
class Coverage:
    """The taps on a model, and the rule of each trainable parameter."""

    layers: list[TappedLayer] = field(default_factory=list)
    rules: dict[nn.Parameter, ParameterRule] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)


def cover(model: nn.Module) -> Coverage:
    """Find a rule for every trainable parameter of `model` and tap its layers.

    Raises:
        UnsupportedLayer: a layer mixes examples, or options of it have no rule. No hook is left.
    """
    refuse_mixing(model)
    coverage = Coverage()
    quiet = _Quiet()
    users: dict[nn.Parameter, int] = {}
    try:
        for name, module in model.named_modules():
            own = {n: p for n, p in module.named_parameters(recurse=False) if p.requires_grad}
            if not own:
                continue
            for parameter in own.values():
                users[parameter] = users.get(parameter, 0) + 1
            kind, record = _recorder(name, module, own, coverage.rules, quiet)
            coverage.kinds[name] = kind
            coverage.layers.append(TappedLayer(name, module, record, quiet.is_on))
    except UnsupportedLayer:
        for layer in coverage.layers:
            layer.remove()
        raise
    for parameter, count in users.items():
        rule = coverage.rules[parameter]
        if isinstance(rule, Matrix):
            rule.is_shared = count > 1
    return coverage


def refuse_mixing(model: nn.Module) -> None:
    """Refuse a model in which one example's output depends on another example.

    Raises:
        UnsupportedLayer: names the first such layer.
    """
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


def _recorder(
    name: str,
    module: nn.Module,
    own: dict[str, nn.Parameter],
    rules: dict[nn.Parameter, ParameterRule],
    quiet: _Quiet,
) -> tuple[str, Record]:
    if isinstance(module, nn.Linear | Conv1D) and set(own) <= {"weight", "bias"}:
        return "matrix", _dense_recorder(own, rules, transposed=isinstance(module, Conv1D))
    if isinstance(module, nn.Embedding):
        if module.max_norm is not None or module.scale_grad_by_freq or module.sparse:
            raise UnsupportedLayer(
                name,
                type(module).__name__,
                "max_norm, scale_grad_by_freq and sparse change the "
                "table or its gradient from the whole batch",
            )
        matrix = _matrix(rules, own["weight"], transposed=False)
        padding, scale = module.padding_idx, _look_up_scale(module, quiet)

        def look_up(rows: Tensor, gradients: Tensor) -> None:
            scaled = gradients if scale == 1 else gradients * scale
            matrix.add_look_up(rows, scaled, ignored_row=padding)

        return "look-up", look_up
    if _is_affine(module, own, quiet):
        return "affine", _affine_recorder(module, own, rules, quiet)
    return "vmap", _vmap_recorder(name, module, own, rules, quiet)


def _matrix(
    rules: dict[nn.Parameter, ParameterRule], weight: nn.Parameter, *, transposed: bool
) -> Matrix:
    rule = rules.setdefault(weight, Matrix(weight, transposed=transposed))
    if not isinstance(rule, Matrix):
        raise UnsupportedLayer("weight", "shared parameter", "it is shared between unlike layers")
    return rule


def _instantiated(
    rules: dict[nn.Parameter, ParameterRule], parameter: nn.Parameter
) -> Instantiated:
    rule = rules.setdefault(parameter, Instantiated(parameter))
    if not isinstance(rule, Instantiated):
        raise UnsupportedLayer("weight", "shared parameter", "it is shared between unlike layers")
    return rule


def _dense_recorder(
    own: dict[str, nn.Parameter], rules: dict[nn.Parameter, ParameterRule], *, transposed: bool
) -> Record:
    weight = _matrix(rules, own["weight"], transposed=transposed) if "weight" in own else None
    bias = _instantiated(rules, own["bias"]) if "bias" in own else None

    def record(inputs: Tensor, gradients: Tensor) -> None:
        if weight is not None:
            weight.add_dense(inputs, gradients)
        if bias is not None:
            bias.add(_summed_over_positions(gradients))

    return record


def _affine_recorder(
    module: nn.Module,
    own: dict[str, nn.Parameter],
    rules: dict[nn.Parameter, ParameterRule],
    quiet: _Quiet,
) -> Record:
    weight = _instantiated(rules, own["weight"]) if "weight" in own else None
    bias = _instantiated(rules, own["bias"]) if "bias" in own else None
    slope = _slope(module, quiet)

    def record(inputs: Tensor, gradients: Tensor) -> None:
        if weight is not None:
            weight.add(_summed_over_positions(slope(inputs) * gradients))
        if bias is not None:
            bias.add(_summed_over_positions(gradients))

    return record


def _vmap_recorder(
    name: str,
    module: nn.Module,
    own: dict[str, nn.Parameter],
    rules: dict[nn.Parameter, ParameterRule],
    quiet: _Quiet,
) -> Record:
    targets = {n: _instantiated(rules, parameter) for n, parameter in own.items()}

    def loss_of_one(
        parameters: dict[str, Tensor], one_input: Tensor, one_gradient: Tensor
    ) -> Tensor:
        output: Tensor = functional_call(module, parameters, (one_input.unsqueeze(0),)).squeeze(0)
        return (output * one_gradient).sum()

    per_example = vmap(grad(loss_of_one), in_dims=(None, 0, 0), randomness="error")

    def record(inputs: Tensor, gradients: Tensor) -> None:
        with quiet(), torch.enable_grad():
            values = {n: parameter.detach() for n, parameter in own.items()}
            try:
                found = per_example(values, inputs, gradients)
            except RuntimeError as error:
                raise UnsupportedLayer(
                    name, type(module).__name__, "vmap cannot run it (dropout inside, or in place)"
                ) from error
            for n, gradients_B in found.items():
                targets[n].add(gradients_B)

    return record


def _slope(module: nn.Module, quiet: _Quiet) -> Callable[[Tensor], Tensor]:
    """What the weight of an affine layer is multiplied with: f(x; 1) - f(x; 0)."""
    zeros = {n: torch.zeros_like(p) for n, p in module.named_parameters(recurse=False)}
    ones = dict(zeros)
    if "weight" in zeros:
        ones["weight"] = torch.ones_like(zeros["weight"])

    def slope(inputs: Tensor) -> Tensor:
        with quiet(), torch.no_grad():
            high: Tensor = functional_call(module, ones, (inputs,))
            low: Tensor = functional_call(module, zeros, (inputs,))
        return high - low

    return slope


def _look_up_scale(module: nn.Embedding, quiet: _Quiet) -> float:
    """What a table multiplies its rows with (Gemma: the root of the width); 1 for a plain one."""
    if type(module).forward is nn.Embedding.forward:
        return 1.0
    rows = torch.arange(min(8, module.num_embeddings), device=module.weight.device)
    try:
        with quiet(), torch.no_grad():
            found = module(rows).float()
            plain = module.weight[rows].float()
    except (TypeError, RuntimeError, ValueError, AttributeError, LookupError):
        return 1.0  # it wants another kind of input: verification decides about it
    ratio = float((found * plain).sum() / plain.square().sum().clamp(min=1e-30))
    return ratio if torch.allclose(found, plain * ratio, rtol=1e-3) and ratio else 1.0


def _is_affine(module: nn.Module, own: dict[str, nn.Parameter], quiet: _Quiet) -> bool:
    """Whether f(x; w, b) = f(x; 0, 0) + w * slope(x) + b on a fixed probe, for a vector w."""
    every = dict(module.named_parameters(recurse=False))
    width = next(iter(own.values())).shape
    if not set(every) <= {"weight", "bias"} or any(p.shape != width for p in every.values()):
        return False
    if len(width) != 1 or any(True for _ in module.children()):
        return False
    size = width[0]
    first = next(iter(own.values()))
    ramp = torch.arange(6 * size, dtype=torch.float32, device=first.device)
    probe = torch.sin(ramp * 1.7 + 0.3).reshape(2, 3, size).to(first.dtype)
    values = {
        n: torch.cos(ramp[:size] * (2.3 + i)).to(first.dtype) for i, n in enumerate(sorted(every))
    }
    zeros = {n: torch.zeros_like(v) for n, v in values.items()}
    try:
        with quiet(), torch.no_grad():
            found = functional_call(module, values, (probe,))
            base = functional_call(module, zeros, (probe,))
            expected = base + _slope(module, quiet)(probe) * values.get("weight", 0.0)
            expected = expected + values.get("bias", 0.0)
    except (TypeError, RuntimeError, ValueError, AttributeError):
        return (
            False  # it wants another kind of input: not an affine layer; vmap or a refusal follow
        )
    return (
        isinstance(found, Tensor)
        and found.shape == probe.shape
        and torch.allclose(found.float(), expected.float(), rtol=1e-3, atol=1e-3)
    )


def _summed_over_positions(values: Tensor) -> Tensor:
    """[B, ..., D] to [B, D], in float32."""
    return values.reshape(values.shape[0], -1, values.shape[-1]).sum(dim=1, dtype=torch.float32)
