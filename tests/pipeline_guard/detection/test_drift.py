from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from pipeline_guard.detection.chances import chi_square_tail, kolmogorov_tail
from pipeline_guard.detection.drift import (
    benjamini_hochberg,
    chi_square,
    compare,
    drifts,
    jensen_shannon,
    kolmogorov_smirnov,
    permutation_p_value,
    psi,
    wasserstein,
)
from pipeline_guard.errors import MonitoringError
from privacy_runtime.testing import SeededEntropy

seeded = np.random.default_rng  # noqa: TID251 -- fixed samples

SAMPLES = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60)


def normal(count: int, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    return seeded(seed).normal(shift, 1.0, count)


def words(shares: dict[str, float], count: int, seed: int = 0) -> list[str]:
    rng = seeded(seed)
    return rng.choice(list(shares), size=count, p=list(shares.values())).tolist()


@pytest.mark.parametrize("degrees", [1, 2, 7, 40, 400])
@pytest.mark.parametrize("share", [1e-3, 0.2, 0.9, 1.1, 2.0, 8.0])
def test_the_chi_square_tail_is_that_of_scipy(degrees, share):
    expected = scipy.stats.chi2.sf(share * degrees, degrees)

    assert chi_square_tail(share * degrees, degrees) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("x", [0.01, 0.19, 0.2, 0.5, 1.0, 1.36, 3.0, 8.0])
def test_the_kolmogorov_tail_is_that_of_scipy(x):
    assert kolmogorov_tail(x) == pytest.approx(scipy.stats.kstwobign.sf(x), rel=1e-11, abs=1e-300)


@given(SAMPLES, SAMPLES)
@settings(max_examples=30)
def test_wasserstein_is_that_of_scipy_and_ks_the_largest_gap(reference, current):
    one, other = np.array(reference), np.array(current)
    statistic = max(abs(np.mean(one <= at) - np.mean(other <= at)) for at in [*one, *other])

    assert kolmogorov_smirnov(reference, current)[0] == pytest.approx(statistic, abs=1e-12)
    assert wasserstein(reference, current) == pytest.approx(
        scipy.stats.wasserstein_distance(reference, current), abs=1e-9
    )


@pytest.mark.parametrize(("many", "others"), [(50, 50), (50, 400), (300, 200), (1000, 1000)])
@pytest.mark.parametrize("shift", [0.0, 0.1, 0.3])
def test_the_ks_p_value_is_near_the_exact_one(many, others, shift):
    reference, current = normal(many), normal(others, shift, seed=1)
    exact = scipy.stats.ks_2samp(reference, current, method="exact").pvalue

    assert kolmogorov_smirnov(reference, current)[1] == pytest.approx(
        exact, abs=0.01 if exact < 0.1 else 0.05
    )


def test_chi_square_is_that_of_scipy_where_no_category_is_rare():
    reference = words({"a": 0.5, "b": 0.3, "c": 0.2}, 400)
    current = words({"a": 0.4, "b": 0.3, "c": 0.3}, 300, seed=1)
    table = [[side.count(name) for name in "abc"] for side in (reference, current)]
    expected = scipy.stats.chi2_contingency(table, correction=False)

    statistic, p_value = chi_square(reference, current)
    assert statistic == pytest.approx(expected.statistic)
    assert p_value == pytest.approx(expected.pvalue)


def test_rare_categories_are_counted_as_one():
    reference = ["common"] * 100 + [f"rare {each}" for each in range(20)]
    current = ["common"] * 100 + [f"other {each}" for each in range(20)]

    assert chi_square(reference, current) == (0.0, 1.0)


def test_jensen_shannon_is_that_of_scipy():
    reference, current = words({"a": 0.7, "b": 0.3}, 500), words({"a": 0.2, "c": 0.8}, 500, seed=1)
    p = [reference.count(name) / 500 for name in "abc"]
    q = [current.count(name) / 500 for name in "abc"]

    assert jensen_shannon(reference, current) == pytest.approx(jensenshannon(p, q, base=2))
    assert jensen_shannon(["a"] * 9, ["b"] * 9) == pytest.approx(1.0)


def test_psi_is_the_sum_over_deciles_of_the_reference():
    reference, current = np.arange(1000.0), np.arange(500.0, 1500.0)
    share = np.array([0.0, 0, 0, 0, 0, 0.1, 0.1, 0.1, 0.1, 0.6])
    share = np.maximum(share, 1e-4)
    expected = float(np.sum((share - 0.1) * np.log(share / 0.1)))

    assert psi(reference, current) == pytest.approx(expected, rel=1e-2)
    assert psi(reference, reference) == 0.0


@given(SAMPLES, SAMPLES)
@settings(max_examples=30)
def test_distances_are_symmetric_where_they_should_be_and_zero_for_the_same(reference, current):
    assert wasserstein(reference, current) == pytest.approx(wasserstein(current, reference))
    assert wasserstein(reference, reference) == psi(reference, reference) == 0.0
    assert psi(reference, current) >= 0.0
    assert 0.0 <= jensen_shannon(reference, current) <= 1.0 + 1e-12


@given(st.lists(st.floats(0.0, 1.0), max_size=30), st.floats(0.01, 0.5))
def test_benjamini_hochberg_rejects_as_scipy_adjusts(p_values, rate):
    levels = benjamini_hochberg(p_values, rate)
    adjusted = scipy.stats.false_discovery_control(p_values) if p_values else []

    for p_value, level, each in zip(p_values, levels, adjusted, strict=True):
        if abs(each - rate) > 1e-9:  # equal up to rounding: either is right
            assert (p_value <= level) == (each <= rate)


def test_among_many_columns_without_drift_false_discoveries_are_rare():
    # 200 columns, one level of 0.05 would call about ten; the chance of any under the correction
    # is at most 0.05, and the seed is fixed.
    reference = {str(each): normal(400, seed=each) for each in range(200)}
    current = {str(each): normal(400, seed=1000 + each) for each in range(200)}
    found = drifts(reference, current)

    assert sum((each.p_value or 0.0) <= 0.05 for each in found) > 2
    assert not any(each.is_drifted for each in found)


@pytest.mark.parametrize(("count", "test"), [(500, "kolmogorov_smirnov"), (5000, "wasserstein")])
def test_a_shifted_number_drifts_in_a_small_and_in_a_large_sample(count, test):
    found = drifts(
        {"age": normal(count), "weight": normal(count, seed=2)},
        {"age": normal(count, 0.5, seed=1), "weight": normal(count, seed=3)},
    )

    assert [(each.column, each.test, each.is_drifted) for each in found] == [
        ("age", test, True),
        ("weight", test, False),
    ]


@pytest.mark.parametrize(("count", "test"), [(400, "chi_square"), (4000, "jensen_shannon")])
def test_categories_drift_in_a_small_and_in_a_large_sample(count, test):
    same = {"a": 0.5, "b": 0.5}
    found = drifts(
        {"ward": words(same, count), "unit": words(same, count, seed=2)},
        {"ward": words({"a": 0.2, "b": 0.8}, count, seed=1), "unit": words(same, count, seed=3)},
    )

    assert [(each.test, each.is_drifted) for each in found] == [(test, True), (test, False)]


def test_a_trifle_in_a_large_sample_is_no_drift():
    reference, current = normal(200_000), normal(200_000, 0.03, seed=1)

    assert kolmogorov_smirnov(reference, current)[1] < 1e-6
    assert not compare("age", reference, current).is_drifted


def test_too_few_values_are_said_and_not_judged():
    found = compare("age", normal(500), np.append(normal(49, 9.0), [math.nan] * 100))

    assert (found.is_assessable, found.is_drifted, found.current_count) == (False, False, 49)


@pytest.mark.parametrize(
    "odd",
    [
        [None, math.nan, math.inf, -math.inf] * 100,
        [1e308, -1e308] * 100,
        [True, False] * 100,
        [["a"], {"b": 1}, "c", 2] * 100,
        [7.0] * 200,
    ],
    ids=["missing", "enormous", "booleans", "nested", "constant"],
)
def test_odd_columns_are_compared_without_a_warning(odd):
    reference = [1.0, 2.0, 3.0, 4.0] * 100

    for found in (compare("x", reference, odd), compare("x", odd, reference)):
        assert found.statistic >= 0.0
        assert not math.isnan(found.statistic)
        assert math.isfinite(found.psi)
    assert not compare("x", odd, odd).is_drifted


def test_a_constant_that_is_left_is_infinitely_far():
    assert wasserstein([1.0] * 9, [1.0] * 8 + [2.0], is_scaled=True) == math.inf
    assert wasserstein([1.0] * 9, [1.0] * 9, is_scaled=True) == 0.0


def test_permutations_give_a_p_value_for_any_distance():
    def distance(one: np.ndarray, other: np.ndarray) -> float:
        return wasserstein(one, other)

    same = permutation_p_value(
        distance, normal(60), normal(60, seed=1), entropy=SeededEntropy(1), rounds=199
    )
    apart = permutation_p_value(
        distance, normal(60), normal(60, 1.0, seed=1), entropy=SeededEntropy(1), rounds=199
    )

    assert apart == 1 / 200
    assert same > 0.05


def test_permutation_p_values_hold_their_level():
    # Under no difference P(p <= 0.1) <= 0.1: of 200 samples more than 42 with chance below 1e-6.
    p_values = [
        permutation_p_value(
            lambda one, other: abs(float(np.mean(one) - np.mean(other))),
            normal(10, seed=2 * each),
            normal(10, seed=2 * each + 1),
            entropy=SeededEntropy(each),
            rounds=19,
        )
        for each in range(200)
    ]

    assert sum(each <= 0.1 for each in p_values) <= 42


def test_tables_with_different_columns_are_refused_by_name():
    with pytest.raises(MonitoringError, match="only one of them has weight"):
        drifts({"age": [1.0]}, {"age": [1.0], "weight": [1.0]})


@pytest.mark.parametrize("measure", [wasserstein, kolmogorov_smirnov])
def test_measures_of_numbers_refuse_words(measure):
    with pytest.raises(MonitoringError, match="samples of numbers"):
        measure(["a", "b"], [1.0, 2.0])
