"""Whether two samples differ: five measures, p-values, and many columns at once.

Which test is used follows from type and size, as the p-value of a large sample calls every trifle a
difference, and the distance of a small one is mostly noise:

==================  ===================================  ==========================================
a column that is    with both samples up to `LARGE`      with a larger one
==================  ===================================  ==========================================
numeric             `kolmogorov_smirnov`, p-value        `wasserstein`, in standard deviations of
                                                         the reference, above `EFFECT_MOST`
categorical         `chi_square`, p-value                `jensen_shannon` above `EFFECT_MOST`
==================  ===================================  ==========================================

`psi` is reported beside, for those who know it; above 0.2 it is customarily called a shift. The
p-values of all columns are judged together (Benjamini and Hochberg 1995), so that among the columns
that are called drifted at most the chosen share is so by chance.

Samples of private records are private: what these functions return about them is outside the
guarantee, unless the samples were released before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline_guard.detection.chances import chi_square_tail, kolmogorov_tail
from pipeline_guard.detection.components import VALUE_MOST
from pipeline_guard.errors import MonitoringError
from privacy_runtime.world import Entropy

LARGE: Final = 1000
EFFECT_MOST: Final = 0.1
PSI_MOST: Final = 0.2
SAMPLE_LEAST: Final = 50
EXPECTED_LEAST: Final = 5.0
BINS: Final = 10
_SHARE_LEAST: Final = 1e-4

Floats = NDArray[np.float64]
Sample = Sequence[Any] | NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How one column of the current sample differs from the reference.

    Attributes:
        column: its name.
        test: `kolmogorov_smirnov`, `wasserstein`, `chi_square` or `jensen_shannon`.
        statistic: of that test.
        p_value: the chance of as large a statistic without a difference; `None` for a distance.
        threshold: the distance from which it counts; for a p-value, the level that the correction
            for many columns left to this one.
        psi: population stability index.
        reference_count, current_count: how many values were compared: without NaN,
            infinities and `None`.
        is_drifted: `False`, too, where there were too few values: see `is_assessable`.
        is_assessable: whether both samples have `SAMPLE_LEAST` values or more.
    """

    column: str
    test: str
    statistic: float
    p_value: float | None
    threshold: float
    psi: float
    reference_count: int
    current_count: int
    is_drifted: bool
    is_assessable: bool = True


def drifts(
    reference: Mapping[str, Sample],
    current: Mapping[str, Sample],
    *,
    false_discovery_rate: float = 0.05,
) -> list[Drift]:
    """Compare every column of two tables; the result is in the order of the reference's columns.

    A column is numeric where every value of both samples is a number (booleans are categories).
    Values beyond 1e150 count as that.

    Raises:
        MonitoringError: the columns differ, or the rate is not between 0 and 1.
    """
    if set(reference) != set(current):
        odd = ", ".join(sorted(set(reference) ^ set(current)))
        raise MonitoringError(
            f"the samples do not have the same columns; only one of them has {odd}; nothing was "
            "compared"
        )
    if not 0.0 < false_discovery_rate < 1.0:
        raise MonitoringError(
            f"the false discovery rate is {false_discovery_rate}; expected a number between 0 and "
            "1; nothing was compared"
        )
    found = [compare(name, reference[name], current[name]) for name in reference]
    tested = [each for each in found if each.p_value is not None and each.is_assessable]
    levels = benjamini_hochberg([each.p_value or 0.0 for each in tested], false_discovery_rate)
    judged = {
        each.column: replace(each, threshold=level, is_drifted=(each.p_value or 0.0) <= level)
        for each, level in zip(tested, levels, strict=True)
    }
    return [judged.get(each.column, each) for each in found]


def compare(column: str, reference: Sample, current: Sample) -> Drift:
    """Compare one column with the test that suits it; a p-value is judged at 0.05."""
    before, after = _known(reference), _known(current)
    is_numeric = _is_numeric(before) and _is_numeric(after)
    is_large = max(len(before), len(after)) > LARGE
    test = _TEST_OF[is_numeric, is_large]
    is_assessable = min(len(before), len(after)) >= SAMPLE_LEAST
    statistic, p_value = _TESTS[test](before, after) if is_assessable else (0.0, None)
    threshold = EFFECT_MOST if p_value is None else 0.05
    return Drift(
        column=column,
        test=test,
        statistic=statistic,
        p_value=p_value,
        threshold=threshold,
        psi=psi(before, after) if is_assessable else 0.0,
        reference_count=len(before),
        current_count=len(after),
        is_drifted=statistic > threshold if p_value is None else p_value <= threshold,
        is_assessable=is_assessable,
    )


