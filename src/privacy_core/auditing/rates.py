"""How well a score tells members from non-members, with intervals that hold.

One rate without an interval is an anecdote. At a false-positive rate of 0.1 % a hundred non-members
say nothing at all: such a claim is refused here, with the number that it would need.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy

from privacy_core.auditing.chance import Chance
from privacy_core.errors import InvalidParameter

Vector = npt.NDArray[np.float64]

_NUMBERS_AT_ONCE: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with a two-sided confidence interval."""

    estimate: float
    low: float
    high: float
    confidence: float

    def __str__(self) -> str:
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class TruePositives:
    """The share of members found while at most `fpr` of the non-members are taken for members.

    `tpr` is None where it cannot be claimed: fewer than `nonmembers_needed` non-members.
    `achieved_fpr` is the rate on these non-members with its own interval: the true one may differ.
    """

    fpr: float
    tpr: Interval | None
    achieved_fpr: Interval | None
    nonmembers: int
    nonmembers_needed: int


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """The exact interval of a probability; it covers the truth with at least `confidence`.

    No trials: the estimate is nan and the interval is [0, 1].

    Source: Clopper & Pearson 1934, Biometrika 26.
    """
    if not 0 <= successes <= trials:
        raise InvalidParameter("successes", found=successes, expected=f"0 to {trials}")
    half = (1 - _confidence(confidence)) / 2
    return Interval(
        estimate=successes / trials if trials else math.nan,
        low=lower_limit(successes, trials, half),
        high=upper_limit(successes, trials, half),
        confidence=confidence,
    )


def lower_limit(successes: int, trials: int, significance: float) -> float:
    """The one-sided Clopper-Pearson limit: below the truth except with prob. `significance`."""
    if successes == 0:
        return 0.0
    return float(scipy.special.betaincinv(successes, trials - successes + 1, significance))


def upper_limit(successes: int, trials: int, significance: float) -> float:
    """The one-sided Clopper-Pearson limit: above the truth except with prob. `significance`."""
    if successes == trials:
        return 1.0
    return float(scipy.special.betaincinv(successes + 1, trials - successes, 1 - significance))


def auc(members: Vector, nonmembers: Vector, confidence: float = 0.95) -> Interval:
    """The chance that a member scores higher than a non-member; ties count a half.

    The interval is DeLong's on the logit scale; where every pair is in order (or every one out of
    order) that variance is zero, and Newcombe's interval is given instead.

    Args:
        members: scores of at least two members; higher means more likely a member.
        nonmembers: scores of at least two non-members.
        confidence: of the interval.

    Raises:
        InvalidParameter: too few scores, or one is nan.

    Source: DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44; Newcombe 2006, Stat. Med. 25 (559),
    method 5.
    """
    found, others = _scores("members", members), _scores("nonmembers", nonmembers)
    quantile = float(scipy.special.ndtri((1 + _confidence(confidence)) / 2))
    ranks = scipy.stats.rankdata(np.concatenate([found, others]))
    n, k = len(found), len(others)
    above = (ranks[:n] - scipy.stats.rankdata(found)) / k
    below = 1 - (ranks[n:] - scipy.stats.rankdata(others)) / n
    estimate = float(np.mean(above))
    variance = float(np.var(above, ddof=1) / n + np.var(below, ddof=1) / k)
    if variance == 0 or not 0 < estimate < 1:
        low, high = _newcombe(estimate, n, k, quantile)
    else:
        centre = math.log(estimate / (1 - estimate))
        reach = quantile * math.sqrt(variance) / (estimate * (1 - estimate))
        low, high = (float(scipy.special.expit(centre + s * reach)) for s in (-1, 1))
    return Interval(estimate=estimate, low=low, high=high, confidence=confidence)


def tpr_at_fpr(
    members: Vector, nonmembers: Vector, fpr: float, confidence: float = 0.95
) -> TruePositives:
    """True-positive rate at a false-positive rate of at most `fpr` on these non-members.

    The threshold is the (floor(fpr n) + 1)-th highest of the n non-members; a text counts as found
    when it scores strictly above it, so ties never help. The interval of the true-positive rate is
    Clopper-Pearson's over the members for this threshold; that the threshold was itself estimated
    shows in `achieved_fpr`.

    Args:
        members: scores of the members.
        nonmembers: scores of the non-members.
        fpr: in (0, 1). With fewer than 1 / fpr non-members nothing is claimed.
        confidence: of each interval.
    """
    if not 0 < fpr < 1:
        raise InvalidParameter("fpr", found=fpr, expected="a number in (0, 1)")
    found, others = _scores("members", members), _scores("nonmembers", nonmembers)
    needed = math.ceil(1 / fpr - 1e-9)
    rate: Interval | None = None
    achieved: Interval | None = None
    if len(others) >= needed:
        allowed = math.floor(fpr * len(others) + 1e-9)
        threshold = np.sort(others)[len(others) - allowed - 1]
        rate = clopper_pearson(int(np.sum(found > threshold)), len(found), confidence)
        achieved = clopper_pearson(int(np.sum(others > threshold)), len(others), confidence)
    return TruePositives(
        fpr=fpr,
        tpr=rate,
        achieved_fpr=achieved,
        nonmembers=len(others),
        nonmembers_needed=needed,
    )


