from __future__ import annotations

import numpy as np
import pytest

from pipeline_guard.detection.components import (
    EwmaChart,
    Extremes,
    MeanShift,
    Novelty,
    ResidualNovelty,
    RobustZ,
    Seasonal,
    VarianceShift,
)

seeded = np.random.default_rng  # noqa: TID251 -- fixed samples

KINDS = (
    EwmaChart,
    Extremes,
    MeanShift,
    Novelty,
    ResidualNovelty,
    RobustZ,
    Seasonal,
    VarianceShift,
)


def scores(detector, values, step_s: float = 60.0) -> list[float]:
    return [detector.update(step_s * at, float(value)) for at, value in enumerate(values)]


def noise(count: int, seed: int = 5) -> np.ndarray:
    return seeded(seed).normal(size=count)


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_series_scores_nothing(kind):
    assert set(scores(kind(), [3.25] * 1000)) == {0.0}


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_finite_for_the_largest_values(kind):
    values = np.tile([1e150, -1e150, 0.0, 1e-150], 300)

    assert np.isfinite(scores(kind(), values)).all()
    assert min(scores(kind(), values)) >= 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_gap_is_survived(kind):
    detector = kind()
    scores(detector, noise(800))
    detector.interrupt()

    assert np.isfinite(scores(detector, noise(800, 6))).all()


@pytest.mark.parametrize("kind", [RobustZ, Extremes, Novelty, ResidualNovelty])
def test_a_spike_scores_more_than_all_but_a_thousandth_before(kind):
    values = noise(2000)
    values[1500] = 15.0
    found = scores(kind(), values)

    assert found[1500] > np.quantile(found[:1500], 0.999)


def test_a_value_between_two_levels_is_new_though_inside_the_range():
    values = np.where(np.arange(2000) % 50 < 25, 0.0, 10.0) + 0.1 * noise(2000)
    values[1500] = 5.0

    assert scores(Novelty(), values)[1500] > 3.0
    assert scores(RobustZ(), values)[1500] < 1.0


def test_a_shift_of_the_mean_is_found_within_the_short_window():
    values = noise(2000)
    values[1500:] += 3.0
    found = scores(MeanShift(), values)

    assert max(found[1500:1512]) > 3.0


@pytest.mark.parametrize("factor", [6.0, 0.0])
def test_noise_that_grows_and_noise_that_stops_are_shifts_of_variance(factor):
    values = noise(2000)
    values[1500:] *= factor
    found = scores(VarianceShift(), values)

    assert max(found[1500:1560]) > 6.0
    assert np.quantile(found[:1500], 0.95) < 2.0


def test_a_value_of_noon_at_midnight_is_unusual_only_for_the_season():
    hours = np.arange(24 * 60)
    values = 10.0 * np.sin(2 * np.pi * hours / 24) + 0.2 * noise(len(hours))
    values[1206] = -10.0  # usual twelve hours later
    seasonal = scores(Seasonal(period_s=86_400.0, places=24), values, 3600.0)
    level = scores(RobustZ(), values, 3600.0)

    assert seasonal[1206] > 5.0
    assert level[1206] < 2.0


def test_the_scale_of_robust_z_is_the_standard_deviation_of_normal_values():
    detector = RobustZ()
    scores(detector, noise(500))

    assert detector.update(0.0, 10.0) == pytest.approx(10.0, rel=0.15)


def test_robust_z_does_not_explode_on_a_series_that_mostly_stands_still():
    values = (np.arange(1000) % 25 == 0).astype(float)  # 4 % ones, interquartile range 0

    assert max(scores(RobustZ(), values)[200:]) < 10.0


def test_the_control_chart_sees_a_slow_drift():
    values = noise(1500)
    values[1000:] += 0.01 * np.arange(500)
    found = scores(EwmaChart(), values)

    assert max(found[1000:]) > max(found[200:1000])