def psi(reference: Sample, current: Sample, *, bins: int = BINS) -> float:
    """Return the population stability index: sum of (q - p) ln(q / p) over bins, natural logarithm.

    Numbers are cut at the quantiles of the reference, categories are their own bins. An empty bin
    counts as a share of 1e-4, so that the index stays finite.
    """
    before, after = _shares(_known(reference), _known(current), bins)
    before, after = np.maximum(before, _SHARE_LEAST), np.maximum(after, _SHARE_LEAST)
    return float(np.sum((after - before) * np.log(after / before)))


def jensen_shannon(reference: Sample, current: Sample, *, bins: int = BINS) -> float:
    """Return the Jensen-Shannon distance (the root of the divergence, base 2): 0 to 1."""
    before, after = _shares(_known(reference), _known(current), bins)
    middle = (before + after) / 2.0
    divergence = (_kullback_leibler(before, middle) + _kullback_leibler(after, middle)) / 2.0
    return math.sqrt(max(divergence, 0.0))


def wasserstein(reference: Sample, current: Sample, *, is_scaled: bool = False) -> float:
    """Return the Wasserstein-1 distance: the area between the two distribution functions.

    In the unit of the values, or, scaled, in standard deviations of the reference; a constant
    reference that is left is infinitely far then.
    """
    before, after = np.sort(_numbers(reference)), np.sort(_numbers(current))
    every = np.sort(np.concatenate([before, after]))
    gap = np.abs(_share_up_to(before, every[:-1]) - _share_up_to(after, every[:-1]))
    distance = float(gap @ np.diff(every))
    if not is_scaled or distance == 0.0:
        return distance
    deviation = float(before.std())
    return distance / deviation if deviation > 0.0 else math.inf


def kolmogorov_smirnov(reference: Sample, current: Sample) -> tuple[float, float]:
    """Return the largest gap between the two distribution functions, and its p-value.

    The p-value is the asymptotic one with Stephens' correction (1970) for finite samples. From 50
    values on it is within 0.01 of the exact one where that is below 0.1, and within 0.05 elsewhere.
    With ties it is too high.
    """
    before, after = np.sort(_numbers(reference)), np.sort(_numbers(current))
    every = np.concatenate([before, after])
    gap = float(np.abs(_share_up_to(before, every) - _share_up_to(after, every)).max())
    root = math.sqrt(len(before) * len(after) / (len(before) + len(after)))
    return gap, kolmogorov_tail((root + 0.12 + 0.11 / root) * gap)


def chi_square(reference: Sample, current: Sample) -> tuple[float, float]:
    """Return Pearson's statistic of the two-row table of categories, and its p-value.

    Categories whose expected count in the smaller sample is below 5 are counted as one.
    """
    before, after = _counts(_known(reference), _known(current))
    total = before + after
    smaller = min(before.sum(), after.sum()) / total.sum()
    rare = total * smaller < EXPECTED_LEAST
    if rare.any():
        before = np.append(before[~rare], before[rare].sum())
        after = np.append(after[~rare], after[rare].sum())
        total = before + after
    if len(total) < 2:
        return 0.0, 1.0
    statistic = 0.0
    for observed in (before, after):
        expected = total * observed.sum() / total.sum()
        statistic += float(np.sum((observed - expected) ** 2 / expected))
    return statistic, chi_square_tail(statistic, len(total) - 1)


def permutation_p_value(
    statistic: Callable[[Sample, Sample], float],
    reference: Sample,
    current: Sample,
    *,
    entropy: Entropy,
    rounds: int = 999,
) -> float:
    """Return the p-value of any statistic, by shuffling who belongs to which sample.

    Exact in level for every sample size: (1 + as large or larger) / (1 + rounds) (Phipson and Smyth
    2010). For distances that have no table: PSI, Jensen-Shannon, Wasserstein.

    Args:
        statistic: larger means further apart.
        reference: the one sample.
        current: the other.
        entropy: where the shuffles come from.
        rounds: how many; the smallest p-value is 1 / (1 + rounds).
    """
    before, after = _known(reference), _known(current)
    observed = statistic(before, after)
    pooled = np.concatenate([before, after])
    as_large = 0
    for _ in range(rounds):
        keys = np.frombuffer(entropy.token_bytes(8 * len(pooled)), np.uint64)
        shuffled = pooled[np.argsort(keys)]
        as_large += statistic(shuffled[: len(before)], shuffled[len(before) :]) >= observed
    return (1 + as_large) / (1 + rounds)


