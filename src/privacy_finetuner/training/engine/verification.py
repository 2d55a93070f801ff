"""A check on the model at hand, before the first private step.

Rules are written for kinds of layers; a model may call them in ways nobody foresaw. So the engine's
clipped sum is compared with the plainest possible one: each example on its own, ordinary autograd,
clip, add. The probe is public (made of token numbers), so this costs no privacy. It covers what the
probe reaches, no more: see docs/sharp_edges.md, edge 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from privacy_finetuner.errors import ModelLoadError, UnsupportedLayer
from privacy_finetuner.training.engine.clipped_gradient import (
    Batch,
    ClippedGradient,
    PerExampleLoss,
)
from privacy_finetuner.training.engine.clipping import Clip

TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6, torch.bfloat16: 0.1, torch.float16: 0.05}
"""Largest accepted relative error by the type of the weights.

Wrong rules that were measured in other libraries err by 0.015 to 0.9; correct ones by rounding.
The tests, on small models, hold 1e-5.
"""

# Gradients that cancel to zero (a key's bias under softmax) leave rounding of this relative size.
_NOTHING = 1e-6


def verify_against_loop(
    gradient: ClippedGradient,
    loss: PerExampleLoss,
    probe: Batch,
    *,
    tolerance: float | None = None,
) -> float:
    """Compare the engine's clipped sum with a loop over examples on a public probe.

    Guarantee: when it returns, then on the probe every trainable parameter received the gradient
    of exactly its examples, each scaled to at most the clip norm.

    Args:
        gradient: the engine, freshly made; its sum is empty before and after.
        loss: the per-example loss it was made with.
        probe: public inputs of at least two examples, of unequal length where there is padding.
        tolerance: largest accepted relative error; `None` follows the type of the weights.

    Returns:
        The larger relative error of two bounds: one that clips half of the examples, one that
        clips none.

    Raises:
        UnsupportedLayer: the error is above the tolerance; names the worst parameter.
        ModelLoadError: the model's loss on the probe is NaN or infinite: it would never learn, and
            a private run could not say so later without telling something about its records.

    Source: the definition of the clipped sum, Abadi et al. 2016, Algorithm 1.
    """
    model = gradient.model
    if tolerance is None:
        tolerance = TOLERANCE.get(gradient.parameters[0].dtype, 1e-3)
    worst = 0.0
    with _evaluating(model):
        norms = torch.stack([_norm(single) for single in _loop(gradient, loss, probe)])
        for bound in (float(norms.median()), float(norms.max()) * 2):
            clip = Clip(bound if bound > 0 else 1.0)
            found = _engines_sum(gradient, probe, clip)
            expected = _clipped_sum(_loop(gradient, loss, probe), norms, clip)
            error, name = _relative_error(model, gradient.parameters, found, expected)
            if error > tolerance:
                raise UnsupportedLayer(
                    name,
                    "parameter",
                    f"the clipped sum differs from a loop over examples by {error:.2g} "
                    f"(tolerance {tolerance:g}): this model uses a layer in a way that has no rule",
                )
            worst = max(worst, error)
    return worst


def _engines_sum(gradient: ClippedGradient, probe: Batch, clip: Clip) -> list[Tensor]:
    """What the engine makes of the probe; a model that cannot run with taps on has no rule."""
    try:
        gradient.add(probe, clip)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise UnsupportedLayer(
            "model",
            type(gradient.model).__name__,
            f"it fails when every layer gets one row an example ({type(error).__name__})",
        ) from error
    return gradient.take(clip).tensors


def _loop(gradient: ClippedGradient, loss: PerExampleLoss, probe: Batch) -> Iterator[list[Tensor]]:
    """The gradient of each example on its own, by ordinary autograd."""
    count = next(iter(probe.values())).shape[0]
    for i in range(count):
        single = {name: values[i : i + 1] for name, values in probe.items()}
        losses_B, _ = loss(gradient.model, single)
        if not bool(torch.isfinite(losses_B).all()):
            raise ModelLoadError(
                f"the loss of {type(gradient.model).__name__} on public inputs is NaN or infinite; "
                "nothing was started or spent. Load it in float32, or look at its weights"
            )
        found = torch.autograd.grad(losses_B.sum(), gradient.parameters, allow_unused=True)
        yield [
            torch.zeros_like(p) if g is None else g
            for g, p in zip(found, gradient.parameters, strict=True)
        ]


def _norm(tensors: list[Tensor]) -> Tensor:
    return torch.stack([t.float().square().sum() for t in tensors]).sum().sqrt()


def _clipped_sum(singles: Iterator[list[Tensor]], norms: Tensor, clip: Clip) -> list[Tensor]:
    """One gradient at a time: the check needs no more memory than two copies of the weights."""
    total: list[Tensor] = []
    for single, norm in zip(singles, norms.tolist(), strict=True):
        factor = min(1.0, clip.clip_norm / max(norm, 1e-30))
        if not total:
            total = [torch.zeros_like(part, dtype=torch.float32) for part in single]
        for target, part in zip(total, single, strict=True):
            target.add_(part.float(), alpha=factor)
    return total


def _relative_error(
    model: nn.Module, parameters: list[nn.Parameter], found: list[Tensor], expected: list[Tensor]
) -> tuple[float, str]:
    """The whole error relative to the whole sum, and the parameter that errs most.

    Raises:
        UnsupportedLayer: a parameter received nothing where the loop has a gradient for it. Its
            part of the whole may be too small to show in the error; it would silently not train.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    squares = [float((f.float() - e).square().sum()) for f, e in zip(found, expected, strict=True)]
    scale = max(float(_norm(expected)), 1e-30)
    for parameter, part, wanted in zip(parameters, found, expected, strict=True):
        if not bool(part.any()) and float(_norm([wanted])) > _NOTHING * scale:
            raise UnsupportedLayer(
                names[id(parameter)],
                "parameter",
                "no gradient reaches it here, and a loop over examples has one for it: it is used "
                "in a way that has no rule",
            )
    worst = max(range(len(squares)), key=squares.__getitem__)
    return sum(squares) ** 0.5 / scale, names[id(parameters[worst])]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Switch dropout off: the loop and the engine would drop different units."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
