from __future__ import annotations

import math

import pytest

from pipeline_guard.errors import ConfigurationError
from pipeline_guard.metrics_store import windows
from pipeline_guard.metrics_store.windows import FUNCTIONS, Window

NAN = math.nan


def _window(*values: float, step_s: float = 10.0) -> Window:
    times_s = [place * step_s for place in range(len(values))]
    return Window(start_s=0.0, end_s=100.0, times_s=times_s, values=values)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("avg_over_time", (1.0, NAN, 3.0), 2.0),
        ("min_over_time", (1.0, NAN, 3.0), 1.0),
        ("max_over_time", (1.0, NAN, 3.0), 3.0),
        ("sum_over_time", (0.1,) * 10, 1.0),
        ("count_over_time", (1.0, NAN, 3.0), 2.0),
        ("last_over_time", (1.0, 3.0, NAN), 3.0),
        ("stddev_over_time", (2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0), 2.0),
        ("delta", (5.0, 9.0, 2.0), -3.0),
        ("increase", (10.0, 15.0, 18.0), 8.0),
        ("increase", (10.0, 15.0, 3.0, 4.0), 9.0),
        ("rate", (10.0, NAN, 15.0, 18.0), 8.0 / 30.0),
        ("absent", (NAN,), 1.0),
        ("absent", (0.0,), 0.0),
    ],
)
def test_a_function_of_a_window(name: str, values: tuple[float, ...], expected: float) -> None:
    assert FUNCTIONS[name](_window(*values)) == pytest.approx(expected)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_an_empty_window_answers_nothing(name: str) -> None:
    always = {"absent": 1.0, "count_over_time": 0.0}

    assert FUNCTIONS[name](_window()) == always.get(name)


@pytest.mark.parametrize("name", ["increase", "rate", "delta"])
def test_one_point_does_not_grow(name: str) -> None:
    assert FUNCTIONS[name](_window(4.0)) is None


def test_a_rate_needs_time_between_its_points() -> None:
    assert windows.rate(_window(1.0, 2.0, step_s=0.0)) is None


def test_quantiles_lie_between_the_values() -> None:
    window = _window(4.0, 1.0, NAN, 3.0, 2.0)

    found = [windows.quantile_over_time(window, q) for q in (0.0, 0.5, 1.0)]

    assert found == [1.0, 2.5, 4.0]


@pytest.mark.parametrize("quantile", [-0.1, 1.1, NAN])
def test_a_quantile_outside_its_domain_is_refused(quantile: float) -> None:
    with pytest.raises(ConfigurationError, match="nothing was computed"):
        windows.quantile_over_time(_window(1.0), quantile)
