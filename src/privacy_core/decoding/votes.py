"""One record, one vote: does it support the answer; which label does it say.

===================  =======================================  =====================================
release              law                                      rho
===================  =======================================  =====================================
`agreement`          yes-votes + discrete Gaussian noise      `terms.rho`, both adjacencies
`noisy_counts`       every count + discrete Gaussian noise    `terms.rho` for all counts together
`choose_label`       exponential mechanism on the counts      `terms.rho`
===================  =======================================  =====================================

An exchanged record moves one count down and another up; one that becomes an empty slot moves one
count. The count of yes-votes alone moves by at most 1 either way. The number of slots is public, so
shares are of all slots: an empty slot supports nothing.

A flag drawn from few records is a coin flip whatever it is called: `error_of_flag` says how often
it would be wrong, so that callers refuse instead.

Sources: Canonne, Kamath and Steinke 2020 (arXiv:2004.00010), Theorem 14 (several discrete
Gaussians); Cesar and Rogers 2021 (arXiv:2004.07223) (bounded range); Papernot et al. 2018
(arXiv:1802.08908) (votes of records in place of their logits).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Final

import numpy as np

from privacy_core.decoding.prices import epsilon_of
from privacy_core.decoding.softmax import Floats, draw_place
from privacy_core.decoding.terms import SLOTS_MAX, Adjacency
from privacy_core.dp_events import BoundedRange, Composed, DiscreteGaussian, DpEvent
from privacy_core.errors import InvalidParameter
from privacy_core.mechanisms import deviates
from privacy_core.mechanisms.deviates import Bits
from privacy_core.mechanisms.mechanism import Entropy

REACHED: Final = (2, 3)
"""Consensus: at least so much of the slots supports the answer."""
LEVEL: Final = 0.95
OPTIONS_MAX: Final = 256
ERROR_MOST: Final = 0.1
"""A flag that is wrong more often where nine of ten slots agree is not worth its price."""

_UP: Final = 2.0**-50
_NEAR: Final = 1e-3
_NEARLY: Final = 1e-9  # 0.9 * 70 is below 63
_TAIL: Final = 12  # e^(-12^2 / 2) is below what floats of a sum near 1 resolve
_RHO_LEAST: Final = 5e-9
_RHO_MOST: Final = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteTerms:
    """The terms of one vote.

    Args:
        slots: of all nodes together, empty ones included; public.
        rho: zero-concentrated price of the vote, > 0.
        adjacency: what neighbours are, as in `DecodingTerms`.

    Raises:
        InvalidParameter: a number is outside its domain. Below a `rho` of 5e-9 the noise would be
            ten thousand votes; such a vote is refused rather than held.
    """

    slots: int
    rho: float
    adjacency: Adjacency = "replace"

    def __post_init__(self) -> None:
        if type(self.slots) is not int or not 1 <= self.slots <= SLOTS_MAX:
            raise InvalidParameter(
                "slots", found=self.slots, expected=f"a whole number, 1 to {SLOTS_MAX}"
            )
        if not _RHO_LEAST <= self.rho <= _RHO_MOST:
            raise InvalidParameter(
                "rho", found=self.rho, expected=f"a number, {_RHO_LEAST:g} to {_RHO_MOST:g}"
            )
        if self.adjacency not in ("replace", "null"):
            raise InvalidParameter(
                "adjacency", found=self.adjacency, expected="'replace' or 'null'"
            )

    @property
    def flag_sigma(self) -> float:
        """Of the noise on one count: sensitivity 1, rho = 1 / (2 sigma^2)."""
        return _sigma(self.rho, moved=1)

    @property
    def counts_sigma(self) -> float:
        """Of the noise on each of several counts, of which a record moves one or two by 1."""
        return _sigma(self.rho, moved=self._moved)

    @property
    def range_epsilon(self) -> float:
        """Bounded range of the choice of a label: rho = range^2 / 8."""
        return math.sqrt(8 * self.rho) * (1 - _UP)

    @property
    def flag_event(self) -> DpEvent:
        """What `agreement` did, between neighbours as `adjacency` says.

        Accountants read it as it is (`add_or_remove_one`): an exchange is in the numbers already.
        """
        return DiscreteGaussian(self.flag_sigma, 1.0)

    @property
    def counts_event(self) -> DpEvent:
        """What `noisy_counts` did; read as `flag_event`."""
        return Composed((DiscreteGaussian(self.counts_sigma, 1.0),) * self._moved)

    @property
    def label_event(self) -> DpEvent:
        """What `choose_label` did; read as `flag_event`."""
        return BoundedRange(self.range_epsilon)

    @property
    def _moved(self) -> int:
        return 2 if self.adjacency == "replace" else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How many slots support an answer, as far as the noise lets through.

    Attributes:
        share: noisy share of all slots, brought inside [0, 1].
        interval: holds the true share with probability 0.95 at least, over the noise alone. It says
            nothing about whether the answer is true.
        reached: the noisy count is at least two thirds of the slots.
    """

    share: float
    interval: tuple[float, float]
    reached: bool


