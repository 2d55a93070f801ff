"""Lower bounds on epsilon from scores of canaries and the coins that put them in.

================================  ==============================  ==================================
function                          certifies, at 95 %              assumes
================================  ==============================  ==================================
`one_run_epsilon`                 epsilon > bound                 nothing
`one_run_f_dp_epsilon`            epsilon > bound; or mu > bound  nothing; or a Gaussian shape
`clopper_pearson_epsilon`         epsilon > bound                 canaries are independent trials
`gaussian_estimate`               an estimate, not a bound        both of the last two
================================  ==============================  ==================================

A bound is for the mechanism that ran, with the canaries that it saw. That it is small proves
nothing: see `ceilings` for what an audit of the same size could have found at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from privacy_core.accounting.gdp import gaussian_epsilon
from privacy_core.auditing.chance import Chance
from privacy_core.auditing.contingency import Contingency
from privacy_core.auditing.guesses import (
    AnyChoice,
    Choice,
    NamedThreshold,
    Split,
    Tally,
    checked,
    cut,
    tallies,
)
from privacy_core.auditing.one_run import one_run_lower_bound, trade_off_lower_bound
from privacy_core.errors import InvalidParameter

Vector = npt.NDArray[np.float64]
Coins = npt.NDArray[np.bool_]

GAUSSIAN_SHAPE: Final = "the trade-off function is Gaussian"
INDEPENDENT: Final = "canaries are independent trials"

FLOOR_SHARE: Final = 0.1
"""As in `accounting.gdp_epsilon_bound`."""

_THRESHOLDS: Final = 64


class Method(StrEnum):
    """How a bound was found."""

    ONE_RUN = "one_run"
    F_DP = "f_dp"
    CLOPPER_PEARSON = "clopper_pearson"
    GAUSSIAN_ESTIMATE = "gaussian_estimate"


class Shape(StrEnum):
    """What family of claims an f-DP audit refutes."""

    GAUSSIAN = "gaussian"
    """mu-GDP, except with probability `delta_floor`: held against the dominating Gaussian."""

    APPROXIMATE = "approximate"
    """(epsilon, delta)-DP and nothing more: holds for every mechanism."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpsilonBound:
    """A lower bound on epsilon at `delta`, and everything that it rests on.

    `assumes` is empty for a bound that holds for every mechanism. `mu` is set where the shape is
    Gaussian: the run is not mu'-GDP (except with probability `delta_floor`) for any mu' below it.
    `level` is the share of 1 - confidence that this bound may use, `counts` the members found, all
    members, others found and all others, where the bound is of rates. With them everything here
    follows from `choice` and the counts: `recount` does it again.
    """

    method: Method
    epsilon: float
    delta: float
    confidence: float
    canaries: int
    counted: int
    guesses: int
    correct: int
    choice: AnyChoice
    level: float = 1.0
    assumes: tuple[str, ...] = ()
    mu: float | None = None
    delta_floor: float = 0.0
    counts: tuple[int, int, int, int] | None = None

    @property
    def is_certified(self) -> bool:
        """It assumes nothing about how canaries depend on each other."""
        return INDEPENDENT not in self.assumes

    def __str__(self) -> str:
        kind = "estimate of epsilon" if not self.is_certified else "epsilon >"
        rest = f", if {' and '.join(self.assumes)}" if self.assumes else ""
        return (
            f"{kind} {self.epsilon:.3g} at delta {self.delta:.3g} with "
            f"{100 * self.confidence:.3g}% confidence{rest} "
            f"({self.correct} of {self.guesses} guesses right)"
        )


