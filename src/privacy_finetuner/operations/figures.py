"""Which figures of a run may be looked at, and what becomes of the others.

================================================  ================================================
a figure that is                                  is
================================================  ================================================
public: epsilon spent and planned, clip norm,     looked at
step, scores on public records (`eval_...`)
released with noise: loss, accuracy, gradient     looked at
norm, clipping rate of an epoch
computed from single records or a batch:          refused by `PrivateFigure`; nothing is judged
`per_example_...`, `batch_loss`, a tensor, a list
unknown                                           not looked at; `get_security_summary` names it
================================================  ================================================

Whether a number that is called `accuracy` was released or not cannot be seen from the number: what
the trainer hands to callbacks and keeps in `TrainingHistory` was. Who computes one on private
records and passes it here publishes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Final

from privacy_core.errors import InvalidParameter
from privacy_finetuner.operations.errors import PrivateFigure

_NAMES: Final[Mapping[str, str]] = {
    "privacy_epsilon_used": "epsilon_used",
    "epsilon_used": "epsilon_used",
    "epsilon": "epsilon_used",
    "privacy_epsilon_total": "epsilon_total",
    "epsilon_total": "epsilon_total",
    "epsilon_planned": "epsilon_total",
    "gradient_l2_norm": "gradient_norm",
    "gradient_norm": "gradient_norm",
    "mean_gradient_norm": "gradient_norm",
    "mean_gradient_norm_std": "gradient_norm_std",
    "clip_norm": "clip_norm",
    "max_grad_norm": "clip_norm",
    "accuracy": "accuracy",
    "accuracy_std": "accuracy_std",
    "step": "step",
}
_QUIET: Final = frozenset(
    {"current_loss", "loss", "loss_std", "clipping_rate", "clipping_rate_std", "learning_rate"}
    | {"delta", "epoch", "steps", "eta_s"}
)
"""Known, and no rule needs them: a loss has no unit that tells an attack from a hard record."""
_PRIVATE: Final = re.compile(
    r"(^|_)(per_(example|sample|record|token)|raw|exact|unclipped|unreleased|batch|example|sample|"
    r"logits?|labels?|records?|texts?|prompts?|outside_guarantee)(_|$|s_)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """What is public or released of a run, under one name each; None: not given."""

    epsilon_used: float | None = None
    epsilon_total: float | None = None
    gradient_norm: float | None = None
    gradient_norm_std: float | None = None
    clip_norm: float | None = None
    accuracy: float | None = None
    accuracy_std: float | None = None
    step: float | None = None


def figures_of(metrics: Mapping[str, Any]) -> tuple[RunFigures, tuple[str, ...]]:
    """Read the figures of a run; the names of those that nothing looks at come back beside.

    Raises:
        PrivateFigure: one was never released.
        InvalidParameter: one is not a finite number.
    """
    for name, value in metrics.items():
        is_scalar = value is None or isinstance(value, Real)
        if (_PRIVATE.search(name) and not name.startswith("eval_")) or not is_scalar:
            raise PrivateFigure(name)
    found: dict[str, float] = {}
    ignored = []
    for name, value in metrics.items():
        known = _NAMES.get(name)
        if known is None and name not in _QUIET:
            ignored.append(name)
        if known is None or value is None:
            continue
        number = float(value)
        if not number < float("inf") or number < 0:
            raise InvalidParameter(name, found=number, expected="a finite number, 0 or above")
        found[known] = number
    return RunFigures(**found), tuple(sorted(ignored))
