from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline_guard.detection.choice import choose
from pipeline_guard.detection.season import find_period
from pipeline_guard.errors import MonitoringError

seeded = np.random.default_rng  # noqa: TID251 -- fixed samples


def daily(count: int, step_s: float, period_s: float = 86_400.0) -> tuple[np.ndarray, np.ndarray]:
    times = step_s * np.arange(count)
    noise = seeded(4).normal(size=count)
    return times, 10.0 * np.sin(2 * np.pi * times / period_s) + noise


@pytest.mark.parametrize(("count", "step_s"), [(14 * 24, 3600.0), (10 * 288, 300.0), (9000, 60.0)])
def test_a_daily_series_has_the_period_of_a_day(count, step_s):
    assert find_period(*daily(count, step_s)) == 86_400.0


def test_a_week_is_found_where_the_days_differ():
    times = 3600.0 * np.arange(24 * 7 * 6)
    weekend = (times // 86_400) % 7 >= 5
    values = np.where(weekend, 1.0, 8.0) + seeded(1).normal(size=len(times))

    assert find_period(times, values) == 7 * 86_400.0


def test_any_other_period_is_found_to_a_step():
    assert find_period(*daily(2000, 60.0, period_s=6000.0)) == pytest.approx(6000.0, abs=120.0)


def test_gaps_missing_values_and_points_out_of_order_do_not_hide_a_period():
    times, values = daily(14 * 288, 300.0)
    values[100:140] = math.nan
    times[2000] = times[1990]
    kept = np.delete(np.arange(len(times)), np.s_[600:650])

    assert find_period(times[kept], values[kept]) == 86_400.0


@pytest.mark.parametrize(
    "values",
    [
        seeded(2).normal(size=3000),
        np.full(3000, 5.0),
        np.arange(3000.0),
        np.full(3000, math.nan),
        np.zeros(10),
        np.where(np.arange(3000) % 2 == 0, 1e308, -1e308) * (np.arange(3000) == 7),
    ],
    ids=["noise", "constant", "trend", "missing", "short", "enormous"],
)
def test_no_period_is_claimed_where_there_is_none(values):
    assert find_period(60.0 * np.arange(len(values)), values) is None


def test_fewer_than_two_and_a_half_periods_say_nothing():
    assert find_period(*daily(2 * 288, 300.0)) is None


def test_the_chosen_profile_is_quiet_and_finds_most_of_what_was_planted():
    choice = choose(*daily(14 * 288, 300.0))

    assert choice.is_quiet
    assert {(each.profile, each.period_s) for each in choice.trials} == {
        ("precision", None),
        ("recall", None),
        ("recall", 86_400.0),
    }
    quiet = [each for each in choice.trials if each.alarms_per_day <= 0.2]
    assert choice.chosen.found == max(each.found for each in quiet)
    assert choice.chosen.watch().profile == choice.chosen.profile


def test_where_no_profile_is_quiet_the_quietest_is_named_as_what_it_is():
    values = seeded(0).standard_cauchy(5000)
    choice = choose(60.0 * np.arange(5000), values)

    assert not choice.is_quiet
    assert choice.chosen.alarms_per_day == min(each.alarms_per_day for each in choice.trials)


def test_a_short_history_chooses_nothing():
    with pytest.raises(MonitoringError, match="500 points or more, 499 were given"):
        choose(np.arange(499.0), np.ones(499))
