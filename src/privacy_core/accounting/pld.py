"""Privacy loss distributions: the tight accountant.

An event is turned into dominating pairs, the pairs into discrete losses, and the sum of the losses
into delta(epsilon); see `dominating_pairs` and `loss_distribution`. Under add-or-remove both
directions are computed and the larger answer is given. Full-batch Gaussians have a closed form.

Valid for a plan that was fixed before it ran. Across runs that were chosen after seeing earlier
results, compose Renyi curves instead: the natural filter on loss distributions is not sound
(arXiv:2602.06756).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from privacy_core.accounting.dominating_pairs import (
    DominatingPair,
    ExchangePair,
    LabelledPair,
    LaplacePair,
    MixturePair,
    ReversedPair,
    WithoutReplacementPair,
)
from privacy_core.accounting.gdp import gaussian_delta, gaussian_epsilon, sensitivity_under
from privacy_core.accounting.loss_distribution import (
    Act,
    LossSum,
    lies_above,
    rough_bound,
    rough_moments,
)
from privacy_core.accounting.normal_form import NormalForm, describe
from privacy_core.accounting.rdp import RdpAccountant, pure_epsilon
from privacy_core.accounting.truncation import truncation_of
from privacy_core.accounting.unsampled import unsampled_pair
from privacy_core.dp_events import (
    BoundedRange,
    DiscreteGaussian,
    DiscreteLaplace,
    DpEvent,
    Gaussian,
    Laplace,
    MixtureOfGaussians,
    PoissonSampled,
    PoissonSelection,
    PureDp,
    SampledWithoutReplacement,
    Selection,
    TruncatedPoissonSampled,
)
from privacy_core.errors import UnsupportedEvent
from privacy_core.guarantee import NeighbouringRelation

_ACCURACY: Final = 2e-4
_TAIL: Final = 1e-7
_TINY_DELTA: Final = 1e-10
_DELTA_LEAST: Final = 1e-280
_HUGE_EPSILON: Final = 100.0
HOPELESS_EPSILON: Final = 1e3
"""Above it nothing is hidden from anybody, and a quick bound is as good as a tight one."""
_SIGMA_MOST: Final = 1e6


@dataclass(frozen=True, slots=True)
class PldAccountant:
    """Tight upper bounds by numerical composition; never above the Renyi bound where delta is tiny.

    An epsilon above a thousand is the Renyi bound, and a delta above 0.999 may be rounded up to 1.

    `accuracy` is the relative error of epsilon to aim at; the figure stays an upper bound whatever
    it is.
    """

    name: str = "pld"
    accuracy: float = _ACCURACY

    def epsilon(self, form: NormalForm, delta: float, relation: NeighbouringRelation) -> float:
        """The larger of both directions."""
        if form.only_gaussian:
            return gaussian_epsilon(form.gaussian_mu * sensitivity_under(relation), delta)
        directions = self.directions(form, relation)
        bound = pure_epsilon(form, relation)
        if delta > 0 and is_hopeless(directions, delta):
            with np.errstate(all="ignore"):
                quick = [rough_bound(acts, delta) for acts in directions]
            # What floats cannot hold is infinite.
            known = math.inf if any(math.isnan(found) for found in quick) else max(quick)
            return min(bound, known, self._renyi_epsilon(form, delta, relation))
        if delta > 0:
            tight = 0.0
            for acts in directions:
                # What a quick bound shows to be the smaller direction need not be known exactly.
                if not tight or rough_bound(acts, delta) > tight:
                    tight = max(tight, self._epsilon_one_way(acts, delta))
            bound = min(bound, tight)
        if delta < _TINY_DELTA or bound > _HUGE_EPSILON or _has_range(form):
            bound = min(bound, self._renyi_epsilon(form, delta, relation))
        return bound

    def delta(self, form: NormalForm, epsilon: float, relation: NeighbouringRelation) -> float:
        """The larger of both directions."""
        if form.only_gaussian:
            mu = form.gaussian_mu * sensitivity_under(relation)
            return min(1.0, gaussian_delta(mu, epsilon) * (1 + 1e-12))
        directions = self.directions(form, relation)
        if epsilon >= pure_epsilon(form, relation):
            return 0.0
        if any(lies_above(acts, epsilon) for acts in directions):
            return 1.0
        tight = max(self._delta_one_way(acts, epsilon) for acts in directions)
        if _has_range(form):
            tight = min(tight, RdpAccountant().delta(form, epsilon, relation))
        return tight

    def rough_epsilon(
        self, form: NormalForm, delta: float, relation: NeighbouringRelation
    ) -> float:
        """The saddle-point estimate."""
        if form.only_gaussian or delta == 0:
            return self.epsilon(form, delta, relation)
        return max(
            rough_moments(acts).rough_epsilon(delta) for acts in self.directions(form, relation)
        )

    def _renyi_epsilon(
        self, form: NormalForm, delta: float, relation: NeighbouringRelation
    ) -> float:
        try:
            return RdpAccountant().epsilon(form, delta, relation)
        except UnsupportedEvent:
            return math.inf

    def directions(
        self, form: NormalForm, relation: NeighbouringRelation
    ) -> tuple[tuple[Act, ...], ...]:
        """The acts of a normal form, and their mirror image unless that is the same.

        Raises:
            UnsupportedEvent: no dominating pair is known for a part of it.
        """
        acts = [
            Act(pair=self._pair(phase.event, relation), count=phase.count) for phase in form.phases
        ]
        if form.gaussian_mu_squared:
            sigma = 1 / (form.gaussian_mu * sensitivity_under(relation))
            acts.append(Act(pair=MixturePair(sigma, (1.0,), (1.0,)), count=1))
        forward = tuple(acts)
        if all(act.pair.symmetric for act in forward):
            return (forward,)
        return forward, tuple(Act(pair=ReversedPair(act.pair), count=act.count) for act in forward)

    def _pair(self, event: DpEvent, relation: NeighbouringRelation) -> DominatingPair:
        match event, relation:
            case PoissonSampled(q, Gaussian(sigma)), _:
                return _sampled_pair(sigma, q, relation)
            case Laplace(scale), _:
                return LaplacePair(scale / sensitivity_under(relation))
            case (DiscreteLaplace() | DiscreteGaussian() | PureDp() | BoundedRange()) as act, _:
                return unsampled_pair(act, sensitivity_under(relation))
            case PoissonSampled(q, Laplace(scale)), NeighbouringRelation.ADD_OR_REMOVE_ONE:
                return LaplacePair(scale, q)
            case MixtureOfGaussians(sigma), NeighbouringRelation.ADD_OR_REMOVE_ONE:
                return _mixture_pair(sigma, event.sensitivities, event.probabilities)
            case TruncatedPoissonSampled(event=Gaussian()), _:
                return _truncated_pair(event, relation)
            case SampledWithoutReplacement(n, m, Gaussian(sigma)), NeighbouringRelation.REPLACE_ONE:
                return WithoutReplacementPair(sigma / sensitivity_under(relation), m / n)
            case ((Selection() | PoissonSelection()), _):
                reason = "no dominating pair is known for the best of several runs; use 'rdp'"
                raise UnsupportedEvent(accountant=self.name, event=describe(event), reason=reason)
            case _:
                raise UnsupportedEvent(
                    accountant=self.name,
                    event=describe(event),
                    reason=f"no dominating pair is known for it under {relation.value}",
                )

    def _epsilon_one_way(self, acts: tuple[Act, ...], delta: float) -> float:
        total = LossSum.of(acts, tail=tail_of(acts, delta), accuracy=self.accuracy)
        bound = total.moments.chernoff_epsilon(delta - total.infinite)
        guess = min(bound, total.moments.rough_epsilon(delta))
        # The gap between bound and estimate says how far the estimate may be off.
        for lowest in (guess - 2 * (bound - guess), 0.3 * guess, 0.0):
            found = total.tail(max(0.0, lowest - 2 * total.step), delta).epsilon(delta)
            if found is not None:
                return min(bound, found)
        return 0.0

    def _delta_one_way(self, acts: tuple[Act, ...], epsilon: float) -> float:
        # What is cut off is charged as a share of the delta that is expected: start from a bound.
        expected = max(_DELTA_LEAST, rough_moments(acts).chernoff_delta(epsilon))
        while True:
            total = LossSum.of(acts, tail=tail_of(acts, expected), accuracy=self.accuracy)
            found = total.tail(epsilon, expected).delta(epsilon)
            if found > 0.1 * expected or expected == _DELTA_LEAST:
                return found
            expected = max(_DELTA_LEAST, found)


def is_hopeless(directions: tuple[tuple[Act, ...], ...], delta: float) -> bool:
    """Whether so little is hidden that a tight price would cost minutes and help nobody."""
    with np.errstate(all="ignore"):
        return any(
            not rough_moments(acts).rough_epsilon(delta) <= HOPELESS_EPSILON for acts in directions
        )


def tail_of(acts: tuple[Act, ...], delta: float) -> float:
    """The mass that each act may move to infinity: a negligible share of `delta` in all."""
    return max(1e-300, _TAIL * delta / sum(act.count for act in acts))


def _has_range(form: NormalForm) -> bool:
    """Its pair is the worst at every loss, its curve at every order: in composition either wins."""
    return any(isinstance(phase.event, BoundedRange) for phase in form.phases)


def _sampled_pair(
    sigma: float, probability: float, relation: NeighbouringRelation
) -> DominatingPair:
    # More noise than this is priced as this much: sound, and the losses stay far from rounding.
    sigma = min(sigma, _SIGMA_MOST)
    match relation:
        case NeighbouringRelation.ADD_OR_REMOVE_ONE:
            return MixturePair(sigma, (1.0,), (probability,))
        case NeighbouringRelation.REPLACE_ONE:
            return ExchangePair(sigma, probability)


def _mixture_pair(
    sigma: float, sensitivities: tuple[float, ...], probabilities: tuple[float, ...]
) -> MixturePair:
    atoms = sorted((s, p) for s, p in zip(sensitivities, probabilities, strict=True) if s > 0)
    return MixturePair(sigma, tuple(s for s, _ in atoms), tuple(p for _, p in atoms))


def _truncated_pair(
    event: TruncatedPoissonSampled, relation: NeighbouringRelation
) -> DominatingPair:
    assert isinstance(event.event, Gaussian)  # noqa: S101  # chosen by the caller's match
    sigma, cut = event.event.noise_multiplier, truncation_of(event)

    whole = _sampled_pair(sigma, event.sampling_probability, relation)
    if not cut.probability:
        return whole
    halved = _sampled_pair(sigma / 2, cut.inclusion_probability, relation)
    return LabelledPair(whole, halved, cut.probability)
