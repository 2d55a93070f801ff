"""The average of the weights along a run: released with less noise than the last of them.

Every step's weights are released, so any function of them is post-processing and costs nothing.
The noise of the last steps is in the last weights in full; in their average it largely cancels.

The average lives in the optimizer's state, one tensor beside each parameter's moments, so a
checkpoint that carries the optimizer carries the average, and a resumed run goes on with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import torch
from torch import nn

from privacy_core.errors import InvalidParameter

# Shamir and Zhang 2013, section 4 (polynomial-decay averaging): with this exponent the average is,
# in effect, over the last tenth to third of the run, however long it is.
_POLYNOMIAL: Final = 8
_KEY: Final = "weight_average"


class WeightAverage:
    """A running average of released weights, kept as `optimizer.state[parameter]`.

    =============  =============================================================================
    rule           weight of the t-th weights (t = 1, 2, ...) on joining
    =============  =============================================================================
    `ema`          1 - min(decay, (1 + t) / (10 + t)): exponential, with the usual warm-up
    `polynomial`   9 / (t + 8), from t = 1 on: needs no decay and no length of the run
    =============  =============================================================================

    Args:
        optimizer: of the run; its state holds the average.
        rule: `ema` or `polynomial`.
        decay: of `ema`, in [0, 1).

    Raises:
        InvalidParameter: an unknown rule, or a decay outside [0, 1).

    Source: De et al. 2022 (arXiv:2204.13650), section 3.2 (exponential, in private training);
    Shamir and Zhang 2013 (arXiv:1212.1824), equation 6 (polynomial).
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, rule: str = "polynomial", *, decay: float = 0.99
    ) -> None:
        if rule not in ("ema", "polynomial"):
            raise InvalidParameter("rule", found=rule, expected="ema or polynomial")
        if not 0 <= decay < 1:
            raise InvalidParameter("decay", found=decay, expected="a number in [0, 1)")
        self._optimizer = optimizer
        self._rule = rule
        self._decay = decay

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """What is averaged: everything that the optimizer moves."""
        return [p for group in self._optimizer.param_groups for p in group["params"]]

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Let the weights after `step` steps (1, 2, ...) join the average.

        Where there is no average yet (the first step), the weights are the average.
        """
        share = self.share(step)
        for parameter in self.parameters:
            state = self._optimizer.state[parameter]
            if _KEY not in state:
                state[_KEY] = parameter.detach().clone()
            else:
                state[_KEY].lerp_(parameter.detach(), share)

    def share(self, step: int) -> float:
        """How much of the average the weights of a step become on joining."""
        if self._rule == "polynomial":
            return (_POLYNOMIAL + 1) / (step + _POLYNOMIAL)
        return 1 - min(self._decay, (1 + step) / (10 + step))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average where the weights are, while the context is open."""
        raw = [p.detach().clone() for p in self.parameters]
        self.settle()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, values in zip(self.parameters, raw, strict=True):
                    parameter.copy_(values)

    @torch.no_grad()
    def settle(self) -> None:
        """Make the average the weights, for good. Before the first step: nothing changes."""
        for parameter in self.parameters:
            average = self._optimizer.state[parameter].get(_KEY)
            if average is not None:
                parameter.copy_(average)
