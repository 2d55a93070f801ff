from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_guard.detection.windows import HoldOff, MovingMean, SortedWindow

VALUES = st.lists(st.floats(-1e6, 1e6), max_size=80)


@given(VALUES, st.integers(1, 12))
def test_a_gap_is_the_distance_to_the_nearest_value_of_the_window(values, size):
    window = SortedWindow(size)
    for value in values:
        before = list(window.recent)
        expected = min((abs(value - each) for each in before), default=0.0)

        assert window.admit(value) == expected


@given(VALUES, st.integers(1, 12))
def test_a_window_holds_the_newest_values_in_order_and_at_most_a_quarter_more(values, size):
    window = SortedWindow(size)
    for number, value in enumerate(values, 1):
        window.admit(value)

        assert min(size, number) <= len(window) <= 1.25 * size + 1
        assert list(window.order) == sorted(values[number - len(window) : number])


def test_quantiles_are_those_of_the_sorted_values():
    window = SortedWindow(100)
    for value in range(100, 0, -1):
        window.admit(float(value))

    assert [window.quantile(share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 51.0, 100.0, 100.0]


@given(VALUES, st.integers(1, 12))
def test_a_moving_mean_is_that_of_the_last_values(values, size):
    average = MovingMean(size)
    for number, value in enumerate(values, 1):
        left = average.push(value)
        last = values[max(0, number - size) : number]

        assert left == (values[number - size - 1] if number > size else None)
        assert average.mean() == (
            None if number < size else pytest.approx(statistics.fmean(last), abs=1e-7)
        )


def test_an_enormous_value_leaves_nothing_behind_in_a_moving_mean():
    average = MovingMean(3)
    for value in (1.0, 1e150, 2.0, 3.0, 4.0):
        average.push(value)

    assert average.mean() == 3.0


@given(st.lists(st.integers(0, 5), max_size=120), st.integers(1, 9), st.floats(0.0, 0.5))
def test_a_score_passes_the_hold_off_only_if_it_beats_all_of_the_while_before(scores, least, share):
    hold_off = HoldOff(share=share, least=least, most=20)
    for at, score in enumerate(scores):
        span = min(max(least, int(share * at)), 20)
        before = scores[max(0, at - span) : at]

        assert hold_off.beats(float(score)) == (score > max([0, *before]))
