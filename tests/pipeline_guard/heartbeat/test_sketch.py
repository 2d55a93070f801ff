"""Quantiles of durations: near what was really seen, in bounded memory."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_guard.heartbeat.sketch import SpanSketch

DURATIONS = st.lists(st.floats(1e-4, 1e6), min_size=1, max_size=300)


@given(DURATIONS)
def test_a_quantile_is_within_four_percent_of_the_exact_one(durations: list[float]) -> None:
    sketch = SpanSketch()
    for duration in durations:
        sketch.add(duration)

    spans = sketch.spans()
    ordered = sorted(durations)
    for found, share in ((spans.p50_s, 0.5), (spans.p99_s, 0.99)):
        exact = ordered[math.ceil(share * len(ordered)) - 1]
        assert found == pytest.approx(exact, rel=0.04)
    assert (spans.count, spans.max_s) == (len(durations), max(durations))


def test_nothing_seen_is_zero() -> None:
    spans = SpanSketch().spans()

    assert (spans.count, spans.p50_s, spans.p99_s, spans.max_s) == (0, 0, 0, 0)


def test_what_was_long_ago_is_outweighed() -> None:
    sketch = SpanSketch()
    for _ in range(100_000):
        sketch.add(1.0)
    for _ in range(8_192):
        sketch.add(10.0)

    assert sketch.spans().p50_s == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize("duration", [-1.0, 0.0, 1e12])
def test_what_is_out_of_range_is_counted_at_the_end_of_it(duration: float) -> None:
    sketch = SpanSketch()
    sketch.add(duration)

    assert sketch.spans().count == 1
    assert len(sketch._buckets) == 1
