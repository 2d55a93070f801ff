"""Exposure: how far a secret that was trained on stands out among secrets that were not.

With R candidates of the same form (all phone numbers, all completions of "my PIN is ____"), a
canary of rank r has exposure log2 R - log2 r bits: 0 where the model ranks it last, log2 R where it
ranks it first. Candidates are scored by the model, higher is more likely; ties count against the
canary.

Source: Carlini et al. 2019 (arXiv:1802.08232), section 4: rank, exposure, sampling, extrapolation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from privacy_core.auditing.rates import clopper_pearson
from privacy_core.errors import InvalidParameter

Vector = npt.NDArray[np.float64]

_LEAST_FOR_FIT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """Exposure in bits, at most log2 of the number of candidates.

    `low` and `high` are equal to `bits` where all candidates were ranked. `fit_p_value` is set for
    an extrapolation: small where the fitted law is not that of the scores, and then `bits` is not
    to be trusted.
    """

    bits: float
    low: float
    high: float
    most: float
    rank: float
    method: str
    fit_p_value: float | None = None


def exposure(canary: float, candidates: Vector) -> Exposure:
    """The exact exposure, with every other candidate of the space scored.

    Args:
        canary: its score; higher is more likely.
        candidates: scores of all other candidates, so R = len(candidates) + 1.
    """
    scores = _candidates(canary, candidates, least=1)
    rank = int(np.sum(scores >= canary)) + 1
    most = math.log2(len(scores) + 1)
    bits = most - math.log2(rank)
    return Exposure(bits=bits, low=bits, high=bits, most=most, rank=rank, method="exact")


def sampled_exposure(
    canary: float, candidates: Vector, *, space: float, confidence: float = 0.95
) -> Exposure:
    """Exposure from a uniform sample of the candidates, with an exact interval.

    With c of n sampled candidates at or above the canary, its quantile is between the
    Clopper-Pearson limits of c / n. Where c = 0 the sample cannot tell how far up the canary is:
    `high` is log2 of the space and `bits` is what n candidates show, log2(n + 1).

    Args:
        canary: its score.
        candidates: scores of candidates drawn uniformly, with replacement or nearly so.
        space: R, the size of the whole space, >= the sample.
        confidence: of the interval.
    """
    scores = _candidates(canary, candidates, least=1)
    most = _bits(space, len(scores))
    above = int(np.sum(scores >= canary))
    share = clopper_pearson(above, len(scores), confidence)
    bits = min(most, -math.log2((above + 1) / (len(scores) + 1)))
    low = min(most, -math.log2(share.high))
    high = most if share.low * space <= 1 else -math.log2(share.low)
    return Exposure(
        bits=bits, low=low, high=high, most=most, rank=space * 2.0**-bits, method="sampled"
    )


def extrapolated_exposure(canary: float, candidates: Vector, *, space: float) -> Exposure:
    """Exposure from a skew-normal law fitted to sampled scores: an estimate beyond the sample.

    `low` and `high` are the sampled interval, which needs no law; read `bits` beside it. The fit's
    Kolmogorov-Smirnov p-value is optimistic, as the law was fitted to the same scores.

    Args:
        canary: its score.
        candidates: scores of at least 100 candidates drawn uniformly.
        space: R.

    Source: Carlini et al. 2019 (arXiv:1802.08232), section 4.
    """
    scores = _candidates(canary, candidates, least=_LEAST_FOR_FIT)
    if float(np.ptp(scores)) == 0:
        raise InvalidParameter("candidates", found="one score", expected="scores that differ")
    beside = sampled_exposure(canary, scores, space=space)
    shape, location, scale = scipy.stats.skewnorm.fit(scores)
    law = scipy.stats.skewnorm(shape, loc=location, scale=scale)
    tail = float(law.sf(canary))
    bits = beside.most if tail * space <= 1 else -math.log2(tail)
    return Exposure(
        bits=bits,
        low=beside.low,
        high=beside.high,
        most=beside.most,
        rank=space * 2.0**-bits,
        method="extrapolated",
        fit_p_value=float(scipy.stats.kstest(scores, law.cdf).pvalue),
    )


def _candidates(canary: float, candidates: Vector, *, least: int) -> Vector:
    scores = np.asarray(candidates, dtype=np.float64)
    if scores.ndim != 1 or len(scores) < least:
        raise InvalidParameter("candidates", found=scores.shape, expected=f"{least} scores or more")
    if math.isnan(canary) or np.any(np.isnan(scores)):
        raise InvalidParameter("candidates", found="a score that is nan", expected="numbers")
    return scores


def _bits(space: float, sampled: int) -> float:
    if not sampled <= space < math.inf:
        raise InvalidParameter("space", found=space, expected=f"at least the sample, {sampled}")
    return math.log2(space)
