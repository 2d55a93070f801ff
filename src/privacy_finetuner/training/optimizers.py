"""Optimizers by name. They see noisy gradients only, so all of this is post-processing.

===================  ===========================================================================
name                 is
===================  ===========================================================================
of a `torch.optim`   that class, lower case: `adamw`, `sgd`, `rmsprop`, `nadam`, ...
class
`adambc`             AdamW whose second moment is rid of the noise's share: `AdamBC` below
`lbfgs`              refused: it evaluates the loss again within a step, and nothing prices that
`sparseadam`         refused: it takes sparse gradients, and noise is dense
`muon`               refused for parameters that are not matrices: it takes no others
===================  ===========================================================================
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from privacy_core.errors import InvalidParameter
from privacy_finetuner.config import TrainingConfig
from privacy_finetuner.errors import ConfigurationError

REFUSED: Final[Mapping[str, str]] = {
    "lbfgs": "it evaluates the loss again within a step, and no plan prices that",
    "sparseadam": "it takes sparse gradients, and noise is dense",
}
NOISE_STD: Final = "noise_std"
"""Key of a parameter group that wants the noise of a step's mean gradient, in its units."""


class AdamBC(torch.optim.Optimizer):
    """AdamW with the second moment corrected for the noise that privacy added.

    Noise of variance s^2 in the gradient adds s^2 to the expected second moment. Where it dominates
    the moment, Adam divides every coordinate by the same number and becomes momentum with a tiny
    rate. Here the noise's variance, which is public, is averaged beside the second moment and taken
    off:

        update = m / sqrt(max(v - noise_variance, floor^2 * noise_variance))

    with m, v and the noise's variance all bias-corrected. Without noise (`noise_std` 0) this is
    AdamW with `eps` inside the square root.

    The caller writes the standard deviation of the coming step's noise, per coordinate of the mean
    gradient, into `param_groups[i]["noise_std"]`.

    Args:
        params: what to move.
        lr: step size, >= 0.
        betas: decay of the first and second moment, each in [0, 1).
        floor: least corrected standard deviation, relative to that of the noise; > 0.
        eps: least corrected standard deviation, absolute; > 0.
        weight_decay: decoupled, >= 0.

    Raises:
        InvalidParameter: a number is outside its domain.

    Source: Tang et al. 2024 (AAAI; arXiv:2312.14334), Algorithm 1. Their floor is an absolute
    number to tune; ours is relative to the noise, so that it does not depend on clip norm or batch.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        floor: float = 0.3,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        for name, value in (("betas[0]", betas[0]), ("betas[1]", betas[1])):
            if not 0 <= value < 1:
                raise InvalidParameter(name, found=value, expected="a number in [0, 1)")
        for name, value in (("floor", floor), ("eps", eps)):
            if not 0 < value < math.inf:
                raise InvalidParameter(name, found=value, expected="a finite number > 0")
        defaults = {
            "lr": lr,
            "betas": betas,
            "floor": floor,
            "eps": eps,
            "weight_decay": weight_decay,
            NOISE_STD: 0.0,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no second look at the data
        """Move every parameter that has a gradient."""
        if closure is not None:
            raise InvalidParameter("closure", found="a function", expected="none: it is not priced")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)

    def _move(self, parameter: nn.Parameter, gradient: Tensor, group: Mapping[str, Any]) -> None:
        state, (beta1, beta2) = self.state[parameter], group["betas"]
        if "step" not in state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["noise_variance"] = torch.zeros((), dtype=torch.float32)
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - beta1)
        state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        state["noise_variance"] *= beta2
        state["noise_variance"] += (1 - beta2) * group[NOISE_STD] ** 2
        step = float(state["step"])
        known = float(state["noise_variance"]) / (1 - beta2**step)
        least = max(group["floor"] ** 2 * known, group["eps"] ** 2)
        scale = (state["square"] / (1 - beta2**step)).sub_(known).clamp_(min=least).sqrt_()
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.addcdiv_(state["mean"], scale, value=-group["lr"] / (1 - beta1**step))


def known_optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    """Every optimizer that a run may name."""
    found: dict[str, type[torch.optim.Optimizer]] = {"adambc": AdamBC}
    for name, kind in vars(torch.optim).items():
        is_optimizer = inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer)
        if is_optimizer and kind is not torch.optim.Optimizer and name.lower() not in REFUSED:
            found[name.lower()] = kind
    return found


def make_optimizer(
    training: TrainingConfig, parameters: Sequence[nn.Parameter]
) -> torch.optim.Optimizer:
    """Build the optimizer that a run names, with its options. The loop sets its rate every step.

    Raises:
        ConfigurationError: refused, unknown, or options that it does not take; nothing was started.
    """
    name, known = training.optimizer.lower(), known_optimizers()
    if name in REFUSED:
        raise ConfigurationError(
            f"optimizer {name!r} is refused: {REFUSED[name]}; nothing was started"
        )
    if name not in known:
        raise ConfigurationError(
            f"optimizer is {name!r}, expected one of {', '.join(sorted(known))}; "
            "nothing was started"
        )
    kind = known[name]
    taken = set(inspect.signature(kind.__init__).parameters) - {"self", "params", "lr"}
    keywords: dict[str, Any] = dict(training.optimizer_options or {})
    # A class's own default decay (AdamW: 0.01) would be a choice that nobody made.
    if "weight_decay" in taken or training.weight_decay:
        keywords["weight_decay"] = training.weight_decay
    unknown = sorted(set(keywords) - taken)
    if unknown:
        raise ConfigurationError(
            f"optimizer {name!r} has no option {unknown[0]!r}, expected one of "
            f"{', '.join(sorted(taken))}; nothing was started"
        )
    rate = training.learning_rate
    keywords["lr"] = 1e-3 if isinstance(rate, str) else rate
    try:
        return kind(parameters, **keywords)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"optimizer {name!r} refuses its options: {error}; nothing was started"
        ) from error