def noisy_counts(counts: Sequence[int], terms: VoteTerms, entropy: Entropy) -> tuple[int, ...]:
    """The votes for each option, with noise; a count may come out negative or above the slots.

    Guarantee: `terms.rho` zCDP for all counts together; the noise is drawn exactly.

    Raises:
        InvalidParameter: the counts cannot come from one vote a slot. Nothing was drawn.
    """
    _require_counts(counts, terms)
    bits, sigma = Bits(entropy), Fraction(terms.counts_sigma)
    return tuple(int(count) + deviates.discrete_gaussian(bits, sigma) for count in counts)


def agreement(votes_for: int, terms: VoteTerms, entropy: Entropy) -> Agreement:
    """The share of slots that support an answer.

    Guarantee: `terms.rho` zCDP; the result is a function of one noisy count.

    Raises:
        InvalidParameter: there are more votes than slots, or fewer than none. Nothing was drawn.
    """
    _require_counts([votes_for], terms)
    noisy = int(votes_for) + deviates.discrete_gaussian(Bits(entropy), Fraction(terms.flag_sigma))
    half = _half_width(terms.flag_sigma)
    low, share, high = (
        min(1.0, max(0.0, count / terms.slots)) for count in (noisy - half, noisy, noisy + half)
    )
    return Agreement(share=share, interval=(low, high), reached=noisy >= votes_needed(terms.slots))


