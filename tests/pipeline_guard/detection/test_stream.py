from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_guard.detection import PROFILES, Outcome, SeriesWatch, State, restored, watch
from pipeline_guard.errors import ConfigurationError, MonitoringError

seeded = np.random.default_rng  # noqa: TID251 -- fixed samples

PERIOD_S = 86_400.0


def series(count: int = 1500, seed: int = 3) -> list[float]:
    return seeded(seed).normal(10.0, 1.0, count).tolist()


def seen(watched: SeriesWatch, values: list[float], start_s: float = 0.0) -> list[Outcome]:
    return [watched.update(start_s + 60.0 * at, value) for at, value in enumerate(values)]


def watches() -> list[SeriesWatch]:
    return [*(watch(name) for name in PROFILES), watch("recall", period_s=PERIOD_S)]


@pytest.mark.parametrize(("name", "others_most"), [("precision", 0), ("recall", 5)])
def test_a_spike_alarms_and_noise_hardly_ever(name, others_most):
    values = series(6000)
    values[4800] = 25.0
    alarms = [at for at, each in enumerate(seen(watch(name), values)) if each.alarm]

    assert 4800 in alarms
    assert len(alarms) - 1 <= others_most


@pytest.mark.parametrize("name", PROFILES)
def test_the_warm_up_is_learning_and_never_alarms(name):
    values = series(300)
    values[50] = 1e6
    outcomes = seen(watch(name), values)
    warm_up = PROFILES[name].warm_up

    assert Counter(each.state for each in outcomes) == {
        State.LEARNING: warm_up,
        State.WATCHING: 300 - warm_up,
    }
    assert not any(each.alarm for each in outcomes[:warm_up])


def test_nan_is_missing_and_teaches_nothing():
    watched, same = watch("recall"), watch("recall")
    outcomes = seen(watched, series(400))
    seen(same, series(400))

    assert watched.update(24_000.0, math.nan) == Outcome(0.0, False, State.MISSING, False)
    assert watched.memory() == same.memory()
    assert outcomes[-1].state is State.WATCHING


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e308, -1e308])
@pytest.mark.parametrize("name", PROFILES)
def test_what_no_float_can_square_alarms_and_the_watch_goes_on(name, value):
    watched = watch(name)
    seen(watched, series())
    outcome = watched.update(90_000.0, value)
    after = seen(watched, series(seed=4), 90_060.0)
    spike = watched.update(180_060.0, 60.0)

    assert outcome.alarm
    assert math.isfinite(outcome.score)
    assert sum(each.alarm for each in after) <= 1
    assert spike.alarm


@pytest.mark.parametrize("name", PROFILES)
def test_a_constant_series_scores_nothing_and_its_first_change_alarms(name):
    outcomes = seen(watch(name), [7.0] * 1000 + [8.0])

    assert {each.score for each in outcomes[:-1]} == {0.0}
    assert outcomes[-1].alarm


def test_rounding_noise_on_a_constant_series_is_nothing():
    values = [0.3 if at % 7 else 0.1 + 0.2 for at in range(2000)]

    assert not any(each.alarm for name in PROFILES for each in seen(watch(name), values))


@pytest.mark.parametrize("name", PROFILES)
def test_a_quantised_series_alarms_less_than_once_in_a_thousand_points(name):
    values = seeded(9).poisson(5.0, 5000).astype(float).tolist()

    assert sum(each.alarm for each in seen(watch(name), values)) <= 5


@pytest.mark.parametrize("earlier_s", [0.0, 60.0, 1e6])
def test_points_that_are_not_later_than_the_newest_are_left_out(earlier_s):
    watched, same = watch("recall"), watch("recall")
    seen(watched, series(300))
    seen(same, series(300))
    late = watched.update(299 * 60.0 - earlier_s, 500.0)

    assert late == Outcome(0.0, False, State.LATE, False)
    assert watched.update(300 * 60.0, 10.0) == same.update(300 * 60.0, 10.0)


def test_a_clock_that_was_set_back_is_believed_after_32_late_points():
    watched = watch("recall")
    seen(watched, series(300), start_s=1e9)
    states = [each.state for each in seen(watched, series(40), start_s=1e6)]

    assert states == [State.LATE] * 32 + [State.WATCHING] * 8


def test_after_a_gap_moving_averages_begin_anew():
    watched = watch("recall")
    seen(watched, series(600))
    watched.update(1e6, 10.0)
    residual, shift = watched.parts[1], watched.parts[2]

    assert list(residual.average.recent) == [10.0]
    assert list(shift.newest.recent) == [10.0]
    assert len(shift.before.recent) == 288
    assert len(watched.parts[0].history) == 601


@pytest.mark.parametrize("time_s", [math.nan, math.inf])
def test_a_time_that_is_none_is_refused(time_s):
    with pytest.raises(MonitoringError, match="not learned"):
        watch().update(time_s, 1.0)


@pytest.mark.parametrize("number", range(3))
def test_a_watch_that_was_written_and_read_goes_on_as_if_nothing_had_happened(number):
    values = [*series(6000), math.nan, 55.0, *series(500, seed=12)]
    watched, whole = watches()[number], watches()[number]
    seen(watched, values[:5500])
    again = restored(json.loads(json.dumps(watched.memory(), allow_nan=False)))
    expected = seen(whole, values)

    assert seen(again, values[5500:], start_s=60.0 * 5500) == expected[5500:]


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=400), st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_any_series_gives_finite_scores_and_a_memory_that_json_can_hold(values, number):
    watched = watches()[number]
    outcomes = seen(watched, values)

    assert all(math.isfinite(each.score) and each.score >= 0.0 for each in outcomes)
    assert restored(json.loads(json.dumps(watched.memory(), allow_nan=False))) == watched


def changed(**changes: object) -> dict[str, object]:
    watched = watch("recall")
    seen(watched, series(20))
    return {**watched.memory(), **changes}


@pytest.mark.parametrize(
    "memory",
    [
        {},
        changed(version=2),
        changed(seen=None) | {"parts": [{"kind": "Popen"}]},
        changed(parts=[{"kind": "Novelty"}]),
        changed(hold_off={"kind": "HoldOff", "share": math.nan}),
        changed(parts=[{"kind": "deque", "items": ["x"]}]),
        changed(parts=[{"kind": "array"}]),
    ],
)
def test_a_memory_that_is_none_is_refused(memory):
    with pytest.raises(MonitoringError, match="not the memory of a watch"):
        restored(memory)


@pytest.mark.parametrize(
    "options", [{"profile": "best"}, {"threshold": 0.0}, {"period_s": math.inf}]
)
def test_a_wrong_setting_is_refused_by_name(options):
    with pytest.raises(ConfigurationError) as raised:
        watch(**options)

    assert raised.value.details["parameter"] == next(iter(options))


def test_memory_and_time_do_not_grow_with_the_series():
    watched = watch("recall")
    seen(watched, series(12_000))

    assert all(
        len(part["history"]["recent"]["items"]) <= 5121
        for part in watched.memory()["parts"]
        if "history" in part
    )
    assert len(watched.hold_off.peaks) <= 4097
