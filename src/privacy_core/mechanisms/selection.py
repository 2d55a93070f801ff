"""Choosing the best of public candidates by a private score.

==================  ====================  ==============  ========================================
mechanism           noise on the scores   event           remark
==================  ====================  ==============  ========================================
exponential         Gumbel                BoundedRange    cheapest in composition
permute-and-flip    exponential           PureDp          best for one release: its expected score
                                                          is never below the exponential's
report-noisy-max    Laplace               PureDp          the textbook's
==================  ====================  ==============  ========================================

Adding Gumbel noise and taking the largest *is* the exponential mechanism, adding exponential noise
*is* permute-and-flip: same law, two ways to draw it. Every decision is exact (`deviates`); with
`OPENDP` in place of the entropy, OpenDP draws the first two.

Only the place of the winner is released, never its score. `monotone` says that between neighbours
all scores move in the same direction, as counts do when a unit joins; half the noise is enough.

Sources: McSherry & Talwar 2007 (exponential); McKenna & Sheldon 2020 (arXiv:2010.12603) and Ding et
al. 2021 (arXiv:2105.07260) (permute-and-flip); Dwork & Roth 2014, Claim 3.9 (noisy max).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from privacy_core.accounting.gdp import sensitivity_under
from privacy_core.dp_events import BoundedRange, DpEvent, PureDp
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import NeighbouringRelation
from privacy_core.mechanisms import deviates
from privacy_core.mechanisms.additive import ADD_OR_REMOVE, read_names
from privacy_core.mechanisms.deviates import Bits, NoisyNumber
from privacy_core.mechanisms.mechanism import Entropy
from privacy_core.mechanisms.opendp_noise import OpenDp, noisy_argmax

Scores: TypeAlias = Sequence[float] | Sequence[Fraction]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Selection:
    """What the three have in common.

    Args:
        epsilon: of one selection, between neighbours under `relation`.
        sensitivity: how far one score moves between neighbours under `relation`.
        monotone: all scores move in the same direction.
        relation: which data sets are neighbours.
    """

    epsilon: float
    sensitivity: float
    monotone: bool = False
    relation: NeighbouringRelation = ADD_OR_REMOVE

    def __post_init__(self) -> None:
        read_names(self)
        for name in ("epsilon", "sensitivity"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise InvalidParameter(name, found=value, expected="a finite number > 0")

    @property
    def scale(self) -> Fraction:
        """Of the noise, in units of the score: 2 sensitivity / epsilon, half of it if monotone."""
        moves = 1 if self.monotone else 2
        return moves * Fraction(self.sensitivity) / Fraction(self.epsilon)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExponentialMechanism(_Selection):
    """Takes candidate i with probability proportional to e^(score_i / scale)."""

    @property
    def event(self) -> DpEvent:
        """Its log ratios range over at most epsilon."""
        return BoundedRange(self.epsilon / sensitivity_under(self.relation))

    def release(self, data: Scores, entropy: Entropy | OpenDp) -> int:
        """The place of the chosen candidate.

        Raises:
            InvalidParameter: there is no candidate, or a score is not finite.
        """
        scores = exact_scores(data)
        if isinstance(entropy, OpenDp):
            return noisy_argmax([float(s) for s in scores], scale=float(self.scale), gumbel=True)
        bits, gaps = Bits(entropy), _gaps(scores, self.scale)
        while True:
            i = bits.below(len(gaps))
            if deviates.exponential_coin(bits, gaps[i].numerator, gaps[i].denominator):
                return i


@dataclass(frozen=True, slots=True, kw_only=True)
class PermuteAndFlip(_Selection):
    """Visits candidates in random order; takes i with probability e^((score_i - best) / scale)."""

    @property
    def event(self) -> DpEvent:
        """Pure epsilon."""
        return PureDp(self.epsilon / sensitivity_under(self.relation))

    def release(self, data: Scores, entropy: Entropy | OpenDp) -> int:
        """The place of the chosen candidate.

        Raises:
            InvalidParameter: there is no candidate, or a score is not finite.
        """
        scores = exact_scores(data)
        if isinstance(entropy, OpenDp):
            return noisy_argmax([float(s) for s in scores], scale=float(self.scale), gumbel=False)
        bits, gaps = Bits(entropy), _gaps(scores, self.scale)
        left = list(range(len(gaps)))
        while True:
            place = bits.below(len(left))
            left[place], left[-1] = left[-1], left[place]
            i = left.pop()
            if deviates.exponential_coin(bits, gaps[i].numerator, gaps[i].denominator):
                return i


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportNoisyMax(_Selection):
    """Adds Laplace noise to every score and takes the largest."""

    @property
    def event(self) -> DpEvent:
        """Pure epsilon."""
        return PureDp(self.epsilon / sensitivity_under(self.relation))

    def release(self, data: Scores, entropy: Entropy) -> int:
        """The place of the chosen candidate.

        Raises:
            InvalidParameter: there is no candidate, or a score is not finite.
        """
        bits = Bits(entropy)
        noisy = [
            NoisyNumber(score, self.scale, deviates.laplace(bits)) for score in exact_scores(data)
        ]
        best = 0
        for i in range(1, len(noisy)):
            if noisy[best].is_below(noisy[i], bits):
                best = i
        return best


def exact_scores(scores: Scores) -> list[Fraction]:
    """The scores, exactly.

    Raises:
        InvalidParameter: there is no score, or one is not finite. A score that can be infinite has
            no bounded sensitivity: leave out, by public rules, candidates that cannot win.
    """
    values: list[float | Fraction] = list(scores)
    if not values:
        raise InvalidParameter("scores", found=0, expected="one for each candidate, at least one")
    if not all(math.isfinite(value) for value in values):
        raise InvalidParameter(
            "scores",
            found="one that is not finite",
            expected="finite numbers: the sensitivity is not bounded otherwise; nothing was drawn",
        )
    return [value if isinstance(value, Fraction) else Fraction(float(value)) for value in values]


def _gaps(scores: list[Fraction], scale: Fraction) -> list[Fraction]:
    """How far each score is below the best, in units of the scale."""
    best = max(scores)
    return [(best - score) / scale for score in scores]