def one_run_epsilon(
    scores: Vector,
    included: Coins,
    *,
    delta: float,
    confidence: float = 0.95,
    choice: Choice | None = None,
) -> EpsilonBound:
    """Epsilon that one run certainly had, however its canaries depend on each other.

    Guarantee: if the run is (epsilon, delta)-DP for the adding or removing of one canary, the bound
    exceeds epsilon with probability at most 1 - confidence, over the coins and the run.

    Args:
        scores: one a canary, higher means more likely trained on; must not be computed from coins.
        included: the coins: True where the canary was trained on. Fair and independent.
        delta: in [0, 1).
        confidence: in (0.5, 1).
        choice: how many are guessed, decided beforehand; default `Split()`.

    Raises:
        InvalidParameter: fewer than 20 canaries, or an argument outside its domain.

    Source: Steinke, Nasr & Jagielski 2023 (arXiv:2305.08846), Theorem 5.2.
    """
    significance = _significance(delta, confidence)
    picked = Split() if choice is None else choice
    found = [
        (one_run_lower_bound(tally, delta, significance * tally.level), tally)
        for tally in tallies(scores, included, picked)
    ]
    epsilon, tally = max(found, key=lambda pair: pair[0])
    return _bound(Method.ONE_RUN, epsilon, tally, len(scores), delta, confidence, picked)


def one_run_f_dp_epsilon(
    scores: Vector,
    included: Coins,
    *,
    delta: float,
    confidence: float = 0.95,
    choice: Choice | None = None,
    shape: Shape = Shape.GAUSSIAN,
    delta_floor: float | None = None,
) -> EpsilonBound:
    """As `one_run_epsilon`, from the whole trade-off function: larger, for a family of claims.

    With a Gaussian shape the bound is on mu: it refutes every claim of mu-GDP except with
    probability `delta_floor`, for a smaller mu. Epsilon is what that mu alone costs at `delta`. To
    call it a violation compare with `accounting.gdp_epsilon_bound`, which has the same floor, and
    never with a tighter price of a run that is not Gaussian.

    Args:
        scores: one a canary, higher means more likely trained on.
        included: the coins.
        delta: in (0, 1); may be 0 for the approximate shape.
        confidence: in (0.5, 1).
        choice: how many are guessed, decided beforehand; default `Split()`.
        shape: the family of claims that is refuted.
        delta_floor: part of delta at which a claim of Gaussian shape gives all away, in [0, delta);
            default: a tenth of delta.

    Source: Mahloujifar, Melis & Chaudhuri 2024 (arXiv:2410.22235), the numerical audit.
    """
    picked, gaussian = Split() if choice is None else choice, Shape(shape) is Shape.GAUSSIAN
    significance = _significance(delta, confidence, positive=gaussian)
    floor = FLOOR_SHARE * delta if delta_floor is None else delta_floor
    if not 0 <= floor < max(delta, 1e-300):
        raise InvalidParameter("delta_floor", found=floor, expected=f"in [0, {delta:g})")

    part = floor if gaussian else delta
    found = [
        (
            trade_off_lower_bound(tally, part, significance * tally.level, is_gaussian=gaussian),
            tally,
        )
        for tally in tallies(scores, included, picked)
    ]
    claim, tally = max(found, key=lambda pair: pair[0])
    epsilon = gaussian_epsilon(claim, delta) if gaussian else claim
    return _bound(
        Method.F_DP,
        epsilon,
        tally,
        len(scores),
        delta,
        confidence,
        picked,
        assumes=(GAUSSIAN_SHAPE,) if gaussian else (),
        mu=claim if gaussian else None,
        delta_floor=floor if gaussian else 0.0,
    )


def clopper_pearson_epsilon(
    scores: Vector,
    included: Coins,
    *,
    delta: float,
    confidence: float = 0.95,
    choice: Split | float | None = None,
    independent: bool = False,
) -> EpsilonBound:
    """Epsilon from the rates of true and false positives at one threshold.

    max(log((TPR - delta) / FPR), log((TNR - delta) / FNR)) with one-sided Clopper-Pearson limits,
    each at half the error.

    Guarantee: only where every row is its own trial, such as one canary in each of many training
    runs; say so with `independent`. Canaries of one run share its noise, and then the answer is
    labelled as resting on that assumption.

    Args:
        scores: one a row, higher means more likely trained on.
        included: whether it was.
        delta: in [0, 1).
        confidence: in (0.5, 1).
        choice: `Split` (a part of the rows chooses the threshold) or a threshold named beforehand:
            scores >= threshold are taken for trained on.
        independent: every row is a training run of its own.

    Source: Jagielski, Ullman & Oprea 2020 (arXiv:2006.07709); Nasr et al. 2021
    (arXiv:2101.04535).
    """
    significance = _significance(delta, confidence)
    counts, picked = _counts_at_threshold(
        scores, included, choice, lambda c: c.epsilon(delta, significance)
    )
    return _bound(
        Method.CLOPPER_PEARSON,
        counts.epsilon(delta, significance),
        counts.tally,
        len(scores),
        delta,
        confidence,
        picked,
        assumes=() if independent else (INDEPENDENT,),
        counts=counts.counts,
    )


