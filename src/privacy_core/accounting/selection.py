"""Running a private act a random number of times and releasing only the best output.

The best of a fixed number of runs may cost nearly as much as all their outputs together. A random
number whose law spreads over all scales hides how lucky the winner had to be: pure epsilon becomes
at most three times that of one run at the geometric law, twice at the logarithmic, however many
runs are expected. So a search over hyper-parameters has a price that grows slowly with its length.

========================  =========  ===========================  ==========================
law of the number         shape      mean                         source, arXiv:2110.03620
========================  =========  ===========================  ==========================
truncated neg. binomial   h > -1     h (1-g) / (g (1 - g^h))      Definition 1, Theorem 2
geometric                 1          1 / g                        the same
logarithmic               0          (1/g - 1) / log(1/g)         the same
Poisson                   (none)     m                            Theorem 6
========================  =========  ===========================  ==========================

**Why** (the whole proof is short). Let f be the generating function of the number of runs, and z
the chance that one run is worse than y. The best is y with probability q(y) f'(z) (with z uniform
over the jump where y is an atom). So by convexity, with z and z' the chances under two neighbours,

    e^((a-1) D_a) <= e^((a-1) d_a) sup f'(z)^a f'(z')^(1-a),    d_a: of one run,

over all z, z' that post-processing of one run permits. For the truncated negative binomial
f'(z) = E[K] (g / (1 - (1-g) z))^(1+h) <= E[K], so what remains is a ratio of tails, w = 1 - z:

    ratio = ((g + (1-g) w') / (g + (1-g) w))^(1+h).

*Renyi* at an order b bounds w' by (w e^(d_b))^(1-1/b): log ratio <= (1+h) ((1-1/b) d_b
+ log(1/g) / b), Theorem 2; every b >= 1 holds, the least is taken. *Pure* epsilon bounds w' by
w e^epsilon and z by z' e^epsilon; the ratio is largest where both are equalities, at
w = 1 / (1 + e^epsilon) = z': log ratio <= (1+h) log((e^epsilon + g) / (1 + g e^epsilon)). That is
below (1+h) epsilon of Corollary 3, and attained by an outcome that is rare and lies between two
that are not.

For Poisson f'(z) = m e^(-m w). Where w' <= e^t w + delta with t = log(a / (a-1)) the supremum is
m e^((a-1) m delta), Theorem 6; pure epsilon gives m (w' - w) <= m tanh(epsilon / 2). No run at all
releases a constant: it adds P(K = 0) = e^-m to the moment, which is kept here as a term of its own,
so that means below 1 are priced too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from privacy_core.accounting.dominating_pairs import Vector
from privacy_core.dp_events import DpEvent, PoissonSelection, Selection
from privacy_core.errors import InvalidParameter

_NEAR_ZERO: Final = 1e-8
_ROUNDS: Final = 200
_RUNS_MOST: Final = 1_000_000


def selection_curve(
    event: Selection | PoissonSelection,
    orders: Vector,
    inner: Vector,
    inner_pure: float,
    inner_delta: Callable[[float], float],
) -> Vector:
    """The Renyi bound of a selection on ascending orders above 1.

    Guarantee: an upper bound at every order, never above the pure price.

    Args:
        event: its law is read, not its act.
        orders: Renyi orders, ascending, > 1.
        inner: an upper bound on the divergence of one run at each, both ways between neighbours.
        inner_pure: the epsilon of one run at delta = 0; inf where there is none.
        inner_delta: from an epsilon to a delta of one run, an upper bound both ways.
    """
    match event:
        case Selection():
            spread = min(_renyi_spread(event, orders, inner), _pure_spread(event, inner_pure))
            curve = inner + spread + math.log(mean_runs(event)) / (orders - 1)
        case PoissonSelection(_, mean):
            epsilons = np.log1p(1 / (orders - 1))  # Theorem 6's, for each order
            deltas = [0.0 if e >= inner_pure else inner_delta(float(e)) for e in epsilons]
            log_moments = (orders - 1) * (inner + mean * np.array(deltas)) + math.log(mean)
            curve = np.logaddexp(-mean, log_moments) / (orders - 1)
    # Divergences rise with the order: what bounds a higher one bounds the lower ones as well.
    monotone: Vector = np.minimum.accumulate(curve[::-1])[::-1]
    return np.clip(monotone, 0.0, selection_pure_epsilon(event, inner_pure))


def selection_pure_epsilon(event: Selection | PoissonSelection, inner_pure: float) -> float:
    """The epsilon of a selection at delta = 0 from that of one run; inf from inf."""
    if inner_pure == math.inf:
        return math.inf
    match event:
        case Selection():
            return inner_pure + _pure_spread(event, inner_pure)
        case PoissonSelection(_, mean):
            return inner_pure + mean * math.tanh(inner_pure / 2)


def mean_runs(event: Selection | PoissonSelection) -> float:
    """The expected number of runs. Public: it does not depend on the data."""
    if isinstance(event, PoissonSelection):
        return event.mean
    return _mean(event.shape, event.stopping_probability)


def selection_with_mean(event: DpEvent, *, shape: float, mean: float) -> Selection:
    """The truncated negative binomial selection of a shape that expects `mean` runs.

    Raises:
        InvalidParameter: `mean` is below 1 or above 10^6, or `shape` is not above -1.
    """
    if not 1 <= mean <= _RUNS_MOST:
        raise InvalidParameter("mean", found=mean, expected=f"a number in [1, {_RUNS_MOST}]")
    low, high = math.log(1e-300), 0.0  # of the stopping probability; the mean falls with it
    Selection(event, shape, 1.0)  # refuses the shape
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        if _mean(shape, math.exp(middle)) > mean:
            low = middle
        else:
            high = middle
    return Selection(event, shape, math.exp(high))


def runs_at(event: Selection | PoissonSelection, uniform: float) -> int:
    """The number of runs at a point of (0, 1): the smallest k with P(K <= k) >= `uniform`.

    The law is met to the rounding of doubles, about 1e-13 in total variation.
    """
    if not 0 < uniform < 1:
        raise InvalidParameter("uniform", found=uniform, expected="a number in (0, 1)")
    if isinstance(event, PoissonSelection):
        count, chance = 0, math.exp(-event.mean)
    else:
        count, chance = 1, _chance_of_one(event)
    reached = chance
    while reached < uniform and count < _RUNS_MOST:
        count += 1
        if isinstance(event, PoissonSelection):
            chance *= event.mean / count
        else:
            odds = (count - 1 + event.shape) / count
            chance *= (1 - event.stopping_probability) * odds
        if not chance:
            break
        reached += chance
    return count


def _renyi_spread(event: Selection, orders: Vector, inner: Vector) -> float:
    """The least log ratio of tails that one order of Theorem 2 gives; order 1 needs no curve."""
    log_inverse = -math.log(event.stopping_probability)
    by_order = (1 - 1 / orders) * inner + log_inverse / orders
    return (1 + event.shape) * min(log_inverse, float(np.min(by_order)))


def _pure_spread(event: Selection, inner_pure: float) -> float:
    g, less = event.stopping_probability, math.exp(-inner_pure)
    return (1 + event.shape) * math.log((1 + g * less) / (less + g))


def _mean(shape: float, g: float) -> float:
    if g == 1:
        return 1.0
    log_inverse = -math.log(g)
    if abs(shape) * log_inverse < _NEAR_ZERO:  # (1 - g^h) / h = log(1/g) (1 - h log(1/g) / 2 ...)
        return (1 / g - 1) / (log_inverse * (1 - shape * log_inverse / 2))
    return shape * (1 / g - 1) / -math.expm1(-shape * log_inverse)


def _chance_of_one(event: Selection) -> float:
    """P(K = 1) = f'(0) = E[K] g^(1+h)."""
    g = event.stopping_probability
    return math.exp(math.log(_mean(event.shape, g)) + (1 + event.shape) * math.log(g))
