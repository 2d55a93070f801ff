from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_guard.detection.baselines import Baseline, hour_of_week, summarize, unusual
from pipeline_guard.errors import MonitoringError

seeded = np.random.default_rng  # noqa: TID251 -- fixed samples


def weeks(count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    times = 300.0 * np.arange(count * 7 * 288)
    return times, seeded(6).gamma(2.0, size=len(times))


@pytest.mark.parametrize(
    ("instant", "hour"),
    [
        (datetime(2026, 11, 23, 0, 30, tzinfo=UTC), 0),
        (datetime(2026, 11, 22, 23, 59, tzinfo=UTC), 167),
        (datetime(2026, 11, 25, 5, 0, tzinfo=UTC), 53),
        (datetime(1969, 12, 31, 23, 0, tzinfo=UTC), 71),
    ],
)
def test_the_week_begins_on_monday_at_midnight_utc(instant, hour):
    assert hour_of_week(instant.timestamp()) == hour


def test_a_summary_is_that_of_numpy_for_every_hour_of_the_week():
    times, values = weeks()
    baseline = summarize(times, values)
    hours = np.array([hour_of_week(each) for each in times])

    for hour in range(168):
        inside = values[hours == hour]
        summary = baseline.hours[hour]
        median = np.median(inside)
        assert summary.count == len(inside)
        assert summary.median == pytest.approx(median)
        assert summary.mad == pytest.approx(np.median(np.abs(inside - median)))
        for name in ("q01", "q05", "q25", "q75", "q95", "q99"):
            expected = np.quantile(inside, int(name[1:]) / 100)
            assert getattr(summary, name) == pytest.approx(expected), (hour, name)


def test_the_order_of_the_points_does_not_matter():
    times, values = weeks(1)
    order = seeded(0).permutation(len(times))

    assert summarize(times[order], values[order]) == summarize(times, values)


def test_missing_values_are_counted_and_nothing_else():
    times, values = weeks(1)
    with_holes = np.concatenate([values, [math.nan, math.inf]])
    baseline = summarize(np.append(times, [1.0, 2.0]), with_holes, version=7)

    assert (baseline.version, baseline.missing, baseline.count) == (7, 2, len(values))
    assert baseline.overall == summarize(times, values).overall


def test_of_nothing_there_is_no_baseline_and_nothing_is_unusual():
    baseline = summarize([], [])

    assert baseline.is_learning
    assert baseline.overall is None
    assert unusual(baseline, 0.0, 1e9) == 0.0


def test_a_value_of_noon_is_unusual_at_midnight():
    times = 300.0 * np.arange(4 * 7 * 288)
    values = 10.0 * np.sin(2 * np.pi * times / 86_400) + seeded(1).normal(size=len(times))
    baseline = summarize(times, values)

    assert unusual(baseline, 6.1 * 3600, 10.0) < 3.0
    assert unusual(baseline, 18.1 * 3600, 10.0) > 10.0


def test_an_hour_with_few_values_is_judged_by_the_whole_series():
    baseline = summarize(60.0 * np.arange(65), np.arange(65.0) % 5)

    assert baseline.hours[hour_of_week(3600.0)].count == 5
    assert unusual(baseline, 3600.0, 2.0) == 0.0
    assert unusual(baseline, 3600.0, 50.0) == unusual(baseline, 0.0, 50.0) > 20.0


def test_a_constant_series_finds_any_change_unusual_and_rounding_not():
    baseline = summarize(60.0 * np.arange(1000), np.full(1000, 0.3))

    assert unusual(baseline, 0.0, 0.1 + 0.2) == 0.0
    assert unusual(baseline, 0.0, 0.31) > 1000.0
    assert unusual(baseline, 0.0, math.nan) == 0.0


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=60),
    st.floats(allow_nan=True, allow_infinity=True),
)
@settings(max_examples=30)
def test_any_values_give_a_baseline_that_json_can_hold_and_a_finite_score(values, value):
    baseline = summarize(3600.0 * np.arange(len(values)), values)

    text = json.dumps(baseline.to_dict(), allow_nan=False)
    assert Baseline.from_dict(json.loads(text)) == baseline
    assert 0.0 <= unusual(baseline, 0.0, value) <= 1e6


@pytest.mark.parametrize("data", [{}, {"version": 1}, {"overall": None, "hours": []}])
def test_what_is_no_baseline_is_refused(data):
    with pytest.raises(MonitoringError, match="recompute"):
        Baseline.from_dict(data)


def test_times_and_values_belong_together():
    with pytest.raises(MonitoringError, match="2 times were given for 1 values"):
        summarize([0.0, 1.0], [1.0])