def gaussian_estimate(
    scores: Vector,
    included: Coins,
    *,
    delta: float,
    confidence: float = 0.95,
    choice: Split | float | None = None,
) -> EpsilonBound:
    """An *estimate* of epsilon: the Gaussian whose trade-off passes above the measured rates.

    mu = Phi^-1(1 - FPR) - Phi^-1(FNR) with Clopper-Pearson limits, priced at `delta`. It takes one
    point of the trade-off curve and draws the rest: right for a full-batch Gaussian release and
    independent canaries, anything elsewhere. Arguments as in `clopper_pearson_epsilon`.

    Source: Nasr et al. 2023 (arXiv:2302.07956); Dong, Roth & Su 2022 (arXiv:1905.02383).
    """
    significance = _significance(delta, confidence, positive=True)
    counts, picked = _counts_at_threshold(scores, included, choice, lambda c: c.mu(significance))
    mu = max(0.0, counts.mu(significance))
    return _bound(
        Method.GAUSSIAN_ESTIMATE,
        gaussian_epsilon(mu, delta),
        counts.tally,
        len(scores),
        delta,
        confidence,
        picked,
        assumes=(GAUSSIAN_SHAPE, INDEPENDENT),
        mu=mu,
        counts=counts.counts,
    )


def _counts_at_threshold(
    scores: Vector,
    included: Coins,
    choice: Split | float | None,
    value: Callable[[Contingency], float],
) -> tuple[Contingency, AnyChoice]:
    values, coins = checked(scores, included)
    if isinstance(choice, float | int) and not isinstance(choice, bool):
        named = NamedThreshold(float(choice))
        return Contingency.at(named.value, values, coins), named
    picked = Split() if choice is None else choice
    if not isinstance(picked, Split):
        raise InvalidParameter("choice", found=picked, expected="a Split or a threshold")
    order = Chance(picked.seed, purpose="auditing.guesses").permutation(len(values))
    values, coins = values[order], coins[order]
    first = cut(len(values), picked.fraction)
    trials = np.unique(np.quantile(values[:first], np.linspace(0, 1, _THRESHOLDS), method="lower"))
    counts = [Contingency.at(float(t), values[:first], coins[:first]) for t in trials]
    # Where several thresholds certify nothing, the raw rates say which one promises most.
    promises = [(value(count), count.advantage) for count in counts]
    best = float(trials[promises.index(max(promises))])
    return Contingency.at(best, values[first:], coins[first:]), picked


def _bound(  # noqa: PLR0913 -- one place that fills the value
    method: Method,
    epsilon: float,
    tally: Tally,
    canaries: int,
    delta: float,
    confidence: float,
    choice: AnyChoice,
    *,
    assumes: tuple[str, ...] = (),
    mu: float | None = None,
    delta_floor: float = 0.0,
    counts: tuple[int, int, int, int] | None = None,
) -> EpsilonBound:
    return EpsilonBound(
        method=method,
        epsilon=epsilon,
        delta=delta,
        confidence=confidence,
        canaries=canaries,
        counted=tally.canaries,
        guesses=tally.guesses,
        correct=tally.correct,
        choice=choice,
        level=tally.level,
        assumes=assumes,
        mu=mu,
        delta_floor=delta_floor,
        counts=counts,
    )


def _significance(delta: float, confidence: float, *, positive: bool = False) -> float:
    if positive and delta == 0:
        raise InvalidParameter("delta", found=0.0, expected="> 0: no Gaussian has a finite epsilon")
    if not 0 <= delta < 1:
        raise InvalidParameter("delta", found=delta, expected="a number in [0, 1)")
    if not 0.5 < confidence < 1:
        raise InvalidParameter("confidence", found=confidence, expected="a number in (0.5, 1)")
    return 1 - confidence