def bootstrap(
    statistic: Callable[..., float],
    *samples: Vector,
    seed: int | bytes,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """The percentile interval of a statistic of independent samples.

    Approximate: right for many observations and a smooth statistic. Deterministic in `seed`.

    Args:
        statistic: takes as many vectors as there are samples.
        samples: each is resampled on its own, with replacement, at its own size.
        seed: of the resampling.
        resamples: how many, >= 100.
        confidence: of the interval.

    Source: Efron & Tibshirani 1993, chapter 13.
    """
    rows = [np.asarray(sample, dtype=np.float64) for sample in samples]
    if not rows or min(len(row) for row in rows) < 2:
        raise InvalidParameter("samples", found=[len(r) for r in rows], expected="two or more each")
    if resamples < 100:
        raise InvalidParameter("resamples", found=resamples, expected="a whole number >= 100")
    chance = Chance(seed, purpose="bootstrap")
    found = np.array(
        [
            statistic(*(row[chance.integers(len(row), len(row))] for row in rows))
            for _ in range(resamples)
        ]
    )
    return _percentiles(float(statistic(*rows)), found, confidence)


def paired_difference(
    first: Sequence[float] | Vector,
    second: Sequence[float] | Vector,
    *,
    seed: int | bytes,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Mean of first - second over pairs, with the bootstrap interval over the pairs."""
    left, right = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if left.shape != right.shape or left.ndim != 1 or len(left) < 2:
        raise InvalidParameter("second", found=right.shape, expected="two or more, in pairs")
    means = _resampled_means(left - right, Chance(seed, purpose="bootstrap"), resamples)
    return _percentiles(float(np.mean(left - right)), means, confidence)


def difference_of_shares(
    first: Vector,
    second: Vector,
    *,
    paired: bool,
    seed: int | bytes,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """The share of ones in `first` minus that in `second`, with a bootstrap interval.

    Where every resample is the same (all ones, or none) the bootstrap would be certain of what it
    has seen; there the limits are Clopper-Pearson's, the error shared among them.

    Args:
        first: zeros and ones; two or more.
        second: zeros and ones; in pairs with `first` if `paired`.
        paired: row k of both is about the same thing.
        seed: of the resampling.
        resamples: how many.
        confidence: of the interval.
    """
    left, right = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if not set(np.unique(np.concatenate([left, right]))) <= {0.0, 1.0}:
        raise InvalidParameter("first", found="other numbers", expected="zeros and ones")
    if paired:
        found = paired_difference(
            left, right, seed=seed, resamples=resamples, confidence=confidence
        )
        more = int(np.sum(left > right)), len(left)
        less = int(np.sum(left < right)), len(left)
    else:
        chance = Chance(seed, purpose="bootstrap")
        means = _resampled_means(left, chance, resamples)
        means = means - _resampled_means(right, chance, resamples)
        found = _percentiles(float(np.mean(left) - np.mean(right)), means, confidence)
        more, less = (int(left.sum()), len(left)), (int(right.sum()), len(right))
    if found.low < found.high:
        return found
    each = (1 + confidence) / 2
    up, down = clopper_pearson(*more, each), clopper_pearson(*less, each)
    return Interval(
        estimate=found.estimate,
        low=up.low - down.high,
        high=up.high - down.low,
        confidence=confidence,
    )


def _resampled_means(row: Vector, chance: Chance, resamples: int) -> Vector:
    """The means of `resamples` resamples of a row, some of them at a time."""
    if len(row) < 2:
        raise InvalidParameter("samples", found=len(row), expected="two or more")
    at_once = max(1, _NUMBERS_AT_ONCE // len(row))
    return np.concatenate(
        [
            row[chance.integers(len(row), part * len(row))].reshape(part, len(row)).mean(axis=1)
            for part in (min(at_once, resamples - k) for k in range(0, resamples, at_once))
        ]
    )


def _percentiles(estimate: float, values: Vector, confidence: float) -> Interval:
    half = (1 - _confidence(confidence)) / 2
    low, high = np.quantile(values, [half, 1 - half])
    return Interval(estimate=estimate, low=float(low), high=float(high), confidence=confidence)


def _newcombe(estimate: float, n: int, k: int, quantile: float) -> tuple[float, float]:
    """The interval of those values whose own variance (Hanley & McNeil) reaches the estimate."""
    middle = (n + k) / 2 - 1

    def reach(value: float) -> float:
        shape = (1 - value) / (2 - value) + value / (1 + value)
        return quantile * math.sqrt(value * (1 - value) * (1 + middle * shape) / (n * k))

    def edge(sign: int, inner: float, outer: float) -> float:
        for _ in range(60):
            trial = (inner + outer) / 2
            if sign * (trial - estimate) <= reach(trial):
                inner = trial
            else:
                outer = trial
        return inner

    return edge(-1, estimate, 0.0), edge(1, estimate, 1.0)


def _scores(name: str, values: Vector) -> Vector:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or len(scores) < 2:
        raise InvalidParameter(name, found=scores.shape, expected="at least two scores")
    if np.any(np.isnan(scores)):
        raise InvalidParameter(name, found="a score that is nan", expected="numbers")
    return scores


def _confidence(confidence: float) -> float:
    if not 0.5 < confidence < 1:
        raise InvalidParameter("confidence", found=confidence, expected="a number in (0.5, 1)")
    return confidence