def benjamini_hochberg(p_values: Sequence[float], rate: float) -> list[float]:
    """Return for each p-value the level that it is judged at.

    Rejecting where the p-value is at or below its level is the procedure of Benjamini and Hochberg
    (1995): with k rejections out of m the level is k `rate` / m for those, and (k + 1) `rate` / m,
    which the others exceed, for the others.
    """
    many = len(p_values)
    ranked = enumerate(sorted(p_values), 1)
    rejected = max((rank for rank, p in ranked if p <= rank * rate / many), default=0)
    step = rate / max(many, 1)
    return [(rejected if p <= rejected * step else rejected + 1) * step for p in p_values]


def _known(sample: Sample) -> NDArray[Any]:
    """Without NaN, infinities and `None`; numbers as floats within 1e150, all else as it is."""
    if isinstance(sample, np.ndarray) and sample.dtype.kind in "iuf":
        return _bounded(sample.ravel())
    kept = [each for each in sample if each is not None and each == each]  # noqa: PLR0124 -- NaN
    if kept and all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in kept):
        return _bounded(np.asarray(kept, float))
    return _objects(kept)


def _bounded(values: NDArray[Any]) -> Floats:
    numbers = values.astype(float)
    bounded: Floats = np.clip(numbers[np.isfinite(numbers)], -VALUE_MOST, VALUE_MOST)
    return bounded


def _objects(values: Sequence[Hashable]) -> NDArray[Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _is_numeric(values: NDArray[Any]) -> bool:
    return values.dtype.kind == "f"


def _numbers(sample: Sample) -> Floats:
    values = _known(sample)
    if not _is_numeric(values) or not len(values):
        raise MonitoringError("this measure is for samples of numbers; nothing was compared")
    return values


def _share_up_to(ordered: Floats, at: Floats) -> Floats:
    share: Floats = np.searchsorted(ordered, at, side="right") / len(ordered)
    return share


def _counts(before: NDArray[Any], after: NDArray[Any]) -> tuple[Floats, Floats]:
    """How often each category occurs in each sample; lists and mappings count as they are shown."""
    place: dict[Hashable, int] = {}

    def row(side: NDArray[Any]) -> list[int]:
        names = (each if isinstance(each, Hashable) else repr(each) for each in side)
        return [place.setdefault(name, len(place)) for name in names]

    rows = [row(before), row(after)]
    first, second = (np.bincount(each, minlength=len(place)).astype(float) for each in rows)
    return first, second


def _shares(before: NDArray[Any], after: NDArray[Any], bins: int) -> tuple[Floats, Floats]:
    if not len(before) or not len(after):
        raise MonitoringError("one of the samples is empty; nothing was compared")
    if _is_numeric(before) and _is_numeric(after):
        edges = np.unique(np.quantile(before, np.linspace(0.0, 1.0, bins + 1)[1:-1]))
        sides = [np.searchsorted(edges, side, side="left") for side in (before, after)]
        first, second = (
            np.bincount(side, minlength=len(edges) + 1).astype(float) for side in sides
        )
    else:
        first, second = _counts(before, after)
    return first / first.sum(), second / second.sum()


def _kullback_leibler(p: Floats, q: Floats) -> float:
    there = p > 0.0
    return float(np.sum(p[there] * np.log2(p[there] / q[there])))


_TEST_OF: Final = {
    (True, False): "kolmogorov_smirnov",
    (True, True): "wasserstein",
    (False, False): "chi_square",
    (False, True): "jensen_shannon",
}
_TESTS: Final[Mapping[str, Callable[[Sample, Sample], tuple[float, float | None]]]] = {
    "kolmogorov_smirnov": kolmogorov_smirnov,
    "wasserstein": lambda before, after: (wasserstein(before, after, is_scaled=True), None),
    "chi_square": chi_square,
    "jensen_shannon": lambda before, after: (jensen_shannon(before, after), None),
}