def votes_needed(slots: int) -> int:
    """The least whole number of votes that is two thirds of the slots."""
    part, whole = REACHED
    return -(-slots * part // whole)


def error_of_flag(slots: int, rho: float, *, agreeing: float = 0.9) -> float:
    """How often `Agreement.reached` is wrong where this share of the slots agrees.

    Computed from the noise's law, not simulated. The true number of votes is the whole number on
    the side of two thirds that is next to `agreeing * slots`: three of four for nine of ten.

    Raises:
        InvalidParameter: a number is outside its domain.
    """
    terms = VoteTerms(slots=slots, rho=rho)
    if not 0 <= agreeing <= 1:
        raise InvalidParameter("agreeing", found=agreeing, expected="a number in [0, 1]")
    needed = votes_needed(slots)
    if agreeing * REACHED[1] >= REACHED[0]:
        short = max(0, math.floor(agreeing * slots + _NEARLY) - needed) + 1
    else:
        short = max(1, needed - math.ceil(agreeing * slots - _NEARLY))
    masses = _masses(terms.flag_sigma)
    return float(masses[len(masses) // 2 + short :].sum())  # the noise is symmetric


def error_of_label(
    slots: int, rho: float, *, options: int, adjacency: Adjacency = "replace", agreeing: float = 0.9
) -> float:
    """How often another label is chosen where this share of the slots agrees on one.

    All other slots agree on one other label, which is the hardest case.

    Raises:
        InvalidParameter: a number is outside its domain.
    """
    terms = VoteTerms(slots=slots, rho=rho, adjacency=adjacency)
    if not 0 <= agreeing <= 1 or not 1 <= options <= OPTIONS_MAX:
        raise InvalidParameter(
            "options",
            found=(options, agreeing),
            expected=f"1 to {OPTIONS_MAX} options, a share in [0, 1]",
        )
    votes = math.floor(agreeing * slots + _NEARLY)
    counts = [votes, slots - votes, *[0] * (options - 2)][:options]
    law = _label_law(counts, terms)
    return float(1 - law[0])


def least_flag_rho(slots: int, *, error: float = ERROR_MOST) -> float:
    """The least rho at which `error_of_flag` is at most `error`, to a thousandth.

    inf: not below a rho of 100.
    """
    return _least_rho(lambda rho: error_of_flag(slots, rho), error)


def least_label_rho(
    slots: int, *, options: int, adjacency: Adjacency = "replace", error: float = ERROR_MOST
) -> float:
    """The least rho at which `error_of_label` is at most `error`, to a thousandth."""
    return _least_rho(
        lambda rho: error_of_label(slots, rho, options=options, adjacency=adjacency), error
    )


def least_flag_epsilon(slots: int, delta: float, *, error: float = ERROR_MOST) -> float:
    """The epsilon that pays for a flag worth having; inf: there is none."""
    return epsilon_of(least_flag_rho(slots, error=error), delta)


def choose_label(counts: Sequence[int], terms: VoteTerms, entropy: Entropy) -> int:
    """The place of the label that is chosen; the one with most votes is the likeliest.

    Guarantee: label v has probability proportional to e^(count(v) range / moves), exactly, where
    range^2 / 8 = rho, and moves is 2 where a record is exchanged and 1 where it becomes an empty
    slot: all counts move in the same direction then. `terms.rho` zCDP. At two labels the
    difference of two noises has standard deviation 1.28 / sqrt(rho) (0.64 under `null`), the
    noisy maximum of Gaussians at the same price 1.41 (1.00).

    Raises:
        InvalidParameter: the counts cannot come from one vote a slot. Nothing was drawn.
    """
    _require_counts(counts, terms)
    weight = _label_weight(terms)
    floats = np.array([float(count) for count in counts]) * weight

    def exact() -> list[Fraction]:
        return [int(count) * Fraction(weight) for count in counts]

    error = 2.0**-52 * max(1.0, float(floats.max()))
    return draw_place(floats, error, exact, Bits(entropy))


def _label_weight(terms: VoteTerms) -> float:
    return terms.range_epsilon / (2 if terms.adjacency == "replace" else 1)


def _label_law(counts: Sequence[int], terms: VoteTerms) -> Floats:
    exponents = np.array(counts, dtype=np.float64) * _label_weight(terms)
    weights = np.exp(exponents - exponents.max())
    law: Floats = weights / weights.sum()
    return law


def _sigma(rho: float, *, moved: int) -> float:
    """Standard deviation at which `moved` counts that move by 1 cost rho, rounded up."""
    return math.sqrt(moved / (2 * rho)) * (1 + _UP)


def _masses(sigma: float) -> Floats:
    """The discrete Gaussian's masses around 0, as far as floats go."""
    reach = math.ceil(_TAIL * sigma) + 1
    weights = np.exp(-(np.arange(-reach, reach + 1.0) ** 2) / (2 * sigma * sigma))
    law: Floats = weights / weights.sum()
    return law


@lru_cache(maxsize=1024)
def _half_width(sigma: float) -> int:
    """The least h with P(|noise| <= h) >= `LEVEL`."""
    masses = _masses(sigma)
    middle = len(masses) // 2
    both = np.concatenate(([masses[middle]], 2 * masses[middle + 1 :]))
    return int(np.searchsorted(np.cumsum(both), LEVEL))


def _least_rho(error_at: Callable[[float], float], error: float) -> float:
    """By bisection; the errors fall as rho grows."""
    if not 0 < error < 1:
        raise InvalidParameter("error", found=error, expected="a number above 0 and below 1")
    low, high = _RHO_LEAST, _RHO_MOST
    if error_at(high) > error:
        return math.inf
    while high > low * (1 + _NEAR):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if error_at(middle) > error else (low, middle)
    return high


def _require_counts(counts: Sequence[int], terms: VoteTerms) -> None:
    """Messages carry no count: they are private."""
    if not 1 <= len(counts) <= OPTIONS_MAX:
        raise InvalidParameter(
            "counts", found=len(counts), expected=f"1 to {OPTIONS_MAX} options; nothing was drawn"
        )
    if any(count < 0 for count in counts) or sum(counts) > terms.slots:
        raise InvalidParameter(
            "counts",
            found="more votes than slots, or fewer than none",
            expected=f"numbers >= 0 that add to at most {terms.slots}; nothing was drawn",
        )
