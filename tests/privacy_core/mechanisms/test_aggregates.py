"""Sensitivity by brute force over all small data sets, laws, and data that misbehaves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from fractions import Fraction

import numpy as np
import pytest
import scipy

from privacy_core.accounting import delta_of, epsilon_of
from privacy_core.dp_events import Composed, Laplace, SelfComposed
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import NeighbouringRelation
from privacy_core.mechanisms import (
    OPENDP,
    BoundedMean,
    BoundedSum,
    Count,
    Histogram,
    Noise,
    Quantile,
    guarantee_of,
)
from privacy_core.mechanisms.lattice import Lattice
from privacy_runtime.testing import SeededEntropy

Follows = Callable[[Sequence[Hashable], Mapping[Hashable, float]], bool]
ADD, REPLACE = NeighbouringRelation.ADD_OR_REMOVE_ONE, NeighbouringRelation.REPLACE_ONE
RELATIONS = list(NeighbouringRelation)
VALUES = (-math.inf, -2.0, 0.0, 0.7, 3.0, 1e300, math.inf, math.nan)
Rows = tuple[float, ...]


def neighbours(relation: NeighbouringRelation, size: int = 3) -> Iterator[tuple[Rows, Rows]]:
    """All pairs of neighbours with up to `size` rows from VALUES. Order does not matter."""
    for n in range(size + 1):
        for rows in itertools.combinations_with_replacement(VALUES, n):
            for value in VALUES:
                if relation is ADD:
                    yield rows, (*rows, value)
                else:
                    yield (*rows, VALUES[0]), (*rows, value)
                    yield (*rows, 3.0), (*rows, value)


def column(rows: Rows) -> np.ndarray:
    return np.array(rows, dtype=np.float64)


BOUNDS = [(0.0, 1.0), (-1.0, 2.5), (-3.0, -1.0), (0.1, 0.3), (1000.0, 1000.25)]


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize(("lower", "upper"), BOUNDS)
@pytest.mark.parametrize("middle", [False, True])
def test_the_sensitivity_of_a_sum_is_what_brute_force_finds(
    lower: float, upper: float, relation: NeighbouringRelation, middle: bool
) -> None:
    lattice = Lattice.of(lower, upper)
    lattice = lattice.from_the_middle() if middle else lattice
    worst = max(
        abs(lattice.total(column(a)) - lattice.total(column(b))) for a, b in neighbours(relation, 2)
    )
    on_paper = upper - lower if relation is REPLACE else max(abs(lower), abs(upper))
    if middle and relation is ADD:
        on_paper = (upper - lower) / 2

    if (lower, upper) != (0.1, 0.3) and not middle:  # no value of ours lies on the far bounds there
        assert worst * lattice.step == lattice.sensitivity(relation)
    assert worst * lattice.step <= lattice.sensitivity(relation)
    assert float(lattice.sensitivity(relation)) <= on_paper + float(lattice.step)
    assert float(lattice.sensitivity(relation)) >= on_paper * 0.995


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_sensitivity_of_a_histogram_is_what_brute_force_finds(
    relation: NeighbouringRelation,
) -> None:
    """Without noise (a scale of nearly 0), counts and their changes are seen exactly."""
    histogram = Histogram(edges=(-1.0, 0.0, 1.0, 5.0), scale=1e-3, relation=relation)
    worst, most_bins = 0, 0
    for a, b in neighbours(relation, 2):
        change = np.subtract(
            histogram.release(column(a), SeededEntropy(0)),
            histogram.release(column(b), SeededEntropy(0)),
        )
        worst = max(worst, int(np.abs(change).sum()))
        most_bins = max(most_bins, np.count_nonzero(change))
        assert np.abs(change).max(initial=0) <= 1

    assert worst == histogram.sensitivity == most_bins


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_sensitivity_of_a_count_is_what_brute_force_finds(
    relation: NeighbouringRelation,
) -> None:
    count = Count(scale=1e-3, relation=relation)

    worst = max(
        abs(count.release(column(a), SeededEntropy(0)) - count.release(column(b), SeededEntropy(0)))
        for a, b in neighbours(relation, 2)
    )

    assert worst == count.sensitivity


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("q", [0.1, 0.5, 0.75])
def test_the_sensitivity_of_a_quantile_is_what_brute_force_finds(
    q: float, relation: NeighbouringRelation
) -> None:
    quantile = Quantile(
        quantile=q, candidates=(-2.0, 0.0, 0.5, 3.0), epsilon=1.0, relation=relation
    )

    worst = max(
        abs(x - y)
        for a, b in neighbours(relation)
        for x, y in zip(quantile.scores(column(a)), quantile.scores(column(b)), strict=True)
    )

    assert 0 <= Fraction(quantile.sensitivity) - worst < 1e-15


@pytest.mark.parametrize("noise", list(Noise))
def test_the_histograms_event_is_the_joint_law_of_two_bins(noise: Noise) -> None:
    """One unit moves from a bin to another: the exact delta of the two noisy counts together."""
    histogram = Histogram(edges=(0.0, 1.0, 2.0), scale=1.5, noise=noise, relation=REPLACE)
    k = np.arange(-60, 62)
    size = np.abs(k) if noise is Noise.LAPLACE else k**2 / 2
    weight = np.exp(-size / (1.5 if noise is Noise.LAPLACE else 1.5**2))
    at_0 = weight / weight.sum()
    at_1 = np.roll(at_0, 1)
    p, q = np.multiply.outer(at_0, at_1), np.multiply.outer(at_1, at_0)

    for epsilon in (0.1, 0.5, 1.0):
        exact = np.maximum(p - math.exp(epsilon) * q, 0).sum()
        assert exact <= delta_of(histogram.event, epsilon, relation=REPLACE) <= exact * 1.01


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("noise", list(Noise))
def test_each_aggregate_costs_what_its_noise_says(
    noise: Noise, relation: NeighbouringRelation
) -> None:
    def price(mechanism: Count | Histogram | BoundedSum | BoundedMean) -> float:
        return guarantee_of(mechanism, 1e-6).epsilon

    common = {"noise": noise, "relation": relation}
    count = Count(scale=3.0, **common)
    total = BoundedSum(lower=-1.0, upper=3.0, scale=9.0, **common)
    mean = BoundedMean(lower=-1.0, upper=3.0, scale=6.0, count_scale=3.0, **common)
    bins = Histogram(edges=(0.0, 1.0, 2.0), scale=3.0, **common)

    if noise is Noise.LAPLACE:
        wide = 4.0 if relation is REPLACE else 3.0
        assert guarantee_of(count).epsilon == pytest.approx(1 / 3)
        assert guarantee_of(total).epsilon == pytest.approx(wide / 9.0)
        of_mean = 4 / 6 if relation is REPLACE else 2 / 6 + 1 / 3
        assert guarantee_of(mean).epsilon == pytest.approx(of_mean)
        assert guarantee_of(bins).epsilon == pytest.approx((2 if relation is REPLACE else 1) / 3)
    else:
        assert price(total) == pytest.approx(
            epsilon_of(total.event, 1e-6, "gdp", relation=relation), rel=1e-9
        )
        assert price(count) <= price(bins)
    assert price(mean) > 0


@pytest.mark.parametrize("entropy", [SeededEntropy(51), OPENDP], ids=["entropy", "opendp"])
def test_counts_follow_their_law(follows: Follows, entropy: object) -> None:
    data, unit = np.array([1, 0, 5, 2]), math.tanh(1 / 4)

    draws = [Count(scale=2.0).release(data, entropy) for _ in range(4000)]  # type: ignore[arg-type]

    assert follows(draws, {3 + k: unit * math.exp(-abs(k) / 2) for k in range(-99, 100)})


@pytest.mark.parametrize("noise", list(Noise))
def test_sums_follow_their_law(noise: Noise) -> None:
    data = np.array([0.25, 1.0, 9.0, -9.0, math.nan])
    law = scipy.stats.laplace if noise is Noise.LAPLACE else scipy.stats.norm
    total = BoundedSum(lower=-0.5, upper=2.0, scale=0.3, noise=noise)

    draws = [total.release(data, SeededEntropy(seed)) for seed in range(4000)]

    assert scipy.stats.kstest(draws, law(0.25 + 1 + 2 - 0.5, 0.3).cdf).pvalue > 1e-7


def test_a_quantile_follows_its_law(follows: Follows) -> None:
    data = np.array([1.0, 2.0, 2.5, 7.0])
    quantile = Quantile(quantile=0.5, candidates=(0.0, 2.0, 5.0), epsilon=1.0)
    scores = [-abs(0.5 * b - 0.5 * a) for b, a in ((0, 4), (1, 2), (3, 1))]
    weights = [math.exp(1.0 * s / (2 * 0.5)) for s in scores]

    draws = [quantile.release(data, SeededEntropy(seed)) for seed in range(3000)]

    assert quantile.scores(data) == [Fraction(s) for s in scores]
    law = {c: w / sum(weights) for c, w in zip(quantile.candidates, weights, strict=True)}
    assert follows(draws, law)


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_mean_is_near_the_mean_and_inside_its_bounds(relation: NeighbouringRelation) -> None:
    data = np.linspace(2.0, 8.0, 5001)
    mean = BoundedMean(lower=0.0, upper=10.0, scale=10.0, count_scale=2.0, relation=relation)
    noisy = BoundedMean(lower=0.0, upper=10.0, scale=1e6, count_scale=1e6, relation=relation)

    assert mean.release(data, SeededEntropy(1)) == pytest.approx(5.0, abs=0.1)
    assert all(0 <= noisy.release(data, SeededEntropy(seed)) <= 10 for seed in range(50))


ALL = [
    Count(scale=1.0),
    Histogram(edges=(0.0, 1.0, 2.0), scale=1.0),
    BoundedSum(lower=0.0, upper=2.0, scale=1.0),
    BoundedSum(lower=-2.0, upper=2.0, scale=1.0, noise=Noise.GAUSSIAN, relation=REPLACE),
    BoundedMean(lower=0.0, upper=2.0, scale=1.0, count_scale=1.0),
    BoundedMean(lower=0.0, upper=2.0, scale=1.0, count_scale=1.0, relation=REPLACE),
    Quantile(quantile=0.5, candidates=(0.0, 1.0), epsilon=1.0),
]


@pytest.mark.parametrize("mechanism", ALL, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize(
    "data",
    [
        [], [math.nan], [math.inf, -math.inf], [1e308] * 3, [5e-324], [math.nan] * 100,
        [2**53, -(2**53)],
    ],
)  # fmt: skip
def test_no_data_can_stop_a_release_or_show_itself(mechanism: Count, data: list[float]) -> None:
    """Also warnings are errors here: a warning about a value is a leak too."""
    found = mechanism.release(np.array(data, dtype=np.float64), SeededEntropy(1))

    assert np.all(np.isfinite(found))


@pytest.mark.parametrize("mechanism", ALL, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize(
    "data", [np.zeros((2, 2)), np.array(["1"]), np.array([None, 1.0]), np.array([1j])]
)
def test_only_shape_and_type_are_refused(mechanism: Count, data: np.ndarray) -> None:
    with pytest.raises(InvalidParameter, match="a vector of numbers"):
        mechanism.release(data, SeededEntropy(0))


def test_sums_are_exact_in_any_order_and_size() -> None:
    """A sum of floats is not: 1 + 2^53 loses the 1 in one order and keeps it in the other."""
    lattice = Lattice.of(0.0, 1.0)
    tiny = Fraction(1, 1 << 20)
    data = np.tile([1.0, float(tiny), 0.25], 3 << 19)

    assert lattice.total(data) == lattice.total(data[::-1])
    assert lattice.total(data) * lattice.step == len(data) * (Fraction(5, 4) + tiny) / 3


def test_names_are_read_and_wrong_ones_refused() -> None:
    named = Count(scale=1.0, noise="gaussian", relation="replace_one")  # type: ignore[arg-type]

    assert named == Count(scale=1.0, noise=Noise.GAUSSIAN, relation=REPLACE)
    for bad in ({"noise": "uniform"}, {"relation": "both"}):
        with pytest.raises(InvalidParameter):
            Count(scale=1.0, **bad)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Count(scale=0.0),
        lambda: Histogram(edges=(1.0,), scale=1.0),
        lambda: Histogram(edges=(1.0, 1.0), scale=1.0),
        lambda: Histogram(edges=(0.0, math.nan), scale=1.0),
        lambda: BoundedSum(lower=1.0, upper=1.0, scale=1.0),
        lambda: BoundedSum(lower=-math.inf, upper=1.0, scale=1.0),
        lambda: BoundedSum(lower=0.0, upper=math.nan, scale=1.0),
        lambda: BoundedSum(lower=1e12, upper=1e12 + 0.001, scale=1.0),
        lambda: BoundedSum(lower=0.0, upper=1e-300, scale=1.0),
        lambda: BoundedMean(lower=0.0, upper=1.0, scale=1.0, count_scale=0.0),
        lambda: Quantile(quantile=1.0, candidates=(0.0, 1.0), epsilon=1.0),
        lambda: Quantile(quantile=0.5, candidates=(1.0, 0.0), epsilon=1.0),
        lambda: Quantile(quantile=0.5, candidates=(0.0, 1.0), epsilon=math.inf),
    ],
)
def test_a_parameter_outside_its_domain_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidParameter):
        make()


def test_a_private_size_costs_a_second_release() -> None:
    known, private = (
        BoundedMean(lower=0.0, upper=1.0, scale=1.0, count_scale=1.0, relation=relation).event
        for relation in (REPLACE, ADD)
    )

    assert isinstance(known, Laplace)
    assert isinstance(private, Composed)
    assert isinstance(Histogram(edges=(0.0, 1.0), scale=1.0, relation=REPLACE).event, SelfComposed)
