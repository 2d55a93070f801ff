"""What `learning_rate="auto"` settles: rate, momentum and average, from public numbers alone.

Shapes of the trained weights, and the number of steps. Nothing is tried on private records: trying
rates on them costs budget for each, and choosing by the outcome is a release that nobody prices.

====================  ========================================================================
what                  rule
====================  ========================================================================
rate, trained layers  0.25 over the median width of the trained matrices; the width of a matrix
                      is the geometric mean of its two sides, so that adapters of rank 8 get
                      about ten times the rate of the layers they are put on
rate, one new matrix  6 over the square root of its inputs, at most 1 (unit-length inputs)
first moment's decay  1 - 10 / steps, within 0 and 0.9
average               polynomial
====================  ========================================================================

Where the numbers come from: product opinions (pros_cons, not the records of docs/benchmarks.md), a
Llama of width 64, 40 steps, noise for epsilon 3 at 512 of 10,003, normalised gradients, one seed.
Held-out perplexity 13.6, 12.8, 12.9, 16.1 at rates 0.002, 0.003, 0.004, 0.008 with decay 0.9; at
0.004, 12.4 with decay 0.7, and 12.2 with the average as well. The head's rate is from the records
of docs/benchmarks.md itself, seed 0: 0.1, 0.2, 0.3, 0.5 were tried on 384 inputs.

That a good rate falls like one over the width, and so what is said about widths that were not
measured, is Yang et al. 2022 (arXiv:2203.03466, table 8, Adam). Epsilon is not in the rule: it acts
through the noise, which Adam divides out, and between epsilon 1 and 8 the best rate of the head
stayed the same.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Final

from privacy_finetuner.errors import ConfigurationError

_ADAPTIVE: Final = ("adamw", "adam", "adambc", "nadam", "radam", "adamax")
_RATE_BY_WIDTH: Final = 0.25
_RATE_OF_A_HEAD: Final = 6.0
_NEW_HEAD_MOST: Final = 1.0
_MOMENTUM_STEPS: Final = 10
_MOMENTUM_MOST: Final = 0.9


def public_learning_rate(optimizer: str, shapes: Sequence[Sequence[int]]) -> float:
    """A peak rate for trained parameters of these shapes.

    Raises:
        ConfigurationError: the optimizer is not of Adam's kind: its rate has another unit, and no
            rule for it was measured; nothing was started.
    """
    if optimizer not in _ADAPTIVE:
        raise ConfigurationError(
            f"learning_rate 'auto' has a rule for {', '.join(_ADAPTIVE)}, found {optimizer!r}; "
            "give a number; nothing was started"
        )
    sides = [(shape[0], math.prod(shape[1:])) for shape in shapes if len(shape) > 1]
    if len(sides) == 1:
        return min(_RATE_OF_A_HEAD / math.sqrt(sides[0][1]), _NEW_HEAD_MOST)
    widths = [math.sqrt(a * b) for a, b in sides] or [1.0 * max(s[0] for s in shapes if s)]
    return _RATE_BY_WIDTH / statistics.median(widths)


def public_momentum(steps: int) -> float:
    """Decay of the first moment: it looks back over a tenth of the run at most.

    Longer memories average more noise away, but in a run of 40 steps a memory of ten is a lag.
    """
    return min(_MOMENTUM_MOST, max(0.0, 1 - _MOMENTUM_STEPS / steps))
