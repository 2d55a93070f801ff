"""The Gaussian that dominates a sampled run: a sound mu where the central-limit formula is none.

A sampled run is not mu-GDP for any useful mu: far out in the tail its losses are those of the run
without sampling. So the statement here has two numbers, (mu, delta_floor): nobody can tell two
neighbouring data sets apart more easily than by the mechanism that

- with probability `delta_floor` gives everything away, and
- otherwise releases one Gaussian with sensitivity mu and standard deviation 1.

In terms of epsilon, for every epsilon >= 0 and in both directions,

    delta(epsilon) <= delta_floor + (1 - delta_floor) gaussian_delta(mu, epsilon),

which is the same statement (for epsilon < 0 it follows from the other direction). Being a
dominating pair it composes: squares of mu add, floors add (Zhu, Dong & Wang 2022, arXiv:2106.08567,
Theorem 10). It says nothing about deltas at or below the floor.

How mu is found: the tight accountant's law of the privacy loss is discrete, so its trade-off
function is a polygon. The curve of the mechanism above is convex. A convex curve that is below a
convex polygon at all of the polygon's corners is below it everywhere, and at a corner (a, b) the
smallest mu is Phi^-1(x) - Phi^-1(a) with x = (1 - b - delta_floor) / (1 - delta_floor). So mu is a
maximum over corners, nothing is sampled from a grid, and every rounding goes up.

For one epsilon the tight accountant is better: with a floor of a tenth of delta this costs 0 to 12
per cent more in the runs of `benchmarks/calibration.py`. It is for those who count in mu, such as a
ledger of full-batch and matrix mechanisms.

Trade-off functions: Dong, Roth & Su 2022 (arXiv:1905.02383). The corner argument is ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy

from privacy_core.accounting.gdp import gaussian_delta, gaussian_epsilon, sensitivity_under
from privacy_core.accounting.loss_distribution import Act, LossSum, LossTail
from privacy_core.accounting.normal_form import NormalForm, normal_form
from privacy_core.accounting.pld import PldAccountant, is_hopeless, tail_of
from privacy_core.dp_events import DpEvent, Gaussian, MixtureOfGaussians, PoissonSampled
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import NeighbouringRelation

_ROUNDING: Final = 1e-9
_FLOOR_SHARE: Final = 0.1
_FLOOR_LEAST: Final = 1e-15
_EXPONENT_MOST: Final = 700.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DominatingGaussian:
    """A run is dominated by a `mu`-GDP release, except with probability `delta_floor`.

    `mu` is rounded up; inf when nothing is promised. `relation` is the one it was found for.
    """

    mu: float
    delta_floor: float
    relation: NeighbouringRelation

    def epsilon(self, delta: float) -> float:
        """An epsilon for which the run is (epsilon, delta)-private; inf for delta < the floor."""
        left = (delta - self.delta_floor) / (1 - self.delta_floor)
        if left < 0 or self.mu == math.inf:
            return math.inf
        return gaussian_epsilon(self.mu, left)

    def delta(self, epsilon: float) -> float:
        """A delta for which the run is (epsilon, delta)-private."""
        if self.mu == math.inf:
            return 1.0
        inner = gaussian_delta(self.mu, epsilon) * (1 + _ROUNDING)
        return min(1.0, self.delta_floor + (1 - self.delta_floor) * inner)

    def composed_with(self, other: DominatingGaussian) -> DominatingGaussian:
        """Both runs on the same data.

        Raises:
            InvalidParameter: they belong to different neighbouring relations.
        """
        if other.relation is not self.relation:
            raise InvalidParameter(
                "relation", found=other.relation.value, expected=self.relation.value
            )
        return DominatingGaussian(
            mu=math.hypot(self.mu, other.mu) * (1 + _ROUNDING),
            delta_floor=min(1.0, self.delta_floor + other.delta_floor),
            relation=self.relation,
        )


def dominating_gaussian(
    event: DpEvent,
    *,
    delta_floor: float,
    relation: NeighbouringRelation = NeighbouringRelation.ADD_OR_REMOVE_ONE,
) -> DominatingGaussian:
    """The smallest mu, rounded up, whose Gaussian dominates `event` down to `delta_floor`.

    Guarantee: see the module. It is an upper bound for every delta above the floor at once, unlike
    an epsilon, which belongs to one delta.

    =======================================  ==================================
    event                                    result
    =======================================  ==================================
    only full-batch Gaussian releases        the exact mu, with a floor of 0
    releases nothing                         mu = 0, with a floor of 0
    has an unprotected release               mu = inf
    at most `delta_floor` away from nothing  mu = 0
    =======================================  ==================================

    Args:
        event: what was done.
        delta_floor: in [1e-15, 1). A tenth of the delta that will be asked for is a good choice:
            see `gdp_epsilon_bound`.
        relation: which two data sets are neighbours.

    Raises:
        InvalidParameter: `delta_floor` is outside its domain.
        UnsupportedEvent: no dominating pair is known for a part of the event.
    """
    if not _FLOOR_LEAST <= delta_floor < 1:
        raise InvalidParameter(
            "delta_floor", found=delta_floor, expected=f"a number in [{_FLOOR_LEAST:g}, 1)"
        )
    relation = NeighbouringRelation(relation)
    form = normal_form(event)
    if not form.is_private:
        return DominatingGaussian(mu=math.inf, delta_floor=delta_floor, relation=relation)
    if form.only_gaussian:
        mu = form.gaussian_mu * sensitivity_under(relation)
        return DominatingGaussian(mu=mu, delta_floor=0.0, relation=relation)
    directions = PldAccountant().directions(form, relation)
    found = math.inf
    if not is_hopeless(directions, delta_floor):
        found = max(_mu_one_way(acts, delta_floor) for acts in directions)
    mu = min(found, _mu_without_sampling(form, relation))
    return DominatingGaussian(mu=mu, delta_floor=delta_floor, relation=relation)


def gdp_epsilon_bound(
    event: DpEvent,
    delta: float,
    *,
    relation: NeighbouringRelation = NeighbouringRelation.ADD_OR_REMOVE_ONE,
) -> float:
    """The epsilon at `delta` of the Gaussian that dominates `event` down to a tenth of `delta`.

    Guarantee: never below the true epsilon. Exact for full-batch Gaussian releases.

    Args and Raises: as `dominating_gaussian`; `delta` is in [1e-14, 1).
    """
    dominating = dominating_gaussian(event, delta_floor=_FLOOR_SHARE * delta, relation=relation)
    return dominating.epsilon(delta)


def _mu_without_sampling(form: NormalForm, relation: NeighbouringRelation) -> float:
    """The mu of the same releases about everyone: sampling never makes them less private.

    It serves where almost nothing is hidden: above a mu of about 10 the corners leave the floats.
    """
    squares = [form.gaussian_mu_squared]
    for phase in form.phases:
        match phase.event:
            case PoissonSampled(_, Gaussian(sigma)):
                squares.append(phase.count / sigma**2)
            case MixtureOfGaussians(sigma, sensitivities, _):
                squares.append(phase.count * (max(sensitivities) / sigma) ** 2)
            case _:
                return math.inf
    return math.sqrt(math.fsum(squares)) * sensitivity_under(relation) * (1 + _ROUNDING)


def _mu_one_way(acts: tuple[Act, ...], delta_floor: float) -> float:
    total = LossSum.of(acts, tail=tail_of(acts, delta_floor), accuracy=PldAccountant().accuracy)
    lowest, mu = 0.0, 0.0
    while math.isfinite(lowest):
        highest = total.reach(lowest)
        tail = total.tail(lowest, delta_floor, highest=highest)
        mu = max(mu, _mu_of_corners(tail, highest, delta_floor))
        if tail.losses[-1] <= highest:
            break
        lowest = highest
    return mu * (1 + _ROUNDING)


def _mu_of_corners(tail: LossTail, highest: float, delta_floor: float) -> float:
    """The largest of the mu that the corners up to the loss `highest` ask for."""
    if tail.log_scale > _EXPONENT_MOST:
        return math.inf
    last = int(np.searchsorted(tail.losses, highest, side="left")) + 1
    scale = math.exp(tail.log_scale)
    above_p = tail.above_p[:last] * scale * (1 + tail.slack) + tail.lost
    above_q = tail.above_q[:last] * scale * math.exp(-tail.losses[0]) * (1 - tail.slack)
    beyond = (np.minimum(above_p, 1.0) - delta_floor) / (1 - delta_floor)
    asked = scipy.special.ndtri(beyond[beyond > 0]) - scipy.special.ndtri(above_q[beyond > 0])
    return float(asked.max(initial=0.0))
